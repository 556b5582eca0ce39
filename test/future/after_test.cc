#include "nuncio/future/after.h"

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>

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

class AfterTest : public test::LoopFixture {
protected:
  // For a function that is not to be called.
  static Future<int> unexpected(Future<int> future) {
    ADD_FAILURE() << "called";
    return future;
  }

  Promise<int> promise_;
  Promise<int> other_;
};

TEST_F(AfterTest, AResultThatComesInTimePassesOnAndTheFunctionIsNotCalled) {
  Future<int> future = after(promise_.future(*dispatcher_), 5ms, unexpected);
  advance(4ms);
  promise_.setValue(1);
  turn();
  ASSERT_TRUE(future.isReady());
  EXPECT_EQ(*future.result(), 1);
  const uint64_t fired = dispatcher_->stats().timers_fired;
  advance(10ms);
  EXPECT_EQ(dispatcher_->stats().timers_fired, fired);
}

TEST_F(AfterTest, AFailureThatComesInTimePassesOn) {
  Future<int> future = after(promise_.future(*dispatcher_), 5ms, unexpected);
  promise_.setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(codeOf(future), absl::StatusCode::kNotFound);
}

TEST_F(AfterTest, TheFunctionGetsThePendingFutureOnTime) {
  std::optional<std::chrono::microseconds> called;
  Future<int> future = after(promise_.future(*dispatcher_), 5ms, [&](Future<int> late) {
    called = now();
    EXPECT_FALSE(late.isReady());
    return late;
  });
  advance(4999us);
  EXPECT_FALSE(called.has_value());
  advance(1us);
  EXPECT_EQ(called, 5ms);
  EXPECT_FALSE(future.isReady());
  EXPECT_FALSE(promise_.done()) << "it is wanted still";
  promise_.setValue(7);
  turn();
  ASSERT_TRUE(future.isReady());
  EXPECT_EQ(*future.result(), 7);
}

TEST_F(AfterTest, WhatComesOfTheFunctionIsTheResult) {
  Future<int> future = after(promise_.future(*dispatcher_), 5ms, [&](Future<int> late) {
    late.cancel();
    std::move(late).detach();
    return other_.future(*dispatcher_);
  });
  advance(5ms);
  EXPECT_TRUE(promise_.done());
  other_.setValue(2);
  turn();
  ASSERT_TRUE(future.isReady());
  EXPECT_EQ(*future.result(), 2);
}

TEST_F(AfterTest, TheFunctionMayReturnWhatThenAllows) {
  Promise<int> second;
  Future<int> value = after(promise_.future(*dispatcher_), 5ms, [](const Future<int>&) { return 3; });
  Future<int> status = after(other_.future(*dispatcher_), 5ms,
                             [](const Future<int>&) { return Try<int>(absl::UnavailableError("late")); });
  Future<int> thrown =
      after(second.future(*dispatcher_), 5ms, [](const Future<int>&) -> int { throw std::runtime_error("thrown"); });
  advance(5ms);
  ASSERT_TRUE(value.isReady());
  EXPECT_EQ(*value.result(), 3);
  EXPECT_EQ(codeOf(status), absl::StatusCode::kUnavailable);
  EXPECT_EQ(codeOf(thrown), absl::StatusCode::kUnknown);
  EXPECT_FALSE(promise_.done()) << "a future that was dropped goes on";
}

TEST_F(AfterTest, AResultThatIsThereAtTheDeadlineWins) {
  Future<void> future = after(sleepFor(*dispatcher_, 5ms), 5ms, [](Future<void> late) {
    ADD_FAILURE() << "called";
    return late;
  });
  advance(5ms);
  EXPECT_TRUE(future.isReady());
}

TEST_F(AfterTest, ReadyFuturesPassThrough) {
  Future<int> ready = after(makeReadyFuture(1), 0ms, unexpected);
  ASSERT_TRUE(ready.isReady());
  EXPECT_EQ(*ready.result(), 1);
  Future<int> none = after(Future<int>(), 5ms, unexpected);
  EXPECT_FALSE(none.valid());
}

TEST_F(AfterTest, NegativeDurationsAreInvalidAndCancel) {
  Future<int> future = after(promise_.future(*dispatcher_), -5ms, unexpected);
  EXPECT_EQ(statusOf(future).ToString(), "INVALID_ARGUMENT: negative duration: -5 ms");
  EXPECT_TRUE(promise_.done());
}

TEST_F(AfterTest, CancellingItInTimeEndsWhenTheFutureHasEnded) {
  Promise<void> cleanup;
  Future<int> work = promise_.future(*dispatcher_).ensure([&] { return cleanup.future(*dispatcher_); });
  Future<int> future = after(std::move(work), 5ms, unexpected);
  future.cancel();
  turn();
  EXPECT_TRUE(promise_.done());
  EXPECT_FALSE(future.isReady());
  advance(10ms);
  EXPECT_FALSE(future.isReady());
  cleanup.setValue();
  turn();
  EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
}

TEST_F(AfterTest, CancellingItLaterReachesWhatTheFunctionReturned) {
  Future<int> future = after(promise_.future(*dispatcher_), 5ms, [](Future<int> late) { return late; });
  Promise<int> first;
  Future<int> another =
      after(first.future(*dispatcher_), 5ms, [&](const Future<int>&) { return other_.future(*dispatcher_); });
  advance(5ms);
  future.cancel();
  another.cancel();
  turn();
  EXPECT_TRUE(promise_.done());
  EXPECT_TRUE(other_.done());
  EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
  EXPECT_EQ(codeOf(another), absl::StatusCode::kCancelled);
}

TEST_F(AfterTest, ADroppedOneCallsTheFunctionAllTheSame) {
  bool called = false;
  after(promise_.future(*dispatcher_), 5ms, [&](Future<int> late) {
    called = true;
    return late;
  }).detach();
  advance(5ms);
  EXPECT_TRUE(called);
  promise_.setValue(1);
  turn();
}

TEST_F(AfterTest, AShutDownDispatcherCancelsIt) {
  Future<int> waiting = after(promise_.future(*dispatcher_), 5ms, unexpected);
  Future<int> late = after(other_.future(*dispatcher_), 1ms, [](Future<int> pending) { return pending; });
  advance(1ms);
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(waiting), absl::StatusCode::kCancelled);
  EXPECT_EQ(codeOf(late), absl::StatusCode::kCancelled);
  EXPECT_TRUE(promise_.done());
  EXPECT_TRUE(other_.done());
}

TEST_F(AfterTest, WhatTheFunctionHoldsGoesWithIt) {
  auto held = std::make_shared<int>(1);
  Future<int> in_time = after(promise_.future(*dispatcher_), 5ms, [held](const Future<int>&) -> int { return *held; });
  Future<int> late = after(other_.future(*dispatcher_), 5ms, [held](Future<int> pending) { return pending; });
  promise_.setValue(1);
  turn();
  EXPECT_EQ(held.use_count(), 2);
  advance(5ms);
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_FALSE(late.isReady());
}

TEST_F(AfterTest, IsRightInACoroutine) {
  const auto slow = [](Dispatcher& /*dispatcher*/, Promise<int>& promise, Dispatcher& dispatcher) -> Future<int> {
    Future<int> limited = after(promise.future(dispatcher), 5ms, [](const Future<int>&) { return -1; });
    const int value = co_await std::move(limited);
    co_return value;
  };
  Future<int> future = slow(*dispatcher_, promise_, *dispatcher_);
  advance(5ms);
  ASSERT_TRUE(future.isReady());
  EXPECT_EQ(*future.result(), -1);
}

// Of real time, and outside of the loop.
TEST(AfterThreadTest, MayBeCalledAndCancelledOnAnotherThreadAndCallsOnTheDispatchers) {
  DispatcherPtr dispatcher = createDispatcher({.name = "test"});
  test::DispatcherThread thread(*dispatcher);
  for (int i = 0; i < 500; ++i) {
    Promise<int> promise;
    Future<int> future =
        after(promise.future(*dispatcher), std::chrono::microseconds(i % 20), [&thread](Future<int> late) {
          std::move(late).detach();
          EXPECT_EQ(std::this_thread::get_id(), thread.id());
          return 2;
        });
    if (i % 3 == 0) {
      promise.setValue(1);
    }
    if (i % 2 == 0) {
      future.cancel();
    }
    const Try<int> result = std::move(future).get();
    EXPECT_TRUE(result.hasValue() || absl::IsCancelled(result.status())) << result.status();
  }
}

}  // namespace
}  // namespace nuncio
