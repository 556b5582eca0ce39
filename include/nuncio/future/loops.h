#pragma once

#include <cstddef>
#include <iterator>
#include <memory>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/loop_coroutines.h"

// Loops whose steps are futures: repeat(), doUntil(), forEach(), mapWindow(), reduce().
//
//   repeat(dispatcher, [this] { return serveOneRequest(); });                      // until it fails
//   doUntil(dispatcher, [this] { return poll(); }, [](State s) { return s == kReady; }).then([](State s) { ... });
//   forEach(dispatcher, std::move(files), 8, [this](File& file) { return upload(file); });   // 8 at a time
//   mapWindow(dispatcher, std::move(urls), 8, fetch).then([](std::vector<Page> pages) { ... });  // in order
//   reduce(dispatcher, std::move(pages), 0, [](int sum, Page& page) { return count(page) + sum; });
//
// A step `f` returns anything that Future::then() allows; its failure ends the loop, and is the result. The loop keeps
// f, and the range, until it has ended, so f may be a coroutine with captures, and refer to an element. The first step
// runs at once when the loop is begun in the dispatcher's run, and there as soon as possible otherwise. Steps that are
// ready neither recurse nor starve what else the dispatcher has to do: the loop yields when something waits, or after
// half a millisecond.
//
// Cancelling stops the steps that are under way, and ends the loop when they have ended; so does a dispatcher that
// shuts down, and a step that fails.
//
// A range is taken by value, and has begin() and end(): give std::move(vector), a span, or a view. Where it can be gone
// through only once, as one that reads from a stream, each element is kept for its step.
//
// Threads: any; what they call runs on the dispatcher's thread. Cost: a coroutine; forEach and mapWindow one for each
// step that is under way at a time.
namespace nuncio {

// Calls `f` again and again, each time when the step before is done. An f without a value: until it fails. One with a
// bool: also until that is false, which ends the loop with success.
template <class F>
Future<void> repeat(Dispatcher& dispatcher, F&& f, std::source_location place = std::source_location::current()) {
  using U = future_internal::StepResult<std::decay_t<F>>;
  static_assert(std::is_void_v<U> || std::is_same_v<U, bool>, "f gives nothing, or whether to go on");
  return future_internal::repeatLoop<std::decay_t<F>>(dispatcher, std::forward<F>(f), place);
}

// Calls `f` until `predicate` is true of its value (takes nothing, when there is none): that value.
template <class F, class P>
auto doUntil(Dispatcher& dispatcher, F&& f, P&& predicate, std::source_location place = std::source_location::current())
    -> Future<future_internal::StepResult<std::decay_t<F>>> {
  using U = future_internal::StepResult<std::decay_t<F>>;
  return future_internal::untilLoop<U, std::decay_t<F>, std::decay_t<P>>(dispatcher, std::forward<F>(f),
                                                                         std::forward<P>(predicate), place);
}

// Calls `f` with each element, in order, as long as at most `concurrency` steps are under way (> 0, or
// InvalidArgument). Done when all are. The first failure cancels the other steps, and no further one begins.
template <class Range, class F>
Future<void> forEach(Dispatcher& dispatcher, Range range, std::size_t concurrency, F&& f,
                     std::source_location place = std::source_location::current()) {
  if (concurrency == 0) {
    return makeFailedFuture<void>(absl::InvalidArgumentError("forEach: concurrency must be at least 1, not 0"), place);
  }
  using State = future_internal::ForEachState<Range, std::decay_t<F>>;
  std::shared_ptr<State> state;
  try {
    state = std::make_shared<State>(std::move(range), std::decay_t<F>(std::forward<F>(f)));
  } catch (const std::bad_alloc&) {
    return Future<void>(future_internal::failed<void>(future_internal::Reason::NoMemory), place);
  }
  return future_internal::forEachLoop<State>(dispatcher, std::move(state), concurrency, place);
}

// The same, with the values of all steps, in the order of the elements, whatever the order in which they came. Empty
// for an empty range.
template <class Range, class F>
auto mapWindow(Dispatcher& dispatcher, Range range, std::size_t concurrency, F&& f,
               std::source_location place = std::source_location::current())
    -> Future<std::vector<future_internal::StepResult<std::decay_t<F>, decltype(*std::begin(range))>>> {
  using U = future_internal::StepResult<std::decay_t<F>, decltype(*std::begin(range))>;
  static_assert(!std::is_void_v<U>, "f gives nothing: use forEach()");
  if (concurrency == 0) {
    return makeFailedFuture<std::vector<U>>(
        absl::InvalidArgumentError("mapWindow: concurrency must be at least 1, not 0"), place);
  }
  using Step = future_internal::MapStep<U, std::decay_t<F>>;
  using State = future_internal::ForEachState<Range, Step>;
  std::shared_ptr<State> state;
  try {
    state = std::make_shared<State>(
        std::move(range), Step(future_internal::loopOf(dispatcher), std::decay_t<F>(std::forward<F>(f)), place));
  } catch (const std::bad_alloc&) {
    return Future<std::vector<U>>(future_internal::failed<std::vector<U>>(future_internal::Reason::NoMemory), place);
  }
  return future_internal::forEachLoop<State>(dispatcher, state, concurrency, place)
      .then([state] { return state->f.takeValues(); }, place);
}

// Calls `f(accumulated, element)` with each element, one after the other; what it gives is `accumulated` next, from
// `init` on. The last one is the result; `init` for an empty range.
template <class Range, class A, class F>
Future<A> reduce(Dispatcher& dispatcher, Range range, A init, F&& f,
                 std::source_location place = std::source_location::current()) {
  return future_internal::reduceLoop<A, Range, std::decay_t<F>>(dispatcher, std::move(range), std::move(init),
                                                                std::forward<F>(f), place);
}

}  // namespace nuncio
