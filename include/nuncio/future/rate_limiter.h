#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <source_location>

#include "nuncio/common/time.h"
#include "nuncio/event/timer.h"
#include "nuncio/future/internal/wait_list.h"

namespace nuncio {

// RateLimiter: lets so many operations start in a period of time, and makes the others wait.
//
//   RateLimiter limiter(dispatcher, 100, 10);        // 100 a second, at most 10 at once
//   co_await limiter.acquire();
//   RateLimiter slow(dispatcher, 1, 1, std::chrono::minutes(5));
//
// A token bucket (J. Turner, New Directions in Communications, IEEE Communications Magazine 24(10), 1986): tokens come
// in evenly, as long as there are fewer than `burst`; it is full at first. An acquire() takes its tokens, or waits for
// them: first in, first out. Counted in whole nanoseconds, nothing is lost in rounding; who waits gets his turn at the
// first microsecond at which the tokens are there.
//
// Threads: the dispatcher's only. Time: the dispatcher's. Lifetime: when it is destroyed, those who wait fail with
// Cancelled. Cost: an acquire() that need not wait reads the clock and allocates nothing, one that waits its future's
// node; one timer for all.
class RateLimiter {
public:
  // `tokens` come in each `period`; `burst` of them are kept. All > 0, and burst * period (in nanoseconds) < 2^63: for
  // a second, 9 billion. Else fatal in debug; in release all acquires fail with InvalidArgument.
  RateLimiter(Dispatcher& dispatcher, uint64_t tokens, uint64_t burst,
              std::chrono::nanoseconds period = std::chrono::seconds(1));
  RateLimiter(const RateLimiter&) = delete;
  RateLimiter& operator=(const RateLimiter&) = delete;
  ~RateLimiter();

  // Done when `n` tokens were there for it. InvalidArgument where n is more than the burst, which would never come.
  Future<void> acquire(uint64_t n = 1, std::source_location place = std::source_location::current());
  // Without waiting: false where acquire() would wait or fail.
  bool tryAcquire(uint64_t n = 1);

  // Whole tokens that are there now for who would not wait.
  uint64_t available();
  std::size_t waiters() const { return waiters_.size(); }

private:
  bool takeNow(uint64_t n);
  bool haveTimer();
  void refill();
  void serve();

  // Credit is counted in parts of a token, of which a token has as many as the period has nanoseconds, so that each
  // nanosecond brings `tokens_` of them.
  const LoopRef loop_;
  const uint64_t tokens_;
  const uint64_t parts_;
  const uint64_t burst_;  // 0: invalid
  uint64_t credit_;
  MonotonicTime refilled_;
  TimerPtr timer_;  // made when somebody waits
  future_internal::WaitList<void, uint64_t> waiters_;
};

}  // namespace nuncio
