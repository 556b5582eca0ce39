#include "nuncio/future/loops.h"

#include <algorithm>
#include <any>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <forward_list>
#include <iterator>
#include <memory>
#include <ranges>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"

#include "nuncio/future/time.h"
#include "test/future/loop_fixture.h"
#include "test/test_support/dispatcher_thread.h"

namespace nuncio {
namespace {

using namespace std::chrono_literals;
using test::codeOf;
using test::Inputs;

class LoopsTest : public test::LoopFixture {
protected:
  template <class T>
  void finish(Future<T>& future) {
    for (int i = 0; i < 100'000 && !future.isReady(); ++i) {
      turn();
    }
    ASSERT_TRUE(future.isReady());
  }
};

TEST_F(LoopsTest, RepeatCallsUntilItFails) {
  int calls = 0;
  Future<void> loop = repeat(*dispatcher_, [&] { return ++calls < 5 ? absl::OkStatus() : absl::NotFoundError("x"); });
  EXPECT_EQ(codeOf(loop), absl::StatusCode::kNotFound);
  EXPECT_EQ(calls, 5);
}

TEST_F(LoopsTest, RepeatWaitsForEachStep) {
  std::vector<std::chrono::microseconds> calls;
  Future<void> loop = repeat(*dispatcher_, [&] {
    calls.push_back(now());
    return sleepFor(*dispatcher_, 10ms);
  });
  advance(25ms);
  EXPECT_EQ(calls, (std::vector<std::chrono::microseconds>{0ms, 10ms, 20ms}));
  loop.cancel();
  EXPECT_EQ(codeOf(loop), absl::StatusCode::kCancelled);
  advance(1s);
  EXPECT_EQ(calls.size(), 3U);
}

TEST_F(LoopsTest, RepeatStopsWhereAStepSaysSo) {
  int calls = 0;
  Future<void> ready = repeat(*dispatcher_, [&] { return ++calls < 5; });
  ASSERT_TRUE(ready.isReady());
  EXPECT_TRUE(ready.result().hasValue());
  EXPECT_EQ(calls, 5);
  Future<void> slow =
      repeat(*dispatcher_, [&] { return sleepFor(*dispatcher_, 1ms).then([&] { return ++calls < 8; }); });
  advance(1s);
  ASSERT_TRUE(slow.isReady());
  EXPECT_EQ(calls, 8);
}

TEST_F(LoopsTest, RepeatPassesAnExceptionOn) {
  Future<void> loop = repeat(*dispatcher_, []() { throw std::out_of_range("x"); });
  ASSERT_TRUE(loop.isReady());
  EXPECT_THROW(std::move(loop).get().throwIfFailed(), std::out_of_range);
}

TEST_F(LoopsTest, TwoLoopsTakeTurns) {
  int first = 0;
  int second_when_first_ended = 0;
  int second = 0;
  Future<void> one = repeat(*dispatcher_, [&] {
    second_when_first_ended = second;
    return ++first < 100'000;
  });
  Future<void> two = repeat(*dispatcher_, [&] { return ++second < 100'000; });
  finish(one);
  finish(two);
  EXPECT_EQ(first, 100'000);
  EXPECT_EQ(second, 100'000);
  EXPECT_GT(second_when_first_ended, 0);
}

TEST_F(LoopsTest, AStepMayCancelItsLoopAndWithThatItself) {
  Future<void> loop;
  Promise<void> promise;
  int calls = 0;
  loop = repeat(*dispatcher_, [&]() -> Future<void> {
    if (++calls < 3) {
      return sleepFor(*dispatcher_, 1ms);
    }
    loop.cancel();
    return promise.future(*dispatcher_);
  });
  advance(1s);
  EXPECT_EQ(calls, 3);
  EXPECT_TRUE(promise.done());
  EXPECT_EQ(codeOf(loop), absl::StatusCode::kCancelled);
}

TEST_F(LoopsTest, AShutDownDispatcherEndsALoop) {
  Future<void> waiting = repeat(*dispatcher_, [this] { return sleepFor(*dispatcher_, 1ms); });
  auto alive = std::make_shared<int>(0);
  Future<void> busy = repeat(*dispatcher_, [alive] {});
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(waiting), absl::StatusCode::kCancelled);
  EXPECT_EQ(codeOf(busy), absl::StatusCode::kCancelled);
  EXPECT_EQ(alive.use_count(), 1);
}

TEST_F(LoopsTest, DoUntilGivesTheValueThatThePredicateTakes) {
  int calls = 0;
  Future<int> value = doUntil(
      *dispatcher_, [&] { return sleepFor(*dispatcher_, 1ms).then([&] { return ++calls * 10; }); },
      [](int v) { return v >= 30; });
  advance(2ms);
  EXPECT_FALSE(value.isReady());
  advance(1ms);
  ASSERT_TRUE(value.isReady());
  EXPECT_EQ(*value.result(), 30);
}

TEST_F(LoopsTest, DoUntilTakesMoveOnlyValuesAndVoid) {
  Future<std::unique_ptr<int>> value = doUntil(
      *dispatcher_, [] { return std::make_unique<int>(1); }, [](const std::unique_ptr<int>& v) { return *v == 1; });
  ASSERT_TRUE(value.isReady());
  EXPECT_EQ(**value.result(), 1);
  int calls = 0;
  Future<void> nothing = doUntil(*dispatcher_, [&] { ++calls; }, [&] { return calls == 3; });
  ASSERT_TRUE(nothing.isReady());
  EXPECT_EQ(calls, 3);
}

TEST_F(LoopsTest, DoUntilTakesAStepBeforeItFirstAsksThePredicate) {
  int calls = 0;
  Future<void> once = doUntil(*dispatcher_, [&] { ++calls; }, [] { return true; });
  ASSERT_TRUE(once.isReady());
  EXPECT_EQ(calls, 1);
}

TEST_F(LoopsTest, AFailureEndsDoUntilWithoutAskingThePredicate) {
  Future<int> value = doUntil(
      *dispatcher_, []() -> absl::StatusOr<int> { return absl::NotFoundError("x"); },
      [](int) {
        ADD_FAILURE();
        return true;
      });
  EXPECT_EQ(codeOf(value), absl::StatusCode::kNotFound);
}

TEST_F(LoopsTest, APredicateThatThrowsEndsDoUntil) {
  Future<int> value = doUntil(*dispatcher_, [] { return 1; }, [](int) -> bool { throw std::out_of_range("x"); });
  ASSERT_TRUE(value.isReady());
  EXPECT_THROW(std::move(value).get().throwIfFailed(), std::out_of_range);
}

TEST_F(LoopsTest, ForEachTakesAllInOrderAndNoMoreThanAllowedAtOnce) {
  for (const std::size_t concurrency : {1U, 3U, 100U}) {
    Inputs<void> inputs(*dispatcher_, 10);
    std::vector<int> began;
    std::size_t running = 0;
    std::size_t most = 0;
    Future<void> all = forEach(*dispatcher_, std::views::iota(0, 10), concurrency, [&](int i) {
      began.push_back(i);
      most = std::max(most, ++running);
      return std::move(inputs.futures[static_cast<std::size_t>(i)]).then([&] { --running; });
    });
    for (std::size_t i = 0; i < 10; ++i) {
      EXPECT_FALSE(all.isReady());
      inputs.promises[i].setValue();
      turn();
    }
    ASSERT_TRUE(all.isReady());
    EXPECT_TRUE(all.result().hasValue());
    EXPECT_EQ(began, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    EXPECT_EQ(most, std::min<std::size_t>(concurrency, 10));
  }
}

TEST_F(LoopsTest, ForEachOfNothingIsReady) {
  Future<void> none = forEach(*dispatcher_, std::vector<int>(), 4, [](int) {});
  ASSERT_TRUE(none.isReady());
  EXPECT_TRUE(none.result().hasValue());
}

TEST_F(LoopsTest, ForEachKeepsItsElementsForStepsThatReferToThem) {
  std::vector<std::unique_ptr<int>> numbers;
  for (int i = 0; i < 5; ++i) {
    numbers.push_back(std::make_unique<int>(i));
  }
  int sum = 0;
  Future<void> all = forEach(*dispatcher_, std::move(numbers), 2, [&sum](std::unique_ptr<int>& number) -> Future<void> {
    co_await 1ms;
    sum += *number;
  });
  advance(1s);
  ASSERT_TRUE(all.isReady());
  EXPECT_EQ(sum, 10);
}

TEST_F(LoopsTest, ForEachWithoutConcurrencyIsInvalid) {
  Future<void> all = forEach(*dispatcher_, std::vector<int>{1}, 0, [](int) { ADD_FAILURE(); });
  EXPECT_EQ(codeOf(all), absl::StatusCode::kInvalidArgument);
}

TEST_F(LoopsTest, TheFirstFailureOfForEachCancelsTheOthersAndBeginsNoMore) {
  Inputs<void> inputs(*dispatcher_, 10);
  int began = 0;
  Future<void> all = forEach(*dispatcher_, std::views::iota(0, 10), 3, [&](int i) {
    ++began;
    return std::move(inputs.futures[static_cast<std::size_t>(i)]);
  });
  EXPECT_EQ(began, 3);
  inputs.promises[1].setStatus(absl::NotFoundError("x"));
  inputs.promises[2].setValue();
  turn();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kNotFound);
  EXPECT_EQ(began, 3);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
}

TEST_F(LoopsTest, AReadyFailureOfForEachBeginsNoMore) {
  int began = 0;
  Future<void> all = forEach(*dispatcher_, std::views::iota(0, 10), 3, [&](int) {
    ++began;
    return absl::NotFoundError("x");
  });
  EXPECT_EQ(codeOf(all), absl::StatusCode::kNotFound);
  EXPECT_EQ(began, 1);
}

TEST_F(LoopsTest, CancellingForEachReachesEveryStep) {
  Inputs<void> inputs(*dispatcher_, 4);
  auto alive = std::make_shared<int>(0);
  Future<void> all = forEach(*dispatcher_, std::views::iota(0, 4), 3, [&inputs, alive](int i) {
    return std::move(inputs.futures[static_cast<std::size_t>(i)]);
  });
  all.cancel();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 1, 1, 0}));
  EXPECT_EQ(alive.use_count(), 1);
}

TEST_F(LoopsTest, AStepMayCancelItsForEach) {
  Future<void> all;
  std::vector<std::string> names = {"a", "b", "c", "d"};
  Promise<void> start;
  int calls = 0;
  all = forEach(*dispatcher_, std::move(names), 2, [&](std::string& name) -> Future<void> {
    if (++calls == 3) {
      all.cancel();
      EXPECT_EQ(name, "c") << "elements and captures are still there";
    }
    return sleepFor(*dispatcher_, 1ms);
  });
  advance(1s);
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
}

TEST_F(LoopsTest, AShutDownDispatcherEndsForEach) {
  Inputs<void> inputs(*dispatcher_, 4);
  Future<void> all = forEach(*dispatcher_, std::views::iota(0, 4), 3,
                             [&inputs](int i) { return std::move(inputs.futures[static_cast<std::size_t>(i)]); });
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
}

TEST_F(LoopsTest, MapWindowGivesValuesInTheOrderOfTheElementsWhateverTheOrderInWhichTheyCame) {
  for (const std::size_t concurrency : {1U, 2U, 10U, 100U}) {
    std::size_t running = 0;
    std::size_t most = 0;
    Future<std::vector<std::string>> all =
        mapWindow(*dispatcher_, std::vector<int>{5, 1, 4, 2, 3}, concurrency, [&](int i) {
          most = std::max(most, ++running);
          return sleepFor(*dispatcher_, std::chrono::milliseconds(i)).then([&running, i] {
            --running;
            return std::to_string(i);
          });
        });
    advance(1s);
    ASSERT_TRUE(all.isReady());
    EXPECT_EQ(*all.result(), (std::vector<std::string>{"5", "1", "4", "2", "3"}));
    EXPECT_EQ(most, std::min<std::size_t>(concurrency, 5));
  }
}

TEST_F(LoopsTest, MapWindowTakesStepsOfAllKinds) {
  Future<std::vector<int>> plain = mapWindow(*dispatcher_, std::views::iota(0, 3), 2, [](int i) { return i * i; });
  Future<std::vector<int>> status =
      mapWindow(*dispatcher_, std::views::iota(0, 3), 2, [](int i) { return absl::StatusOr<int>(i + 1); });
  Promise<int> promise;
  Future<std::vector<int>> semi =
      mapWindow(*dispatcher_, std::views::iota(0, 1), 2, [&](int) { return promise.semiFuture(); });
  ASSERT_TRUE(plain.isReady());
  EXPECT_EQ(*plain.result(), (std::vector<int>{0, 1, 4}));
  ASSERT_TRUE(status.isReady());
  EXPECT_EQ(*status.result(), (std::vector<int>{1, 2, 3}));
  promise.setValue(7);
  turn();
  ASSERT_TRUE(semi.isReady());
  EXPECT_EQ(*semi.result(), std::vector<int>{7});
}

TEST_F(LoopsTest, MapWindowTakesValuesThatOnlyMoveAndThoseThatAreMadeOfAnything) {
  Future<std::vector<std::unique_ptr<int>>> pointers =
      mapWindow(*dispatcher_, std::views::iota(0, 3), 2, [](int i) { return std::make_unique<int>(i); });
  ASSERT_TRUE(pointers.isReady());
  EXPECT_EQ(*(*pointers.result())[2], 2);
  Future<std::vector<std::any>> anything =
      mapWindow(*dispatcher_, std::views::iota(0, 3), 2, [](int i) { return makeReadyFuture(std::any(i)); });
  ASSERT_TRUE(anything.isReady());
  EXPECT_EQ(std::any_cast<int>((*anything.result())[2]), 2);
}

TEST_F(LoopsTest, MapWindowOfNothingIsEmpty) {
  Future<std::vector<int>> none = mapWindow(*dispatcher_, std::vector<int>(), 4, [](int i) { return i; });
  ASSERT_TRUE(none.isReady());
  EXPECT_TRUE((*none.result()).empty());
}

TEST_F(LoopsTest, MapWindowKeepsItsElementsAndItsFunction) {
  std::vector<std::unique_ptr<int>> numbers;
  for (int i = 0; i < 5; ++i) {
    numbers.push_back(std::make_unique<int>(i));
  }
  auto captured = std::make_shared<int>(10);
  const std::weak_ptr<int> alive = captured;
  Future<std::vector<int>> all =
      mapWindow(*dispatcher_, std::move(numbers), 2,
                [captured = std::move(captured)](std::unique_ptr<int>& number) -> Future<int> {
                  co_await 1ms;
                  co_return *number + *captured;
                });
  advance(1s);
  ASSERT_TRUE(all.isReady());
  EXPECT_EQ(*all.result(), (std::vector<int>{10, 11, 12, 13, 14}));
  EXPECT_TRUE(alive.expired());
}

TEST_F(LoopsTest, TheFirstFailureOfMapWindowCancelsTheOthersAndBeginsNoMore) {
  Inputs<int> inputs(*dispatcher_, 5);
  int began = 0;
  Future<std::vector<int>> all = mapWindow(*dispatcher_, std::views::iota(0, 5), 3, [&](int i) {
    ++began;
    return std::move(inputs.futures[static_cast<std::size_t>(i)]);
  });
  inputs.promises[1].setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kNotFound);
  EXPECT_EQ(began, 3);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 0, 1, 0, 0}));
}

TEST_F(LoopsTest, MapWindowWithoutConcurrencyIsInvalid) {
  Future<std::vector<int>> all = mapWindow(*dispatcher_, std::vector<int>{1}, 0, [](int i) { return i; });
  EXPECT_EQ(codeOf(all), absl::StatusCode::kInvalidArgument);
}

TEST_F(LoopsTest, CancellingMapWindowReachesEveryStepAndFreesWhatItKept) {
  Inputs<int> inputs(*dispatcher_, 4);
  auto alive = std::make_shared<int>(0);
  Future<std::vector<int>> all = mapWindow(*dispatcher_, std::views::iota(0, 4), 3, [&inputs, alive](int i) {
    return std::move(inputs.futures[static_cast<std::size_t>(i)]);
  });
  inputs.promises[0].setValue(1);
  turn();
  all.cancel();
  turn();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 1, 1, 1}));
  EXPECT_EQ(alive.use_count(), 1);
}

TEST_F(LoopsTest, AStepMayCancelItsMapWindow) {
  Future<std::vector<int>> all;
  int calls = 0;
  all = mapWindow(*dispatcher_, std::vector<std::string>{"a", "b", "c", "d"}, 2, [&](std::string& name) {
    if (++calls == 3) {
      all.cancel();
      EXPECT_EQ(name, "c") << "elements and captures are still there";
    }
    return sleepFor(*dispatcher_, 1ms).then([] { return 1; });
  });
  advance(1s);
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
}

TEST_F(LoopsTest, AShutDownDispatcherEndsMapWindow) {
  Inputs<int> inputs(*dispatcher_, 4);
  Future<std::vector<int>> all = mapWindow(*dispatcher_, std::views::iota(0, 4), 3, [&inputs](int i) {
    return std::move(inputs.futures[static_cast<std::size_t>(i)]);
  });
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
}

TEST_F(LoopsTest, AMillionReadyStepsOfMapWindow) {
  Future<std::vector<int>> all =
      mapWindow(*dispatcher_, std::views::iota(0, 1'000'000), 16, [](int i) { return makeReadyFuture(i); });
  finish(all);
  EXPECT_EQ((*all.result()).size(), 1'000'000U);
  EXPECT_EQ((*all.result()).back(), 999'999);
}

// Ranges of each kind. Each is gone through with one step at a time, and with three.

// Counts from 1 to `last`, as a generator does: can be gone through once, and each look makes a new element.
template <class T>
class Counting {
public:
  class Iterator {
  public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using iterator_concept = std::input_iterator_tag;

    explicit Iterator(Counting& range) : range_(&range) {}
    Iterator(Iterator&&) noexcept = default;
    Iterator& operator=(Iterator&&) noexcept = default;
    T operator*() const {
      EXPECT_NE(range_->looked_at_, range_->current_) << "an element is made twice";
      range_->looked_at_ = range_->current_;
      return T(range_->current_);
    }
    Iterator& operator++() {
      ++range_->current_;
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(std::default_sentinel_t /*end*/) const { return range_->current_ > range_->last_; }

  private:
    Counting* range_;
  };

  explicit Counting(int last) : last_(last) {}
  Iterator begin() { return Iterator(*this); }
  std::default_sentinel_t end() { return std::default_sentinel; }

private:
  int current_ = 1;
  int looked_at_ = 0;
  int last_;
};

// An int in memory of its own, so that a sanitizer sees when it is used too late. It can only be moved.
struct Boxed {
  explicit Boxed(int number) : value(std::make_unique<int>(number)) {}
  operator int() const { return *value; }  // NOLINT(google-explicit-constructor): to be printed and compared
  std::unique_ptr<int> value;
};

static_assert(std::input_iterator<Counting<Boxed>::Iterator> && !std::forward_iterator<Counting<Boxed>::Iterator>);

class RangesTest : public LoopsTest {
protected:
  // What comes of forEach() over what `make_range` makes: f calls `see` with each element.
  template <class MakeRange, class F>
  void expectOneToFour(MakeRange make_range, F f) {
    for (const std::size_t concurrency : {1U, 3U}) {
      seen_.clear();
      Future<void> all = forEach(*dispatcher_, make_range(), concurrency, f);
      advance(1s);
      ASSERT_TRUE(all.isReady());
      EXPECT_TRUE(all.result().hasValue());
      EXPECT_EQ(seen_, (std::vector<int>{1, 2, 3, 4})) << concurrency << " at a time";
    }
  }
  // The same with elements that can be referred to until a step is done, some time after it began.
  template <class Element, class MakeRange>
  void expectOneToFourLater(MakeRange make_range) {
    expectOneToFour(make_range, [this](Element element) -> Future<void> {
      co_await 1ms;
      seen_.push_back(element);
    });
  }
  // Reduces what `make_range` makes to the digits of its elements, with steps that refer to them until they are done.
  template <class Element, class MakeRange>
  void expectReducedToOneToFour(MakeRange make_range) {
    Future<int> digits = reduce(*dispatcher_, make_range(), 0, [](int accumulated, Element element) -> Future<int> {
      co_await 1ms;
      co_return 10 * accumulated + element;
    });
    advance(1s);
    ASSERT_TRUE(digits.isReady());
    EXPECT_EQ(*digits.result(), 1234);
  }

  // A range that reads from a stream.
  auto read() {
    stream_ = std::istringstream("1 2 3 4");
    return std::ranges::istream_view<int>(stream_);
  }
  static std::vector<Boxed> boxes() {
    std::vector<Boxed> boxes;
    for (int i = 1; i <= 4; ++i) {
      boxes.emplace_back(i);
    }
    return boxes;
  }

  std::istringstream stream_;
  std::vector<int> seen_;
};

TEST_F(RangesTest, ForEachReadsAnInputRangeToItsEnd) {
  expectOneToFour([this] { return read(); }, [this](int number) { seen_.push_back(number); });
  expectOneToFour([this] { return read(); }, [this](int& number) { seen_.push_back(number++); });
  expectOneToFour([this] { return read(); }, [this](const int& number) { seen_.push_back(number); });
  expectOneToFour([this] { return read(); }, [this](int&& number) { seen_.push_back(number); });
  expectOneToFour([this] { return read(); }, [this](auto&& number) { seen_.push_back(number); });
}

TEST_F(RangesTest, ForEachKeepsAnElementOfAnInputRangeForItsStep) {
  expectOneToFourLater<int>([this] { return read(); });
  expectOneToFourLater<int&>([this] { return read(); });
  expectOneToFourLater<const int&>([this] { return read(); });
  expectOneToFourLater<int&&>([this] { return read(); });
}

TEST_F(RangesTest, ForEachMakesEachElementOfAGeneratorOnceAndKeepsItForItsStep) {
  expectOneToFourLater<int>([] { return Counting<int>(4); });
  expectOneToFourLater<const int&>([] { return Counting<int>(4); });
  expectOneToFourLater<int&&>([] { return Counting<int>(4); });
}

TEST_F(RangesTest, ForEachHandsOverElementsThatOnlyMove) {
  expectOneToFourLater<Boxed>([] { return Counting<Boxed>(4); });
  expectOneToFourLater<const Boxed&>([] { return Counting<Boxed>(4); });
  expectOneToFourLater<Boxed&&>([] { return Counting<Boxed>(4); });
  std::vector<Boxed> boxed;
  const auto moving = [&boxed] {
    boxed = boxes();
    return std::ranges::subrange(std::move_iterator(boxed.begin()), std::move_sentinel(boxed.end()));
  };
  expectOneToFourLater<Boxed>(moving);
  expectOneToFourLater<Boxed&&>(moving);
}

TEST_F(RangesTest, ForEachLendsTheElementsOfAContainer) {
  expectOneToFourLater<Boxed&>([] { return boxes(); });
  expectOneToFourLater<const Boxed&>([] { return boxes(); });
  expectOneToFourLater<int&>([] { return std::forward_list<int>{1, 2, 3, 4}; });
  expectOneToFourLater<int>([] { return std::forward_list<int>{1, 2, 3, 4}; });
}

TEST_F(RangesTest, ForEachLendsTheElementsThatASpanRefersTo) {
  std::vector<int> numbers = {1, 2, 3, 4};
  Future<void> all = forEach(*dispatcher_, std::span(numbers), 2, [](int& number) -> Future<void> {
    co_await 1ms;
    number *= 10;
  });
  advance(1s);
  ASSERT_TRUE(all.isReady());
  EXPECT_EQ(numbers, (std::vector<int>{10, 20, 30, 40}));
}

// Looking at an element makes it anew.
TEST_F(RangesTest, ForEachKeepsWhatAViewMakesForItsStep) {
  const auto boxed = [] {
    return std::views::iota(1, 5) | std::views::transform([](int number) { return Boxed(number); });
  };
  expectOneToFourLater<Boxed>(boxed);
  expectOneToFourLater<const Boxed&>(boxed);
  expectOneToFourLater<Boxed&&>(boxed);
}

TEST_F(RangesTest, ForEachKeepsATemporaryViewAndWhatItOwns) {
  const auto odd_halved = [] {
    return std::vector<int>{1, 2, 3, 4, 5, 6, 7} | std::views::filter([](int number) { return number % 2 == 1; }) |
           std::views::transform([](int number) { return Boxed(number / 2 + 1); });
  };
  expectOneToFourLater<const Boxed&>(odd_halved);
}

TEST_F(RangesTest, ReduceTakesRangesOfEachKind) {
  expectReducedToOneToFour<int>([this] { return read(); });
  expectReducedToOneToFour<int&>([this] { return read(); });
  expectReducedToOneToFour<int&&>([] { return Counting<int>(4); });
  expectReducedToOneToFour<const int&>([] { return Counting<int>(4); });
  expectReducedToOneToFour<Boxed>([] { return Counting<Boxed>(4); });
  expectReducedToOneToFour<const Boxed&>([] { return Counting<Boxed>(4); });
  expectReducedToOneToFour<Boxed&>([] { return boxes(); });
  expectReducedToOneToFour<const int&>([] { return std::forward_list<int>{1, 2, 3, 4}; });
  expectReducedToOneToFour<const Boxed&>([] {
    return std::vector<int>{0, 1, 2, 3} | std::views::transform([](int number) { return Boxed(number + 1); });
  });
}

TEST_F(RangesTest, ReduceAccumulatesWhatOnlyMoves) {
  Future<Boxed> sum = reduce(*dispatcher_, Counting<Boxed>(4), Boxed(0), [](Boxed accumulated, Boxed&& element) {
    *accumulated.value += element;
    return accumulated;
  });
  ASSERT_TRUE(sum.isReady());
  EXPECT_EQ(*sum.result(), 10);
}

TEST_F(LoopsTest, ReduceGoesFromTheFirstToTheLast) {
  Future<std::string> text =
      reduce(*dispatcher_, std::vector<int>{1, 2, 3}, std::string("0"), [this](std::string accumulated, int i) {
        return sleepFor(*dispatcher_, 1ms).then([accumulated, i] { return accumulated + std::to_string(i); });
      });
  advance(3ms);
  ASSERT_TRUE(text.isReady());
  EXPECT_EQ(*text.result(), "0123");
}

TEST_F(LoopsTest, ReduceOfNothingGivesTheInitialValue) {
  Future<std::unique_ptr<int>> value =
      reduce(*dispatcher_, std::vector<int>(), std::make_unique<int>(7), [](std::unique_ptr<int> v, int) { return v; });
  ASSERT_TRUE(value.isReady());
  EXPECT_EQ(**value.result(), 7);
}

TEST_F(LoopsTest, AFailureEndsReduce) {
  int calls = 0;
  Future<int> value = reduce(*dispatcher_, std::views::iota(0, 10), 0, [&](int sum, int i) -> absl::StatusOr<int> {
    ++calls;
    if (i == 3) {
      return absl::NotFoundError("x");
    }
    return sum + i;
  });
  EXPECT_EQ(codeOf(value), absl::StatusCode::kNotFound);
  EXPECT_EQ(calls, 4);
}

TEST_F(LoopsTest, AMillionReadyStepsOfReduce) {
  Future<int64_t> sum = reduce(*dispatcher_, std::views::iota(0, 1'000'000), int64_t{0},
                               [](int64_t accumulated, int i) { return makeReadyFuture(accumulated + i); });
  finish(sum);
  EXPECT_EQ(*sum.result(), 499'999'500'000);
}

TEST_F(LoopsTest, CancellingReduceReachesTheStep) {
  Promise<int> promise;
  Future<int> sum =
      reduce(*dispatcher_, std::views::iota(0, 10), 0, [&](int, int) { return promise.future(*dispatcher_); });
  sum.cancel();
  EXPECT_TRUE(promise.done());
  EXPECT_EQ(codeOf(sum), absl::StatusCode::kCancelled);
}

// How many steps of two loops each iteration takes.
std::vector<std::pair<int, int>> stepsOfIterations() {
  SimulatedTimeSystem time;
  DispatcherPtr dispatcher = createDispatcher({.name = "simulated", .time_system = &time});
  int repeated = 0;
  int reduced = 0;
  Future<void> first;
  Future<int> second;
  dispatcher->post([&] {
    first = repeat(*dispatcher, [&] { return makeReadyFuture(++repeated < 200'000); });
    second = reduce(*dispatcher, std::views::iota(0, 200'000), 0, [&](int, int i) {
      ++reduced;
      return i;
    });
  });
  std::vector<std::pair<int, int>> steps;
  while (steps.size() < 1'000 && !(first.valid() && first.isReady() && second.isReady())) {
    dispatcher->run(RunType::NonBlock);
    steps.emplace_back(repeated, reduced);
  }
  EXPECT_EQ(steps.back(), std::pair(200'000, 200'000));
  return steps;
}

TEST(LoopsSimulatedTimeTest, EachRunTakesTheSameStepsInEachIteration) {
  const std::vector<std::pair<int, int>> steps = stepsOfIterations();
  EXPECT_GT(steps.size(), 5U);
  EXPECT_EQ(stepsOfIterations(), steps);
  EXPECT_EQ(stepsOfIterations(), steps);
}

// Of real time, by which a dispatcher and its loops decide when it is another's turn.
template <class Begin>
void expectNoStarvation(int& calls, Begin begin) {
  DispatcherPtr dispatcher = createDispatcher({.name = "test"});
  Future<void> loop;
  int calls_when_posted = 0;
  dispatcher->post([&] {
    loop = begin(*dispatcher);
    dispatcher->post([&] { calls_when_posted = calls; });
  });
  for (int i = 0; i < 100'000 && !(loop.valid() && loop.isReady()); ++i) {
    dispatcher->run(RunType::NonBlock);
  }
  ASSERT_TRUE(loop.isReady());
  EXPECT_EQ(calls, 1'000'000);
  EXPECT_GT(calls_when_posted, 0);
  EXPECT_LT(calls_when_posted, 1'000'000);
}

TEST(LoopsThreadTest, AMillionReadyStepsNeitherRecurseNorStarve) {
  int calls = 0;
  expectNoStarvation(calls, [&](Dispatcher& dispatcher) {
    return repeat(dispatcher, [&] { return makeReadyFuture(++calls < 1'000'000); });
  });
}

TEST(LoopsThreadTest, AMillionReadyElementsNeitherRecurseNorStarve) {
  for (const std::size_t concurrency : {1U, 16U}) {
    int calls = 0;
    expectNoStarvation(calls, [&](Dispatcher& dispatcher) {
      return forEach(dispatcher, std::views::iota(0, 1'000'000), concurrency, [&](int) { ++calls; });
    });
  }
}

TEST(LoopsThreadTest, StepsRunOnTheDispatchersThreadWhereverALoopIsCalled) {
  DispatcherPtr dispatcher = createDispatcher({.name = "test"});
  test::DispatcherThread thread(*dispatcher);
  int calls = 0;
  const auto step = [&] {
    EXPECT_EQ(std::this_thread::get_id(), thread.id());
    return ++calls % 100 != 0;
  };
  EXPECT_TRUE(repeat(*dispatcher, step).get().hasValue());
  EXPECT_TRUE(doUntil(*dispatcher, step, [](bool more) { return !more; }).get().hasValue());
  EXPECT_TRUE(forEach(*dispatcher, std::views::iota(0, 100), 4, [&](int) { step(); }).get().hasValue());
  EXPECT_TRUE(mapWindow(*dispatcher, std::views::iota(0, 100), 4, [&](int i) { return step(), i; }).get().hasValue());
  EXPECT_EQ(*reduce(*dispatcher, std::views::iota(0, 100), 0, [&](int sum, int i) { return step(), sum + i; }).get(),
            4950);
  EXPECT_EQ(calls, 500);
}

TEST(LoopsThreadTest, LoopsMayBeCancelledFromAnotherThreadAtAnyMoment) {
  DispatcherPtr dispatcher = createDispatcher({.name = "test"});
  test::DispatcherThread thread(*dispatcher);
  for (int i = 0; i < 500; ++i) {
    Future<void> all = forEach(*dispatcher, std::views::iota(0, 1000), 4, [&dispatcher](int j) {
      return j % 2 == 0 ? sleepFor(*dispatcher, 1us) : makeReadyFuture();
    });
    all.cancel();
    const Try<void> result = std::move(all).get();
    EXPECT_EQ(result.status().code(), absl::StatusCode::kCancelled);
  }
}

}  // namespace
}  // namespace nuncio
