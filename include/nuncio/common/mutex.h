#pragma once

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"

namespace nuncio {

// Mutex: a lock for what is held for nanoseconds, with the annotations that let clang check which lock guards what
// (-Wthread-safety).
//
//   Mutex lock_;
//   std::vector<int> pending_ ABSL_GUARDED_BY(lock_);
//
// One word: free, held, or held with others asleep, who wait on a futex (std::atomic::wait); the second algorithm of
// Ulrich Drepper's "Futexes Are Tricky". Taking a free lock and giving it back is inlined and costs half of what
// std::mutex costs here, which is most of what a post costs. A thread that finds it held spins for about a microsecond
// before it sleeps. ThreadSanitizer understands it as it is. Threads: any. Not recursive, not fair.
class ABSL_LOCKABLE Mutex {
public:
  void lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    if (!tryLock()) {
      lockContended();
    }
  }
  bool tryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) {
    uint32_t expected = kFree;
    return state_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire, std::memory_order_relaxed);
  }
  void unlock() ABSL_UNLOCK_FUNCTION() {
    if (state_.exchange(kFree, std::memory_order_release) == kHeldWithSleepers) {
      state_.notify_one();
    }
  }

private:
  static constexpr uint32_t kFree = 0;
  static constexpr uint32_t kHeld = 1;
  static constexpr uint32_t kHeldWithSleepers = 2;

  void lockContended() ABSL_NO_THREAD_SAFETY_ANALYSIS;  // which does not look through the states

  std::atomic<uint32_t> state_{kFree};  // acquired and released as a lock is
};

// Holds a Mutex for a scope.
class ABSL_SCOPED_LOCKABLE MutexLock {
public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

private:
  Mutex& mutex_;
};

// Waits for what another thread changes under a Mutex. The caller holds the mutex, before and after; wake-ups may be
// spurious, so wait in a loop that asks again. It has no lock of its own, so that a child of fork can use it.
class CondVar {
public:
  void wait(Mutex& mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void notifyAll() {
    notifications_.fetch_add(1, std::memory_order_relaxed);  // what it is about is seen under the mutex
    notifications_.notify_all();
  }

private:
  std::atomic<uint32_t> notifications_{0};
};

}  // namespace nuncio
