#include "source/event/slab_pool.h"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define NUNCIO_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NUNCIO_ASAN
#endif
#endif

#ifdef NUNCIO_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace nuncio {
namespace {

// So that AddressSanitizer sees the use of an object that was given back.
void forbid([[maybe_unused]] void* object, [[maybe_unused]] std::size_t bytes) {
#ifdef NUNCIO_ASAN
  __asan_poison_memory_region(object, bytes);
#endif
}
void allow([[maybe_unused]] void* object, [[maybe_unused]] std::size_t bytes) {
#ifdef NUNCIO_ASAN
  __asan_unpoison_memory_region(object, bytes);
#endif
}

}  // namespace

SlabPool::SlabPool(std::size_t object_bytes)
    : object_bytes_((std::max(object_bytes, sizeof(Free)) + alignof(Free) - 1) / alignof(Free) * alignof(Free)) {}

SlabPool::~SlabPool() {
  for (const Slab& slab : slabs_) {
    allow(slab.memory, slab.end);
    std::free(slab.memory);
  }
}

void SlabPool::addSlab() {
  slabs_.reserve(slabs_.size() + 1);
  const std::size_t bytes = slabs_.empty() ? kFirstBytes : std::min(2 * slabs_.back().end, kHugePageBytes);
  const bool huge = bytes == kHugePageBytes;
  auto* const memory = static_cast<std::byte*>(std::aligned_alloc(huge ? kHugePageBytes : alignof(Free), bytes));
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  if (huge) {
    // A wish: where the kernel has no huge pages, or grants none, ordinary ones do.
    (void)::madvise(memory, bytes, MADV_HUGEPAGE);
  }
  slabs_.push_back({memory, 0, bytes});
  capacity_ += bytes / object_bytes_;
}

void* SlabPool::take() {
  if (free_ != nullptr) {
    allow(free_, object_bytes_);
    Free* const object = free_;
    free_ = object->next;
    return object;
  }
  if (fresh_ == slabs_.size()) {
    addSlab();
  }
  Slab& slab = slabs_[fresh_];
  std::byte* const object = slab.memory + slab.used;
  slab.used += object_bytes_;
  if (slab.end - slab.used < object_bytes_) {
    ++fresh_;
  }
  return object;
}

void SlabPool::give(void* object) {
  free_ = ::new (object) Free{free_};
  forbid(object, object_bytes_);
}

}  // namespace nuncio
