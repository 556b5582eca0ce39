#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <source_location>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"

#include "nuncio/common/random.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"

// Doing something again until it succeeds: retrying().
//
//   RetryPolicy policy{.max_attempts = 5, .initial_backoff = 100ms, .max_backoff = 2s, .jitter = 0.5};
//   retrying(dispatcher, policy, [this] { return connect(); }).then([](Connection connection) { ... });
//
// Threads: any; what it calls runs on the dispatcher's thread.
namespace nuncio {

// How often, how soon, and after which failures.
//
// The backoff before attempt n + 1 is min(max_backoff, initial_backoff * multiplier^(n - 1)), of which a random part of
// up to `jitter` is left out, so that clients that failed together do not come back together: 0 none, 0.5 "equal
// jitter", 1 "full jitter". Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
struct RetryPolicy {
  int max_attempts = 3;                                   // >= 1, the first included
  std::chrono::nanoseconds initial_backoff{100'000'000};  // >= 0
  std::chrono::nanoseconds max_backoff{10'000'000'000};   // >= initial_backoff
  double multiplier = 2;                                  // >= 1
  double jitter = 0.5;                                    // 0 to 1

  // Whether to try again after this failure; an exception comes as the status that Try::status() makes of it. Null:
  // after Unavailable, DeadlineExceeded, ResourceExhausted and Aborted. Called on the dispatcher's thread.
  std::function<bool(const absl::Status&)> retryable;

  // What the jitter comes from; not owned, used on the dispatcher's thread. Null: a generator of the thread's own, with
  // a seed of the operating system.
  SplitMix64* random = nullptr;
};

// OK, or InvalidArgument with what is wrong and its value.
absl::Status validate(const RetryPolicy& policy);

// How long to wait after the `attempt`-th attempt, counted from 1, has failed. Draws a random number, unless `jitter`
// is 0. For a policy that is valid.
std::chrono::nanoseconds backoffAfter(const RetryPolicy& policy, int attempt);

namespace future_internal {
template <class U, class F>
Future<U> retryLoop(Dispatcher& dispatcher, RetryPolicy policy, F f, std::source_location place);
}  // namespace future_internal

// Calls `f`, which returns what Future::then() allows, until it succeeds: the value. The last failure when `policy`
// does not allow another attempt; InvalidArgument when the policy is not valid. The first attempt runs at once when
// this is called in the dispatcher's run, and there as soon as possible otherwise. Cancelling ends the wait at once, or
// asks the attempt to stop; f is not called again, and the result comes when the attempt has ended. f is kept until
// then, so it may be a coroutine with captures. Costs a coroutine, and a timer for each wait.
template <class F>
auto retrying(Dispatcher& dispatcher, RetryPolicy policy, F&& f,
              std::source_location place = std::source_location::current())
    -> Future<future_internal::ResultOf<std::invoke_result_t<std::decay_t<F>&>>> {
  using U = future_internal::ResultOf<std::invoke_result_t<std::decay_t<F>&>>;
  if (absl::Status status = validate(policy); !status.ok()) {
    return makeFailedFuture<U>(status, place);
  }
  return future_internal::retryLoop<U, std::decay_t<F>>(dispatcher, std::move(policy), std::forward<F>(f), place);
}

}  // namespace nuncio

#include "nuncio/future/internal/retry_loop.h"
