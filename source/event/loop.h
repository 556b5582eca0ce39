#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <string>
#include <thread>
#include <utility>

#include "nuncio/common/assert.h"
#include "nuncio/event/time_system.h"
#include "nuncio/event/tracked_object.h"
#include "source/event/fast_clock.h"
#include "source/event/libevent.h"
#include "source/event/timer_queue.h"
#include "source/event/work_list.h"

namespace nuncio {

// Loop: what a dispatcher shares with its timers, file events and the like, so that they may outlive it. It holds the
// state; DispatcherImpl has the iteration that works on it.
//
// Threads: the dispatcher's, unless said otherwise. Lifetime: the last LoopRef's.
class Loop {
public:
  Loop(std::string name, TimeSystem& time_system, EventBasePtr base, bool terminate_on_exception);

  const std::string& name() const { return name_; }
  event_base* base() { return base_.get(); }
  TimeSystem& timeSystem() { return time_system_; }

  // Whether the calling thread may use the dispatcher. Any thread.
  bool isThreadSafe() const {
    const std::thread::id owner = thread_.load(std::memory_order_relaxed);  // a thread always sees its own store
    return owner == std::thread::id() || owner == std::this_thread::get_id();
  }
  void bindToThread() { thread_.store(std::this_thread::get_id(), std::memory_order_relaxed); }

  // In debug builds, fatal on a wrong thread.
  void checkThread(const char* operation) const {
    if constexpr (assert_internal::kDebug) {
      if (!closed) {
        NUNCIO_CONTRACT(isThreadSafe(), name_, operation, kWrongThread);
      }
    }
  }
  // The same for destructors, which may also run on another thread once the loop has ended.
  void checkThreadOfDestructor(const char* operation) const {
    if constexpr (assert_internal::kDebug) {
      NUNCIO_CONTRACT(isThreadSafe() || !in_run.load(std::memory_order_acquire), name_, operation, kWrongThread);
    }
  }

  // Opens an epoll of its own in the child of a fork, before anything there reaches the parent's. Cheap otherwise.
  void checkFork() {
    if (fork_generation_ != currentForkGeneration()) {
      reinitAfterFork();
    }
  }
  // Counts the forks that lie between the process and the first of its ancestors that used this library.
  static uint32_t currentForkGeneration();

  // Runs `callback(args...)`; an exception that escapes is logged and counted. `kind` is for the log.
  template <class Callback, class... Args>
  void call(const char* kind, Callback& callback, Args... args) {
    try {
      callback(args...);
    } catch (const std::exception& e) {
      callbackThrew(kind, e.what());
    } catch (...) {
      callbackThrew(kind, "not a std::exception");
    }
  }

  // The same for a callback that its handle owns: it stays whole while it runs, also when it destroys the handle.
  template <class Callback, class... Args>
  void callOwned(const char* kind, Callback& owned, Args... args) {
    if (owned == nullptr) {
      return;  // refused at creation
    }
    Callback callback = std::move(owned);
    running_ = &owned;
    call(kind, callback, args...);
    if (running_ == &owned) {
      owned = std::move(callback);
      running_ = nullptr;
    }
  }
  // To be called by the handle's destructor.
  void forgetOwned(const void* owned) {
    if (running_ == owned) {
      running_ = nullptr;
    }
  }

  // The time of the last poll, read at the first call.
  MonotonicTime approximateTime() {
    if (!approximate_time_valid_) {
      setApproximateTime(time_system_.monotonicTime());
    }
    return approximate_time_;
  }
  void setApproximateTime(MonotonicTime now) {
    approximate_time_ = now;
    approximate_time_valid_ = true;
  }
  void invalidateApproximateTime() { approximate_time_valid_ = false; }

  // For deadlines: now, in nanoseconds, or a little later; read afresh at each call. The time of the poll would not do:
  // a timer that a slow callback arms would fire early.
  uint64_t deadlineClock() {
    return real_time_ ? fast_clock_.now()
                      : static_cast<uint64_t>(time_system_.monotonicTime().time_since_epoch().count());
  }

  // Plain state, changed by the dispatcher and the handles.
  TimerQueue timers;
  bool timer_due = false;          // a timer was armed with no delay, or is left over: look without an alarm
  WorkList current_iteration;      // to be run before the next poll
  WorkList next_iteration;         // after it
  std::size_t enabled_events = 0;  // file events and signals that can call back
  uint64_t events_delivered = 0;
  std::atomic<bool> in_run{false};  // release/acquire: a destructor on another thread comes after the last iteration
  bool closed = false;              // the dispatcher is gone
  uint64_t callback_exceptions = 0;

  // For the crash handler.
  static constexpr std::size_t kMaxTracked = 16;
  std::array<const TrackedObject*, kMaxTracked> tracked{};
  std::size_t tracked_depth = 0;  // may exceed kMaxTracked

private:
  friend class LoopRef;
  static constexpr const char* kWrongThread =
      "used on a wrong thread; hand the work over with Dispatcher::post() or PostHandle::post()";

  void callbackThrew(const char* kind, const char* message);
  void reinitAfterFork();

  const std::string name_;
  TimeSystem& time_system_;
  const bool terminate_on_exception_;
  const bool real_time_;
  FastClock fast_clock_;
  EventBasePtr base_;
  std::atomic<std::thread::id> thread_{};
  uint32_t fork_generation_;
  uint32_t references_ = 0;
  const void* running_ = nullptr;  // the owned callback that runs, unless its handle is gone
  MonotonicTime approximate_time_{};
  bool approximate_time_valid_ = false;
};

// LoopRef: shares a Loop. Its count is plain: handles are made and destroyed on the loop's thread, or after its end.
class LoopRef {
public:
  explicit LoopRef(Loop* loop) : loop_(loop) { ++loop_->references_; }
  LoopRef(const LoopRef& other) : LoopRef(other.loop_) {}
  LoopRef& operator=(const LoopRef&) = delete;
  ~LoopRef() {
    if (--loop_->references_ == 0) {
      delete loop_;
    }
  }

  Loop* operator->() const { return loop_; }
  Loop& operator*() const { return *loop_; }

private:
  Loop* const loop_;
};

}  // namespace nuncio
