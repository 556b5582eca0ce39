#include "nuncio/common/inline_function.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "gtest/gtest.h"

namespace nuncio::test {
namespace {

using Function = InlineFunction<int(), 48>;

static_assert(!std::is_copy_constructible_v<Function>);
static_assert(std::is_nothrow_move_constructible_v<Function>);
static_assert(std::is_nothrow_move_assignable_v<Function>);
static_assert(sizeof(Function) == 48 + sizeof(void*));
static_assert(!std::is_constructible_v<Function, std::string>);
static_assert(!std::is_constructible_v<InlineFunction<int(int), 48>, int (*)()>);

// Counts its copies that are alive, and says where it is.
template <size_t kSize, bool kNothrowMove = true>
class Counted {
public:
  explicit Counted(int& alive) : alive_(&alive) { ++*alive_; }
  Counted(Counted&& other) noexcept(kNothrowMove) : alive_(other.alive_) { ++*alive_; }
  Counted& operator=(Counted&&) = delete;
  ~Counted() { --*alive_; }
  int operator()() const { return static_cast<int>(kSize); }

private:
  int* alive_;
  std::array<char, kSize - sizeof(int*)> padding_{};
};

struct alignas(32) OverAligned {
  int operator()() const { return reinterpret_cast<uintptr_t>(this) % 32 == 0 ? 1 : 0; }
};

TEST(InlineFunctionTest, CallsWhatItWasMadeFrom) {
  int calls = 0;
  InlineFunction<int(int, int), 48> add = [&](int a, int b) {
    ++calls;
    return a + b;
  };
  EXPECT_EQ(5, add(2, 3));
  EXPECT_EQ(9, add(4, 5));
  EXPECT_EQ(2, calls);
}

TEST(InlineFunctionTest, IsEmptyByDefaultFromNullptrAndFromNullPointers) {
  int (*none)() = nullptr;
  EXPECT_FALSE(Function());
  EXPECT_TRUE(Function() == nullptr);
  EXPECT_FALSE(Function(nullptr));
  EXPECT_FALSE(Function(none));
  EXPECT_FALSE(Function(std::function<int()>()));
  EXPECT_FALSE((Function(InlineFunction<int(), 8>())));
  EXPECT_TRUE(Function([] { return 1; }) != nullptr);
}

TEST(InlineFunctionTest, MovedFromIsEmpty) {
  Function first = [] { return 1; };
  Function second = std::move(first);
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): that is the test
  EXPECT_EQ(1, second());
}

TEST(InlineFunctionTest, MoveAssignmentDestroysTheFormer) {
  int alive = 0;
  Function function = Counted<16>(alive);
  EXPECT_EQ(1, alive);
  function = [] { return 2; };
  EXPECT_EQ(0, alive);
  EXPECT_EQ(2, function());
}

TEST(InlineFunctionTest, AssignmentOfNullptrDestroysTheFormer) {
  int alive = 0;
  Function function = Counted<16>(alive);
  function = nullptr;
  EXPECT_EQ(0, alive);
  EXPECT_FALSE(function);
}

TEST(InlineFunctionTest, AssignmentToItselfKeepsIt) {
  Function function = [] { return 3; };
  Function& alias = function;
  function = std::move(alias);
  ASSERT_TRUE(function);
  EXPECT_EQ(3, function());
}

TEST(InlineFunctionTest, CapturesOfAnySizeAreDestroyedOnce) {
  int alive = 0;
  {
    Function inside = Counted<48>(alive);
    Function outside = Counted<49>(alive);
    EXPECT_EQ(2, alive);
    EXPECT_EQ(48, inside());
    EXPECT_EQ(49, outside());
    Function moved_inside = std::move(inside);
    Function moved_outside = std::move(outside);
    EXPECT_EQ(2, alive);
    EXPECT_EQ(48, moved_inside());
    EXPECT_EQ(49, moved_outside());
  }
  EXPECT_EQ(0, alive);
}

TEST(InlineFunctionTest, CaptureWhoseMoveMayThrowIsKeptOnTheHeapAndNotMoved) {
  int alive = 0;
  {
    Function function = Counted<16, false>(alive);
    Function moved = std::move(function);
    EXPECT_EQ(1, alive);
    EXPECT_EQ(16, moved());
    EXPECT_EQ(sizeof(void*), moved.operations()->size);
  }
  EXPECT_EQ(0, alive);
}

TEST(InlineFunctionTest, OverAlignedCaptureIsAligned) {
  Function function = OverAligned();
  EXPECT_EQ(1, function());
  Function moved = std::move(function);
  EXPECT_EQ(1, moved());
}

TEST(InlineFunctionTest, TakesMoveOnlyCapturesArgumentsAndResults) {
  InlineFunction<std::unique_ptr<int>(std::unique_ptr<int>), 48> function =
      [add = std::make_unique<int>(2)](std::unique_ptr<int> number) { return std::make_unique<int>(*number + *add); };
  EXPECT_EQ(7, *function(std::make_unique<int>(5)));
}

TEST(InlineFunctionTest, PassesReferences) {
  InlineFunction<void(int&), 16> increment = [](int& number) { ++number; };
  int number = 1;
  increment(number);
  EXPECT_EQ(2, number);
}

TEST(InlineFunctionTest, MutableLambdaKeepsItsState) {
  Function count = [i = 0]() mutable { return ++i; };
  EXPECT_EQ(1, count());
  EXPECT_EQ(2, count());
  Function moved = std::move(count);
  EXPECT_EQ(3, moved());
}

TEST(InlineFunctionTest, ResultIsDroppedWhereNoneIsWanted) {
  int calls = 0;
  InlineFunction<void(), 16> function = [&] { return ++calls; };
  function();
  EXPECT_EQ(1, calls);
}

TEST(InlineFunctionTest, TakesFunctionPointersAndMembers) {
  struct Thing {
    int value() const { return 4; }
  };
  const Thing thing;
  InlineFunction<int(const Thing&), 16> member = &Thing::value;
  EXPECT_EQ(4, member(thing));
  InlineFunction<int(int), 16> pointer = +[](int number) { return number * 2; };
  EXPECT_EQ(8, pointer(4));
}

TEST(InlineFunctionTest, RelocatesToRawMemory) {
  int alive = 0;
  alignas(Function::kAlignment) std::byte memory[48];
  const Function::Operations* operations = nullptr;
  {
    Function function = Counted<24>(alive);
    operations = function.operations();
    EXPECT_EQ(24u, operations->size);
    function.relocateTo(memory);
    EXPECT_FALSE(function);
  }
  EXPECT_EQ(1, alive);
  EXPECT_EQ(24, operations->invoke(memory));
  operations->destroy(memory);
  EXPECT_EQ(0, alive);
}

TEST(InlineFunctionTest, ExceptionPassesThrough) {
  Function function = []() -> int { throw 42; };
  EXPECT_THROW(function(), int);
  EXPECT_TRUE(function);
}

TEST(InlineFunctionTest, CaptureMayUseTheFunctionInItsDestructor) {
  struct Resets {
    explicit Resets(Function*& target) : function(&target) {}
    Resets(Resets&& other) noexcept : function(std::exchange(other.function, nullptr)) {}
    ~Resets() {
      if (function != nullptr) {
        EXPECT_FALSE(**function);  // it counts as empty by then
      }
    }
    int operator()() const { return 1; }
    Function** function;
  };
  Function function;
  Function* pointer = &function;
  function = Resets(pointer);
  function = nullptr;
}

}  // namespace
}  // namespace nuncio::test
