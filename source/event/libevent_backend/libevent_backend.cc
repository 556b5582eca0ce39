// What a loop asks of the system, on libevent's means alone: a zero-delay timer wakes it, an evtimer is its alarm, and
// signals are evsignals. A library of its own, since libevent needs libevent_pthreads for it, and locks; it makes
// itself known before main().

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <sys/time.h>
#include <utility>

#include "absl/strings/str_cat.h"
#include "event2/thread.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/mutex.h"
#include "source/common/errno_status.h"
#include "source/common/fork.h"
#include "source/event/backend.h"
#include "source/event/loop.h"

namespace nuncio {
namespace {

timeval timevalOf(std::chrono::microseconds duration) {
  timeval value{};
  value.tv_sec = duration / std::chrono::seconds(1);
  value.tv_usec = (duration % std::chrono::seconds(1)).count();
  return value;
}

// EV_FINALIZE: event_del() does not wait for a callback that another thread is in. That thread may have ended there, by
// pthread_exit(), and it is never another one but then.
EventPtr newTimer(event_base* base, event_callback_fn callback, void* argument) {
  return EventPtr(event_new(base, -1, EV_FINALIZE, callback, argument));
}

// libevent has a lock of its own, one for the process, about who has signals. Loops that listen for signals take it for
// a moment whenever they poll, so that a child may find it taken by a thread that is not there; event_reinit() would
// wait for it. So in a child libevent makes its global locks anew, before there is another thread. Locks of event_bases
// are others, and stay.
class GlobalLocks final : private ForkAware {
public:
  GlobalLocks() {
    makeLocks();
    watchForks();
  }
  ~GlobalLocks() override { unwatchForks(); }

  // In a child, once: whoever reopens an event_base there calls it, since this may be told of the fork only later.
  void renew() {
    if (made_in_ == forkGeneration()) {
      return;
    }
    const LibeventLogOff off;    // it warns of what follows
    libevent_global_shutdown();  // of its global variables, which are these locks
    evthread_set_lock_callbacks(nullptr);
    makeLocks();
  }

private:
  void afterForkInChild() override { renew(); }
  void makeLocks() {
    NUNCIO_RELEASE_ASSERT(evthread_use_pthreads() == 0, "libevent has no memory for its locks");
    made_in_ = forkGeneration();
  }

  uint32_t made_in_ = 0;
};

GlobalLocks& globalLocks() {
  // Never destroyed. Its guard is passed before main(), so that no child finds that taken.
  static GlobalLocks& locks = *new GlobalLocks;
  return locks;
}

// Unlike an eventfd of ours, the event goes with the loop: so a lock says whether it is there. It is not that of the
// posts, into which the loop that wakes would run at once. It is held over forks: no thread is inside libevent's own
// locks then, which event_reinit() takes.
class EventWaker final : public Waker, private ForkAware {
public:
  EventWaker() : ForkAware(&lock_) { watchForks(); }
  ~EventWaker() override { unwatchForks(); }

  void setEvent(event* wake_event) {
    const MutexLock lock(lock_);
    event_ = wake_event;
    inherited_ = false;
  }

  // Waker
  int wake() noexcept override {
    const MutexLock lock(lock_);
    const timeval at_once{};
    errno = 0;  // event_add() sets none where there is no memory
    // Else errno is that of the system call that wakes the poll.
    return event_ != nullptr && !inherited_ && event_add(event_, &at_once) != 0 ? (errno != 0 ? errno : ENOMEM) : 0;
  }
  const char* call() const override { return "event_add, to wake it,"; }
  int fd() const override { return -1; }
  // While all locks are held.
  void leaveToParent() noexcept override ABSL_NO_THREAD_SAFETY_ANALYSIS { inherited_ = true; }
  void lose() noexcept override { leaveToParent(); }

private:
  Mutex lock_;
  event* event_ ABSL_GUARDED_BY(lock_) = nullptr;
  bool inherited_ ABSL_GUARDED_BY(lock_) = false;  // from the parent of a fork: libevent would write to its descriptor
};

// Set only when it would ring too late, as a timer that is pushed back costs nothing then.
class EvtimerAlarm final : public Alarm {
public:
  explicit EvtimerAlarm(Loop& loop)
      : loop_(loop),
        event_(newTimer(
            loop.base(), [](evutil_socket_t, short, void* self) { static_cast<EvtimerAlarm*>(self)->onRing(); },
            this)) {
    if (event_ == nullptr) {
      throw std::bad_alloc();
    }
  }
  ~EvtimerAlarm() override { loop_.backend().leakIfLost(event_); }

  // Alarm
  void set(MonotonicTime, MonotonicTime latest) override {
    if (latest >= set_to_ || loop_.base() == nullptr) {
      return;
    }
    set_to_ = latest;
    const auto left = std::chrono::ceil<std::chrono::microseconds>(
        std::max(latest - std::chrono::steady_clock::now(), MonotonicTime::duration::zero()));
    const timeval delay = timevalOf(left);
    errno = 0;
    if (event_add(event_.get(), &delay) != 0) {
      loop_.posts->fail("event_add, for the alarm,", -1, errno != 0 ? errno : ENOMEM);
    }
  }
  void setRunning(bool) override {}
  bool rang() override { return std::exchange(rang_, false); }

private:
  void onRing() {
    loop_.woke();
    rang_ = true;
    set_to_ = MonotonicTime::max();
  }

  Loop& loop_;
  EventPtr event_;
  MonotonicTime set_to_ = MonotonicTime::max();
  bool rang_ = false;
};

class LibeventBackend final : public Backend {
public:
  explicit LibeventBackend(EventBasePtr base) : Backend(std::move(base)) {}

  // Backend
  absl::StatusOr<std::unique_ptr<Waker>> createWaker() override {
    auto waker = std::make_unique<EventWaker>();
    waker_ = waker.get();
    return waker;
  }

  absl::Status open(Loop& loop) override {
    loop_ = &loop;
    wake_event_ = newTimer(
        base(),
        [](evutil_socket_t, short, void* woken) {
          static_cast<Loop*>(woken)->woke();
          static_cast<Loop*>(woken)->runLate();
        },
        &loop);
    // Has libevent's heap of timers make room, once and for all, for this one and the alarm: a wake-up may not fail.
    const timeval once{.tv_sec = 3600, .tv_usec = 0};
    if (wake_event_ == nullptr || event_add(wake_event_.get(), &once) != 0) {
      return noMemoryStatus("an event");
    }
    event_del(wake_event_.get());
    waker_->setEvent(wake_event_.get());
    return absl::OkStatus();
  }
  void close() override {
    waker_->setEvent(nullptr);
    leakIfLost(wake_event_);
    wake_event_.reset();
  }

  // Its wake-up and its alarm are events only while they are set.
  void poll(bool block) override {
    pollBase(block, EVLOOP_NO_EXIT_ON_EMPTY);
    if (const uint64_t signals = std::exchange(pending_signals_, 0); signals != 0) {
      loop_->onSignals(signals);
    }
  }
  void breakPoll() override { event_base_loopbreak(base()); }

  absl::StatusOr<AlarmPtr> createAlarm() override {
    if (base() == nullptr) {
      return absl::ResourceExhaustedError("no event_base");
    }
    return std::make_unique<EvtimerAlarm>(*loop_);
  }

  absl::Status listen(int signal) override {
    auto [at, added] = signals_.try_emplace(signal);
    NUNCIO_ASSERT(added, "listens already");
    at->second.reset(evsignal_new(
        base(), signal,
        [](evutil_socket_t which, short, void* self) { static_cast<LibeventBackend*>(self)->onSignal(which); }, this));
    if (at->second == nullptr || evsignal_add(at->second.get(), nullptr) != 0) {
      signals_.erase(at);
      return noMemoryStatus("an event for a signal");
    }
    return absl::OkStatus();
  }
  void unlisten(int signal) override {
    pending_signals_ &= ~signalBit(signal);
    const auto at = signals_.find(signal);
    leakIfLost(at->second);
    signals_.erase(at);
  }

  void reopenBase() override {
    globalLocks().renew();
    reopenBaseOf(loop_->name());
  }
  // libevent's signal handler writes to a descriptor that is the parent's as well until then.
  bool afterForkInChild() override {
    pending_signals_ = 0;  // the parent's
    if (signals_.empty()) {
      return false;
    }
    reopenBase();
    return true;
  }
  // libevent has done the rest.
  absl::Status reopen() override {
    if (base() == nullptr) {
      return absl::ResourceExhaustedError("no event_base");
    }
    waker_->setEvent(wake_event_.get());
    waker_->wake();  // who has woken it meanwhile has woken nobody
    return absl::OkStatus();
  }

private:
  // libevent calls once for each signal, where equal ones that come together are to be one.
  void onSignal(int signal) {
    loop_->woke();
    pending_signals_ |= signalBit(signal);
  }

  EventWaker* waker_ = nullptr;  // the queue of posts has it, which the loop keeps
  EventPtr wake_event_;
  std::map<int, EventPtr> signals_;
  uint64_t pending_signals_ = 0;  // as bits
};

absl::StatusOr<std::unique_ptr<Backend>> createLibeventBackend() {
  absl::StatusOr<EventBasePtr> base = newEventBase(EVENT_BASE_FLAG_PRECISE_TIMER, /*descriptors=*/5);
  if (!base.ok()) {
    return base.status();
  }
  return std::make_unique<LibeventBackend>(*std::move(base));
}

struct AtStart {
  AtStart() noexcept {
    globalLocks();
    Backend::registerLibevent(&createLibeventBackend);
  }
};
const AtStart kAtStart;

}  // namespace
}  // namespace nuncio
