#include "nuncio/common/mutex.h"

#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

struct Guarded {
  Mutex mutex;
  CondVar changed;
  int64_t value ABSL_GUARDED_BY(mutex) = 0;
};

TEST(MutexTest, OneThreadAtATimeHoldsIt) {
  Guarded guarded;
  constexpr int kThreads = 4;
  constexpr int kRounds = 20'000;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kRounds; ++i) {
        MutexLock lock(guarded.mutex);
        ++guarded.value;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  MutexLock lock(guarded.mutex);
  EXPECT_EQ(kThreads * kRounds, guarded.value);
}

TEST(MutexTest, TryLockFailsWhileAnotherThreadHoldsIt) {
  Mutex mutex;
  {
    MutexLock lock(mutex);
    std::thread([&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { EXPECT_FALSE(mutex.tryLock()); }).join();
  }
  std::thread([&] {
    const bool locked = mutex.tryLock();
    EXPECT_TRUE(locked);
    if (locked) {
      mutex.unlock();
    }
  }).join();
}

TEST(CondVarTest, WaiterSeesWhatTheNotifierChanged) {
  Guarded guarded;
  std::thread notifier([&] {
    MutexLock lock(guarded.mutex);
    guarded.value = 42;
    guarded.changed.notifyAll();
  });
  {
    MutexLock lock(guarded.mutex);
    while (guarded.value == 0) {
      guarded.changed.wait(guarded.mutex);
    }
    EXPECT_EQ(42, guarded.value);
  }
  notifier.join();
}

TEST(CondVarTest, NotifyAllWakesAllWaiters) {
  Guarded guarded;
  std::vector<std::thread> waiters;
  for (int i = 0; i < 4; ++i) {
    waiters.emplace_back([&] {
      MutexLock lock(guarded.mutex);
      while (guarded.value == 0) {
        guarded.changed.wait(guarded.mutex);
      }
    });
  }
  {
    MutexLock lock(guarded.mutex);
    guarded.value = 1;
    guarded.changed.notifyAll();
  }
  for (std::thread& waiter : waiters) {
    waiter.join();
  }
}

}  // namespace
}  // namespace nuncio::test
