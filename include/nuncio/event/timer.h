#pragma once

#include <chrono>
#include <memory>

#include "nuncio/common/time.h"

namespace nuncio {

// Timer: calls back once, on the dispatcher's thread, when a duration has passed, or at a point in time.
//
//   TimerPtr idle = dispatcher.createTimer([this] { closeIdle(); });
//   idle->enableTimer(std::chrono::seconds(30));
//
// Timers fire in the order of their deadlines, equal deadlines in the order of arming, and never early against the
// time source's monotonic clock. Arming, moving and disarming cost O(1) (within the current millisecond: the logarithm
// of the number of timers in it), no system call and no allocation.
//
// Threads: the dispatcher's thread only. Lifetime: destroying the timer disarms it, also in its own callback; the
// callback never runs after that. It may outlive the dispatcher, and then does nothing.
class Timer {
public:
  virtual ~Timer() = default;

  // Arms the timer, or moves it when it is armed: it fires once `delay` has passed from now, and up to about 1 ms later
  // so that timers share wake-ups. It never fires in the iteration that arms it, whatever arms it there; 0 fires in the
  // next one. `delay` is >= 0, and clamped to 68 years; a negative one breaks the contract: fatal in debug, refused
  // with an error in the log in release.
  virtual void enableTimer(std::chrono::milliseconds delay) = 0;

  // As enableTimer, in microseconds, and more punctual: up to 33 us later, so that these timers too share wake-ups,
  // plus what the kernel takes to wake a thread.
  virtual void enableHRTimer(std::chrono::microseconds delay) = 0;

  // As enableHRTimer, for a point in time: of the dispatcher's timeSource(). One that has passed is like a delay of 0;
  // one more than 68 years ahead is clamped.
  virtual void enableTimerAt(MonotonicTime when) = 0;

  // Does nothing when the timer is not armed.
  virtual void disableTimer() = 0;

  // True from arming until the callback starts, or the timer is disarmed.
  virtual bool enabled() const = 0;
};

using TimerPtr = std::unique_ptr<Timer>;

}  // namespace nuncio
