#pragma once

#include <exception>
#include <new>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "nuncio/common/caught_exception.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"

namespace nuncio {
namespace future_internal {

// What submit() posts. Its promise is linked: whoever waits for the answer may be what f refers to.
template <class U, class F>
class Submitted {
public:
  template <class G>
  Submitted(Promise<U>&& promise, G&& f) : f_(std::forward<G>(f)), promise_(std::move(promise)) {}
  Submitted(Submitted&& other) noexcept(std::is_nothrow_move_constructible_v<F>) = default;
  Submitted& operator=(Submitted&&) = delete;
  ~Submitted() {
    if (!Access::spent(promise_)) {  // else it has run, or was moved from
      f_.reset();
      promise_.setTry(failed<U>(Reason::LoopGone));
    }
  }

  // f goes before the answer is given.
  void operator()() {
    if (Access::stopped(promise_)) {
      return;
    }
    using R = std::remove_cvref_t<std::invoke_result_t<F&>>;
    if constexpr (Flatten<R>::kIsFuture) {
      Future<U> inner = callOn();
      f_.reset();
      std::move(inner).forwardTo(std::move(promise_));
    } else {
      Try<U> result = callInto<U>(*f_);
      f_.reset();
      promise_.setTry(std::move(result));
    }
  }

private:
  Future<U> callOn() {
    try {
      return onLoop((*f_)(), LoopCore::current());
    } catch (...) {
      return Future<U>(Try<U>(caughtException()));
    }
  }

  std::optional<F> f_;  // until it has run
  Promise<U> promise_;
};

inline bool alive(Dispatcher& target) { return target.handle().alive(); }
inline bool alive(const PostHandle& target) { return target.alive(); }

}  // namespace future_internal

// Runs `f` on the thread of `target`, and gives what it returns, which may be anything that Future::then() allows.
//
//   submit(worker, [] { return compute(); }).via(here).then([](int answer) { ... });
//
// `target`: a Dispatcher or a PostHandle. When that is gone, now or before f runs, f is destroyed and the future fails
// with Cancelled. Cancelling before f runs destroys f instead of running it; either way the result comes when f, and
// the future that it returned, have ended there, since f may refer to what waits for it. Without memory the future
// fails with ResourceExhausted; when moving f throws, with that. Any thread. Costs a post there and one back, and one
// allocation.
template <class Target, class F>
auto submit(Target& target, F&& f, std::source_location place = std::source_location::current())
    -> SemiFuture<future_internal::ResultOf<std::invoke_result_t<std::decay_t<F>&>>> {
  using future_internal::Reason;
  using U = future_internal::ResultOf<std::invoke_result_t<std::decay_t<F>&>>;
  Promise<U> promise(place);
  SemiFuture<U> future = promise.semiFuture();
  if (future.isReady()) {  // no memory
    return future;
  }
  future_internal::Access::linkNew(promise);
  Try<U> failure;
  try {
    future_internal::Submitted<U, std::decay_t<F>> job(std::move(promise), std::forward<F>(f));
    if (target.post(std::move(job)) || !future_internal::alive(target)) {
      return future;
    }
  } catch (const std::bad_alloc&) {  // NOLINT(bugprone-empty-catch): as where post() returns false for it
  } catch (...) {
    failure = Try<U>(std::current_exception());
  }
  std::move(future).detach();
  return SemiFuture<U>(failure.ready() ? std::move(failure) : future_internal::failed<U>(Reason::NoMemory), place);
}

}  // namespace nuncio
