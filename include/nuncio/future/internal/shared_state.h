#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <source_location>
#include <utility>
#include <vector>

#include "nuncio/common/mutex.h"
#include "nuncio/common/no_fork.h"
#include "nuncio/future/future.h"

// For shared_future.h.
namespace nuncio::future_internal {

// What the copies of a SharedFuture share, and the continuation that will bring the result.
template <class T>
class SharedState {
public:
  SharedState(LoopCore* loop, const std::source_location& place) : loop_(loop), place_(place) {
    if (loop_ != nullptr) {
      loop_->retain();
    }
  }
  SharedState(const SharedState&) = delete;
  SharedState& operator=(const SharedState&) = delete;
  ~SharedState() {
    if (result_.failed() && !seen_.load(std::memory_order_relaxed)) {
      reportDropped(result_.failure(), place_);
    }
    if (loop_ != nullptr) {
      loop_->release();
    }
  }

  LoopCore* loop() const { return loop_; }
  bool ready() const { return ready_.load(std::memory_order_acquire); }
  // When it is ready.
  const Try<T>& result() {
    seen_.store(true, std::memory_order_relaxed);
    return result_;
  }

  void settle(Try<T>&& result) {
    std::vector<Promise<T>> waiting;
    {
      const NoFork no_fork;
      result_ = std::move(result);  // not under the lock: it moves a value of users, and nobody reads it before ready_
      const MutexLock lock(mutex_);
      ready_.store(true, std::memory_order_release);  // the result is not written any more
      waiting.swap(waiting_);
    }
    for (Promise<T>& promise : waiting) {
      promise.setTry(copy());
    }
  }

  SemiFuture<T> get(const std::source_location& place) {
    seen_.store(true, std::memory_order_relaxed);
    if (!ready()) {
      Promise<T> promise(place);
      SemiFuture<T> future = promise.semiFuture();
      if (add(promise)) {
        return future;
      }
    }
    return SemiFuture<T>(copy(), place);
  }

  // The result will not come.
  void giveUp() {
    settle(failed<T>(loop_ != nullptr && loop_->closing()          ? Reason::LoopGone
                     : has_source_.load(std::memory_order_relaxed) ? Reason::Cancelled
                                                                   : Reason::NoMemory));
  }

  // The continuation that will settle this.
  void setSource(Future<void>&& source) {
    has_source_.store(true, std::memory_order_relaxed);
    const NoFork no_fork;
    const MutexLock lock(mutex_);
    source_ = std::move(source);
  }
  void cancel() {
    Future<void> source;
    {
      const NoFork no_fork;
      const MutexLock lock(mutex_);
      source = std::move(source_);
    }
    source.cancel();  // not under the lock: it may run what promises do when they are cancelled
    std::move(source).detach();
  }

private:
  Try<T> copy() {
    try {
      return Try<T>(result_);
    } catch (...) {
      return Try<T>(std::current_exception());
    }
  }

  // False when there is a result.
  bool add(Promise<T>& promise) {
    const NoFork no_fork;
    const MutexLock lock(mutex_);
    if (ready()) {
      return false;
    }
    try {
      // Those whose futures were cancelled or dropped are thrown out each time that the list has doubled.
      if (waiting_.size() >= sweep_at_) {
        std::erase_if(waiting_, [](Promise<T>& other) {
          return other.done() && (other.setTry(failed<T>(Reason::Cancelled)), true);  // not broken, and nothing to log
        });
        sweep_at_ = 2 * waiting_.size() + kFirstSweep;
      }
      waiting_.push_back(std::move(promise));
    } catch (const std::bad_alloc&) {
      promise.setTry(failed<T>(Reason::NoMemory));
    }
    return true;
  }

  static constexpr std::size_t kFirstSweep = 16;

  LoopCore* const loop_;  // kept; null: of none
  const std::source_location place_;
  std::atomic<bool> ready_{false};
  std::atomic<bool> seen_{false};        // relaxed: a hint for the log
  std::atomic<bool> has_source_{false};  // relaxed: nobody cancels it before
  Try<T> result_;                        // not written once ready_
  Mutex mutex_;                          // within a NoFork scope, so that a child never finds it taken
  std::vector<Promise<T>> waiting_ ABSL_GUARDED_BY(mutex_);
  std::size_t sweep_at_ ABSL_GUARDED_BY(mutex_) = kFirstSweep;
  Future<void> source_ ABSL_GUARDED_BY(mutex_);
};

// Settles a SharedState with the result, or has it give up when it is destroyed instead of called.
template <class T>
class SharedResult {
public:
  explicit SharedResult(std::shared_ptr<SharedState<T>> state) : state_(std::move(state)) {}
  SharedResult(SharedResult&& other) noexcept = default;
  SharedResult& operator=(SharedResult&&) = delete;
  ~SharedResult() {
    if (state_ != nullptr) {
      state_->giveUp();
    }
  }
  void operator()(Try<T>&& result) { std::exchange(state_, nullptr)->settle(std::move(result)); }

private:
  std::shared_ptr<SharedState<T>> state_;
};

}  // namespace nuncio::future_internal
