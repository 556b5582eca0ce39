// Futures of one dispatcher on the threads of others.

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/notification.h"
#include "test/test_support/uninstrumented_abseil.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

template <class T>
absl::StatusCode codeOf(Future<T>&& future) {
  return std::move(future).get().status().code();
}

// `here_` and `there_`, each with a thread; the test's own thread belongs to neither.
class FutureThreadsTest : public testing::Test {
protected:
  DispatcherPtr here_ = createDispatcher({.name = "here"});
  DispatcherPtr there_ = createDispatcher({.name = "there"});
  DispatcherThread here_thread_{*here_};
  DispatcherThread there_thread_{*there_};
};

TEST_F(FutureThreadsTest, AContinuationRunsOnTheBoundDispatchersThreadWhoeverFulfils) {
  Promise<void> promise;
  Future<std::thread::id> future = promise.future(*here_).then([] { return std::this_thread::get_id(); });
  there_->post([&] { promise.setValue(); });
  EXPECT_EQ(*std::move(future).get(), here_thread_.id());
}

TEST_F(FutureThreadsTest, ThenOfAReadyFutureRunsOnItsDispatchersThread) {
  Promise<void> promise;
  promise.setValue();
  Future<std::thread::id> future = promise.semiFuture().via(*here_).then([] { return std::this_thread::get_id(); });
  EXPECT_EQ(*std::move(future).get(), here_thread_.id());
}

TEST_F(FutureThreadsTest, ViaGoesToAnotherDispatcherAndBack) {
  Promise<void> promise;
  std::vector<std::thread::id> threads;
  const auto note = [&] { threads.push_back(std::this_thread::get_id()); };
  Future<void> future =
      promise.future(*here_).then(note).via(*there_).then(note).via(*there_).then(note).via(*here_).then(note);
  promise.setValue();
  EXPECT_TRUE(std::move(future).get().hasValue());
  EXPECT_EQ(threads, (std::vector<std::thread::id>{here_thread_.id(), there_thread_.id(), there_thread_.id(),
                                                   here_thread_.id()}));
}

TEST_F(FutureThreadsTest, CancelGoesBackThroughVia) {
  Promise<void> promise;
  Notification told;
  promise.onCancel([&] { told.notify(); });
  Future<void> future = promise.future(*here_).then([] {}).via(*there_).then([] {});
  future.cancel();
  EXPECT_TRUE(told.wait());
  EXPECT_EQ(codeOf(std::move(future)), absl::StatusCode::kCancelled);
}

TEST_F(FutureThreadsTest, AContinuationReturnsAFutureOfAnotherDispatcher) {
  Promise<int> answer;
  Promise<void> start;
  Future<int> future =
      start.future(*here_).then([&] { return answer.future(*there_).then([](int value) { return value + 1; }); });
  start.setValue();
  answer.setValue(41);
  EXPECT_EQ(*std::move(future).get(), 42);
}

TEST_F(FutureThreadsTest, FailuresCrossThreads) {
  Promise<int> promise;
  Future<int> future = promise.future(*here_).via(*there_).thenError(
      [](absl::Status status) { return absl::StatusOr<int>(absl::DataLossError(status.message())); });
  promise.setStatus(absl::NotFoundError("gone"));
  EXPECT_EQ(std::move(future).get().status(), absl::DataLossError("gone"));
}

TEST_F(FutureThreadsTest, ThenOnAForeignThreadRunsOnTheLoops) {
  Promise<int> promise;
  Future<int> future = promise.future(*here_);
  std::thread::id ran_on;
  Future<int> next = std::move(future).then([&](int value) {
    ran_on = std::this_thread::get_id();
    return value;
  });
  promise.setValue(1);
  EXPECT_EQ(*std::move(next).get(), 1);
  EXPECT_EQ(ran_on, here_thread_.id());
}

TEST_F(FutureThreadsTest, CancelOnAForeignThreadEndsTheFuture) {
  Promise<int> promise;
  Future<void> future = promise.future(*here_).then([](int) {});
  future.cancel();
  EXPECT_EQ(codeOf(std::move(future)), absl::StatusCode::kCancelled);
  EXPECT_FALSE(promise.setValue(1));
}

TEST_F(FutureThreadsTest, CancelOnAForeignThreadLeavesAResultThatIsThere) {
  Promise<int> promise;
  Future<int> future = promise.future(*here_);
  promise.setValue(42);
  here_thread_.call([] {});
  future.cancel();
  EXPECT_EQ(*std::move(future).get(), 42);
}

// The handle may be quicker than the cancel.
TEST_F(FutureThreadsTest, AFutureCancelledOnAForeignThreadMayBeDroppedOnTheLoopsBeforeTheCancelArrives) {
  Promise<int> promise;
  Future<int> future = promise.future(*here_).then([](int value) { return value; });
  promise.setValue(1);
  Notification blocked;
  Notification handed_over;
  here_->post([&] {
    blocked.notify();
    ASSERT_TRUE(handed_over.wait());
    {
      const Future<int> dropped = std::move(future);
    }
  });
  ASSERT_TRUE(blocked.wait());
  future.cancel();
  handed_over.notify();
  here_thread_.call([] {});
  here_thread_.call([] {});
}

TEST_F(FutureThreadsTest, ADropOnAForeignThreadLetsTheFutureGoOn) {
  Promise<void> promise;
  Notification ran;
  {
    Future<void> future = promise.future(*here_).then([&] { ran.notify(); });
  }
  promise.setValue();
  EXPECT_TRUE(ran.wait());
}

TEST_F(FutureThreadsTest, WaitOnAForeignThreadReturnsInTimeAndLeavesTheFuture) {
  Promise<int> promise;
  Future<int> future = promise.future(*here_).then([](int value) { return value + 1; });
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(future.wait(5ms).code(), absl::StatusCode::kDeadlineExceeded);
  }
  EXPECT_GE(std::chrono::steady_clock::now() - start, 15ms);
  promise.setValue(41);
  EXPECT_TRUE(future.wait(kPatience).ok());
  EXPECT_EQ(*std::move(future).get(), 42);
}

TEST_F(FutureThreadsTest, AFutureThatWasWaitedForCanBeContinued) {
  Promise<int> promise;
  Future<int> future = promise.future(*here_);
  EXPECT_EQ(future.wait(0s).code(), absl::StatusCode::kDeadlineExceeded);
  Future<std::thread::id> next = std::move(future).then([](int) { return std::this_thread::get_id(); });
  promise.setValue(1);
  EXPECT_EQ(*std::move(next).get(), here_thread_.id());
}

TEST_F(FutureThreadsTest, ForwardToOnAForeignThreadMayBeCancelledMeanwhile) {
  for (int i = 0; i < 200; ++i) {
    Promise<int> source;
    Promise<int> target;
    SemiFuture<int> answer = target.semiFuture();
    Future<int> future = source.future(*here_);
    std::atomic<bool> go{false};
    std::thread canceller([&] {
      while (!go.load()) {
        std::this_thread::yield();
      }
      answer.cancel();
    });
    go = true;
    std::move(future).forwardTo(std::move(target));
    canceller.join();
    here_thread_.call([] {});
    here_thread_.call([] {});
    EXPECT_TRUE(source.done());
  }
}

TEST(FutureBeforeTheFirstRunTest, WhatAForeignThreadAttachesRunsOnceTheLoopRuns) {
  DispatcherPtr dispatcher = createDispatcher({.name = "idle"});
  Promise<int> first;
  Promise<int> second;
  Promise<int> third;
  std::vector<int> ran;
  Future<void> kept;
  Future<void> cancelled;
  std::thread([&] {
    kept = first.future(*dispatcher).then([&](int value) { ran.push_back(value); });
    cancelled = second.future(*dispatcher).then([&](int value) { ran.push_back(value); });
    {
      Future<void> dropped = third.future(*dispatcher).then([&](int value) { ran.push_back(value); });
    }
    cancelled.cancel();
    first.setValue(1);
    second.setValue(2);
    third.setValue(3);
  }).join();
  EXPECT_TRUE(ran.empty());
  dispatcher->run(RunType::NonBlock);
  dispatcher->run(RunType::NonBlock);
  EXPECT_EQ(ran, (std::vector<int>{1, 3}));
  EXPECT_TRUE(kept.isReady());
  ASSERT_TRUE(cancelled.isReady());
  EXPECT_TRUE(absl::IsCancelled(cancelled.result().status()));
}

TEST(FutureBeforeTheFirstRunTest, AnythingMayBeDestroyedWithADispatcherThatNeverRan) {
  bool destroyed = false;
  Promise<int> promise;
  Future<void> future;
  {
    DispatcherPtr dispatcher = createDispatcher({.name = "never"});
    future = promise.future(*dispatcher).then([probe = OnDestroy([&] { destroyed = true; })](int) {});
  }
  EXPECT_TRUE(destroyed);
  EXPECT_TRUE(promise.done());
  EXPECT_EQ(codeOf(std::move(future)), absl::StatusCode::kCancelled);
}

TEST(PromiseThreadsTest, OfTwoThreadsThatFulfilOneWins) {
  for (int round = 0; round < 200; ++round) {
    Promise<int> promise;
    SemiFuture<int> future = promise.semiFuture();
    std::atomic<int> ready{0};
    std::atomic<int> won{0};
    std::atomic<int> winner{-1};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        ++ready;
        while (ready.load() < 2) {
          std::this_thread::yield();
        }
        if (promise.setValue(i)) {
          ++won;
          winner = i;
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    ASSERT_EQ(won.load(), 1);
    ASSERT_EQ(*std::move(future).get(), winner.load());
  }
}

TEST(PromiseThreadsTest, AThreadThatReusesTheLoopsThreadIsNotTakenForIt) {
  for (int round = 0; round < 20; ++round) {
    DispatcherPtr dispatcher = createDispatcher({.name = "parted"});
    Promise<int> promise;
    Future<int> future;
    {
      DispatcherThread thread(*dispatcher);
      thread.call([&] { future = promise.future(*dispatcher).then([](int value) { return value; }); });
    }
    // The system gives this one the stack and the thread-local storage of the one that has ended.
    std::thread other([&] { promise.setValue(1); });
    dispatcher->shutdown();
    other.join();
    EXPECT_EQ(codeOf(std::move(future)), absl::StatusCode::kCancelled);
  }
}

}  // namespace
}  // namespace nuncio::test
