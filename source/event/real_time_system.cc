#include <cerrno>
#include <cstdint>
#include <new>
#include <sys/timerfd.h>
#include <utility>

#include "absl/status/status.h"

#include "nuncio/common/file_descriptor.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/event/time_system.h"
#include "source/common/errno_status.h"
#include "source/common/fork.h"
#include "source/common/made_once.h"

namespace nuncio {

// A timerfd, which is exact where the timeout of epoll is in milliseconds. It is registered edge-triggered and never
// read, and set only when it would ring too late: one system call for a wake-up, none for a timer that is pushed back.
class TimerFdAlarm final : public Alarm {
public:
  static absl::StatusOr<AlarmPtr> create(Dispatcher& dispatcher) {
    FileDescriptor fd(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    if (fd.get() < 0) {
      return errnoStatus(errno, "timerfd for a dispatcher, which takes five descriptors");
    }
    auto alarm = std::make_unique<TimerFdAlarm>(std::move(fd), dispatcher.handle());
    absl::StatusOr<FileEventPtr> event = dispatcher.createFileEvent(
        alarm->fd_.get(), [alarm = alarm.get()](uint32_t) { alarm->onRing(); }, FileTriggerType::Edge,
        FileReadyType::Read);
    if (!event.ok()) {
      return event.status();
    }
    alarm->event_ = *std::move(event);
    return alarm;
  }

  TimerFdAlarm(FileDescriptor fd, PostHandle posts) : fd_(std::move(fd)), posts_(std::move(posts)) {}

  // Alarm
  void set(MonotonicTime, MonotonicTime latest) override {
    if (latest >= set_to_) {
      return;  // it rings before; the loop sets it anew then
    }
    if (process_ != forkGeneration()) [[unlikely]] {
      return;  // it is the parent's as well, who relies on it; the loop makes another before it polls
    }
    set_to_ = latest;
    const int64_t nanoseconds = latest.time_since_epoch().count();
    itimerspec spec{};
    spec.it_value.tv_sec = nanoseconds / 1'000'000'000;
    spec.it_value.tv_nsec = nanoseconds % 1'000'000'000 + (nanoseconds == 0 ? 1 : 0);  // 0 would mean never
    if (::timerfd_settime(fd_.get(), TFD_TIMER_ABSTIME, &spec, nullptr) != 0) [[unlikely]] {
      posts_.fail("timerfd_settime", fd_.get(), errno);
    }
  }
  void setRunning(bool) override {}
  bool rang() override { return std::exchange(rang_, false); }

private:
  void onRing() {
    rang_ = true;
    set_to_ = MonotonicTime::max();
  }

  const FileDescriptor fd_;  // outlives its event
  const PostHandle posts_;
  const uint32_t process_ = forkGeneration();
  FileEventPtr event_;
  MonotonicTime set_to_ = MonotonicTime::max();
  bool rang_ = false;
};

namespace {

class RealTimeSystem final : public TimeSystem {
public:
  MonotonicTime monotonicTime() const override { return std::chrono::steady_clock::now(); }
  SystemTime systemTime() const override { return std::chrono::system_clock::now(); }
  absl::StatusOr<AlarmPtr> createAlarm(Dispatcher& dispatcher) override {
    try {
      return TimerFdAlarm::create(dispatcher);
    } catch (const std::bad_alloc&) {
      return noMemoryStatus("an alarm");
    }
  }
};

constinit MadeOnce<RealTimeSystem> real_time_system;

}  // namespace

TimeSystem& realTimeSystem() { return real_time_system.get(); }

}  // namespace nuncio
