#include "nuncio/future/loops.h"

#include <algorithm>
#include <any>
#include <chrono>
#include <memory>
#include <ranges>
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
