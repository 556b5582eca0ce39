#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

#include "nuncio/common/mutex.h"
#include "nuncio/common/no_fork.h"
#include "nuncio/future/future.h"

namespace nuncio {
namespace future_internal {

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

}  // namespace future_internal

// SharedFuture: a result for any number of consumers. Each gets a future of its own, with a copy.
//
//   SharedFuture<Config> config = share(load(dispatcher));
//   config.future().then([](Config c) { ... }).detach();            // on the dispatcher of the future that was shared
//   config.via(worker).then([](Config c) { ... }).detach();         // on another's
//
// Copies share the result. Cancelling a consumer's future does not concern the others, nor what the result comes from,
// even when it was the last one's; cancel() stops that, and all consumers' futures fail with Cancelled. Destroying all
// copies stops nothing: consumers that wait still get the result. A failure that no consumer ever saw is logged as a
// dropped future's is.
//
// T can be copied; an exception from that is the consumer's result. Threads: any, also the same object by several at a
// time, except for assigning to it. Lifetime: any. Cost: one allocation, and a promise for each consumer that waits.
template <class T>
class SharedFuture {
  using State = future_internal::SharedState<T>;

public:
  using ValueType = T;

  SharedFuture() = default;  // no future: consumers get FailedPrecondition
  // Without memory: no future, and consumers get ResourceExhausted.
  explicit SharedFuture(Future<T>&& future, std::source_location place = std::source_location::current()) {
    if (!future.valid()) {
      return;
    }
    try {
      state_ = std::make_shared<State>(future_internal::Access::loop(future), place);
    } catch (const std::bad_alloc&) {
      why_invalid_ = future_internal::Reason::NoMemory;
      std::move(future).detach();
      return;
    }
    if (future.isReady()) {
      future_internal::Access::takeIfDone(future);
      state_->settle(future_internal::Access::takeResult(future));
      return;
    }
    state_->setSource(std::move(future).then(future_internal::SharedResult<T>(state_), place));
  }

  bool valid() const { return state_ != nullptr; }
  // Whether the result is there.
  bool isReady() const { return state_ != nullptr && state_->ready(); }
  // Only when it is ready.
  const Try<T>& result() const { return state_->result(); }

  // A copy of the result, on the dispatcher of the future that was shared; on another; for a thread to wait for.
  Future<T> future(std::source_location place = std::source_location::current()) const {
    LoopCore* const loop = state_ != nullptr ? state_->loop() : nullptr;
    return future_internal::onLoop(semiFuture(place), loop);
  }
  Future<T> via(Dispatcher& dispatcher, std::source_location place = std::source_location::current()) const {
    return semiFuture(place).via(dispatcher);
  }
  SemiFuture<T> semiFuture(std::source_location place = std::source_location::current()) const {
    if (state_ == nullptr) {
      return SemiFuture<T>(future_internal::failed<T>(why_invalid_), place);
    }
    return state_->get(place);
  }

  // Asks what the result comes from to stop.
  void cancel() const {
    if (state_ != nullptr) {
      state_->cancel();
    }
  }

private:
  std::shared_ptr<State> state_;  // shared by the copies, and by the continuation that will bring the result
  future_internal::Reason why_invalid_ = future_internal::Reason::Invalid;
};

template <class T>
SharedFuture<T> share(Future<T>&& future, std::source_location place = std::source_location::current()) {
  return SharedFuture<T>(std::move(future), place);
}

}  // namespace nuncio
