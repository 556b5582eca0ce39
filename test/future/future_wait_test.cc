// A thread without a loop that waits for futures with a timeout, again and again.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/dropped_failure.h"
#include "nuncio/future/future.h"
#include "nuncio/future/time.h"
#include "test/mocks/future.h"
#include "test/test_support/count_allocations.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/notification.h"
#include "test/test_support/sanitizers.h"
#include "test/test_support/uninstrumented_abseil.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

constexpr int kPolls = 1'000;

template <class AnyFuture>
bool pending(AnyFuture& future) {
  return absl::IsDeadlineExceeded(future.wait(0ns));
}

class FutureWaitTest : public testing::Test {
protected:
  // Nothing grows while `future` is polled.
  template <class AnyFuture>
  void expectPollsAllocateNothing(AnyFuture& future) {
    EXPECT_TRUE(pending(future));
    drainLoop();  // the loop has heard of it
    EXPECT_EQ(0, allocationsOf(
                     [&] {
                       for (int i = 0; i < kPolls; ++i) {
                         ASSERT_TRUE(pending(future));
                       }
                     },
                     /*rounds_before=*/0));
  }
  // What has been sent to the loop, and what comes of that, has run.
  void drainLoop() {
    thread_.call([] {});
    thread_.call([] {});
  }
  // A chain on the loop that waits for `promise_`, and counts the captures that live in it.
  Future<int> chain() {
    living_ = 2;
    return promise_.future(*dispatcher_)
        .then([probe = OnDestroy([this] { --living_; })](int value) { return value + 1; })
        .then([probe = OnDestroy([this] { --living_; })](int value) { return value + 1; });
  }

  Promise<int> promise_;
  std::atomic<int> living_{0};
  DispatcherPtr dispatcher_ = createDispatcher({.name = "waited for"});
  DispatcherThread thread_{*dispatcher_};
};

TEST_F(FutureWaitTest, PollingAPendingFutureAllocatesNothingAndTheResultArrives) {
  Future<int> future = promise_.future(*dispatcher_);
  expectPollsAllocateNothing(future);
  promise_.setValue(1);
  EXPECT_TRUE(future.wait(kPatience).ok());
  EXPECT_EQ(*future.result(), 1);
}

TEST_F(FutureWaitTest, PollingAChainAllocatesNothingAndTheResultArrives) {
  Future<int> future = chain();
  expectPollsAllocateNothing(future);
  promise_.setValue(1);
  EXPECT_TRUE(future.wait(kPatience).ok());
  EXPECT_EQ(*std::move(future).get(), 3);
  EXPECT_EQ(living_, 0);
}

TEST_F(FutureWaitTest, PollingASemiFutureAllocatesNothingAndTheResultArrives) {
  SemiFuture<int> future = promise_.semiFuture();
  expectPollsAllocateNothing(future);
  promise_.setValue(1);
  EXPECT_TRUE(future.wait(0ns).ok());
  EXPECT_EQ(*std::move(future).get(), 1);
}

TEST_F(FutureWaitTest, PollingTheSemiFutureOfAChainAllocatesNothingAndTheResultArrives) {
  SemiFuture<int> future = chain().semi();
  expectPollsAllocateNothing(future);
  promise_.setValue(1);
  EXPECT_TRUE(future.wait(kPatience).ok());
  EXPECT_EQ(*std::move(future).get(), 3);
}

TEST_F(FutureWaitTest, AFutureThatIsPolledByAnotherThreadThanBeforeAllocatesNothing) {
  Future<int> future = chain();
  EXPECT_TRUE(pending(future));
  std::thread([&] { expectPollsAllocateNothing(future); }).join();
  promise_.setValue(1);
  EXPECT_EQ(*std::move(future).get(), 3);
}

TEST_F(FutureWaitTest, AFailureArrivesAtWhoPolled) {
  Future<int> future = chain();
  EXPECT_TRUE(pending(future));
  promise_.setStatus(absl::NotFoundError("no"));
  EXPECT_TRUE(future.wait(kPatience).ok());
  EXPECT_EQ(std::move(future).get().status(), absl::NotFoundError("no"));
}

TEST_F(FutureWaitTest, AFutureThatWasPolledGoesOnAsBefore) {
  Future<int> future = chain();
  EXPECT_TRUE(pending(future));
  Future<int> next = std::move(future).then([](int value) { return 10 * value; });
  EXPECT_TRUE(pending(next));
  Future<int> limited = within(std::move(next), 1h);
  EXPECT_TRUE(pending(limited));
  SemiFuture<int> semi = std::move(limited).semi();
  EXPECT_TRUE(pending(semi));
  Future<int> there = std::move(semi).via(*dispatcher_).ensure([] {});
  EXPECT_TRUE(pending(there));
  promise_.setValue(1);
  EXPECT_EQ(*std::move(there).get(), 30);
}

Future<int> awaitAndAdd(Dispatcher& /*dispatcher*/, Future<int> future) {
  const int value = co_await std::move(future);
  co_return value + 1;
}

TEST_F(FutureWaitTest, AFutureThatWasPolledMayBeAwaited) {
  Future<int> future = chain();
  EXPECT_TRUE(pending(future));
  Future<int> sum = awaitAndAdd(*dispatcher_, std::move(future));
  EXPECT_TRUE(pending(sum));
  promise_.setValue(1);
  EXPECT_EQ(*std::move(sum).get(), 4);
}

TEST_F(FutureWaitTest, ACancelAfterAPollReachesThePromiseAndEndsTheWait) {
  Notification told;
  promise_.onCancel([&] { told.notify(); });
  Future<int> future = chain();
  EXPECT_TRUE(pending(future));
  future.cancel();
  EXPECT_TRUE(told.wait());
  EXPECT_TRUE(future.wait(kPatience).ok());
  EXPECT_TRUE(absl::IsCancelled(std::move(future).get().status()));
  drainLoop();
  EXPECT_EQ(living_, 0);
}

TEST_F(FutureWaitTest, ACancelWithAReasonAfterAPollBringsThat) {
  Future<int> future = chain();
  EXPECT_TRUE(pending(future));
  future.cancel(absl::AbortedError("enough"));
  EXPECT_EQ(std::move(future).get().status(), absl::AbortedError("enough"));
}

TEST_F(FutureWaitTest, ACancelAfterAPollReachesThePromiseOfASemiFuture) {
  SemiFuture<int> future = promise_.semiFuture();
  EXPECT_TRUE(pending(future));
  future.cancel();
  EXPECT_TRUE(promise_.done());
  EXPECT_TRUE(future.wait(0ns).ok());
  EXPECT_TRUE(absl::IsCancelled(std::move(future).get().status()));
}

TEST_F(FutureWaitTest, AFutureThatIsDroppedAfterAPollGoesOnAndIsFreed) {
  Notification ran;
  {
    Future<void> future = chain().then([&](int) { ran.notify(); });
    EXPECT_TRUE(pending(future));
  }
  promise_.setValue(1);
  EXPECT_TRUE(ran.wait());
  drainLoop();
  EXPECT_EQ(living_, 0);
}

TEST_F(FutureWaitTest, AFailureAfterTheFutureWasPolledAndDroppedIsReportedOnce) {
  NoDroppedFailures failures;
  {
    Future<int> future = chain();
    EXPECT_TRUE(pending(future));
  }
  {
    Promise<int> other;
    Future<int> detached = other.future(*dispatcher_);
    EXPECT_TRUE(pending(detached));
    std::move(detached).detach();
    drainLoop();
    other.setStatus(absl::NotFoundError("detached"));
  }
  promise_.setStatus(absl::NotFoundError("no"));
  drainLoop();
  const std::vector<DroppedFailure> dropped = failures.take();
  ASSERT_EQ(dropped.size(), 1U);
  EXPECT_EQ(dropped[0].status, absl::NotFoundError("no"));
}

TEST_F(FutureWaitTest, ADispatcherThatGoesEndsTheWait) {
  Future<int> future = chain();
  SemiFuture<int> semi = sleepFor(*dispatcher_, 1h).then([] { return 1; }).semi();
  EXPECT_TRUE(pending(future));
  EXPECT_TRUE(pending(semi));
  Notification waiting;
  std::thread waiter([&] {
    waiting.notify();
    EXPECT_TRUE(future.wait(kPatience).ok());
    EXPECT_TRUE(semi.wait(kPatience).ok());
  });
  ASSERT_TRUE(waiting.wait());
  thread_.stop();
  dispatcher_.reset();
  waiter.join();
  EXPECT_TRUE(absl::IsCancelled(std::move(future).get().status()));
  EXPECT_TRUE(absl::IsCancelled(std::move(semi).get().status()));
  EXPECT_EQ(living_, 0);
}

TEST_F(FutureWaitTest, ADispatcherThatGoesBetweenTwoPollsIsNoticedByTheSecond) {
  Future<int> future = chain();
  Future<int> polled_after = sleepFor(*dispatcher_, 1h).then([] { return 1; });
  EXPECT_TRUE(pending(future));
  thread_.stop();
  dispatcher_.reset();
  EXPECT_TRUE(future.wait(0ns).ok());
  EXPECT_TRUE(polled_after.wait(0ns).ok());
  EXPECT_TRUE(absl::IsCancelled(std::move(future).get().status()));
  EXPECT_TRUE(absl::IsCancelled(std::move(polled_after).get().status()));
}

TEST_F(FutureWaitTest, AFutureThatWasPolledMayOutliveItsDispatcher) {
  {
    Future<int> future = chain();
    EXPECT_TRUE(pending(future));
    thread_.stop();
    dispatcher_.reset();
  }
  EXPECT_EQ(living_, 0);
}

TEST(FutureWaitRaceTest, WhatComesWhileItIsPolledCancelledOrDroppedArrivesOrIsFreed) {
  DispatcherPtr dispatcher = createDispatcher({.name = "polled"});
  DispatcherThread thread(*dispatcher);
  std::atomic<int> living{0};
  for (int round = 0; round < (kSanitizer ? 200 : 1'000); ++round) {
    Promise<int> promise;
    ++living;
    Future<int> future =
        promise.future(*dispatcher).then([probe = OnDestroy([&] { --living; })](int value) { return value; });
    EXPECT_TRUE(pending(future));
    std::thread setter([&] { promise.setValue(round); });
    switch (round % 4) {
      case 0:
        while (!future.wait(1us).ok()) {
        }
        EXPECT_EQ(*future.result(), round);
        break;
      case 1:
        EXPECT_EQ(*std::move(future).get(), round);
        break;
      case 2:
        future.cancel();
        EXPECT_TRUE(future.wait(kPatience).ok());
        break;
      default:
        std::move(future).detach();
    }
    setter.join();
  }
  thread.call([] {});
  thread.call([] {});
  EXPECT_EQ(living, 0);
}

}  // namespace
}  // namespace nuncio::test
