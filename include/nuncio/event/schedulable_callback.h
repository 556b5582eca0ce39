#pragma once

#include <memory>

namespace nuncio {

// SchedulableCallback: work to be done once, soon, on the dispatcher's thread.
//
//   SchedulableCallbackPtr flush = dispatcher.createSchedulableCallback([this] { flushBuffers(); });
//   flush->scheduleCurrentIteration(); // however many events ask for it in this iteration, it runs once
//
// Scheduling costs neither a lock, nor an allocation, nor a system call. Callbacks run in the order of scheduling.
//
// Threads: the dispatcher's thread only. Lifetime: destroying it cancels it, also in its own callback. It may outlive
// the dispatcher, and then does nothing.
class SchedulableCallback {
public:
  virtual ~SchedulableCallback() = default;

  // Runs the callback in this iteration, before the loop polls again; outside the loop, when the next run starts. In an
  // iteration that has used up its time (see DispatcherOptions) the rest waits for the next one, after a poll. When it
  // is scheduled already, in either way, the first schedule stands.
  virtual void scheduleCurrentIteration() = 0;

  // Runs the callback in the next iteration, after a poll. When it is scheduled already, the first schedule stands.
  virtual void scheduleNextIteration() = 0;

  // Does nothing when it is not scheduled.
  virtual void cancel() = 0;

  // True from scheduling until the callback starts, or is cancelled.
  virtual bool enabled() const = 0;
};

using SchedulableCallbackPtr = std::unique_ptr<SchedulableCallback>;

}  // namespace nuncio
