#pragma once

#include <chrono>
#include <cstdint>

#include "nuncio/common/inline_function.h"
#include "nuncio/event/callback.h"
#include "nuncio/event/timer.h"

namespace nuncio {

class Dispatcher;

// `missed`: how many beats were due since the last call, or since start(), without a call of their own.
using PeriodicTimerCb = InlineFunction<void(uint64_t missed), kEventCaptureBytes>;

// PeriodicTimer: calls back on the dispatcher's thread once in each period, without drift.
//
//   PeriodicTimer report(dispatcher, [&](uint64_t missed) { sendReport(1 + missed); });
//   report.start(std::chrono::seconds(10));
//
// Beats are due one period after start(), two periods, three, and so on, however late the calls are: each comes as
// punctually as a timer of Timer::enableHRTimer(). A loop that is so late that more than one beat is due gets one call,
// which is told how many beats it missed.
//
// Threads: the dispatcher's thread only. Lifetime: destroying the timer stops it, also in its own callback; the
// callback never runs after that, and is destroyed when it has returned. It may outlive the dispatcher, and then does
// nothing.
class PeriodicTimer {
public:
  // Throws std::bad_alloc. A null callback breaks the contract: fatal in debug; a timer that does nothing in release.
  PeriodicTimer(Dispatcher& dispatcher, PeriodicTimerCb cb);
  PeriodicTimer(const PeriodicTimer&) = delete;
  PeriodicTimer& operator=(const PeriodicTimer&) = delete;

  // Begins anew, with the first beat one period from now. `period` is > 0, and clamped to 68 years; another one breaks
  // the contract: fatal in debug, refused with an error in the log in release.
  void start(std::chrono::microseconds period);

  // Does nothing when it is not running.
  void stop() { timer_->disableTimer(); }

  // From start() to stop(), in callbacks too.
  bool running() const { return timer_->enabled(); }

private:
  struct Beats;

  TimerPtr timer_;
  Beats* beats_;  // owned by the timer's callback, which outlives this when it destroys it
};

}  // namespace nuncio
