// What becomes of futures when their dispatcher is shut down.

#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

constexpr int kMany = kSanitizer ? 200'000 : 1'000'000;

// Counts the captures that live.
class Counted {
public:
  explicit Counted(int& count) : count_(&count) { ++*count_; }
  Counted(Counted&& other) noexcept : count_(other.count_) { ++*count_; }
  Counted& operator=(Counted&&) = delete;
  ~Counted() { --*count_; }

private:
  int* count_;
};

class FutureShutdownTest : public testing::Test {
protected:
  FutureShutdownTest() { dispatcher_->run(RunType::NonBlock); }

  DispatcherPtr dispatcher_ = createDispatcher({.name = "ending"});
};

TEST_F(FutureShutdownTest, AMillionPendingStagesOfOneChainFailWithCancelled) {
  int living = 0;
  int ran = 0;
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_);
  for (int i = 0; i < kMany; ++i) {
    future = std::move(future).then([&ran, counted = Counted(living)](int value) {
      ++ran;
      return value;
    });
  }
  EXPECT_EQ(living, kMany);
  dispatcher_.reset();
  EXPECT_EQ(living, 0);
  EXPECT_EQ(ran, 0);
  EXPECT_TRUE(promise.done());
  EXPECT_TRUE(absl::IsCancelled(std::move(future).get().status()));
}

TEST_F(FutureShutdownTest, AMillionPendingFuturesFailWithCancelled) {
  int living = 0;
  int ran = 0;
  std::vector<Promise<int>> promises(kMany);
  std::vector<Future<void>> futures;
  futures.reserve(kMany);
  for (Promise<int>& promise : promises) {
    futures.push_back(promise.future(*dispatcher_).then([&ran, counted = Counted(living)](int) { ++ran; }));
  }
  EXPECT_EQ(living, kMany);
  dispatcher_.reset();
  EXPECT_EQ(living, 0);
  EXPECT_EQ(ran, 0);
  int cancelled = 0;
  for (Future<void>& future : futures) {
    cancelled += absl::IsCancelled(future.result().status()) ? 1 : 0;
  }
  EXPECT_EQ(cancelled, kMany);
  for (Promise<int>& promise : promises) {
    ASSERT_FALSE(promise.setValue(1));
  }
}

TEST_F(FutureShutdownTest, DroppedChainsAreFreed) {
  int living = 0;
  std::vector<Promise<int>> promises(1000);
  for (Promise<int>& promise : promises) {
    promise.future(*dispatcher_).then([counted = Counted(living)](int) {}).detach();
  }
  dispatcher_->shutdown();
  EXPECT_EQ(living, 0);
}

TEST_F(FutureShutdownTest, EnsureStillRuns) {
  Promise<int> promise;
  bool ran = false;
  Future<int> future = promise.future(*dispatcher_).ensure([&] { ran = true; });
  dispatcher_->shutdown();
  EXPECT_TRUE(ran);
  EXPECT_TRUE(absl::IsCancelled(future.result().status()));
}

TEST_F(FutureShutdownTest, TheFutureThatEnsureStartsEndsToo) {
  Promise<int> promise;
  Promise<void> closed;
  Future<int> future = promise.future(*dispatcher_).ensure([&] { return closed.future(*dispatcher_); });
  dispatcher_->shutdown();
  EXPECT_TRUE(closed.done());
  ASSERT_TRUE(future.isReady());
  EXPECT_TRUE(absl::IsCancelled(future.result().status()));
}

TEST_F(FutureShutdownTest, PromisesLearnOfIt) {
  Promise<int> promise;
  bool told = false;
  promise.onCancel([&] { told = true; });
  Future<int> future = promise.future(*dispatcher_);
  dispatcher_->shutdown();
  EXPECT_TRUE(told);
}

TEST_F(FutureShutdownTest, ADestructorOfACaptureMayAttachAndFulfil) {
  Promise<int> first;
  Promise<int> second;
  Promise<int> third;
  Future<void> late;
  bool ran = false;
  Future<void> future =
      first.future(*dispatcher_).then([probe = OnDestroy([&] {
                                         second.setValue(1);
                                         late = third.future(*dispatcher_).then([&](int) { ran = true; });
                                       })](int) {});
  Future<void> other = second.future(*dispatcher_).then([&](int) { ran = true; });
  dispatcher_->shutdown();
  EXPECT_FALSE(ran);
  EXPECT_TRUE(late.isReady());
  EXPECT_TRUE(other.isReady());
  EXPECT_TRUE(third.done());
}

TEST_F(FutureShutdownTest, AReadyFutureOfItFailsItsContinuations) {
  Promise<int> promise;
  promise.setValue(1);
  Future<int> ready = promise.future(*dispatcher_);
  ASSERT_TRUE(ready.isReady());
  EXPECT_EQ(*ready.result(), 1);
  dispatcher_.reset();
  bool ran = false;
  Future<void> future = std::move(ready).then([&](int) { ran = true; });
  EXPECT_FALSE(ran);
  EXPECT_TRUE(absl::IsCancelled(std::move(future).get().status()));
}

TEST_F(FutureShutdownTest, AReadyFutureOfItKeepsItsResult) {
  Promise<int> promise;
  Future<int> ready = promise.future(*dispatcher_);
  promise.setValue(1);
  dispatcher_->run(RunType::NonBlock);
  dispatcher_.reset();
  EXPECT_TRUE(ready.isReady());
  EXPECT_EQ(*std::move(ready).get(), 1);
}

// The value is on its way through the queue of posts.
TEST_F(FutureShutdownTest, AValueFromAnotherThreadThatHasNotArrivedIsDropped) {
  Promise<std::unique_ptr<int>> promise;
  bool ran = false;
  Future<void> future = promise.future(*dispatcher_).then([&](std::unique_ptr<int>) { ran = true; });
  std::thread([&] { promise.setValue(std::make_unique<int>(1)); }).join();
  dispatcher_->shutdown();
  EXPECT_FALSE(ran);
  EXPECT_TRUE(absl::IsCancelled(future.result().status()));
}

TEST_F(FutureShutdownTest, ADroppedFutureWhoseValueHasNotArrivedIsFreed) {
  int living = 0;
  Promise<int> promise;
  promise.future(*dispatcher_).then([counted = Counted(living)](int) {}).detach();
  std::thread([&] { promise.setValue(1); }).join();
  dispatcher_->shutdown();
  EXPECT_EQ(living, 0);
}

TEST_F(FutureShutdownTest, ViaADispatcherThatEndsFirstIsCancelled) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  other->run(RunType::NonBlock);
  Promise<int> promise;
  bool ran = false;
  Future<int> future = promise.future(*dispatcher_).via(*other).then([&](int value) {
    ran = true;
    return value;
  });
  other.reset();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_TRUE(promise.done());  // the cancel went back
  EXPECT_TRUE(absl::IsCancelled(std::move(future).get().status()));
  EXPECT_FALSE(ran);
}

TEST_F(FutureShutdownTest, ViaAnotherDispatcherFailsWhenTheFirstEnds) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  other->run(RunType::NonBlock);
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_).via(*other).then([](int value) { return value; });
  dispatcher_.reset();
  other->run(RunType::NonBlock);
  ASSERT_TRUE(future.isReady());
  EXPECT_TRUE(absl::IsCancelled(future.result().status()));
}

// Threads fulfil, attach, cancel and drop while the dispatcher goes.
TEST(FutureShutdownRaceTest, EveryFutureEndsAndEveryCaptureIsDestroyed) {
  const int rounds = kSanitizer ? 60 : 300;
  for (int round = 0; round < rounds; ++round) {
    constexpr int kThreads = 2;
    constexpr int kEach = 50;
    DispatcherPtr dispatcher = createDispatcher({.name = "racing"});
    std::atomic<int> living{0};
    std::vector<std::vector<Promise<int>>> promises(kThreads);
    std::vector<std::vector<Future<int>>> futures(kThreads);
    const auto stage = [&living] {
      living.fetch_add(1);
      return [probe = OnDestroy([&living] { living.fetch_sub(1); })](int value) { return value; };
    };
    {
      DispatcherThread thread(*dispatcher);
      thread.call([&] {
        for (int t = 0; t < kThreads; ++t) {
          promises[t] = std::vector<Promise<int>>(kEach);
          for (Promise<int>& promise : promises[t]) {
            futures[t].push_back(promise.future(*dispatcher).then(stage()));
          }
        }
      });
    }
    std::atomic<int> ready{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        ++ready;
        while (ready.load() <= kThreads) {
          std::this_thread::yield();
        }
        for (int i = 0; i < kEach; ++i) {
          switch ((i + round) % 5) {
            case 0:
              promises[t][i].setValue(1);
              break;
            case 1:
              futures[t][i].cancel();
              break;
            case 2:
              futures[t][i] = std::move(futures[t][i]).then(stage());
              break;
            case 3:
              std::move(futures[t][i]).detach();
              break;
            default: {
              const Promise<int> broken = std::move(promises[t][i]);
            }
          }
        }
      });
    }
    ++ready;
    dispatcher.reset();
    for (std::thread& thread : threads) {
      thread.join();
    }
    for (int t = 0; t < kThreads; ++t) {
      for (Future<int>& future : futures[t]) {
        if (future.valid()) {
          ASSERT_FALSE(std::move(future).get().hasValue());
        }
      }
    }
    futures.clear();
    promises.clear();
    ASSERT_EQ(living.load(), 0) << "round " << round;
  }
}

}  // namespace
}  // namespace nuncio::test
