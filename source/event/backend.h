#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/time_system.h"
#include "source/event/libevent.h"
#include "source/event/waker.h"

namespace nuncio {

class Loop;

// Signals as bits: bit s - 1 for signal s.
inline uint64_t signalBit(int signal) { return uint64_t{1} << (signal - 1); }

// Backend: all that a loop asks of the system, beside the file events of its users: to poll, to be woken, an alarm for
// its timers, signals, and how to go on in the child of a fork. A loop has one.
//
//   auto backend = Backend::create(kind);        // descriptors are opened here ...
//   auto waker = (*backend)->createWaker();      // ... and here, so that lack of them is a Status
//   ... PostQueue, Loop ...
//   (*backend)->open(loop);                      // from now on it calls back `loop`
//
// Threads: the loop's. Lifetime: the loop's; close() comes before.
class Backend {
public:
  // Which `kind` stands for is resolved here: Default is Linux, unless the environment variable NUNCIO_BACKEND names
  // another. InvalidArgument for a name that is not known, or a backend that is not linked; ResourceExhausted without
  // descriptors or memory.
  static absl::StatusOr<std::unique_ptr<Backend>> create(BackendKind kind);

  // A backend in a library of its own makes itself known before main().
  using Factory = absl::StatusOr<std::unique_ptr<Backend>> (*)();
  static void registerLibevent(Factory factory);

  virtual ~Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  // For file events. Null: descriptors cannot be watched, or not any more.
  event_base* base() const { return base_.get(); }
  // Where there is no event_base (see reopenBase()), lets go of `event` without freeing it: event_free() would reach
  // into the one that was given up. Otherwise nothing.
  void leakIfLost(EventPtr& event) const {
    if (base_ == nullptr) {
      [[maybe_unused]] auto* const leaked = event.release();
    }
  }

  virtual absl::StatusOr<std::unique_ptr<Waker>> createWaker() = 0;
  virtual absl::Status open(Loop& loop) = 0;
  // The dispatcher goes: no more calls back, but for file events.
  virtual void close() = 0;

  // Calls back what is ready; `block`: waits until something is. An error is told to the loop's queue of posts.
  virtual void poll(bool block) = 0;
  // Makes the poll that is calling back return after this callback; the rest comes first in the next.
  virtual void breakPoll() = 0;

  // For time that passes by itself.
  virtual absl::StatusOr<AlarmPtr> createAlarm() = 0;

  // Has Loop::onSignals() called when `signal` has come, instead of its action. These two are called under the lock of
  // the listeners, for one loop of the process at a time; unlisten() once the former action was restored, so that none
  // is lost in between.
  virtual absl::Status listen(int signal) = 0;
  virtual void unlisten(int signal) = 0;
  // Whether signals may be lost from now on, since a system call has failed. Any thread.
  virtual bool signalsFailed() const { return false; }
  // Then, under the lock of the listeners: says so, and has the loop, when it listens, end its run. Any thread.
  virtual void reportFailedSignals() {}

  // In the child of a fork: opens what file events need, before anything touches what is the parent's as well; where it
  // cannot, base() is null from then on. And then the rest.
  virtual void reopenBase() = 0;
  // While no signal is handled and no other thread is there. True when it had to do reopenBase() at once.
  virtual bool afterForkInChild() { return false; }
  virtual absl::Status reopen() = 0;

protected:
  explicit Backend(EventBasePtr base) : base_(std::move(base)) {}

  // One round of libevent's, with `flags` beside those for blocking; none without an event_base.
  void pollBase(bool block, int flags);
  void reopenBaseOf(const std::string& name);

  Loop* loop_ = nullptr;  // once it is open
  EventBasePtr base_;
};

// On eventfd, timerfd and a signal handler of our own.
absl::StatusOr<std::unique_ptr<Backend>> createLinuxBackend();

}  // namespace nuncio
