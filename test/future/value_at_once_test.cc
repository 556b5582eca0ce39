// A value that moves trivially goes from its promise to a join or a coroutine that waits for it, without a task in
// between: what that must not change.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/debug.h"
#include "nuncio/future/future.h"
#include "test/future/loop_fixture.h"
#include "test/test_support/dispatcher_thread.h"

namespace nuncio {
namespace {

using test::codeOf;
using test::Inputs;
using testing::ElementsAre;

// Runs a function when it is destroyed, unless it was moved from.
class OnDestroy {
public:
  explicit OnDestroy(std::function<void()> f) : f_(std::move(f)) {}
  OnDestroy(OnDestroy&& other) noexcept : f_(std::exchange(other.f_, nullptr)) {}
  OnDestroy& operator=(OnDestroy&&) = delete;
  ~OnDestroy() {
    if (f_ != nullptr) {
      std::exchange(f_, nullptr)();
    }
  }

private:
  std::function<void()> f_;
};

class ValueAtOnceTest : public test::LoopFixture {
protected:
  // A task that is queued now.
  void note(const char* text) {
    Promise<int> promise;
    promise.future(*dispatcher_).then([this, text](int) { notes_.emplace_back(text); }).detach();
    promise.setValue(1);
  }

  Future<int> sum(Dispatcher& /*here*/, Future<int> a, Future<int> b) {
    const int first = co_await std::move(a);
    notes_.emplace_back("first");
    const int second = co_await std::move(b);
    notes_.emplace_back("second");
    co_return first + second;
  }

  std::vector<std::string> notes_;
};

// --- Joins.

TEST_F(ValueAtOnceTest, CollectIsReadyWithItsLastInputAndContinuesInATask) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  EXPECT_TRUE(inputs.promises[2].setValue(2));
  EXPECT_TRUE(inputs.promises[0].setValue(0));
  EXPECT_FALSE(all.isReady());
  note("before");
  Future<void> noted = std::move(all).then([&](std::vector<int> values) {
    EXPECT_EQ(values, (std::vector<int>{0, 1, 2}));
    notes_.emplace_back("collected");
  });
  EXPECT_TRUE(inputs.promises[1].setValue(1));
  EXPECT_FALSE(inputs.promises[1].setValue(1));
  EXPECT_TRUE(notes_.empty());
  note("after");
  turn();
  EXPECT_THAT(notes_, ElementsAre("before", "collected", "after"));
  EXPECT_TRUE(noted.isReady());
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0, 0}));
}

TEST_F(ValueAtOnceTest, CollectOfAnythingElseIsReadyAfterTheTasksOfItsInputs) {
  Inputs<std::string> inputs(*dispatcher_, 2);
  Future<std::vector<std::string>> all = collect(std::move(inputs.futures));
  inputs.promises[1].setValue("b");
  inputs.promises[0].setValue("a");
  EXPECT_FALSE(all.isReady());
  turn();
  EXPECT_EQ(*all.result(), (std::vector<std::string>{"a", "b"}));
}

TEST_F(ValueAtOnceTest, ATupleIsReadyWithItsLastInputWhenAllOfItMovesTrivially) {
  Promise<int> number;
  Promise<void> nothing;
  Promise<double> real;
  Future<std::tuple<int, Unit, double>> all =
      collect(number.future(*dispatcher_), nothing.future(*dispatcher_), real.future(*dispatcher_));
  real.setValue(0.5);
  number.setValue(1);
  EXPECT_FALSE(all.isReady());
  nothing.setValue();
  ASSERT_TRUE(all.isReady());
  EXPECT_EQ(*all.result(), std::make_tuple(1, Unit(), 0.5));
}

TEST_F(ValueAtOnceTest, ATupleWithAValueThatDoesNotWaitsForTasks) {
  Promise<int> number;
  Promise<std::string> text;
  auto all = collect(number.future(*dispatcher_), text.future(*dispatcher_));
  text.setValue("x");
  number.setValue(1);
  EXPECT_FALSE(all.isReady());
  turn();
  EXPECT_EQ(*all.result(), std::make_tuple(1, std::string("x")));
}

TEST_F(ValueAtOnceTest, CollectAllTakesValuesAtOnceAndFailuresInTasks) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::vector<Try<int>>> all = collectAll(std::move(inputs.futures));
  inputs.promises[1].setStatus(absl::NotFoundError("x"));
  inputs.promises[0].setValue(0);
  inputs.promises[2].setValue(2);
  EXPECT_FALSE(all.isReady());
  turn();
  const std::vector<Try<int>>& results = *all.result();
  EXPECT_EQ(*results[0], 0);
  EXPECT_EQ(results[1].status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(*results[2], 2);
}

TEST_F(ValueAtOnceTest, CollectAllOfAGivenNumberIsReadyWithItsLastValue) {
  Promise<int> number;
  Promise<void> nothing;
  auto all = collectAll(number.future(*dispatcher_), nothing.future(*dispatcher_));
  nothing.setValue();
  number.setValue(7);
  ASSERT_TRUE(all.isReady());
  EXPECT_EQ(*std::get<0>(*all.result()), 7);
  EXPECT_TRUE(std::get<1>(*all.result()).hasValue());
}

TEST_F(ValueAtOnceTest, AFailureCancelsTheOthersInATask) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  inputs.promises[1].setStatus(absl::NotFoundError("x"));
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0, 0}));
  EXPECT_TRUE(inputs.promises[0].setValue(0));  // between the failure and its task
  EXPECT_FALSE(all.isReady());
  turn();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kNotFound);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0, 1}));
}

TEST_F(ValueAtOnceTest, AFailureThatCameBeforeTheLastValueIsTheResult) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  inputs.promises[2].setStatus(absl::NotFoundError("x"));
  inputs.promises[1].setStatus(absl::DataLossError("later"));
  inputs.promises[0].setValue(0);
  turn();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kNotFound);
}

TEST_F(ValueAtOnceTest, TheFirstWinsCollectAnyAndTheOthersAreCancelledInATask) {
  Inputs<int> inputs(*dispatcher_, 3);
  auto first = collectAny(std::move(inputs.futures));
  inputs.promises[1].setValue(1);
  inputs.promises[0].setValue(0);
  EXPECT_FALSE(first.isReady());
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0, 0}));
  turn();
  EXPECT_EQ((*first.result()).first, 1U);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0, 1}));
}

TEST_F(ValueAtOnceTest, CollectNKeepsTheOrderInWhichValuesCame) {
  Inputs<int> inputs(*dispatcher_, 4);
  auto two = collectN(std::move(inputs.futures), 2);
  inputs.promises[3].setStatus(absl::NotFoundError("x"));
  inputs.promises[2].setValue(2);
  inputs.promises[0].setValue(0);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0, 0, 0}));
  turn();
  EXPECT_EQ(*two.result(), (std::vector<std::pair<std::size_t, int>>{{2, 2}, {0, 0}}));
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 1, 0, 0}));
}

TEST_F(ValueAtOnceTest, AnInputMayBeSetByTheContinuationOfAnother) {
  std::vector<Promise<int>> promises(3);
  std::vector<Future<int>> futures;
  futures.push_back(promises[0].future(*dispatcher_).then([&](int value) {
    promises[2].setValue(2);
    promises[1].setValue(1);
    return value + 10;  // the last input, and not at once
  }));
  futures.push_back(promises[1].future(*dispatcher_));
  futures.push_back(promises[2].future(*dispatcher_));
  Future<std::vector<int>> all = collect(std::move(futures));
  promises[0].setValue(0);
  turn();
  EXPECT_EQ(*all.result(), (std::vector<int>{10, 1, 2}));
}

TEST_F(ValueAtOnceTest, AJoinMayBeMadeAndSetByTheContinuationOfAnother) {
  Inputs<int> outer(*dispatcher_, 1);
  Inputs<int> inner(*dispatcher_, 2);
  Future<int> sum = collect(std::move(outer.futures)).then([&](const std::vector<int>&) {
    auto both = collect(std::move(inner.futures)).then([](std::vector<int> values) { return values[0] + values[1]; });
    inner.promises[0].setValue(1);
    inner.promises[1].setValue(2);
    return both;
  });
  outer.promises[0].setValue(0);
  turn();
  EXPECT_EQ(*sum.result(), 3);
}

// What a continuation returned takes its place as the input, and stands in the list of what waits until it has come.
TEST_F(ValueAtOnceTest, AnInputThatWasForwardedLeavesTheListOfThoseThatWait) {
  std::vector<Promise<int>> first(2);
  std::vector<Promise<int>> second(2);
  std::vector<Future<int>> futures;
  for (std::size_t i = 0; i < 2; ++i) {
    futures.push_back(
        first[i].future(*dispatcher_).then([this, &second, i](int) { return second[i].future(*dispatcher_); }));
  }
  {
    Future<std::vector<int>> all = collect(std::move(futures));
    first[0].setValue(0);
    first[1].setValue(0);
    turn();
    second[1].setValue(1);
    second[0].setValue(0);
    ASSERT_TRUE(all.isReady());
    EXPECT_EQ(*all.result(), (std::vector<int>{0, 1}));
  }
  dispatcher_->shutdown();  // looks through the list
}

TEST_F(ValueAtOnceTest, InputsThatAreSetWhileTheJoinIsCancelledAreDropped) {
  std::vector<Promise<int>> promises(3);
  std::vector<Future<int>> futures;
  for (Promise<int>& promise : promises) {
    futures.push_back(promise.future(*dispatcher_));
  }
  promises[0].onCancel([&] {
    promises[1].setValue(1);
    promises[2].setValue(2);
  });
  Future<std::vector<int>> all = collect(std::move(futures));
  all.cancel();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
  EXPECT_TRUE(promises[1].done());
  EXPECT_TRUE(promises[2].done());
  turn();
}

TEST_F(ValueAtOnceTest, InputsThatAreSetWhileAFailureEndsTheJoinAreDropped) {
  std::vector<Promise<int>> promises(4);
  std::vector<Future<int>> futures;
  for (Promise<int>& promise : promises) {
    futures.push_back(promise.future(*dispatcher_));
  }
  promises[1].onCancel([&] {
    promises[2].setValue(2);
    promises[3].setValue(3);
  });
  Future<std::vector<int>> all = collect(std::move(futures));
  promises[0].setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kNotFound);
}

TEST_F(ValueAtOnceTest, CancellingAJoinThatLacksOneDropsTheValuesThatCame) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  inputs.promises[0].setValue(0);
  inputs.promises[2].setValue(2);
  all.cancel();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 1, 0}));
  EXPECT_FALSE(inputs.promises[1].setValue(1));
}

TEST_F(ValueAtOnceTest, CancellingAJoinThatHasAllKeepsThemButNotItsContinuation) {
  Inputs<int> kept(*dispatcher_, 1);
  Future<std::vector<int>> all = collect(std::move(kept.futures));
  kept.promises[0].setValue(1);
  all.cancel();
  EXPECT_EQ(*all.result(), std::vector<int>{1});

  Inputs<int> inputs(*dispatcher_, 1);
  Future<void> after = collect(std::move(inputs.futures)).then([&](const std::vector<int>&) { note("never"); });
  inputs.promises[0].setValue(1);
  after.cancel();
  EXPECT_EQ(codeOf(after), absl::StatusCode::kCancelled);
  turn();
  EXPECT_TRUE(notes_.empty());
}

TEST_F(ValueAtOnceTest, AJoinThatIsDroppedInTheMidstTakesTheRestAndGoes) {
  Inputs<int> inputs(*dispatcher_, 3);
  {
    const auto dropped = collect(std::move(inputs.futures));
    inputs.promises[1].setValue(1);
  }
  EXPECT_TRUE(inputs.promises[0].setValue(0));
  EXPECT_TRUE(inputs.promises[2].setValue(2));  // and frees it
  turn();
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0, 0}));
}

TEST_F(ValueAtOnceTest, AJoinMayBeDroppedByADestructorWhileItsLastInputIsSet) {
  for (const bool cancels : {false, true}) {
    std::vector<Promise<int>> promises(2);
    std::vector<Future<int>> futures;
    auto all = std::make_unique<Future<std::vector<int>>>();
    for (Promise<int>& promise : promises) {
      promise.onCancel([capture = OnDestroy([&all, cancels] {
                          if (all != nullptr && cancels) {
                            all->cancel();
                          }
                          all.reset();
                        })] {});
      futures.push_back(promise.future(*dispatcher_));
    }
    *all = collect(std::move(futures));
    EXPECT_TRUE(promises[0].setValue(0));  // destroys its onCancel, unused
    EXPECT_EQ(all, nullptr);
    EXPECT_EQ(promises[1].setValue(1), !cancels);
    turn();
  }
}

TEST_F(ValueAtOnceTest, AShutDownDispatcherCancelsAJoinThatLacksOne) {
  Inputs<int> inputs(*dispatcher_, 2);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  inputs.promises[0].setValue(0);
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 1}));
}

TEST_F(ValueAtOnceTest, AShutDownDispatcherDoesNotContinueAJoinThatHasAll) {
  Inputs<int> inputs(*dispatcher_, 2);
  Future<void> after = collect(std::move(inputs.futures)).then([&](const std::vector<int>&) { note("never"); });
  inputs.promises[0].setValue(0);
  inputs.promises[1].setValue(1);
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(after), absl::StatusCode::kCancelled);
  EXPECT_TRUE(notes_.empty());
}

// The destructor runs while the dispatcher shuts down, and before what is pending is abandoned.
TEST_F(ValueAtOnceTest, ValuesThatAreSetWhileTheDispatcherShutsDownAreNotTaken) {
  Inputs<int> inputs(*dispatcher_, 2);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  inputs.promises[0].setValue(0);
  Promise<int> a;
  Promise<int> b;
  Future<int> coroutine = sum(*dispatcher_, a.future(*dispatcher_), b.future(*dispatcher_));
  struct Deferred final : DeferredDeletable {
    explicit Deferred(std::function<void()> f) : last(std::move(f)) {}
    OnDestroy last;
  };
  dispatcher_->deferredDelete(std::make_unique<Deferred>([&] {
    inputs.promises[1].setValue(1);
    a.setValue(1);
  }));
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
  EXPECT_EQ(codeOf(coroutine), absl::StatusCode::kCancelled);
  EXPECT_TRUE(notes_.empty());
}

TEST_F(ValueAtOnceTest, InputsThatCameAreNotListedAmongThoseThatAreWaitedFor) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  const std::string before = asyncTrace(all);
  EXPECT_EQ(std::count(before.begin(), before.end(), '\n'), 4) << before;
  inputs.promises[0].setValue(0);
  inputs.promises[2].setValue(2);
  const std::string after = asyncTrace(all);
  EXPECT_EQ(std::count(after.begin(), after.end(), '\n'), 2) << after;
  all.cancel();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
}

// --- Coroutines.

TEST_F(ValueAtOnceTest, ACoroutineGoesOnInATaskInItsTurn) {
  Promise<int> a;
  Promise<int> b;
  Future<int> both = sum(*dispatcher_, a.future(*dispatcher_), b.future(*dispatcher_));
  note("before");
  EXPECT_TRUE(a.setValue(1));
  EXPECT_FALSE(a.setValue(1));
  note("after");
  EXPECT_TRUE(notes_.empty());
  turn();
  EXPECT_THAT(notes_, ElementsAre("before", "first", "after"));
  b.setValue(2);
  EXPECT_FALSE(both.isReady());
  turn();
  EXPECT_EQ(*both.result(), 3);
}

TEST_F(ValueAtOnceTest, AVoidAndATryAreAwaitedAlike) {
  struct Waits {
    static Future<int> both(Dispatcher& /*here*/, Future<void> a, Future<int> b) {
      co_await std::move(a);
      auto wrapped = asTry(std::move(b));
      const Try<int> result = co_await std::move(wrapped);
      co_return result.hasValue() ? *result : -1;
    }
  };
  for (const bool fails : {false, true}) {
    Promise<void> a;
    Promise<int> b;
    Future<int> both = Waits::both(*dispatcher_, a.future(*dispatcher_), b.future(*dispatcher_));
    a.setValue();
    turn();
    EXPECT_TRUE(fails ? b.setStatus(absl::NotFoundError("x")) : b.setValue(5));
    turn();
    EXPECT_EQ(*both.result(), fails ? -1 : 5);
  }
}

TEST_F(ValueAtOnceTest, AFailureIsThrownInTheCoroutine) {
  Promise<int> a;
  Promise<int> b;
  Future<int> both = sum(*dispatcher_, a.future(*dispatcher_), b.future(*dispatcher_));
  a.setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(codeOf(both), absl::StatusCode::kNotFound);
  EXPECT_TRUE(notes_.empty());
  b.setValue(2);
}

TEST_F(ValueAtOnceTest, ACoroutineThatIsCancelledWithItsValueThereEnds) {
  Promise<int> a;
  Promise<int> b;
  Future<int> both = sum(*dispatcher_, a.future(*dispatcher_), b.future(*dispatcher_));
  a.setValue(1);
  both.cancel();
  EXPECT_EQ(codeOf(both), absl::StatusCode::kCancelled);
  EXPECT_TRUE(notes_.empty());
  EXPECT_FALSE(b.setValue(2));
  turn();
}

TEST_F(ValueAtOnceTest, AnOnCancelThatSetsThePromiseIsTooLate) {
  Promise<int> a;
  Promise<int> b;
  bool set = true;
  a.onCancel([&] { set = a.setValue(1); });
  Future<int> both = sum(*dispatcher_, a.future(*dispatcher_), b.future(*dispatcher_));
  both.cancel();
  EXPECT_FALSE(set);
  EXPECT_EQ(codeOf(both), absl::StatusCode::kCancelled);
  EXPECT_TRUE(notes_.empty());
  b.setValue(2);
  turn();
}

TEST_F(ValueAtOnceTest, ADestructorThatRunsWhileThePromiseIsSetMayCancelTheCoroutine) {
  Promise<int> a;
  Promise<int> b;
  Future<int> both;
  a.onCancel([capture = OnDestroy([&both] { both.cancel(); })] {});
  both = sum(*dispatcher_, a.future(*dispatcher_), b.future(*dispatcher_));
  EXPECT_TRUE(a.setValue(1));  // destroys its onCancel, unused
  EXPECT_EQ(codeOf(both), absl::StatusCode::kCancelled);
  b.setValue(2);
  turn();
  EXPECT_TRUE(notes_.empty());
}

TEST_F(ValueAtOnceTest, AShutDownDispatcherDoesNotResumeACoroutineThatHasItsValue) {
  Promise<int> a;
  Promise<int> b;
  Future<int> both = sum(*dispatcher_, a.future(*dispatcher_), b.future(*dispatcher_));
  a.setValue(1);
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(both), absl::StatusCode::kCancelled);
  EXPECT_TRUE(notes_.empty());
}

TEST_F(ValueAtOnceTest, ACoroutineThatAwaitsWhatWasForwardedLeavesTheListOfThoseThatWait) {
  Promise<int> outer;
  Promise<int> inner;
  Promise<int> b;
  Future<int> both = sum(*dispatcher_, outer.future(*dispatcher_).then([&](int) { return inner.future(*dispatcher_); }),
                         b.future(*dispatcher_));
  outer.setValue(0);
  turn();
  inner.setValue(1);
  turn();
  EXPECT_THAT(notes_, ElementsAre("first"));
  dispatcher_->shutdown();  // looks through the list
  EXPECT_EQ(codeOf(both), absl::StatusCode::kCancelled);
}

// Each sets the promise of the next: none runs within the other.
TEST_F(ValueAtOnceTest, CoroutinesThatSetWhatOthersAwaitNeedNoStack) {
  struct Chain {
    static Future<void> link(Dispatcher& /*here*/, Future<int> mine, Promise<int>& next) {
      const int value = co_await std::move(mine);
      next.setValue(value + 1);
    }
  };
  constexpr std::size_t kLinks = 100'000;
  std::vector<Promise<int>> promises(kLinks + 1);
  std::vector<Future<void>> links;
  for (std::size_t i = 0; i < kLinks; ++i) {
    links.push_back(Chain::link(*dispatcher_, promises[i].future(*dispatcher_), promises[i + 1]));
  }
  Future<int> last = promises[kLinks].future(*dispatcher_);
  promises[0].setValue(0);
  for (std::size_t turns = 0; turns < kLinks && !last.isReady(); ++turns) {
    turn();
  }
  EXPECT_EQ(*last.result(), static_cast<int>(kLinks));
}

// --- Threads.

// The other thread binds the promise, which takes a task of this loop; before that has run the future is used here.
TEST_F(ValueAtOnceTest, APromiseThatIsStillBeingBoundIsSet) {
  for (const bool awaits : {false, true}) {
    Promise<int> promise;
    Promise<int> other;
    Future<int> future;
    std::thread([&] { future = promise.future(*dispatcher_); }).join();
    if (awaits) {
      Future<int> both = sum(*dispatcher_, std::move(future), other.future(*dispatcher_));
      promise.setValue(1);
      turn();
      other.setValue(2);
      turn();
      EXPECT_EQ(*both.result(), 3);
    } else {
      Future<std::tuple<int, int>> both = collect(std::move(future), other.future(*dispatcher_));
      promise.setValue(1);
      other.setValue(2);
      turn();
      EXPECT_EQ(*both.result(), std::make_tuple(1, 2));
    }
  }
}

class ValueAtOnceThreadsTest : public testing::Test {
protected:
  DispatcherPtr dispatcher_ = createDispatcher({.name = "test"});
};

Future<int> addUp(Dispatcher& /*here*/, std::thread::id thread, std::vector<Future<int>> futures) {
  int sum = 0;
  for (Future<int>& future : futures) {
    sum += co_await std::move(future);
    EXPECT_EQ(std::this_thread::get_id(), thread);
  }
  co_return sum;
}

// Of the inputs of one join and one coroutine every other is set by the loop's thread, and the rest by two more.
TEST_F(ValueAtOnceThreadsTest, ValuesOfOtherThreadsComeAsTheyDid) {
  constexpr std::size_t kInputs = 60;
  test::DispatcherThread thread(*dispatcher_);
  for (int round = 0; round < 100; ++round) {
    std::vector<Promise<int>> collected(kInputs);
    std::vector<Promise<int>> awaited(kInputs);
    Future<std::vector<int>> all;
    Future<int> sum;
    thread.call([&] {
      std::vector<Future<int>> to_collect;
      std::vector<Future<int>> to_await;
      for (std::size_t i = 0; i < kInputs; ++i) {
        to_collect.push_back(collected[i].future(*dispatcher_));
        to_await.push_back(awaited[i].future(*dispatcher_));
      }
      all = collect(std::move(to_collect));
      sum = addUp(*dispatcher_, thread.id(), std::move(to_await));
    });
    std::atomic<int> ready{0};
    const auto set = [&](std::size_t first) {
      ++ready;
      while (ready != 3) {
      }
      for (std::size_t i = first; i < kInputs; i += first == 0 ? 2 : 4) {
        collected[i].setValue(1);
        awaited[i].setValue(1);
      }
    };
    dispatcher_->post([&] { set(0); });
    std::thread one([&] { set(1); });
    std::thread two([&] { set(3); });
    one.join();
    two.join();
    EXPECT_EQ((*std::move(all).get()), std::vector<int>(kInputs, 1));
    EXPECT_EQ(*std::move(sum).get(), static_cast<int>(kInputs));
    thread.call([] {});  // set(0) has returned
  }
}

// One promise, which two threads set at once, one of them the loop's.
TEST_F(ValueAtOnceThreadsTest, SetsThatRaceAreOne) {
  test::DispatcherThread thread(*dispatcher_);
  for (int round = 0; round < 200; ++round) {
    Promise<int> promise;
    Future<int> sum;
    thread.call([&] {
      std::vector<Future<int>> one;
      one.push_back(promise.future(*dispatcher_));
      sum = addUp(*dispatcher_, thread.id(), std::move(one));
    });
    std::atomic<int> ready{0};
    std::atomic<int> won{0};
    const auto set = [&](int value) {
      ++ready;
      while (ready != 2) {
      }
      if (promise.setValue(value)) {
        won += value;
      }
    };
    dispatcher_->post([&] { set(1); });
    set(2);
    thread.call([] {});  // set(1) has returned
    EXPECT_EQ(*std::move(sum).get(), won);
  }
}

TEST_F(ValueAtOnceThreadsTest, ShutdownWhileThreadsFulfilLeavesNothing) {
  for (int round = 0; round < 100; ++round) {
    DispatcherPtr dispatcher = createDispatcher({.name = "round"});
    std::vector<Promise<int>> promises(20);
    std::vector<Future<int>> futures;
    for (Promise<int>& promise : promises) {
      futures.push_back(promise.future(*dispatcher));
    }
    test::DispatcherThread thread(*dispatcher);
    Future<std::vector<int>> all = collect(std::move(futures));
    std::atomic<std::size_t> next{0};
    const auto set = [&] {
      for (std::size_t i = next++; i < promises.size(); i = next++) {
        promises[i].setValue(1);
      }
    };
    dispatcher->post(set);
    std::thread setter(set);
    thread.stop();
    dispatcher.reset();
    setter.join();
    const auto result = std::move(all).get();
    EXPECT_TRUE(result.hasValue() || result.status().code() == absl::StatusCode::kCancelled);
  }
}

}  // namespace
}  // namespace nuncio
