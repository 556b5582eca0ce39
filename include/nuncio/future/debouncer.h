#pragma once

#include <chrono>
#include <optional>

#include "nuncio/event/callback.h"
#include "nuncio/event/dispatcher.h"

namespace nuncio {

struct DebouncerOptions {
  // Calls at the first request after things were quiet, too, at once, inside request().
  bool leading = false;
  // Calls when so much time has passed since the first request that was not answered, though things are not quiet.
  // >= 0; none: only quiet counts.
  std::optional<std::chrono::nanoseconds> max_delay;
};

// Debouncer: makes one call of many requests: when none came for a while.
//
//   Debouncer save(dispatcher, 500ms, [this] { writeSettings(); }, {.max_delay = 5s});
//   void set(Key key, Value value) {
//     settings_[key] = value;
//     save.request(); // written once, half a second after the last change, and not later than 5 s after the first
//   }
//
// With `leading` the first request calls at once; those that follow before things are quiet make one more call
// together, at the end.
//
// The function may use the debouncer, and destroy it; what it requests is for a later call. An exception of it is the
// timer callback's, in request() and flush() the caller's.
//
// Threads: the dispatcher's only. Time: the dispatcher's, as enableHRTimer() has it. Lifetime: once it is destroyed, or
// the dispatcher has shut down, it calls no more; what was requested is forgotten. Cost: a request moves a timer, and
// allocates nothing.
class Debouncer {
public:
  // `quiet` is >= 0; `f` is not null. Otherwise fatal in debug; in release it never calls, with an error in the log.
  Debouncer(Dispatcher& dispatcher, std::chrono::nanoseconds quiet, TimerCb f, DebouncerOptions options = {});
  Debouncer(const Debouncer&) = delete;
  Debouncer& operator=(const Debouncer&) = delete;
  ~Debouncer();

  // Asks for a call.
  void request();
  // Makes the call that is due now, if there is one; not inside the function. Things are quiet then.
  void flush();
  // Forgets what was requested. Things are quiet then.
  void cancel();

  // Whether a call is due.
  bool pending() const;

private:
  class State;
  State* const state_;  // goes with this, or when the function that destroyed this returns
};

}  // namespace nuncio
