#pragma once

#include <chrono>
#include <source_location>
#include <utility>

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/duration.h"
#include "nuncio/future/internal/timed.h"

// Futures and time: sleepFor(), within(), delayed().
//
//   sleepFor(dispatcher, 100ms).then([] { ... });
//   within(connection.read(), 5s).thenError([](absl::Status status) { ... });  // DeadlineExceeded after 5 s
//   delayed(fetch(), 1s).then([](Page page) { ... });                          // not before 1 s from now
//
// Durations are std::chrono's, of any kind. A negative one: the future fails with InvalidArgument. One beyond 68 years
// is 68 years. Time is the dispatcher's, so that simulated time drives all of these. A timer fires on time or up to
// 33 us later (Timer::enableHRTimer).
//
// Cancelling any of them frees the timer at once, and asks what it waits for to stop; so does a dispatcher that shuts
// down. Without memory for the timer they fail with ResourceExhausted.
//
// Threads: as Future's methods. Called on another thread than the dispatcher's, the time counts from when that thread
// gets to it. Cost: a continuation and a timer.
namespace nuncio {

// co_await yieldIfDue(): for long computations in a coroutine. Where it is time for the loop to look at its descriptors
// (Dispatcher::shouldYield()), goes on in the next iteration; else at once, for the price of that question. On a thread
// that runs no dispatcher: at once.
inline Future<void> yieldIfDue(std::source_location place = std::source_location::current());

// Done after `delay`. 0: in the next iteration. Any thread.
template <class Rep, class Period>
Future<void> sleepFor(Dispatcher& dispatcher, std::chrono::duration<Rep, Period> delay,
                      std::source_location place = std::source_location::current()) {
  return future_internal::sleepOn(&future_internal::loopOf(dispatcher), future_internal::inNanoseconds(delay), place);
}

inline Future<void> yieldIfDue(std::source_location place) {
  LoopCore* const loop = LoopCore::current();
  if (loop == nullptr || loop->dispatcher() == nullptr || !loop->dispatcher()->shouldYield()) {
    return makeReadyFuture(place);
  }
  return future_internal::sleepOn(loop, std::chrono::nanoseconds(0), place);
}

// The result of `future`, when it comes within `limit` from now; otherwise DeadlineExceeded, and `future` is cancelled,
// and has ended when the result is given. Mostly that is at once; but where it waits for another dispatcher, as in
// within(submit(worker, blocked), 1ms), it takes until that answers. within(abandon(f), d) is a hard deadline
// (cancellation.h): then f must own what it uses. A result that is there when the deadline strikes wins: `future` was
// ready, though what waits for it has not run yet; a value that another thread has set and that has not reached the
// dispatcher's thread is not there. Timers with equal deadlines fire in the order of arming: within(sleepFor(d, 5ms),
// 5ms) succeeds. A ready future is passed on as it is.
template <class T, class Rep, class Period>
Future<T> within(Future<T>&& future, std::chrono::duration<Rep, Period> limit,
                 std::source_location place = std::source_location::current()) {
  const std::chrono::nanoseconds nanoseconds = future_internal::inNanoseconds(limit);
  if (nanoseconds.count() < 0) {
    return future_internal::endWith(std::move(future), future_internal::negativeDuration(nanoseconds), place);
  }
  if (future.isReady() || !future.valid()) {
    return std::move(future);
  }
  return future_internal::timed<future_internal::WithinNode>(std::move(future), nanoseconds, place);
}

// The result of `future`, value or failure, but not before `delay` from now. A ready future that has no dispatcher
// waits on the one of this thread; where there is none: FailedPrecondition.
template <class T, class Rep, class Period>
Future<T> delayed(Future<T>&& future, std::chrono::duration<Rep, Period> delay,
                  std::source_location place = std::source_location::current()) {
  const std::chrono::nanoseconds nanoseconds = future_internal::inNanoseconds(delay);
  if (nanoseconds.count() < 0) {
    return future_internal::endWith(std::move(future), future_internal::negativeDuration(nanoseconds), place);
  }
  if (!future.valid()) {
    return std::move(future);
  }
  if (future_internal::Access::node(future) != nullptr) {
    return future_internal::timed<future_internal::DelayedNode>(std::move(future), nanoseconds, place);
  }
  LoopCore* loop = future_internal::Access::loop(future);
  loop = loop != nullptr ? loop : LoopCore::current();
  return future_internal::sleepOn(loop, nanoseconds, place)
      .then([result = future_internal::Access::takeResult(future)]() mutable { return std::move(result); }, place);
}

}  // namespace nuncio
