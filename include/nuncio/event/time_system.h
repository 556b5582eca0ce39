#pragma once

#include <memory>

#include "absl/status/statusor.h"

#include "nuncio/common/time.h"

namespace nuncio {

class Dispatcher;

// Alarm: makes a dispatcher's loop look at its timers in time. A dispatcher has one. Threads: the dispatcher's only.
class Alarm {
public:
  virtual ~Alarm() = default;

  // Rings at `latest` or before; it may keep an earlier setting, and then rings too early: the loop finds nothing due,
  // and sets it anew. Called before each poll, and when run() returns. MonotonicTime::max() for both: no timer is
  // armed, and it need not ring. Nothing is due before `due` (simulated time rings then); something that may not wait
  // is at `latest` (real time rings then, so that timers share wake-ups).
  virtual void set(MonotonicTime due, MonotonicTime latest) = 0;

  // Called with true when run() begins, with false when it is about to return. For time that stands still while a loop
  // is at work; others need not care.
  virtual void setRunning(bool running) = 0;

  // Whether it has rung since the last call, and timers may be due. Asked once in each iteration, after the poll.
  virtual bool rang() = 0;
};

using AlarmPtr = std::unique_ptr<Alarm>;

// TimeSystem: where a dispatcher's time comes from: the clocks, and the alarm that goes with them. There are two:
// realTimeSystem() and SimulatedTimeSystem (nuncio/runtime/simulated_time_system.h).
//
// Threads: any. Lifetime: longer than the dispatchers that use it.
class TimeSystem : public TimeSource {
public:
  // Called once by each dispatcher while it is created, and again in the child of a fork.
  virtual absl::StatusOr<AlarmPtr> createAlarm(Dispatcher& dispatcher) = 0;

  // Whether time goes on while a callback runs. If it does not, an iteration is limited by how many callbacks it runs,
  // not by how long they take (DispatcherOptions::max_callback_time_per_iteration), so that it is the same each time.
  virtual bool passesByItself() const { return true; }
};

// The machine's clocks: std::chrono::steady_clock, system_clock, and an alarm of the dispatcher's backend.
TimeSystem& realTimeSystem();

}  // namespace nuncio
