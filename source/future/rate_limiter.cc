#include "nuncio/future/rate_limiter.h"

#include <algorithm>
#include <limits>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/event/dispatcher.h"
#include "source/future/failure.h"

namespace nuncio {
namespace {

using future_internal::checkThread;

constexpr uint64_t kMaxCredit = std::numeric_limits<int64_t>::max();

bool valid(uint64_t tokens, uint64_t burst, std::chrono::nanoseconds period) {
  return tokens > 0 && burst > 0 && period.count() > 0 && burst <= kMaxCredit / static_cast<uint64_t>(period.count());
}

uint64_t checkedBurst(const Dispatcher& dispatcher, uint64_t tokens, uint64_t burst, std::chrono::nanoseconds period) {
  const bool ok = NUNCIO_CONTRACT(
      valid(tokens, burst, period), dispatcher.name(), "RateLimiter::RateLimiter",
      absl::StrCat("a rate of ", tokens, " in ", period.count(), " ns with a burst of ", burst, " is not possible"));
  return ok ? burst : 0;
}

uint64_t divideUp(uint64_t a, uint64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

}  // namespace

RateLimiter::RateLimiter(Dispatcher& dispatcher, uint64_t tokens, uint64_t burst, std::chrono::nanoseconds period)
    : loop_(dispatcher),
      tokens_(tokens),
      parts_(static_cast<uint64_t>(period.count())),
      burst_(checkedBurst(dispatcher, tokens, burst, period)),
      credit_(burst_ * parts_),
      refilled_(dispatcher.timeSource().monotonicTime()),
      waiters_(*loop_, "rate limiter", this, [](void* limiter) { static_cast<RateLimiter*>(limiter)->serve(); }) {}

RateLimiter::~RateLimiter() { checkThread(*loop_, "RateLimiter::~RateLimiter"); }

Future<void> RateLimiter::acquire(uint64_t n, std::source_location place) {
  checkThread(*loop_, "RateLimiter::acquire");
  if (n > burst_ || burst_ == 0) {
    future_internal::Failure* const failure = future_internal::makeFailureOf([this, n] {
      return absl::InvalidArgumentError(absl::StrCat(n, " tokens of a rate limiter with a burst of ", burst_));
    });
    return future_internal::readyOn(*loop_, Try<void>::fromFailure(failure), place);
  }
  if (takeNow(n)) {
    return future_internal::readyOn(*loop_, Try<void>(Unit()), place);
  }
  if (!haveTimer()) {
    return future_internal::readyOn(*loop_, future_internal::failed<void>(future_internal::Reason::NoMemory), place);
  }
  Future<void> turn = waiters_.wait(uint64_t{n}, place);
  if (waiters_.size() == 1) {
    serve();
  }
  return turn;
}

bool RateLimiter::tryAcquire(uint64_t n) {
  checkThread(*loop_, "RateLimiter::tryAcquire");
  return burst_ != 0 && takeNow(n);
}

uint64_t RateLimiter::available() {
  checkThread(*loop_, "RateLimiter::available");
  refill();
  return burst_ != 0 && waiters_.empty() ? credit_ / parts_ : 0;
}

bool RateLimiter::takeNow(uint64_t n) {
  refill();
  if (!waiters_.empty() || n > burst_ || credit_ < n * parts_) {
    return false;
  }
  credit_ -= n * parts_;
  return true;
}

// False without memory.
bool RateLimiter::haveTimer() {
  if (timer_ == nullptr && !loop_->closing()) {
    try {
      timer_ = loop_->dispatcher()->createTimer([this] { serve(); });
    } catch (const std::bad_alloc&) {
      return false;
    }
  }
  return true;
}

void RateLimiter::refill() {
  if (burst_ == 0 || loop_->dispatcher() == nullptr) {
    return;  // invalid, or no time passes any more
  }
  const MonotonicTime now = loop_->dispatcher()->timeSource().monotonicTime();
  const auto passed = std::chrono::nanoseconds(now - refilled_).count();
  if (passed <= 0) {
    return;
  }
  refilled_ = now;
  // What comes while somebody waits is spent, and not kept: late timers lose nothing.
  const uint64_t missing = (waiters_.empty() ? burst_ * parts_ : kMaxCredit) - credit_;
  if (static_cast<uint64_t>(passed) >= divideUp(missing, tokens_)) {
    credit_ += missing;
  } else {
    credit_ += static_cast<uint64_t>(passed) * tokens_;
  }
}

// Serves those whose turn it is, and sets the timer for the next one.
void RateLimiter::serve() {
  if (loop_->closing()) {
    return;
  }
  refill();
  while (!waiters_.empty() && credit_ >= waiters_.front().payload * parts_) {
    credit_ -= waiters_.front().payload * parts_;
    waiters_.front().finish(Try<void>(Unit()));
  }
  if (!waiters_.empty()) {
    const std::chrono::nanoseconds wait(divideUp(waiters_.front().payload * parts_ - credit_, tokens_));
    timer_->enableHRTimer(std::chrono::ceil<std::chrono::microseconds>(wait));
    return;
  }
  credit_ = std::min(credit_, burst_ * parts_);
  if (timer_ != nullptr) {
    timer_->disableTimer();
  }
}

}  // namespace nuncio
