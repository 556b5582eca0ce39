#pragma once

#include <exception>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/submitted.h"

namespace nuncio {

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
