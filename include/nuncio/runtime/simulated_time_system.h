#pragma once

#include <chrono>
#include <memory>

#include "absl/status/statusor.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/time_system.h"

namespace nuncio {

// SimulatedTimeSystem: time that stands still until a test advances it. It drives the same Dispatcher code as real
// time.
//
//   SimulatedTimeSystem time;
//   DispatcherPtr dispatcher = createDispatcher({.name = "test", .time_system = &time});
//   TimerPtr timer = dispatcher->createTimer([&] { fired = true; });
//   timer->enableTimer(std::chrono::hours(1));
//   time.advanceTimeAndRun(std::chrono::hours(1)); // fired, and no time has passed
//
// Both clocks start at 0 (the system clock at the epoch). Timers of all dispatchers on this time fire in the order of
// deadlines; equal deadlines of different dispatchers in the order in which the dispatchers were created. While a timer
// fires, time is at its deadline. A run of one thread is the same each time.
//
// Threads: any, one call at a time to the functions that advance. Lifetime: longer than its dispatchers. Fork: time
// goes on in the child, for the dispatchers that it has, in the order in which they are next used; not for use there
// when the fork came while time was advanced.
class SimulatedTimeSystem : public TimeSystem {
public:
  SimulatedTimeSystem();
  ~SimulatedTimeSystem() override;

  // Advances by `duration` (>= 0; no further than the end of time, 292 years from its beginning), stopping at each
  // deadline on the way, and returns when all that is due has run. A dispatcher that runs on another thread fires its
  // timers there and is waited for, and time stands still in its callbacks; one that no thread runs is run here
  // (RunType::NonBlock), before the first step, at each and after the last, but for one that another thread ran last,
  // which may be about to shut it down. A timer that arms itself again with no delay, 1,000 times over, is left until
  // the next call, with a warning in the log. Not to be called from a callback, nor while a callback on another thread
  // waits for the caller.
  void advanceTimeAndRun(std::chrono::microseconds duration);

  // Advances by `duration`, or to `when` (not before now), at once, also in the midst of callbacks, and without running
  // anything: timers that are due fire in their dispatcher's next iteration; sleeping loops are woken. For tests of
  // lateness.
  void advanceTimeAsync(std::chrono::microseconds duration);
  void setMonotonicTime(MonotonicTime when);

  // Moves the calendar alone, as a clock that is set does. It still advances with the time.
  void setSystemTime(SystemTime when);

  // TimeSystem
  MonotonicTime monotonicTime() const override;
  SystemTime systemTime() const override;
  absl::StatusOr<AlarmPtr> createAlarm(Dispatcher& dispatcher) override;
  bool passesByItself() const override { return false; }

private:
  class Impl;
  const std::shared_ptr<Impl> impl_;
};

}  // namespace nuncio
