#include "nuncio/runtime/simulated_time_system.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/logging.h"
#include "nuncio/common/mutex.h"
#include "source/common/errno_status.h"
#include "source/common/fork.h"

namespace nuncio {
namespace {

// At one point in time, how often a dispatcher is run for timers that arm themselves again with no delay.
constexpr int kMaxRoundsAtOneTime = 1000;

// The last point in time that can be reached; what is due at max() never is.
constexpr MonotonicTime kEnd = MonotonicTime::max() - std::chrono::nanoseconds(1);

MonotonicTime later(MonotonicTime now, std::chrono::microseconds duration) {
  return duration > std::chrono::duration_cast<std::chrono::microseconds>(kEnd - now) ? kEnd : now + duration;
}

// At the ends of what 64 bits hold it stays there.
int64_t saturatedSum(int64_t a, int64_t b) {
  int64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) {
    return b < 0 ? std::numeric_limits<int64_t>::min() : std::numeric_limits<int64_t>::max();
  }
  return sum;
}

}  // namespace

// What the time system and its alarms share; an alarm may be destroyed on its dispatcher's thread at any time.
class SimulatedTimeSystem::Impl final : public std::enable_shared_from_this<Impl>, private ForkAware {
public:
  class SimulatedAlarm;

  Impl() : ForkAware(&lock_) { watchForks(); }
  ~Impl() override { unwatchForks(); }

  MonotonicTime now() const { return MonotonicTime(std::chrono::nanoseconds(now_.load(std::memory_order_acquire))); }
  void setNow(MonotonicTime now) { now_.store(now.time_since_epoch().count(), std::memory_order_release); }

  // Waits until loops on other threads have done what was posted to them, and know of the timers that this armed; if
  // they are to, they find a new time then, which is set while they are between two callbacks.
  void runUntilQuiet(MonotonicTime new_now);
  // Gives each alarm its turn up to `target`, in the order of deadlines.
  void fireUntil(MonotonicTime target);
  // Runs an iteration of each dispatcher that no thread runs, but for those that another thread ran last: that may be
  // about to shut it down.
  void runIdle();
  // Makes loops look at the time.
  void wakeDue();

  Mutex lock_;
  CondVar changed_;  // an alarm was set or destroyed, a run has ended, or a loop is held
  std::vector<SimulatedAlarm*> alarms_ ABSL_GUARDED_BY(lock_);  // in the order of their dispatchers' creation
  // Release/acquire: a dispatcher that sees a time sees what was done before time was advanced to it.
  std::atomic<int64_t> now_{0};
  bool forked_ ABSL_GUARDED_BY(lock_) = false;  // some dispatchers may be lost
  std::atomic<int64_t> system_offset_{0};       // from the monotonic clock; relaxed: it guards nothing

private:
  // ForkAware, under the lock
  void afterForkInChild() override ABSL_NO_THREAD_SAFETY_ANALYSIS { forked_ = true; }

  // Of a loop on another thread, in a posted callback. All under lock_.
  struct Hold {
    SimulatedAlarm* const alarm;
    bool reached = false;
    uint64_t settings = 0;  // calls of set(): one at the beginning of each iteration
    bool released = false;
  };

  bool lives(const SimulatedAlarm* alarm) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    return std::find(alarms_.begin(), alarms_.end(), alarm) != alarms_.end();
  }
  void hold(Hold& hold);
  SimulatedAlarm* firstDue(MonotonicTime latest);
  void serve(SimulatedAlarm& alarm);
};

class SimulatedTimeSystem::Impl::SimulatedAlarm final : public Alarm {
public:
  SimulatedAlarm(std::shared_ptr<Impl> time, Dispatcher& owner)
      : dispatcher(owner), posts(owner.handle()), time_(std::move(time)) {
    const MutexLock lock(time_->lock_);
    time_->alarms_.push_back(this);
  }
  ~SimulatedAlarm() override {
    const MutexLock lock(time_->lock_);
    std::erase(time_->alarms_, this);
    time_->changed_.notifyAll();
  }

  // Alarm
  void set(MonotonicTime due_at, MonotonicTime) override {
    const MutexLock lock(time_->lock_);
    due.store(due_at, std::memory_order_relaxed);
    ++settings;
    time_->changed_.notifyAll();
  }
  void setRunning(bool now_running) override {
    const MutexLock lock(time_->lock_);
    running = now_running;
    time_->changed_.notifyAll();
  }
  bool rang() override { return time_->now() >= due.load(std::memory_order_relaxed); }

  Dispatcher& dispatcher;
  const PostHandle posts;
  // Written under the lock; `due` is also read without it, on the dispatcher's thread, which writes it.
  std::atomic<MonotonicTime> due{MonotonicTime::max()};
  uint64_t settings = 0;  // calls of set(): one at the beginning of each iteration
  bool running = false;
  bool given_up = false;  // until time is advanced again

private:
  const std::shared_ptr<Impl> time_;
};

void SimulatedTimeSystem::Impl::hold(Hold& hold) {
  const MutexLock lock(lock_);
  hold.settings = lives(hold.alarm) ? hold.alarm->settings : 0;
  hold.reached = true;
  changed_.notifyAll();
  while (!hold.released) {
    changed_.wait(lock_);
  }
}

void SimulatedTimeSystem::Impl::runUntilQuiet(MonotonicTime new_now) {
  std::vector<std::shared_ptr<Hold>> holds;
  std::vector<PostHandle> posts;
  {
    const MutexLock lock(lock_);
    for (SimulatedAlarm* alarm : alarms_) {
      if (alarm->running) {
        NUNCIO_RELEASE_ASSERT(!alarm->dispatcher.isThreadSafe(), "time advanced from a callback of a dispatcher on it");
        holds.push_back(std::make_shared<Hold>(Hold{alarm}));
        posts.push_back(alarm->posts);
      }
    }
  }
  bool all_posted = true;
  for (std::size_t i = 0; i < holds.size() && all_posted; ++i) {
    all_posted = posts[i].post([time = shared_from_this(), held = holds[i]] { time->hold(*held); }) ||
                 !posts[i].alive();  // it is on its way out of run()
  }
  const MutexLock lock(lock_);
  if (!all_posted) {
    for (const auto& held : holds) {
      held->released = true;
    }
    changed_.notifyAll();
    throw std::bad_alloc();
  }
  for (const auto& held : holds) {
    while (!held->reached && lives(held->alarm) && held->alarm->running) {
      changed_.wait(lock_);
    }
  }
  setNow(new_now);
  for (const auto& held : holds) {
    held->released = true;
  }
  changed_.notifyAll();
  for (const auto& held : holds) {
    while (held->reached && lives(held->alarm) && held->alarm->running && held->alarm->settings == held->settings) {
      changed_.wait(lock_);
    }
  }
}

void SimulatedTimeSystem::Impl::fireUntil(MonotonicTime target) {
  {
    const MutexLock lock(lock_);
    if (std::exchange(forked_, false)) {
      std::erase_if(alarms_, [](const SimulatedAlarm* alarm) { return !alarm->posts.alive(); });
    }
    for (SimulatedAlarm* alarm : alarms_) {
      alarm->given_up = false;
    }
  }
  for (;;) {
    runIdle();
    runUntilQuiet(now());
    SimulatedAlarm* const alarm = firstDue(target);
    if (alarm == nullptr) {
      return;
    }
    runUntilQuiet(std::max(now(), alarm->due.load(std::memory_order_relaxed)));
    serve(*alarm);
  }
}

// The alarm that is due first, not after `latest`; null when there is none.
SimulatedTimeSystem::Impl::SimulatedAlarm* SimulatedTimeSystem::Impl::firstDue(MonotonicTime latest) {
  const MutexLock lock(lock_);
  SimulatedAlarm* first = nullptr;
  for (SimulatedAlarm* alarm : alarms_) {
    const MonotonicTime due = alarm->due.load(std::memory_order_relaxed);
    if (!alarm->given_up && due <= latest && (first == nullptr || due < first->due.load(std::memory_order_relaxed))) {
      first = alarm;
    }
  }
  return first;
}

// Lets the alarm's dispatcher work at the present time, wherever it runs, until the alarm is set to a later time.
void SimulatedTimeSystem::Impl::serve(SimulatedAlarm& alarm) {
  for (int round = 0;; ++round) {
    lock_.lock();
    if (!lives(&alarm) || alarm.due.load(std::memory_order_relaxed) > now()) {
      lock_.unlock();
      return;
    }
    if (round == kMaxRoundsAtOneTime) {
      alarm.given_up = true;
      const PostHandle posts = alarm.posts;
      lock_.unlock();
      NUNCIO_LOG(Runtime, warn, "dispatcher {}: a timer keeps arming itself with no delay; time goes on without it",
                 std::string(posts.name()));
      return;
    }
    if (!alarm.running) {
      if (!alarm.dispatcher.isThreadSafe()) {  // its thread is about to run it again, or to shut it down
        alarm.given_up = true;
        lock_.unlock();
        return;
      }
      lock_.unlock();
      alarm.dispatcher.run(RunType::NonBlock);
      continue;
    }
    const PostHandle posts = alarm.posts;
    const uint64_t settings = alarm.settings;
    lock_.unlock();
    posts.wake();  // it looks at its timers first
    lock_.lock();
    while (lives(&alarm) && alarm.running && alarm.settings == settings) {
      changed_.wait(lock_);
    }
    lock_.unlock();
  }
}

void SimulatedTimeSystem::Impl::runIdle() {
  std::vector<SimulatedAlarm*> alarms;
  {
    const MutexLock lock(lock_);
    alarms = alarms_;
  }
  for (SimulatedAlarm* alarm : alarms) {
    lock_.lock();
    const bool idle = lives(alarm) && !alarm->running && alarm->dispatcher.isThreadSafe();
    lock_.unlock();
    if (idle) {
      alarm->dispatcher.run(RunType::NonBlock);
    }
  }
}

void SimulatedTimeSystem::Impl::wakeDue() {
  const NoFork no_fork;  // waking may take a lock of the backend's, which a fork would hold while it waits for this one
  const MutexLock lock(lock_);
  for (const SimulatedAlarm* alarm : alarms_) {
    if (alarm->running && alarm->due.load(std::memory_order_relaxed) <= now()) {
      alarm->posts.wake();
    }
  }
}

SimulatedTimeSystem::SimulatedTimeSystem() : impl_(std::make_shared<Impl>()) {}
SimulatedTimeSystem::~SimulatedTimeSystem() = default;

void SimulatedTimeSystem::advanceTimeAndRun(std::chrono::microseconds duration) {
  if (!NUNCIO_CONTRACT(duration.count() >= 0, "-", "SimulatedTimeSystem::advanceTimeAndRun",
                       absl::StrCat("negative duration of ", duration.count(), " us"))) {
    return;
  }
  const MonotonicTime target = later(impl_->now(), duration);
  impl_->fireUntil(target);
  impl_->runUntilQuiet(target);
  impl_->runIdle();
}

void SimulatedTimeSystem::advanceTimeAsync(std::chrono::microseconds duration) {
  if (!NUNCIO_CONTRACT(duration.count() >= 0, "-", "SimulatedTimeSystem::advanceTimeAsync",
                       absl::StrCat("time cannot go back, by ", duration.count(), " us"))) {
    return;
  }
  setMonotonicTime(later(impl_->now(), duration));
}

void SimulatedTimeSystem::setMonotonicTime(MonotonicTime when) {
  if (!NUNCIO_CONTRACT(when >= impl_->now(), "-", "SimulatedTimeSystem::setMonotonicTime",
                       absl::StrCat("time cannot go back, to ", when.time_since_epoch().count(), " ns"))) {
    return;
  }
  impl_->setNow(std::min(when, kEnd));
  impl_->wakeDue();
}

void SimulatedTimeSystem::setSystemTime(SystemTime when) {
  impl_->system_offset_.store(saturatedSum(std::chrono::nanoseconds(when.time_since_epoch()).count(),
                                           -std::chrono::nanoseconds(impl_->now().time_since_epoch()).count()),
                              std::memory_order_relaxed);
}

MonotonicTime SimulatedTimeSystem::monotonicTime() const { return impl_->now(); }

SystemTime SimulatedTimeSystem::systemTime() const {
  const int64_t now = std::chrono::nanoseconds(impl_->now().time_since_epoch()).count();
  return SystemTime(std::chrono::duration_cast<SystemTime::duration>(
      std::chrono::nanoseconds(saturatedSum(now, impl_->system_offset_.load(std::memory_order_relaxed)))));
}

absl::StatusOr<AlarmPtr> SimulatedTimeSystem::createAlarm(Dispatcher& dispatcher) {
  try {
    return std::make_unique<Impl::SimulatedAlarm>(impl_, dispatcher);
  } catch (const std::bad_alloc&) {
    return noMemoryStatus("an alarm");
  }
}

}  // namespace nuncio
