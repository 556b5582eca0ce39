#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "nuncio/common/time.h"
#include "nuncio/event/callback.h"
#include "nuncio/event/deferred_deletable.h"
#include "nuncio/event/file_event.h"
#include "nuncio/event/keep_running.h"
#include "nuncio/event/loop_figures.h"
#include "nuncio/event/post_handle.h"
#include "nuncio/event/schedulable_callback.h"
#include "nuncio/event/signal_event.h"
#include "nuncio/event/time_system.h"
#include "nuncio/event/timer.h"
#include "nuncio/event/tracked_object.h"

namespace nuncio {

class LoopCore;

enum class RunType {
  // Until nothing is left that could call back: no enabled file event, signal, armed timer, post, and so on, and no
  // KeepRunning. A pending future is none of these: its answer may never come.
  Block,
  NonBlock,      // one iteration of what is ready now
  RunUntilExit,  // until exit(), also while there is nothing to do
};

// What a dispatcher did since it was created.
struct DispatcherStats {
  uint64_t iterations = 0;
  uint64_t posts_run = 0;
  uint64_t tasks_run = 0;  // continuations of futures, resumed coroutines
  uint64_t timers_fired = 0;
  uint64_t wakeups = 0;              // system calls made by other threads to wake the loop
  uint64_t callback_exceptions = 0;  // exceptions that callbacks let escape
  uint64_t lingers = 0;              // times that it lingered after posts of other CPUs
  uint64_t linger_hits = 0;          // those of them in which posts came, so that it did not sleep
  std::size_t posts_waiting = 0;     // now: posted, and not run yet
};

// What a loop asks of the system besides file events, to be woken, an alarm and signals, by Linux's own means, or by
// libevent's alone (a zero-delay timer, evtimer, evsignal). The second one wakes more slowly (some 10 us a wake-up
// instead of 6), takes a lock more, and its exit() is not safe in a signal handler; it is in a library of its own,
// which the program names beside ours: @nuncio//:libevent_backend.
//
// Default: Linux, unless the environment variable NUNCIO_BACKEND says "libevent" when the dispatcher is made.
enum class BackendKind : uint8_t { Default, Linux, Libevent };

// Which histograms Dispatcher::figures() has, beside its counters. Iterations: all but the durations of callbacks; that
// is some 60 ns an iteration and a batch of posts. Callbacks: those too, some 20 ns a callback.
enum class FigureDetail : uint8_t { Counters, Iterations, Callbacks };

struct DispatcherOptions {
  std::string name = "dispatcher";    // in logs, assertions and crash dumps
  TimeSystem* time_system = nullptr;  // not owned; null: realTimeSystem()
  BackendKind backend = BackendKind::Default;

  // The most that an iteration does before it polls again, so that callbacks which keep making work starve nobody: so
  // many batches of posts (> 0), and so much time for file events, for posts, for timers, for schedulable callbacks and
  // for continuations of futures, each (> 0; the clock is looked at before the first file event and after each other,
  // for every 8th callback of the others, and where those are short for every 32nd). What is left runs in the next
  // iteration, in order. Posts alone have two limits: a batch is what came while the one before ran, so that a callback
  // that posts itself makes batches of one, which are over in microseconds; 128 of them are as long as descriptors
  // should wait for that, and 500 us are not.
  uint32_t max_post_batches_per_iteration = 128;
  std::chrono::microseconds max_callback_time_per_iteration{500};

  // How long the loop spins for posts and descriptors before it blocks: buys latency with a core. While posts alone
  // keep it busy, it looks at descriptors and timers in every 8th iteration. 0: not at all.
  std::chrono::microseconds busy_poll{0};

  // An exception that escapes from a callback is caught, logged and counted, and the loop goes on; true:
  // std::terminate.
  bool terminate_on_exception = false;

  // After posts of other CPUs: how long the loop looks for more before it sleeps (>= 0; 0: not at all). A wake-up costs
  // more than that. Where it is in vain time and again, it is done ever more seldom, down to every 16th time. Meanwhile
  // exit(), descriptors and timers are seen to within half a microsecond. Never with another time system than the
  // real one, nor in a run that is NonBlock. With busy_poll, that takes its place.
  std::chrono::nanoseconds linger{6000};

  FigureDetail figures = FigureDetail::Counters;
};

// Dispatcher: an event loop for one thread.
//
//   DispatcherPtr dispatcher = createDispatcher({.name = "main"});
//   TimerPtr timer = dispatcher->createTimer([&] { dispatcher->exit(); });
//   timer->enableTimer(std::chrono::seconds(1));
//   dispatcher->run(RunType::RunUntilExit);
//
// An iteration: poll; file events and signals; due timers that were armed before it, those armed with 0 included; what
// was scheduled for this iteration by the one before; then, in turns, what was scheduled in this one, continuations of
// futures, deferred deletion, and a batch of posts. docs/event_loop.md has the picture.
//
// Threads: post, deleteInDispatcherThread, exit, handle, isThreadSafe, name and timeSource from any thread; all else
// from the thread that runs the loop (before the first run: any one thread). Use from a wrong thread breaks the
// contract: fatal in a debug build, with the names of dispatcher, thread and operation; undefined in release. Only
// destructors and shutdown() may also come from another thread, once the loop has ended; and once it was shut down, the
// destructors of handles and dispatcher from several at once.
// Callbacks are never run or destroyed while a lock is held.
//
// Lifetime: the destructor calls shutdown(). Timers, file events and the like may outlive the dispatcher and then do
// nothing. Other threads that might still post while it is destroyed keep a PostHandle instead of a reference.
// docs/memory_and_threads.md has this in tables.
//
// Contracts: a null callback is fatal in debug; in release it is refused: a timer or schedulable callback that does
// nothing, false from post, InvalidArgument from the others.
//
// Memory: without it post returns false, createFileEvent and listenForSignal ResourceExhausted or std::bad_alloc;
// createTimer, createSchedulableCallback, deferredDelete (which destroys the object), and making a callback of a large
// capture, throw std::bad_alloc. The dispatcher is as before then.
//
// Fork: any thread may fork at any time, except in a signal handler. In the child, the dispatchers that the forking
// thread ran last, or made where none has run them yet, and those of threads that had ended a while before, go on to
// work, and all that is theirs with them: what is posted, armed, scheduled, watched and listened for happens in both
// processes. They open kernel objects of their own, in place of the parent's, when they are next used or destroyed;
// where descriptors or memory for them are lacking then, their run ends with an error in the log. Those of other
// threads are lost: they are as if shut down, and they and all handles of them may be called and destroyed, which does
// nothing, and leaks what is theirs, captures too. Futures and promises that are shared with a lost thread may be
// destroyed, no more: their result does not come. A child that only calls exec need do nothing; one that closes the
// descriptors that it inherited first destroys what it inherited, and then makes dispatchers of its own.
// docs/memory_and_threads.md has the whole of it.
//
// Descriptors: when a system call on one of the dispatcher's own fails, as when the program has closed it, one error in
// the log names it; run() returns at the end of its iteration, and from then on at once. Posts are taken until
// shutdown(). A loop that sleeps already cannot be woken then, but by what it still watches.
class Dispatcher {
public:
  using RunType = nuncio::RunType;  // by the name that it has in Envoy, too

  virtual ~Dispatcher() = default;

  // Calls back when `fd` is ready for `events` (FileReadyType bits, may be 0). Errors, each with the fd and the cause:
  // InvalidArgument for a negative or closed fd, one that cannot be polled (a regular file), a null callback, unknown
  // bits; ResourceExhausted at the kernel's limits of watches or memory, and for more than 65,535 events on an fd;
  // FailedPrecondition once the dispatcher is shut down. See FileEvent for the duties of the caller.
  virtual absl::StatusOr<FileEventPtr> createFileEvent(int fd, FileReadyCb cb, FileTriggerType trigger,
                                                       uint32_t events) = 0;

  // An unarmed timer. Its memory comes from slabs that the dispatcher keeps, of 4 KB to 2 MB, so that most timers cost
  // no allocation; arming it costs none, and cannot fail.
  virtual TimerPtr createTimer(TimerCb cb) = 0;

  // An unscheduled callback. One allocation; scheduling it costs none.
  virtual SchedulableCallbackPtr createSchedulableCallback(SchedulableCb cb) = 0;

  // Calls back on the loop's thread, not in the signal handler, after `signal` was delivered to the process, once or
  // more: equal signals that arrive together may merge. One dispatcher of a process at a time may listen for signals:
  // FailedPrecondition names the other, or says that this one is shut down. InvalidArgument for a number that is no
  // signal or cannot be caught, for a null callback, and for a fault (SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGTRAP,
  // SIGSYS), after which there is no going on: see installCrashHandler(). ResourceExhausted without a descriptor or
  // memory. The child of a fork has signals of its own: its loops listen on, for what is sent to it; where the listener
  // was lost, the former actions are restored.
  virtual absl::StatusOr<SignalEventPtr> listenForSignal(int signal, SignalCb cb) = 0;

  // Runs `cb` on the loop's thread, after what was posted before it, and destroys it right after it ran, before the
  // next one runs. What a batch posts runs in a later batch. Any thread; wakes the loop with one system call when it
  // sleeps, and costs none otherwise. False once the dispatcher is shut down, or without memory: `cb` is then destroyed
  // on the caller's thread.
  virtual bool post(PostCb cb) = 0;

  // Destroys `object` before the loop polls again, first in, first out; what its destructor defers goes later still.
  // Nullptr does nothing. After shutdown(): destroyed by the next clearDeferredDeleteList() or the destructor.
  virtual void deferredDelete(DeferredDeletablePtr object) = 0;

  // Destroys `object` on the loop's thread, in the order of posts, or during shutdown(). Where post() would be
  // refused, on the caller's. Any thread.
  virtual void deleteInDispatcherThread(DeferredDeletablePtr object) = 0;

  // Destroys what is deferred now. Does nothing when called by a destructor that runs in it.
  virtual void clearDeferredDeleteList() = 0;

  // Runs the loop on the calling thread, which is the dispatcher's thread from then on. Not while it runs already, be
  // it on this thread, from a callback, or on another. After shutdown() it returns at once.
  virtual void run(RunType type) = 0;

  // Makes run() return at the end of its iteration; before run(), makes the next one return after one iteration that
  // does not block: a call that comes after run() has returned counts for the next. Any thread, and safe in a signal
  // handler. The dispatcher may be destroyed as soon as run() has returned, though a call that ended it is still on its
  // way out; for calls that may come later than that there is PostHandle::exit().
  virtual void exit() = 0;

  // While what it returns is there, run(RunType::Block) does not return for want of something to do. Any thread.
  virtual KeepRunning keepRunning() = 0;

  // Refuses posts from now on, and destroys what is posted and deferred, without running it, until nothing is left (or
  // destructors kept deferring for a million rounds, which is logged). Idempotent. On the loop's thread, or on any once
  // the loop has ended; not in a callback.
  virtual void shutdown() = 0;

  // Whether the calling thread may use the dispatcher: any may before the first run, then only the loop's.
  virtual bool isThreadSafe() const = 0;

  virtual absl::string_view name() const = 0;
  virtual TimeSource& timeSource() = 0;

  // The time of this iteration: read at the first call in it, or when it looks for due timers.
  virtual MonotonicTime approximateMonotonicTime() = 0;
  // Reads the clock now, for what follows a long computation.
  virtual void updateApproximateMonotonicTime() = 0;

  // For long computations in a callback: whether the loop has not looked at its descriptors for
  // max_callback_time_per_iteration, so that it is time to go on in the next iteration (see yieldIfDue() for
  // coroutines). In simulated time, which does not pass meanwhile, after 10,000 calls in an iteration. The first call
  // of all counts from itself, since loops that never ask do not look at the clock after each poll. Outside a run:
  // false. Costs 16 ns, and 2 where it is called every tenth of a microsecond. The loop's thread.
  virtual bool shouldYield() = 0;

  // A reference for other threads that stays safe when the dispatcher is gone.
  virtual PostHandle handle() = 0;

  // For futures: see nuncio/future/future.h.
  virtual LoopCore& loop() = 0;

  // What the loop works on, innermost last, for the dump of a crash; a stack of at most 16, of which deeper ones are
  // counted but not shown. `object` is not owned. TrackedObjectScope does both calls.
  virtual void pushTrackedObject(const TrackedObject* object) = 0;
  virtual void popTrackedObject(const TrackedObject* object) = 0;

  // On the dispatcher's thread. Takes the lock of the posts for a moment.
  virtual DispatcherStats stats() const = 0;

  // The same and more, from any thread while the dispatcher is there, also while a callback runs: see LoopFigures and
  // DispatcherOptions::figures. Each number by itself is right, and none goes back. Throws std::bad_alloc.
  virtual LoopFigures figures() const = 0;
};

using DispatcherPtr = std::unique_ptr<Dispatcher>;

// An error says what the process lacks: ResourceExhausted with too few descriptors or no memory left, InvalidArgument
// for options out of range. A dispatcher takes five descriptors, four in simulated time on Linux's backend; with the
// first listenForSignal() the process takes one more there, and keeps it. Any thread. Also handles SIGPIPE, by a
// function that does nothing, where its action is still the default: a vanished peer is to be an error of write(), not
// the end of the process. Programs that are exec'ed have the default again.
absl::StatusOr<DispatcherPtr> tryCreateDispatcher(const DispatcherOptions& options);

// As tryCreateDispatcher, for programs that could only give up: on error, nullptr, with the reason in the log.
DispatcherPtr createDispatcher(const DispatcherOptions& options = {});

// Tracks `object` on `dispatcher` for a scope.
class TrackedObjectScope {
public:
  TrackedObjectScope(Dispatcher& dispatcher, const TrackedObject& object) : dispatcher_(dispatcher), object_(object) {
    dispatcher_.pushTrackedObject(&object_);
  }
  ~TrackedObjectScope() { dispatcher_.popTrackedObject(&object_); }
  TrackedObjectScope(const TrackedObjectScope&) = delete;
  TrackedObjectScope& operator=(const TrackedObjectScope&) = delete;

private:
  Dispatcher& dispatcher_;
  const TrackedObject& object_;
};

}  // namespace nuncio
