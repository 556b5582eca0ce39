#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"

namespace nuncio {

// Mutex: std::mutex with the annotations that let clang check which lock guards what (-Wthread-safety).
//
//   Mutex lock_;
//   std::vector<int> pending_ ABSL_GUARDED_BY(lock_);
//
// It is a std::mutex and not an absl::Mutex so that ThreadSanitizer understands it without an instrumented abseil.
// lock() spins for about a microsecond before it sleeps: what it guards here is held for nanoseconds, and a futex sleep
// costs both sides far more. Threads: any. Not recursive.
class ABSL_LOCKABLE Mutex {
public:
  void lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    if (!mutex_.try_lock()) {
      lockContended();
    }
  }
  bool tryLock() ABSL_EXCLUSIVE_TRYLOCK_FUNCTION(true) { return mutex_.try_lock(); }
  void unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

private:
  friend class CondVar;
  void lockContended() ABSL_NO_THREAD_SAFETY_ANALYSIS;  // the analysis does not look into std::mutex

  std::mutex mutex_;
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
// spurious, so wait in a loop that asks again.
class CondVar {
public:
  void wait(Mutex& mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  // False when `timeout` passed first.
  bool waitFor(Mutex& mutex, std::chrono::nanoseconds timeout) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  void notifyOne() { condition_.notify_one(); }
  void notifyAll() { condition_.notify_all(); }

private:
  std::condition_variable condition_;
};

}  // namespace nuncio
