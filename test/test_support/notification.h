#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

namespace nuncio::test {

// How long an interlock waits before a test counts as hung: far beyond what any sanitizer needs.
inline constexpr std::chrono::seconds kPatience{60};

// Notification: one thread waits for what another has done, once.
//
// It is made of std::mutex and std::condition_variable, which ThreadSanitizer understands, and not of
// std::binary_semaphore, which can sleep for ever in libstdc++ 11 and 12. Threads: any.
class Notification {
public:
  void notify() {
    // Notified under the lock, so that the waiter may destroy this as soon as it wakes.
    std::lock_guard<std::mutex> lock(mutex_);
    notified_ = true;
    condition_.notify_all();
  }

  // False when nothing came in time.
  [[nodiscard]] bool wait(std::chrono::milliseconds timeout = kPatience) {
    std::unique_lock<std::mutex> lock(mutex_);
    return condition_.wait_for(lock, timeout, [this] { return notified_; });
  }

  bool notified() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return notified_;
  }

private:
  mutable std::mutex mutex_;
  std::condition_variable condition_;
  bool notified_ = false;
};

// Countdown: as Notification, of what `count` calls have done. (A Latch is the library's, and asynchronous.)
class Countdown {
public:
  explicit Countdown(int count) : count_(count) {}

  void countDown() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (--count_ <= 0) {
      condition_.notify_all();
    }
  }

  [[nodiscard]] bool wait(std::chrono::milliseconds timeout = kPatience) {
    std::unique_lock<std::mutex> lock(mutex_);
    return condition_.wait_for(lock, timeout, [this] { return count_ <= 0; });
  }

private:
  std::mutex mutex_;
  std::condition_variable condition_;
  int count_;
};

}  // namespace nuncio::test
