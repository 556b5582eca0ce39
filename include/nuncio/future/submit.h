#pragma once

#include <source_location>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"

namespace nuncio {
namespace future_internal {

// What submit() posts.
template <class U, class F>
class Submitted {
public:
  Submitted(Promise<U>&& promise, F&& f) : promise_(std::move(promise)), f_(std::move(f)) {}
  Submitted(Submitted&& other) noexcept = default;
  Submitted& operator=(Submitted&&) = delete;
  ~Submitted() {
    if (!promise_.done()) {  // not run, and not moved from
      promise_.setTry(failed<U>(Reason::LoopGone));
    }
  }

  void operator()() {
    if (promise_.done()) {
      return;  // cancelled
    }
    using R = std::remove_cvref_t<std::invoke_result_t<F&>>;
    if constexpr (Flatten<R>::kIsFuture) {
      try {
        onLoop(f_(), TaskQueue::current()).forwardTo(std::move(promise_));
      } catch (...) {
        promise_.setException(std::current_exception());
      }
    } else {
      promise_.setTry(callInto<U>(f_));
    }
  }

private:
  Promise<U> promise_;
  F f_;
};

}  // namespace future_internal

// Runs `f` on the thread of `target`, and gives what it returns, which may be anything that Future::then() allows.
//
//   submit(worker, [] { return compute(); }).via(here).then([](int answer) { ... });
//
// `target`: a Dispatcher or a PostHandle. When that is gone, now or before f runs, f is destroyed and the future fails
// with Cancelled. Cancelling before f runs destroys f instead of running it. Any thread. Costs a post there and one
// back, and one allocation.
template <class Target, class F>
auto submit(Target& target, F&& f, std::source_location place = std::source_location::current())
    -> SemiFuture<future_internal::ResultOf<std::invoke_result_t<std::decay_t<F>&>>> {
  using U = future_internal::ResultOf<std::invoke_result_t<std::decay_t<F>&>>;
  Promise<U> promise(place);
  SemiFuture<U> future = promise.semiFuture();
  std::decay_t<F> function(std::forward<F>(f));
  target.post(future_internal::Submitted<U, std::decay_t<F>>(std::move(promise), std::move(function)));
  return future;
}

}  // namespace nuncio
