#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/caught_exception.h"
#include "nuncio/common/mutex.h"
#include "nuncio/common/no_fork.h"
#include "nuncio/event/internal/loop_core.h"
#include "nuncio/event/time_system.h"
#include "nuncio/event/tracked_object.h"
#include "source/common/fork.h"
#include "source/event/backend.h"
#include "source/event/fast_clock.h"
#include "source/event/figures_recorder.h"
#include "source/event/post_queue.h"
#include "source/event/slab_pool.h"
#include "source/event/timer_queue.h"
#include "source/event/trace_ring.h"
#include "source/event/work_list.h"

namespace nuncio {

// Loop: the one loop of a dispatcher: what it shares with its timers, file events, futures and the like, so that they
// may outlive it. It holds the state; DispatcherImpl has the iteration that works on it.
//
// When a loop has ended its handles may be destroyed on several threads at once. It is lost in the child of a fork when
// its thread was left in the parent, in the midst of whatever it was doing with it: none of its structures is touched
// any more, nor freed.
//
// Threads: the dispatcher's, unless said otherwise. Lifetime: counted, by the dispatcher, the handles and the futures.
class Loop final : public LoopCore, private ForkAware {
public:
  Loop(std::shared_ptr<PostQueue> post_queue, TimeSystem& time_system, std::unique_ptr<Backend> backend,
       bool terminate_on_exception, FigureDetail figures);
  ~Loop() override;

  const std::string& name() const { return posts->name(); }
  Backend& backend() { return *backend_; }
  // For file events. Null: no descriptor can be watched, or not any more.
  event_base* base() { return backend_->base(); }
  TimeSystem& timeSystem() { return time_system_; }

  // The loop that runs on the calling thread; null when none does. Of nested runs, the innermost.
  static Loop* runningHere() { return dynamic_cast<Loop*>(current()); }  // it may be a mock's, while that shuts down

  // Whether a run is under way.
  bool inRun() const { return running_thread_.load(std::memory_order_acquire) != 0; }
  // False when a run is under way already.
  bool beginRun();
  void endRun() { running_thread_.store(0, std::memory_order_release); }

  // In debug builds, fatal on a wrong thread.
  void checkThread(const char* operation) const {
    if constexpr (assert_internal::kDebug) {
      if (!dispatcherIsGone()) {
        NUNCIO_CONTRACT(boundHere(), name(), operation, kWrongThread);
      }
    }
  }
  // The same for destructors, which may also run on another thread once the loop has ended.
  void checkThreadOfDestructor(const char* operation) const {
    if constexpr (assert_internal::kDebug) {
      NUNCIO_CONTRACT(boundHere() || !inRun(), name(), operation, kWrongThread);
    }
  }

  // For the dispatcher: attach() when it is made; for the others see LoopCore.
  void attach(Dispatcher& dispatcher, PostQueue::Batch& batch);
  void bindToThread();
  using LoopCore::beginIteration;
  using LoopCore::beginShutdown;
  using LoopCore::endShutdown;
  using LoopCore::runLate;
  using LoopCore::shutdownRound;
  // After that: handles do nothing any more (see over()), and may be destroyed on any thread, under end_lock_. On the
  // thread that shuts the loop down.
  void handlesMayBeAnywhere() {
    if (running_ != &nobody_) {  // else others may be looking at it
      running_ = &nobody_;
    }
  }
  // Handles that are told to do something do nothing any more: the loop has ended, or is lost.
  bool over() const { return running_ == &nobody_; }
  // For what a loop that has ended does with what its handles share, while other threads may destroy some.
  template <class F>
  auto withEndLock(F f) {
    if (!ended()) [[likely]] {
      return f();
    }
    const NoFork no_fork;
    const MutexLock lock(end_lock_);
    return f();
  }
  // Empties `ready`, which has handles that other threads may be destroying. May free this.
  void dispatcherGone(WorkList& ready);

  // Handles do nothing any more.
  bool dispatcherIsGone() const { return dispatcher() == nullptr; }
  bool lost() const { return lost_; }
  // The same while the child is told, when some are lost that do not know it yet.
  bool leftBehind() const { return lost_ || thread_left_behind_; }

  // Opens an epoll of its own in the child of a fork, before anything there reaches the parent's. Cheap otherwise.
  void checkFork() {
    if (base_inherited_) [[unlikely]] {
      base_inherited_ = false;
      backend_->reopenBase();
    }
  }
  // Whether the dispatcher's kernel objects are still those of the parent. It asks once.
  bool takeObjectsInherited() { return objects_inherited_ && std::exchange(objects_inherited_, false); }
  // Callbacks are to be seen from outside: open while one runs, it says which, and where that is wanted for how long.
  class CallbackScope {
  public:
    CallbackScope(Loop& loop, CallbackId id) : loop_(loop) {
      loop.beginCallback(id);
      if (loop.timed()) [[unlikely]] {
        loop.beginTimed(*this);
      }
    }
    CallbackScope(Loop& loop, const PostQueue::Posted& posted) : loop_(loop), flow_(posted.flow()) {
      loop.beginPosted(posted.id());
      if (loop.timed()) [[unlikely]] {
        loop.beginTimed(*this);
      }
    }
    ~CallbackScope() {
      if (timed_) [[unlikely]] {
        loop_.endTimed(*this);
      }
    }
    CallbackScope(const CallbackScope&) = delete;
    CallbackScope& operator=(const CallbackScope&) = delete;

  private:
    friend class Loop;
    Loop& loop_;
    bool timed_ = false;
    uint64_t flow_ = 0;
    TraceRing* ring_;  // these three where it is; null: it is not traced
    uint64_t began_;   // by TickClock
    uint64_t since_;   // by deadlineClock(), where durations are recorded
  };

  // Null: only counters are kept.
  FiguresRecorder* figures() const { return figures_.get(); }
  // Whether callbacks are traced or timed.
  bool timed() const { return timed_.load(std::memory_order_relaxed); }
  // The callback that comes next does not begin where the one before ended.
  void forgetLastCallback() { callback_ended_at_ = 0; }
  // By deadlineClock(): when the last poll was over; 0: it is not. Where there are figures.
  uint64_t polledAt() const { return polled_at_; }

  // Has what the loop does noted in a ring, with room for `records`, from now on until stopTrace(); `from` is the
  // number of the first record. Null when that is done already, and once the loop has ended. Any thread; throws
  // std::bad_alloc.
  TraceRing* startTrace(std::size_t records, uint64_t& from);
  void stopTrace();
  TraceRing* ring() const { return ring_.load(std::memory_order_acquire); }
  // Since when, by TickClock, a callback runs that is timed; 0: none does. Any thread.
  uint64_t timedSince() const { return timed_since_.load(std::memory_order_relaxed); }
  // Notes something that takes no time, where it is traced.
  void traceInstant(TraceRing::Kind kind, uint64_t id, uint64_t flow) const;
  // The loop is about to wait in the kernel; until it has notePolled().
  void traceSleep() {
    if (timed() && ring() != nullptr) [[unlikely]] {
      sleeps_since_ = TickClock::now();
    }
  }
  void traceBatch(std::size_t size) const {
    if (timed() && ring() != nullptr) [[unlikely]] {
      traceInstant(TraceRing::Kind::Batch, size, /*flow=*/0);
    }
  }

  // Runs `callback(args...)`; an exception that escapes is logged and counted. `kind` is for the log. What unwinds a
  // thread that ends itself, or is cancelled, is no exception, and passes.
  template <class Callback, class... Args>
  void call(const char* kind, Callback& callback, Args... args) {
    try {
      callback(args...);
    } catch (const std::exception& e) {
      callbackThrew(kind, e.what());
    } catch (...) {
      static_cast<void>(caughtException());
      callbackThrew(kind, "not a std::exception");
    }
  }

  // The same for the callback of a handle, which stays where it is meanwhile: its captures may be pointed to. When it
  // has its handle destroyed, that goes when it has returned; see destroyHandle().
  template <class Handle, class... Args>
  void callOwned(const char* kind, Handle& handle, Args... args) {
    if (handle.cb_ == nullptr) {
      return;  // refused at creation
    }
    const CallbackScope seen(*this, CallbackId::ofCallable(*handle.cb_.operations()));
    callUnseen(kind, handle, args...);
  }
  // For handles of the loop's own, which are nobody's callbacks.
  template <class Handle, class... Args>
  void callUnseen(const char* kind, Handle& handle, Args... args) {
    const CallScope<Handle> running(*this, handle);
    call(kind, handle.cb_, args...);
  }
  // For the constructor of a handle: counts it.
  Loop* countHandle() {
    retainHere();
    return this;
  }
  // What the destroying operator delete of a handle does: has it leave the loop, now, and frees it, now or when its
  // callback has returned. Once the loop has ended, any thread.
  template <class Handle>
  static void destroyHandle(Handle* handle) {
    Loop& loop = *handle->loop_;
    if (loop.running_ != nullptr) [[unlikely]] {
      loop.destroyHandleSlowly(handle);
      return;
    }
    handle->leaveLoop();
    loop.freeHandle(handle);
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
  // Says how many exceptions were not logged one by one, if any.
  void logExceptionsLeftOut();

  void invalidateApproximateTime() { approximate_time_valid_ = false; }

  // For deadlines: now, in nanoseconds, or a little later; read afresh at each call. The time of the poll would not do:
  // a timer that a slow callback arms would fire early.
  uint64_t deadlineClock() {
    return real_time_ ? fast_clock_.now()
                      : static_cast<uint64_t>(time_system_.monotonicTime().time_since_epoch().count());
  }

  using LoopCore::timePasses;
  // Whether that is the machine's time, in which a span of nanoseconds can be waited for.
  bool realTime() const { return real_time_; }

  // How long the file events of one poll may keep other work waiting, in nanoseconds; where time does not pass,
  // kMaxFileEventsSimulated of them take its place. What is left is called in the next iteration, before what has
  // become ready since. Where nothing else waits they go on: the kernel tells again of each one that is left, which was
  // a fifth of an echo server's time with 1,000 connections.
  void limitFileEvents(uint64_t nanoseconds) { max_file_event_time_ = nanoseconds; }
  // `work_waits` that this poll's caller knows of.
  void beginPoll(bool work_waits) {
    file_events_ = 0;
    work_waits_ = work_waits;
    polled_at_ = 0;
  }
  void endPoll() { notePolled(/*look=*/poll_time_wanted_); }
  // At the beginning of a run, which is as if it had polled.
  void beginRunPolled() {
    beginPoll(/*work_waits=*/true);
    notePolled(/*look=*/true);
  }

  // See Dispatcher::shouldYield(). In a run.
  bool shouldYield();
  void countFileEvent() {
    if (timePasses()) {
      if (file_events_++ == 0) {  // no look at the clock for the one that most polls bring: woke() had one
        file_events_until_ = polled_at_ + max_file_event_time_;
      } else if (const uint64_t now = deadlineClock(); now >= file_events_until_) [[unlikely]] {
        endFileEvents(now);
      }
    } else if (++file_events_ == kMaxFileEventsSimulated) {
      breakPoll();
    }
  }

  // First thing in whatever libevent calls back, in backends and file events: the loop does not sleep any more.
  void woke() {
    notePolled(/*look=*/true);
    ++events_delivered;
    posts->awake();
  }

  // Signals have come, as bits: bit s - 1 for signal s.
  void onSignals(uint64_t signals);

  // What can call back without the loop's doing: enabled file events, and listeners for signals. A run that is to end
  // when nothing can ends when there are none.
  void watch() { ++watched_; }
  void unwatch() { --watched_; }
  bool watches() const { return watched_ != 0; }

  // Counts the enabled events on `fd`, which all need the same trigger type, since to epoll they are one.
  enum class AddedWatcher { Yes, OtherTriggerType, TooMany };
  static constexpr uint32_t kMaxWatchers = 65'535;  // of a descriptor: libevent counts them in 16 bits
  AddedWatcher addWatcher(int fd, bool edge);
  void removeWatcher(int fd) { --watchers_[static_cast<std::size_t>(fd)].count; }

  // Plain state, changed by the dispatcher and the handles.
  const std::shared_ptr<PostQueue> posts;
  TimerQueue timers;
  SlabPool timer_memory;
  uint64_t timer_due_at = 0;     // by deadlineClock(), which may be a little ahead
  bool timer_due = false;        // a timer was armed with no delay, or is left over: look without an alarm
  bool poll_broken_off = false;  // the alarm may be among what is left
  WorkList current_iteration;    // to be run before the next poll
  WorkList next_iteration;       // after it
  uint64_t events_delivered = 0;
  Counter callback_exceptions;

  // For the crash handler.
  static constexpr std::size_t kMaxTracked = 16;
  std::array<const TrackedObject*, kMaxTracked> tracked{};
  std::size_t tracked_depth = 0;  // may exceed kMaxTracked

private:
  // ForkAware
  void beforeFork() override;
  void afterForkInChild() override;

  static constexpr const char* kWrongThread =
      "used on a wrong thread; hand the work over with Dispatcher::post() or PostHandle::post()";

  // A handle whose callback runs. One may run within another.
  struct CallScopeBase {
    const void* const whose;
    CallScopeBase* const outer;
    bool destroyed = false;
  };
  template <class Handle>
  class CallScope : private CallScopeBase {
  public:
    CallScope(Loop& loop, Handle& handle) : CallScopeBase{&handle, loop.running_}, loop_(loop), handle_(handle) {
      loop.running_ = this;
    }
    ~CallScope() {
      loop_.running_ = this->outer;
      if (this->destroyed) [[unlikely]] {
        loop_.freeHandle(&handle_);
      }
    }
    CallScope(const CallScope&) = delete;
    CallScope& operator=(const CallScope&) = delete;

  private:
    Loop& loop_;
    Handle& handle_;
  };

  template <class Handle>
  void freeHandle(Handle* handle) {
    handle->~Handle();
    Handle::freeMemory(*this, handle);
    releaseHere();
  }
  // In a callback of a handle; or when the loop has ended, or is lost.
  template <class Handle>
  [[gnu::noinline]] void destroyHandleSlowly(Handle* handle) {
    if (lost_) {
      return;
    }
    if (ended()) {
      {
        const NoFork no_fork;
        const MutexLock lock(end_lock_);
        handle->leaveLoop();
      }
      handle->~Handle();  // and what it captured: users' code, not under the lock
      {
        const NoFork no_fork;
        const MutexLock lock(end_lock_);
        Handle::freeMemory(*this, handle);
      }
      releaseShared();
      return;
    }
    handle->leaveLoop();
    for (CallScopeBase* running = running_; running != nullptr; running = running->outer) {
      if (running->whose == handle) {
        running->destroyed = true;
        return;
      }
    }
    freeHandle(handle);
  }

  // The kernel has been asked for descriptors. `look`: at the clock, which most polls of a loop that has only posts and
  // timers are spared.
  void notePolled(bool look) {
    if (polled_at_ == 0) {
      polled_at_ = look && timePasses() ? deadlineClock() : kNotLooked;
      if (sleeps_since_ != 0) [[unlikely]] {
        traceSlept();
      }
      yield_looked_at_ = 0;
      yield_looks_left_ = 0;
      yield_calls_ = 0;
    }
  }
  void beginTimed(CallbackScope& callback);
  void endTimed(const CallbackScope& callback);
  void traceSlept();
  void breakPoll();
  void endFileEvents(uint64_t now);
  void callbackThrew(const char* kind, const char* message);

  TimeSystem& time_system_;
  const bool terminate_on_exception_;
  const bool real_time_;  // the machine's clocks, for which there is a faster way
  FastClock fast_clock_;
  const std::unique_ptr<Backend> backend_;
  // Threads, as the kernel numbers them. The one that is in a run, or 0; release/acquire: a destructor on another
  // thread comes after the last iteration. LoopCore has the one that made the loop, or ran it last.
  std::atomic<int> running_thread_{0};
  CallScopeBase* running_ = nullptr;  // the innermost; nobody_ when the loop has ended, or is lost
  CallScopeBase nobody_{nullptr, nullptr};
  bool lost_ = false;
  bool thread_left_behind_ = false;  // by the fork that is under way
  bool base_inherited_ = false;      // from the parent, as the next
  bool objects_inherited_ = false;
  PostQueue::Batch* batch_ = nullptr;  // the dispatcher's
  Mutex end_lock_;                     // of what handles share, once the loop has ended
  static constexpr uint32_t kMaxFileEventsSimulated = 10'000;
  uint64_t max_file_event_time_ = UINT64_MAX / 2;
  uint64_t file_events_until_ = 0;  // by deadlineClock()
  uint32_t file_events_ = 0;        // of this poll
  bool work_waits_ = false;
  static constexpr uint64_t kNotLooked = 1;
  uint64_t polled_at_ = 0;         // by deadlineClock(); 0: polling, and nothing has called back yet
  bool poll_time_wanted_ = false;  // after each poll: for figures, or since shouldYield() was first called
  uint64_t yield_looked_at_ = 0;   // by the same, when shouldYield() read it last since then
  uint32_t yield_calls_ = 0;       // where time does not pass: of shouldYield() since the last poll
  uint32_t yield_looks_left_ = 0;  // calls of shouldYield() before it reads the clock again
  std::size_t watched_ = 0;
  uint64_t log_exceptions_at_ = 0;  // by deadlineClock()
  uint64_t exceptions_not_logged_ = 0;
  struct Watchers {
    uint16_t count = 0;
    bool edge = false;  // all of them, while there are any
  };
  std::vector<Watchers> watchers_;  // by descriptor
  const std::unique_ptr<FiguresRecorder> figures_;
  uint64_t callback_ended_at_ = 0;  // by deadlineClock(), where durations are recorded; 0: the next has to look itself
  // Whether callbacks are timed, for either purpose. Relaxed: one more or less.
  std::atomic<bool> timed_{false};
  std::atomic<uint64_t> timed_since_{0};  // relaxed: it is read when the loop has been at it for long
  // Rings stay until the loop goes, since it may be writing to one that was taken away: two or more only where the next
  // trace needed a larger one. Null while nothing is traced; released when the ring is there.
  std::atomic<TraceRing*> ring_{nullptr};
  uint64_t sleeps_since_ = 0;  // by TickClock; 0: it does not, or is not traced
  Mutex trace_lock_;
  std::vector<std::pair<std::size_t, std::unique_ptr<TraceRing>>> rings_ ABSL_GUARDED_BY(trace_lock_);
  MonotonicTime approximate_time_{};
  bool approximate_time_valid_ = false;
};

// What is asked of a loop that is lost.
absl::Status lostStatus(absl::string_view name);

}  // namespace nuncio
