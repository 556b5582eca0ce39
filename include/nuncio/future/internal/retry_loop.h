#pragma once

#include <chrono>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/future/coroutine.h"
#include "nuncio/future/internal/combine.h"
#include "nuncio/future/retry.h"

// For retry.h.
namespace nuncio::future_internal {

bool isRetryable(const RetryPolicy& policy, const absl::Status& failure);

template <class U, class F>
Future<U> retryLoop(Dispatcher& dispatcher, RetryPolicy policy, F f, std::source_location place) {
  LoopCore& loop = loopOf(dispatcher);
  if (!runsHere(loop)) {
    co_await yield();
  }
  for (int attempt = 1;; ++attempt) {
    Future<U> future = callOn(loop, place, f);
    AsTry<U> wrapped = asTry(std::move(future));
    Try<U> result = co_await std::move(wrapped);
    if (result.hasValue() || attempt == policy.max_attempts || !isRetryable(policy, result.status())) {
      if constexpr (std::is_void_v<U>) {
        result.throwIfFailed();
        co_return;
      } else {
        co_return std::move(result);
      }
    }
    const std::chrono::nanoseconds backoff = backoffAfter(policy, attempt);
    if (backoff.count() > 0) {
      co_await backoff;
    } else if (!mayGoOn(loop)) {
      co_await yield();
    }
  }
}

}  // namespace nuncio::future_internal
