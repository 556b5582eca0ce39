#pragma once

#include <chrono>
#include <cstdint>
#include <source_location>
#include <utility>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/promise_core.h"

namespace nuncio {

// SemiFuture: a future that has no dispatcher yet. To be bound to one with via(), or waited for.
//
// Threads: any, by one at a time.
template <class T>
class [[nodiscard]] SemiFuture {
  template <class U>
  friend class Future;
  friend class Promise<T>;
  friend struct future_internal::Access;

public:
  using ValueType = T;

  // No future; see Future.
  SemiFuture() noexcept = default;
  // Ready.
  explicit SemiFuture(Try<T>&& result, std::source_location place = std::source_location::current()) noexcept
      : result_(std::move(result)), place_(place) {}
  SemiFuture(SemiFuture&& other) noexcept
      : result_(std::move(other.result_)), place_(other.place_), core_(std::exchange(other.core_, nullptr)) {}
  SemiFuture& operator=(SemiFuture&& other) noexcept {
    if (this != &other) {
      drop(false);
      result_ = std::move(other.result_);
      place_ = other.place_;
      core_ = std::exchange(other.core_, nullptr);
    }
    return *this;
  }
  ~SemiFuture() { drop(false); }

  bool valid() const { return result_.ready() || core_ != nullptr; }
  // Whether the result is there.
  bool isReady() const { return result_.ready() || (core_ != nullptr && core_->seen().done()); }
  // The result. Only when it is ready.
  const Try<T>& result() & {
    takeIfDone();
    return result_;
  }

  // Continues on the thread of `dispatcher`. When that is gone: a future that failed with Cancelled.
  Future<T> via(Dispatcher& dispatcher) && { return std::move(*this).viaLoop(future_internal::loopOf(dispatcher)); }

  // As Future's. Where the result comes from a promise, that learns of it on this thread before cancel() returns; where
  // it comes from another future, from submit() or a coroutine, the result comes when these have ended.
  void cancel() {
    if (core_ != nullptr) {
      core_->stopUnbound(nullptr);
    }
  }
  void detach() && { drop(true); }

  // Waits for the result. On a thread that runs a dispatcher: FailedPrecondition.
  Try<T> get() && {
    switch (waitFor(-1)) {
      case future_internal::WaitResult::Ready:
        takeIfDone();
        return std::move(result_);
      case future_internal::WaitResult::OnLoop:
        drop(true);
        return future_internal::failed<T>(future_internal::Reason::OnLoop);
      default:
        return future_internal::failed<T>(future_internal::Reason::Invalid);
    }
  }
  // The same with an end: OK when it is ready, DeadlineExceeded, or FailedPrecondition. The future remains.
  template <class S = absl::Status>
  S wait(std::chrono::nanoseconds timeout) {
    S status;
    future_internal::assignWaitStatus(waitFor(timeout.count() < 0 ? 0 : timeout.count()), &status);
    return status;
  }

private:
  explicit SemiFuture(future_internal::PromiseCore<T>* core) noexcept : core_(core) {}

  // Takes the result from a core that has it.
  void takeIfDone() {
    if (core_ != nullptr && core_->seen().done()) {
      future_internal::PromiseCore<T>& core = *std::exchange(core_, nullptr);
      place_ = core.place_;
      result_ = core.seen().stopped() ? future_internal::failed<T>(future_internal::Reason::Cancelled)
                                      : std::move(core.result_);
      core.dropUnbound(/*quiet=*/true);
    }
  }

  Future<T> viaLoop(LoopCore& loop) && {
    takeIfDone();
    if (result_.ready()) {
      loop.retain();
      return Future<T>(std::move(result_), &loop, place_);
    }
    if (core_ == nullptr) {
      return Future<T>();
    }
    return future_internal::bound(*std::exchange(core_, nullptr), loop, /*shared=*/true);
  }

  future_internal::WaitResult waitFor(int64_t nanoseconds) {
    if (isReady()) {
      return future_internal::WaitResult::Ready;
    }
    if (core_ == nullptr) {
      return future_internal::WaitResult::Invalid;
    }
    if (LoopCore::current() != nullptr) {
      return future_internal::WaitResult::OnLoop;
    }
    return core_->wait(nanoseconds) ? future_internal::WaitResult::Ready : future_internal::WaitResult::Timeout;
  }

  void drop(bool quiet) {
    if (core_ != nullptr) {
      std::exchange(core_, nullptr)->dropUnbound(quiet);
    } else if (!quiet && result_.failed()) {
      future_internal::reportDropped(result_.failure(), place_);
    }
    result_.reset();
  }

  Try<T> result_;                                    // when it is ready
  std::source_location place_;                       // as well
  future_internal::PromiseCore<T>* core_ = nullptr;  // until then
};

}  // namespace nuncio
