#include "nuncio/event/periodic_timer.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/event/dispatcher.h"

namespace nuncio {
namespace {

constexpr std::chrono::microseconds kMaxPeriod = std::chrono::hours(24 * 365 * 68);

}  // namespace

struct PeriodicTimer::Beats {
  void beat() {
    const MonotonicTime now = dispatcher.timeSource().monotonicTime();
    const auto missed = (now - next) / period;  // timers are never early
    next += missed * period;
    armNext();
    cb(static_cast<uint64_t>(missed));  // it may stop the timer, start it anew, or destroy it, but not this
  }

  // At the end of time there are no more beats.
  void armNext() {
    next = MonotonicTime::max() - next > period ? next + period : MonotonicTime::max();
    timer->enableTimerAt(next);
  }

  Dispatcher& dispatcher;  // not used once it is gone
  PostHandle handle;
  PeriodicTimerCb cb;
  Timer* timer = nullptr;
  std::chrono::nanoseconds period{0};
  MonotonicTime next{};
};

PeriodicTimer::PeriodicTimer(Dispatcher& dispatcher, PeriodicTimerCb cb) {
  if (!NUNCIO_CONTRACT(cb != nullptr, dispatcher.name(), "PeriodicTimer::PeriodicTimer", "null callback")) {
    cb = [](uint64_t) {};
  }
  auto beats = std::make_unique<Beats>(Beats{dispatcher, dispatcher.handle(), std::move(cb)});
  beats_ = beats.get();
  timer_ = dispatcher.createTimer([beats = std::move(beats)] { beats->beat(); });
  beats_->timer = timer_.get();
}

void PeriodicTimer::start(std::chrono::microseconds period) {
  if (!NUNCIO_CONTRACT(period.count() > 0, std::string(beats_->handle.name()), "PeriodicTimer::start",
                       absl::StrCat("a period of ", period.count(), " us"))) {
    return;
  }
  beats_->period = std::min(period, kMaxPeriod);
  timer_->disableTimer();
  timer_->enableHRTimer(std::min(period, kMaxPeriod));
  if (timer_->enabled()) {  // not when the dispatcher is gone
    beats_->next = beats_->dispatcher.timeSource().monotonicTime();
    beats_->armNext();
  }
}

}  // namespace nuncio
