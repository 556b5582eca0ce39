// What a loop asks of the system, on Linux's own means: an eventfd wakes it, a timerfd is its alarm, and signals come
// by a handler of ours and an eventfd.
//
// Signals are not libevent's: its handler writes a byte for each signal into a pipe, and a flood of one signal that
// fills the pipe hides all others, and after 65,536 of them itself (its counter has 16 bits). Ours sets a bit and
// writes to an eventfd, so that a signal is never lost, and costs the same however often it comes.

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <memory>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"

#include "nuncio/common/file_descriptor.h"
#include "source/common/errno_status.h"
#include "source/common/fork.h"
#include "source/common/made_once.h"
#include "source/event/backend.h"
#include "source/event/file_event_impl.h"
#include "source/event/loop.h"

namespace nuncio {
namespace {

// 0, or errno. Not write(), where a thread can be cancelled: this is called where nothing may be thrown, and from
// signal handlers. EAGAIN: it is readable as it is.
int addOne(int fd) {
  const uint64_t one = 1;
  return ::syscall(SYS_write, fd, &one, sizeof(one)) < 0 && errno != EAGAIN ? errno : 0;
}

absl::StatusOr<FileDescriptor> openEventFd() {
  FileDescriptor fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (fd.get() < 0) {
    return errnoStatus(errno, "eventfd for a dispatcher, which takes five descriptors (four in simulated time)");
  }
  return fd;
}

// The eventfd is registered edge-triggered, where each write is an event of its own, so that nobody ever has to read
// it.
class EventFdWaker final : public Waker {
public:
  explicit EventFdWaker(FileDescriptor fd) : fd_(std::move(fd)) {}

  // Waker
  int wake() noexcept override {
    // In the child of a fork, the loop looks at everything when it gets its own.
    return !inherited_.load(std::memory_order_acquire) ? addOne(fd_.get()) : 0;
  }
  const char* call() const override { return "write, to wake it,"; }
  int fd() const override { return fd_.get(); }
  void leaveToParent() noexcept override { inherited_.store(true, std::memory_order_relaxed); }
  void lose() noexcept override {
    leaveToParent();
    fd_ = FileDescriptor();
  }

  absl::Status reopen() {
    fd_ = FileDescriptor();  // before another has its number, which this would close
    absl::StatusOr<FileDescriptor> fd = openEventFd();
    if (!fd.ok()) {
      return fd.status();
    }
    fd_ = *std::move(fd);
    inherited_.store(false, std::memory_order_release);
    return absl::OkStatus();
  }

private:
  FileDescriptor fd_;
  std::atomic<bool> inherited_{false};  // from the parent of a fork. Release/acquire: fd_ comes before
};

// A timerfd, which is exact where the timeout of epoll is in milliseconds. It is registered edge-triggered and never
// read, and set only when it would ring too late: one system call for a wake-up, none for a timer that is pushed back.
class TimerFdAlarm final : public Alarm {
public:
  static absl::StatusOr<AlarmPtr> create(Loop& loop) {
    FileDescriptor fd(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    if (fd.get() < 0) {
      return errnoStatus(errno, "timerfd for a dispatcher, which takes five descriptors");
    }
    auto alarm = std::make_unique<TimerFdAlarm>(loop, std::move(fd));
    absl::StatusOr<FileEventPtr> event =
        FileEventImpl::createOwn(loop, alarm->fd_.get(), [alarm = alarm.get()](uint32_t) { alarm->onRing(); });
    if (!event.ok()) {
      return event.status();
    }
    alarm->event_ = *std::move(event);
    return alarm;
  }

  TimerFdAlarm(Loop& loop, FileDescriptor fd) : posts_(*loop.posts), fd_(std::move(fd)) {}

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

  PostQueue& posts_;         // the loop's
  const FileDescriptor fd_;  // outlives its event
  const uint32_t process_ = forkGeneration();
  FileEventPtr event_;
  MonotonicTime set_to_ = MonotonicTime::max();
  bool rang_ = false;
};

// --- Signals.

// What the signal handler touches. The eventfd is opened once in a process and never closed, so that a handler that
// runs late, on any thread, cannot write into a stranger's descriptor. A child of fork opens its own: until then a
// signal is noted here, and found by whoever opens it.
std::atomic<uint64_t> pending_signals{0};  // see signalBit()
std::atomic<int> signal_fd{-1};
// The error of the handler's write to the eventfd; 0 while there was none. Relaxed: it guards nothing.
std::atomic<int> signal_error{0};
void wakeSignalFd() {
  if (const int fd = signal_fd.load(std::memory_order_seq_cst); fd >= 0) {
    const int saved_errno = errno;
    if (const int error = addOne(fd); error != 0) {
      signal_error.store(error, std::memory_order_relaxed);
    }
    errno = saved_errno;
  }
}

void onSignal(int signal) {
  // The loop that takes a bit sees what the handler's thread did before. Sequentially consistent, as in openSignalFd():
  // one of the two sees what the other did.
  if (pending_signals.fetch_or(signalBit(signal), std::memory_order_seq_cst) == 0) {
    wakeSignalFd();
  }
}

absl::Status openSignalFd() {
  if (signal_fd.load(std::memory_order_relaxed) < 0) {
    const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0) {
      return errnoStatus(errno, "eventfd for signals");
    }
    signal_fd.store(fd, std::memory_order_seq_cst);
    if (pending_signals.load(std::memory_order_seq_cst) != 0) {
      wakeSignalFd();
    }
  }
  return absl::OkStatus();
}

// The process's share in the above. All is under the lock of the listeners, but for what happens in a fork, and what
// reopen() does in the child after it, on its one thread.
class SignalFd final : private ForkAware {
public:
  static SignalFd& get() { return made_.get(); }  // never destroyed: handles may outlive main

  absl::Status watch(Loop& loop) {
    if (absl::Status status = openSignalFd(); !status.ok()) {
      return status;
    }
    absl::StatusOr<FileEventPtr> event = FileEventImpl::createOwn(
        loop, signal_fd.load(std::memory_order_relaxed),
        [&loop](uint32_t) { loop.onSignals(pending_signals.exchange(0, std::memory_order_acq_rel)); });
    if (!event.ok()) {
      return event.status();
    }
    event_ = *std::move(event);
    loop_ = &loop;
    return absl::OkStatus();
  }
  bool watched() const { return event_ != nullptr; }
  void unwatch() {
    event_.reset();
    closeInherited();
    loop_ = nullptr;
  }

private:
  friend class MadeOnce<SignalFd>;
  SignalFd() { watchForks(); }
  ~SignalFd() override { unwatchForks(); }

  // ForkAware. No thread is in the midst of it: the listeners' lock is taken within a NoFork scope.
  void afterForkInChild() override {
    pending_signals.store(0, std::memory_order_relaxed);  // the parent's, as the error is
    signal_error.store(0, std::memory_order_relaxed);
    if (const int fd = signal_fd.exchange(-1, std::memory_order_relaxed); inherited_fd_ < 0) {
      inherited_fd_ = fd;
    } else if (fd >= 0) {
      ::close(fd);  // the parent's: opened while the event was still that of its own parent, and so not watched
    }
    if (loop_ == nullptr || loop_->leftBehind()) {
      [[maybe_unused]] FileEvent* const lost =
          event_.release();  // of a loop that was left in the parent: never touched
      loop_ = nullptr;
      closeInherited();
    }
  }

  void closeInherited() {
    if (inherited_fd_ >= 0) {
      ::close(std::exchange(inherited_fd_, -1));
    }
  }

  static inline constinit MadeOnce<SignalFd> made_;

  int inherited_fd_ = -1;  // the parent's, until its event is gone
  Loop* loop_ = nullptr;
  FileEventPtr event_;
};

class LinuxBackend final : public Backend {
public:
  explicit LinuxBackend(EventBasePtr base) : Backend(std::move(base)) {}

  // Backend
  absl::StatusOr<std::unique_ptr<Waker>> createWaker() override {
    absl::StatusOr<FileDescriptor> fd = openEventFd();
    if (!fd.ok()) {
      return fd.status();
    }
    auto waker = std::make_unique<EventFdWaker>(*std::move(fd));
    waker_ = waker.get();
    return waker;
  }

  absl::Status open(Loop& loop) override {
    loop_ = &loop;
    absl::StatusOr<FileEventPtr> event =
        FileEventImpl::createOwn(loop, waker_->fd(), [&loop](uint32_t) { loop.runLate(); });
    if (!event.ok()) {
      return event.status();
    }
    wake_event_ = *std::move(event);
    return absl::OkStatus();
  }
  void close() override { wake_event_.reset(); }

  void poll(bool block) override { pollBase(block, /*flags=*/0); }
  void breakPoll() override { event_base_loopbreak(base()); }

  absl::StatusOr<AlarmPtr> createAlarm() override { return TimerFdAlarm::create(*loop_); }

  absl::Status listen(int signal) override {
    SignalFd& signal_descriptor = SignalFd::get();
    if (!signal_descriptor.watched()) {
      if (absl::Status status = signal_descriptor.watch(*loop_); !status.ok()) {
        return status;
      }
    }
    // What a handler left that ran late, when nobody listened any more, is not for those who listen from now on.
    pending_signals.fetch_and(~signalBit(signal), std::memory_order_relaxed);
    struct sigaction action{};
    action.sa_handler = &onSignal;
    action.sa_flags = SA_RESTART;
    sigfillset(&action.sa_mask);
    if (sigaction(signal, &action, nullptr) != 0) {
      const int error = errno;
      unlisten(signal);
      return absl::InvalidArgumentError(
          absl::StrCat("signal ", signal, ": ", std::strerror(error), " (the C library may reserve it)"));
    }
    signals_ |= signalBit(signal);
    return absl::OkStatus();
  }
  void unlisten(int signal) override {
    pending_signals.fetch_and(~signalBit(signal), std::memory_order_relaxed);
    signals_ &= ~signalBit(signal);
    if (signals_ == 0) {
      SignalFd::get().unwatch();
    }
  }
  bool signalsFailed() const override { return signal_error.load(std::memory_order_relaxed) != 0; }
  void reportFailedSignals() override {
    const int fd = signal_fd.exchange(-1, std::memory_order_relaxed);  // the next to listen opens another
    const int error = signal_error.exchange(0, std::memory_order_relaxed);
    if (signals_ != 0) {
      loop_->posts->fail("write, for a signal,", fd, error);
      loop_->posts->wake();
    }
  }

  void reopenBase() override { reopenBaseOf(loop_->name()); }
  // The events of the parent's descriptors go before the descriptors do.
  absl::Status reopen() override {
    wake_event_.reset();
    if (absl::Status status = waker_->reopen(); !status.ok()) {
      return status;
    }
    if (absl::Status status = open(*loop_); !status.ok()) {
      return status;
    }
    if (signals_ == 0) {
      return absl::OkStatus();
    }
    SignalFd::get().unwatch();
    return SignalFd::get().watch(*loop_);
  }

private:
  EventFdWaker* waker_ = nullptr;  // the queue of posts has it, which the loop keeps
  FileEventPtr wake_event_;
  uint64_t signals_ = 0;  // that it listens for, as bits
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> createLinuxBackend() {
  absl::StatusOr<EventBasePtr> base = newEventBase(EVENT_BASE_FLAG_NOLOCK, /*descriptors=*/3);
  if (!base.ok()) {
    return base.status();
  }
  return std::make_unique<LinuxBackend>(*std::move(base));
}

}  // namespace nuncio
