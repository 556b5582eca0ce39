#include "nuncio/common/c_smart_ptr.h"

#include <cstdlib>
#include <memory>
#include <type_traits>
#include <utility>

#include "gtest/gtest.h"

namespace nuncio::test {
namespace {

struct Resource {
  int id;
};

int deleted = 0;
int last_deleted = 0;

int deleteResource(Resource* resource) {  // returns something, as C libraries do
  ++deleted;
  last_deleted = resource->id;
  delete resource;
  return -1;
}

using ResourcePtr = CSmartPtr<Resource, deleteResource>;

static_assert(sizeof(ResourcePtr) == sizeof(void*));
static_assert(sizeof(CSmartPtr<void, std::free>) == sizeof(void*));
static_assert(!std::is_copy_constructible_v<ResourcePtr>);
static_assert(std::is_nothrow_move_constructible_v<ResourcePtr>);

class CSmartPtrTest : public testing::Test {
protected:
  CSmartPtrTest() { deleted = 0; }
};

TEST_F(CSmartPtrTest, DeletesOnceAtTheEndOfItsScope) {
  {
    ResourcePtr pointer(new Resource{7});
  }
  EXPECT_EQ(1, deleted);
  EXPECT_EQ(7, last_deleted);
}

TEST_F(CSmartPtrTest, NullIsNeverDeleted) {
  {
    ResourcePtr pointer;
  }
  {
    ResourcePtr pointer(nullptr);
  }
  EXPECT_EQ(0, deleted);
}

TEST_F(CSmartPtrTest, MovedFromDeletesNothing) {
  ResourcePtr first(new Resource{1});
  ResourcePtr second = std::move(first);
  EXPECT_EQ(nullptr, first);  // NOLINT(bugprone-use-after-move): that is the test
  second.reset();
  EXPECT_EQ(1, deleted);
}

TEST_F(CSmartPtrTest, AssignmentDeletesTheFormer) {
  ResourcePtr pointer(new Resource{1});
  pointer = ResourcePtr(new Resource{2});
  EXPECT_EQ(1, last_deleted);
  EXPECT_EQ(2, pointer->id);
}

TEST_F(CSmartPtrTest, ReleasedIsTheCallers) {
  ResourcePtr pointer(new Resource{1});
  std::unique_ptr<Resource> mine(pointer.release());
  pointer.reset();
  EXPECT_EQ(0, deleted);
}

TEST_F(CSmartPtrTest, OwnsMemoryOfMalloc) { CSmartPtr<void, std::free> memory(std::malloc(16)); }

}  // namespace
}  // namespace nuncio::test
