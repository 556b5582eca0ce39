#pragma once

#include <chrono>
#include <memory>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"

#include "nuncio/future/cancellation.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/combine.h"
#include "nuncio/future/time.h"

namespace nuncio {

// The result of `future`, when it comes within `delay` from now; otherwise calls `f` with the future, which is pending
// still, and the result is what comes of that. As libprocess' Future::after().
//
//   after(fetch(url), 5s, [](Future<Page> late) {
//     std::puts("this takes long");
//     return within(std::move(late), 55s); // or late.cancel(), or another source ...
//   });
//
// f returns what Future::then() allows, of the same T, and is destroyed right after it ran. It may drop the future:
// that then goes on alone, as any. A result that is there at the deadline wins. Durations, time, ready futures: as
// within(), in nuncio/future/time.h, which is the one to use where a late future is to be cancelled.
//
// Cancelling the result cancels what it waits for, `future` or what f returned, and it is done when that has ended.
//
// Threads: as Future's methods; f runs on the dispatcher's. Cost: a few continuations, a promise, a timer and an
// allocation.
template <class T, class Rep, class Period, class F>
Future<T> after(Future<T>&& future, std::chrono::duration<Rep, Period> delay, F&& f,
                std::source_location place = std::source_location::current()) {
  using future_internal::Access;
  static_assert(std::is_same_v<future_internal::ResultOf<std::invoke_result_t<std::decay_t<F>&, Future<T>&&>>, T>,
                "f takes the Future<T>, and gives what makes a Future<T>");
  const std::chrono::nanoseconds nanoseconds = future_internal::inNanoseconds(delay);
  if (nanoseconds.count() < 0) {
    return future_internal::endWith(std::move(future), future_internal::negativeDuration(nanoseconds), place);
  }
  Access::takeIfDone(future);
  LoopCore* const loop = Access::loop(future);
  if (Access::node(future) == nullptr) {
    return std::move(future);
  }
  std::shared_ptr<Future<T>> pending;  // shared by the two continuations below
  try {
    pending = std::make_shared<Future<T>>();
  } catch (const std::bad_alloc&) {
    future_internal::letGo(future);
    return Future<T>(future_internal::failed<T>(future_internal::Reason::NoMemory), place);
  }
  Promise<void> came(place);
  Future<void> in_time = within(Access::viaLoop(came.semiFuture(), *loop), nanoseconds, place);
  *pending = std::move(future).ensure([came = std::move(came)]() mutable { came.setValue(); }, place);
  return std::move(in_time)
      .then(
          [pending, loop, place, f = std::decay_t<F>(std::forward<F>(f))](Try<void>&& ended) mutable -> Future<T> {
            Future<T> result = std::move(*pending);
            if (ended.hasValue() || result.isReady()) {
              return result;
            }
            if (!absl::IsDeadlineExceeded(ended.status())) {
              *pending = std::move(result);  // to be stopped
              return Future<T>(Try<T>::failureOf(std::move(ended)), place);
            }
            return future_internal::callOn(*loop, place, f, std::move(result));
          },
          place)
      .ensure([pending] { return pending->valid() ? cancelAndWait(std::move(*pending)) : makeReadyFuture(); }, place);
}

}  // namespace nuncio
