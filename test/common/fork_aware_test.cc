// What takes part in forks, by itself.

#include <atomic>
#include <csignal>
#include <pthread.h>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "gtest/gtest.h"

#include "nuncio/common/mutex.h"
#include "source/common/fork.h"
#include "test/test_support/child_process.h"
#include "test/test_support/notification.h"
#include "test/test_support/sanitizers.h"

#ifdef NUNCIO_TEST_THREAD_SANITIZER
// A thread of the parent that had ended at a fork, and that nobody had joined yet, is nobody's leak in the child.
extern "C" const char* __tsan_default_options();  // NOLINT(bugprone-reserved-identifier): the sanitizer's name
const char* __tsan_default_options() { return "report_thread_leaks=0"; }
#endif

namespace nuncio::test {
namespace {

constexpr int kForks = 100;

class Locked final : public ForkAware {
public:
  Locked() : ForkAware(&lock) { watchForks(); }
  ~Locked() override { unwatchForks(); }

  Mutex lock;
  bool whole ABSL_GUARDED_BY(lock) = true;
};

// Knows when a fork has begun. Of all ForkAware objects, a fork asks the one first that was made last.
class Begin final : public ForkAware {
public:
  Begin() { watchForks(); }
  ~Begin() override { unwatchForks(); }
  bool seen() const { return seen_; }

private:
  void beforeFork() override { seen_ = true; }
  std::atomic<bool> seen_{false};
};

TEST(ForkAwareTest, ForkWaitsForALockThatBothProcessesFindFree) {
  Locked object;
  const Begin begin;
  Notification held;
  std::thread other([&] {
    const MutexLock lock(object.lock);
    object.whole = false;
    held.notify();
    while (!begin.seen()) {
      std::this_thread::yield();
    }
    constexpr int kYields = 1000;  // a fork that does not wait is over by then
    for (int i = 0; i < kYields; ++i) {
      std::this_thread::yield();
    }
    object.whole = true;
  });
  ASSERT_TRUE(held.wait());
  EXPECT_EQ("", runInChild([&] {
              const MutexLock lock(object.lock);
              CHILD_CHECK(object.whole);
            }));
  other.join();
  const MutexLock lock(object.lock);
}

TEST(ForkAwareTest, ObjectsComeAndGoWhileAnotherThreadForksAndInTheChild) {
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) {
      const Locked passing;
    }
  });
  for (int i = 0; i < kForks && !testing::Test::HasFailure(); ++i) {
    EXPECT_EQ("", runInChild([] { const Locked own; }));
  }
  stop = true;
  other.join();
}

TEST(ForkAwareTest, ThreadsThatForkAtTheSameTimeKeepTheirSignalMasks) {
  std::vector<std::thread> threads;
  for (const int blocked : {SIGUSR1, SIGUSR2}) {
    threads.emplace_back([blocked] {
      sigset_t mask;
      sigemptyset(&mask);
      sigaddset(&mask, blocked);
      ASSERT_EQ(0, pthread_sigmask(SIG_SETMASK, &mask, nullptr));
      const auto kept = [blocked] {
        sigset_t now;
        pthread_sigmask(SIG_SETMASK, nullptr, &now);
        return sigismember(&now, blocked) == 1 && sigismember(&now, blocked == SIGUSR1 ? SIGUSR2 : SIGUSR1) == 0;
      };
      for (int i = 0; i < kForks; ++i) {
        ASSERT_EQ("", runInChild([&] { CHILD_CHECK(kept()); }));
        ASSERT_TRUE(kept());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

}  // namespace
}  // namespace nuncio::test
