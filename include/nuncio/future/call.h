#pragma once

#include <exception>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/away_call.h"
#include "nuncio/future/submit.h"

namespace nuncio {

// Runs `f` on the thread of `target`, and brings what it returns back to the dispatcher that calls.
//
//   const int answer = co_await call(worker, [] { return compute(); });
//   call(worker, [] { return compute(); }).then([](int answer) { ... });  // here
//
// `target`: a Dispatcher or a PostHandle. `f` returns anything that Future::then() allows. Calls to one target run in
// the order in which they, and posts, were made; answers come in the order in which they are given. A call to the
// dispatcher that calls runs as a task: f does not run before call() has returned.
//
// Ends: when `target` is gone, now or before f runs, f is destroyed, on the thread that shuts it down, and the future
// fails with Cancelled. Cancelling before f runs destroys f on the target's thread instead of running it; either way
// the future is done only when f, and a future that it returned, have ended there, since f may refer to what waits for
// it. Where the future was dropped f runs nonetheless, and its result is destroyed here. Where the dispatcher that
// calls has been shut down meanwhile, the result is destroyed on the target's thread. Without memory the future fails
// with ResourceExhausted; when moving f throws, with that. An answer is never lost for want of memory.
//
// Threads: one that runs a dispatcher; on any other the future fails with FailedPrecondition: there, submit(). Cost: a
// post there and one back; once warm no allocation, for an f of up to 32 bytes and results of up to 24. Where f
// returns a future: as submit().
template <class Target, class F>
auto call(Target& target, F&& f, std::source_location place = std::source_location::current())
    -> Future<future_internal::ResultOf<std::invoke_result_t<std::decay_t<F>&>>> {
  using future_internal::Reason;
  using R = std::invoke_result_t<std::decay_t<F>&>;
  using U = future_internal::ResultOf<R>;
  LoopCore* const home = LoopCore::current();
  if (home == nullptr) {
    return Future<U>(future_internal::failed<U>(Reason::NoDispatcher), place);
  }
  if (future_internal::isTarget(*home, target)) {
    return future_internal::Access::thenLater(*home, std::forward<F>(f), place);
  }
  if constexpr (future_internal::Flatten<std::remove_cvref_t<R>>::kIsFuture) {
    return future_internal::Access::viaLoop(submit(target, std::forward<F>(f), place), *home);
  } else {
    using Node = future_internal::AwayNode<U>;
    Node* const node = future_internal::makeNode<Node>(nullptr, home, place);
    if (node == nullptr) {
      return Future<U>(future_internal::failed<U>(Reason::NoMemory), place);
    }
    home->addPending(*node);
    Future<U> future = future_internal::Access::future<U>(node);
    Try<U> failure;
    try {
      if (target.post(future_internal::CallRequest<U, std::decay_t<F>>(*home, *node, std::forward<F>(f))) ||
          !future_internal::alive(target)) {
        return future;  // or it has been answered already
      }
      failure = future_internal::failed<U>(Reason::NoMemory);
    } catch (const std::bad_alloc&) {
      failure = future_internal::failed<U>(Reason::NoMemory);
    } catch (...) {
      failure = Try<U>(std::current_exception());
    }
    if (!node->has(future_internal::kDone)) {  // else what had been made of the request has answered
      node->refuseTask();
    }
    std::move(future).detach();
    return Future<U>(std::move(failure), place);
  }
}

}  // namespace nuncio
