#include "nuncio/future/time.h"

#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/future/coroutine.h"
#include "test/future/loop_fixture.h"
#include "test/test_support/dispatcher_thread.h"

namespace nuncio {
namespace {

using namespace std::chrono_literals;
using test::codeOf;
using test::statusOf;

class TimeTest : public test::LoopFixture {};

TEST_F(TimeTest, SleepForIsDoneWhenItsTimeHasPassedAndNotBefore) {
  Future<void> slept = sleepFor(*dispatcher_, 5ms);
  advance(4999us);
  EXPECT_FALSE(slept.isReady());
  advance(1us);
  ASSERT_TRUE(slept.isReady());
  EXPECT_TRUE(slept.result().hasValue());
}

TEST(YieldIfDueTest, ALongComputationLetsTheLoopPollNowAndThen) {
  constexpr int kSteps = 35'000;  // in simulated time it is due after 10,000
  SimulatedTimeSystem time;
  DispatcherPtr dispatcher = createDispatcher({.time_system = &time});
  Future<void> computed;
  dispatcher->post([&] {
    computed = [](Dispatcher& loop) -> Future<void> {
      for (int i = 0; i < kSteps; ++i) {
        co_await yieldIfDue();
      }
      loop.exit();
    }(*dispatcher);
  });
  const uint64_t before = dispatcher->stats().iterations;
  dispatcher->run(RunType::RunUntilExit);
  EXPECT_LE(3, dispatcher->stats().iterations - before);
  EXPECT_GE(6, dispatcher->stats().iterations - before);
  EXPECT_TRUE(computed.isReady());
}

TEST(YieldIfDueTest, WithoutALoopItGoesOn) { EXPECT_TRUE(yieldIfDue().isReady()); }

TEST_F(TimeTest, SleepForRoundsUpToMicroseconds) {
  Future<void> slept = sleepFor(*dispatcher_, 1ns);
  turn();
  EXPECT_FALSE(slept.isReady());
  advance(1us);
  EXPECT_TRUE(slept.isReady());
}

TEST_F(TimeTest, DurationsOfAnyKindAreTaken) {
  Future<void> floating = sleepFor(*dispatcher_, std::chrono::duration<double>(0.25));
  Future<void> minutes = sleepFor(*dispatcher_, 2min);
  advance(249'999us);
  EXPECT_FALSE(floating.isReady());
  advance(1us);
  EXPECT_TRUE(floating.isReady());
  advance(119s);
  EXPECT_FALSE(minutes.isReady());
  advance(1s);
  EXPECT_TRUE(minutes.isReady());
}

TEST_F(TimeTest, ASleepOfZeroEndsInTheNextIteration) {
  Future<void> slept = sleepFor(*dispatcher_, 0s);
  EXPECT_FALSE(slept.isReady());
  turn();
  EXPECT_TRUE(slept.isReady());
}

TEST_F(TimeTest, NegativeDurationsAreInvalidAndNamed) {
  Promise<int> promise;
  Promise<int> other;
  Future<void> slept = sleepFor(*dispatcher_, -5ms);
  Future<int> limited = within(promise.future(*dispatcher_), -1500us);
  Future<int> late = delayed(other.future(*dispatcher_), std::chrono::duration<double>(-0.25));
  EXPECT_EQ(statusOf(slept).ToString(), "INVALID_ARGUMENT: negative duration: -5 ms");
  EXPECT_EQ(statusOf(limited).ToString(), "INVALID_ARGUMENT: negative duration: -1.5 ms");
  EXPECT_EQ(statusOf(late).ToString(), "INVALID_ARGUMENT: negative duration: -250 ms");
  EXPECT_TRUE(promise.done()) << "nobody wants it any more";
  EXPECT_TRUE(other.done());
}

TEST_F(TimeTest, WhatIsNoNumberIsInvalid) {
  const std::chrono::duration<double> nothing(std::numeric_limits<double>::quiet_NaN());
  Future<void> slept = sleepFor(*dispatcher_, nothing);
  EXPECT_EQ(codeOf(slept), absl::StatusCode::kInvalidArgument);
}

TEST_F(TimeTest, HugeDurationsAreClampedAndNotOverflowing) {
  Future<void> hours = sleepFor(*dispatcher_, std::chrono::hours::max());
  Future<void> infinite =
      sleepFor(*dispatcher_, std::chrono::duration<double>(std::numeric_limits<double>::infinity()));
  auto sleeper = [](Dispatcher& /*dispatcher*/) -> Future<void> { co_await std::chrono::hours::max(); };
  Future<void> awaited = sleeper(*dispatcher_);
  advance(std::chrono::hours(24 * 365));
  EXPECT_FALSE(hours.isReady());
  EXPECT_FALSE(infinite.isReady());
  EXPECT_FALSE(awaited.isReady());
  advance(std::chrono::hours(24 * 365 * 68));
  EXPECT_TRUE(hours.isReady());
  EXPECT_TRUE(infinite.isReady());
  EXPECT_TRUE(awaited.isReady());
}

TEST_F(TimeTest, ACancelledSleepEndsAtOnceAndFreesItsTimer) {
  Future<void> slept = sleepFor(*dispatcher_, 5ms);
  slept.cancel();
  EXPECT_EQ(codeOf(slept), absl::StatusCode::kCancelled);
  const uint64_t fired = dispatcher_->stats().timers_fired;
  advance(10ms);
  EXPECT_EQ(dispatcher_->stats().timers_fired, fired);
}

TEST_F(TimeTest, SleepsThatAShutDownDispatcherHasFailWithCancelled) {
  Future<void> slept = sleepFor(*dispatcher_, 5ms);
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(slept), absl::StatusCode::kCancelled);
  Future<void> later = sleepFor(*dispatcher_, 5ms);
  EXPECT_EQ(codeOf(later), absl::StatusCode::kCancelled);
}

TEST_F(TimeTest, WithinPassesOnAResultThatComesInTimeAndFreesTheTimer) {
  Promise<std::unique_ptr<int>> promise;
  Future<std::unique_ptr<int>> limited = within(promise.future(*dispatcher_), 5ms);
  advance(4ms);
  EXPECT_FALSE(limited.isReady());
  promise.setValue(std::make_unique<int>(7));
  turn();
  ASSERT_TRUE(limited.isReady());
  EXPECT_EQ(**limited.result(), 7);
  const uint64_t fired = dispatcher_->stats().timers_fired;
  advance(10ms);
  EXPECT_EQ(dispatcher_->stats().timers_fired, fired);
}

TEST_F(TimeTest, WithinPassesOnAFailure) {
  Promise<int> promise;
  Future<int> limited = within(promise.future(*dispatcher_), 5ms);
  promise.setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(codeOf(limited), absl::StatusCode::kNotFound);
}

TEST_F(TimeTest, WithinFailsWithDeadlineExceededOnTimeAndCancels) {
  Promise<int> promise;
  int cancelled = 0;
  promise.onCancel([&] { ++cancelled; });
  Future<int> limited = within(promise.future(*dispatcher_), 5ms);
  advance(4999us);
  EXPECT_FALSE(limited.isReady());
  EXPECT_EQ(cancelled, 0);
  advance(1us);
  ASSERT_TRUE(limited.isReady());
  EXPECT_EQ(statusOf(limited).ToString(), "DEADLINE_EXCEEDED: the future was not ready within 5 ms");
  EXPECT_EQ(cancelled, 1);
  EXPECT_FALSE(promise.setValue(1));
}

TEST_F(TimeTest, WithinCancelsThroughTheStagesBeforeIt) {
  Promise<int> promise;
  bool ran = false;
  bool ensured = false;
  Future<void> limited =
      within(promise.future(*dispatcher_).then([&](int) { ran = true; }).ensure([&] { ensured = true; }), 5ms);
  advance(5ms);
  EXPECT_EQ(codeOf(limited), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(promise.done());
  EXPECT_FALSE(ran);
  EXPECT_TRUE(ensured);
}

TEST_F(TimeTest, AResultThatIsThereWhenTheDeadlineStrikesWins) {
  Future<void> slept = within(sleepFor(*dispatcher_, 5ms), 5ms);
  advance(5ms);
  ASSERT_TRUE(slept.isReady());
  EXPECT_TRUE(slept.result().hasValue());
}

TEST_F(TimeTest, AResultThatComesInTheSameIterationAfterTheDeadlineLoses) {
  Promise<int> promise;
  Future<int> limited = within(promise.future(*dispatcher_), 5ms);
  TimerPtr timer = dispatcher_->createTimer([&] { promise.setValue(1); });
  timer->enableHRTimer(5ms);
  advance(5ms);
  EXPECT_EQ(codeOf(limited), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(TimeTest, AResultThatComesInTheSameIterationBeforeTheDeadlineWins) {
  Promise<int> promise;
  TimerPtr timer = dispatcher_->createTimer([&] { promise.setValue(1); });
  timer->enableHRTimer(5ms);
  Future<int> limited = within(promise.future(*dispatcher_), 5ms);
  advance(5ms);
  ASSERT_TRUE(limited.isReady());
  EXPECT_EQ(*limited.result(), 1);
}

TEST_F(TimeTest, ReadyFuturesPassThroughWithin) {
  Future<int> none = within(makeReadyFuture(1), 5ms);
  ASSERT_TRUE(none.isReady());
  EXPECT_EQ(*none.result(), 1);
  Future<int> here = within(makeReadyFuture(2).via(*dispatcher_), 0ms);
  ASSERT_TRUE(here.isReady());
  EXPECT_EQ(*here.result(), 2);
  Future<int> moved_from;
  Future<int> still = within(std::move(moved_from), 5ms);
  EXPECT_FALSE(still.valid());
}

TEST_F(TimeTest, CancellingWithinEndsItAtOnceAndReachesWhatItWaitsFor) {
  Promise<int> promise;
  int cancelled = 0;
  promise.onCancel([&] { ++cancelled; });
  Future<int> limited = within(promise.future(*dispatcher_), 5ms);
  limited.cancel();
  EXPECT_EQ(cancelled, 1);
  turn();
  EXPECT_EQ(codeOf(limited), absl::StatusCode::kCancelled);
  const uint64_t fired = dispatcher_->stats().timers_fired;
  advance(10ms);
  EXPECT_EQ(dispatcher_->stats().timers_fired, fired);
}

TEST_F(TimeTest, AWithinThatIsCancelledWhenItsResultIsOnItsWayIsCancelled) {
  Promise<int> promise;
  Future<int> limited = within(promise.future(*dispatcher_), 5ms);
  promise.setValue(1);
  limited.cancel();
  turn();
  EXPECT_EQ(codeOf(limited), absl::StatusCode::kCancelled);
}

TEST_F(TimeTest, ADroppedWithinStillCancelsWhenTimeIsUpAndIsLogged) {
  Promise<int> promise;
  {
    const Future<int> dropped = within(promise.future(*dispatcher_), 5ms);
  }
  EXPECT_FALSE(promise.done());
  {
    const test::LogCapture log(LogLayer::Future);
    advance(5ms);
    EXPECT_TRUE(log.contains("not ready within 5 ms")) << log.text();
    EXPECT_TRUE(log.contains("time_test.cc")) << log.text();
  }
  EXPECT_TRUE(promise.done());
}

TEST_F(TimeTest, ThePromiseMayDropTheLimitedFutureWhenItIsCancelled) {
  Promise<int> promise;
  auto limited = std::make_unique<Future<int>>(within(promise.future(*dispatcher_), 5ms));
  promise.onCancel([&] {
    limited->cancel();
    std::move(*limited).detach();
    limited.reset();
  });
  advance(5ms);
  EXPECT_EQ(limited, nullptr);
  EXPECT_TRUE(promise.done());
}

TEST_F(TimeTest, AShutDownDispatcherCancelsWithin) {
  Promise<int> promise;
  Future<int> limited = within(promise.future(*dispatcher_), 5ms);
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(limited), absl::StatusCode::kCancelled);
  EXPECT_TRUE(promise.done());
}

TEST_F(TimeTest, ManyLimitsMayStandInEachOther) {
  Promise<int> promise;
  Future<int> limited = promise.future(*dispatcher_);
  for (int i = 0; i < 100'000; ++i) {
    limited = within(std::move(limited), 1h);
  }
  limited = within(std::move(limited), 5ms);
  advance(5ms);
  EXPECT_EQ(codeOf(limited), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(promise.done());
}

TEST_F(TimeTest, DelayedHoldsAResultBackThatComesEarly) {
  Promise<int> promise;
  Future<int> late = delayed(promise.future(*dispatcher_), 5ms);
  advance(1ms);
  promise.setValue(7);
  advance(3999us);
  EXPECT_FALSE(late.isReady());
  advance(1us);
  ASSERT_TRUE(late.isReady());
  EXPECT_EQ(*late.result(), 7);
}

TEST_F(TimeTest, DelayedDoesNotHoldBackWhatComesLater) {
  Promise<int> promise;
  Future<int> late = delayed(promise.future(*dispatcher_), 5ms);
  advance(8ms);
  EXPECT_FALSE(late.isReady());
  promise.setValue(7);
  turn();
  ASSERT_TRUE(late.isReady());
  EXPECT_EQ(*late.result(), 7);
}

TEST_F(TimeTest, DelayedHoldsAFailureBackAsWell) {
  Promise<int> promise;
  Future<int> late = delayed(promise.future(*dispatcher_), 5ms);
  promise.setStatus(absl::NotFoundError("x"));
  advance(4ms);
  EXPECT_FALSE(late.isReady());
  advance(1ms);
  EXPECT_EQ(codeOf(late), absl::StatusCode::kNotFound);
}

TEST_F(TimeTest, DelayedHoldsAReadyFutureBackOnItsDispatcherOrThisThreads) {
  Future<int> late = delayed(makeReadyFuture(1).via(*dispatcher_), 5ms);
  Future<int> here = delayed(makeReadyFuture(2), 5ms);
  advance(4ms);
  EXPECT_FALSE(late.isReady());
  EXPECT_FALSE(here.isReady());
  advance(1ms);
  ASSERT_TRUE(late.isReady());
  ASSERT_TRUE(here.isReady());
  EXPECT_EQ(*late.result(), 1);
  EXPECT_EQ(*here.result(), 2);
}

TEST_F(TimeTest, CancellingDelayedBeforeItsInputReachesThat) {
  Promise<int> promise;
  Future<int> late = delayed(promise.future(*dispatcher_), 5ms);
  late.cancel();
  EXPECT_TRUE(promise.done());
  turn();
  EXPECT_EQ(codeOf(late), absl::StatusCode::kCancelled);
}

TEST_F(TimeTest, CancellingDelayedWhileItHoldsAResultBackEndsItAtOnce) {
  Promise<std::shared_ptr<int>> promise;
  Future<std::shared_ptr<int>> late = delayed(promise.future(*dispatcher_), 5ms);
  auto value = std::make_shared<int>(1);
  promise.setValue(value);
  turn();
  EXPECT_EQ(value.use_count(), 2);
  late.cancel();
  EXPECT_EQ(value.use_count(), 1) << "it keeps nothing";
  EXPECT_EQ(codeOf(late), absl::StatusCode::kCancelled);
  const uint64_t fired = dispatcher_->stats().timers_fired;
  advance(10ms);
  EXPECT_EQ(dispatcher_->stats().timers_fired, fired);
}

TEST_F(TimeTest, AShutDownDispatcherCancelsDelayedWhateverItWaitsFor) {
  Promise<int> first;
  Promise<int> second;
  Future<int> waiting = delayed(first.future(*dispatcher_), 5ms);
  Future<int> holding = delayed(second.future(*dispatcher_), 5ms);
  second.setValue(1);
  turn();
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(waiting), absl::StatusCode::kCancelled);
  EXPECT_EQ(codeOf(holding), absl::StatusCode::kCancelled);
}

TEST_F(TimeTest, DroppedDelaysGoOnAndAreFreed) {
  Promise<std::shared_ptr<int>> promise;
  auto value = std::make_shared<int>(1);
  {
    const auto dropped = delayed(promise.future(*dispatcher_), 5ms);
  }
  promise.setValue(value);
  turn();
  EXPECT_EQ(value.use_count(), 2);
  advance(5ms);
  EXPECT_EQ(value.use_count(), 1);
}

// Of real time, and outside of the loop.
class TimeThreadTest : public ::testing::Test {
protected:
  DispatcherPtr dispatcher_ = createDispatcher({.name = "test"});
};

TEST_F(TimeThreadTest, DelayedWithoutAnyDispatcherFails) {
  Future<int> late = delayed(makeReadyFuture(1), 5ms);
  EXPECT_EQ(codeOf(late), absl::StatusCode::kFailedPrecondition);
}

TEST_F(TimeThreadTest, AllMayBeCalledOnAnotherThread) {
  test::DispatcherThread thread(*dispatcher_);
  Promise<int> in_time;
  Promise<int> never;
  Future<int> limited = within(in_time.future(*dispatcher_), 1h);
  Future<int> late = within(never.future(*dispatcher_), 1us);
  Future<int> held = delayed(makeReadyFuture(3).via(*dispatcher_), 1us);
  in_time.setValue(1);
  EXPECT_TRUE(sleepFor(*dispatcher_, 1us).get().hasValue());
  EXPECT_EQ(*std::move(limited).get(), 1);
  EXPECT_EQ(std::move(late).get().status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(*std::move(held).get(), 3);
}

TEST_F(TimeThreadTest, WithinMayBeCancelledAndDroppedFromAnotherThreadAtAnyMoment) {
  test::DispatcherThread thread(*dispatcher_);
  for (int i = 0; i < 2'000; ++i) {
    Promise<int> promise;
    Future<int> limited = within(promise.future(*dispatcher_), std::chrono::microseconds(i % 20));
    std::thread setter;
    if (i % 50 == 0) {
      setter = std::thread([&promise] { promise.setValue(1); });
    }
    if (i % 3 == 0) {
      limited.cancel();
    }
    if (i % 2 == 0) {
      const Try<int> result = std::move(limited).get();
      if (!result.hasValue()) {
        const absl::StatusCode code = result.status().code();
        EXPECT_TRUE(code == absl::StatusCode::kCancelled || code == absl::StatusCode::kDeadlineExceeded);
      }
    } else {
      std::move(limited).detach();
    }
    if (setter.joinable()) {
      setter.join();
    }
  }
}

TEST_F(TimeThreadTest, WithinFailsWhenItsDispatcherIsGone) {
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_);
  dispatcher_->run(RunType::NonBlock);
  Future<int> mine = within(std::move(future), 1h);
  dispatcher_.reset();
  EXPECT_EQ(std::move(mine).get().status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace nuncio
