#include "source/event/signal_event_impl.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <memory>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/mutex.h"
#include "nuncio/common/no_fork.h"
#include "source/common/errno_status.h"
#include "source/common/fork.h"
#include "source/common/made_once.h"
#include "source/event/file_event_impl.h"

namespace nuncio {
namespace {

// What the signal handler touches. The eventfd is opened once in a process and never closed, so that a handler that
// runs late, on any thread, cannot write into a stranger's descriptor. A child of fork opens its own: until then a
// signal is noted here, and found by whoever opens it.
std::atomic<uint64_t> pending_signals{0};  // bit s - 1 for signal s
std::atomic<int> signal_fd{-1};
static_assert(NSIG - 1 <= 64);

uint64_t bitOf(int signal) { return uint64_t{1} << (signal - 1); }

void wakeSignalFd() {
  if (const int fd = signal_fd.load(std::memory_order_seq_cst); fd >= 0) {
    const int saved_errno = errno;
    const uint64_t one = 1;
    // Not write(), where a thread can be cancelled: this may interrupt what must not be left. EAGAIN: it is readable.
    if (::syscall(SYS_write, fd, &one, sizeof(one)) < 0 && errno != EAGAIN) {
      signal_descriptor_error.store(errno, std::memory_order_relaxed);
    }
    errno = saved_errno;
  }
}

void onSignal(int signal) {
  // The loop that takes a bit sees what the handler's thread did before. Sequentially consistent, as in openSignalFd():
  // one of the two sees what the other did.
  if (pending_signals.fetch_or(bitOf(signal), std::memory_order_seq_cst) == 0) {
    wakeSignalFd();
  }
}

bool isFault(int signal) {
  constexpr std::array<int, 6> kFaults = {SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGTRAP, SIGSYS};
  return std::find(kFaults.begin(), kFaults.end(), signal) != kFaults.end();
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

}  // namespace

// The listeners of the process, all of one dispatcher: a signal is delivered to the process, not to a thread.
//
// Its lock is taken within a NoFork scope, as libevent, which is called under it, may log.
class SignalListeners final : private ForkAware {
public:
  static SignalListeners& get() { return made_.get(); }  // never destroyed: handles may outlive main
  static SignalListeners* peek() { return made_.peek(); }
  ~SignalListeners() override { unwatchForks(); }

  absl::Status add(Loop& loop, SignalEventImpl& event) {
    const NoFork no_fork;
    const MutexLock lock(lock_);
    if (owner_ != nullptr && owner_ != &loop) {
      return absl::FailedPreconditionError(absl::StrCat("dispatcher ", owner_->name(),
                                                        " listens for signals; one dispatcher of a process can, so ask "
                                                        "it to, and post from its callback"));
    }
    events_.reserve(events_.size() + 1);  // what may throw comes before the handler is installed
    if (absl::Status status = openSignalFd(); !status.ok()) {
      return status;
    }
    if (fd_event_ == nullptr) {
      if (absl::Status status = watchSignalFd(loop); !status.ok()) {
        return status;
      }
    }
    if (std::none_of(events_.begin(), events_.end(),
                     [&event](const SignalEventImpl* other) { return other->signal_ == event.signal_; })) {
      // What a handler left that ran late, when nobody listened any more, is not for those who listen from now on.
      pending_signals.fetch_and(~bitOf(event.signal_), std::memory_order_relaxed);
      struct sigaction action{};
      action.sa_handler = &onSignal;
      action.sa_flags = SA_RESTART;
      sigfillset(&action.sa_mask);
      if (sigaction(event.signal_, &action, &former_actions_[static_cast<std::size_t>(event.signal_)]) != 0) {
        const int error = errno;
        releaseIfUnused();
        return absl::InvalidArgumentError(
            absl::StrCat("signal ", event.signal_, ": ", std::strerror(error), " (the C library may reserve it)"));
      }
    }
    events_.push_back(&event);
    event.listening_ = true;
    ++loop.enabled_events;
    return absl::OkStatus();
  }

  void remove(SignalEventImpl& event) {
    const NoFork no_fork;
    const MutexLock lock(lock_);
    if (!event.listening_) {
      return;
    }
    event.listening_ = false;
    event.unlink();
    --event.loop_->enabled_events;
    events_.erase(std::find(events_.begin(), events_.end(), &event));
    if (std::none_of(events_.begin(), events_.end(),
                     [&event](const SignalEventImpl* other) { return other->signal_ == event.signal_; })) {
      // Cannot fail: it has worked with that signal before.
      (void)sigaction(event.signal_, &former_actions_[static_cast<std::size_t>(event.signal_)], nullptr);
      pending_signals.fetch_and(~bitOf(event.signal_), std::memory_order_relaxed);
    }
    releaseIfUnused();
  }

  void removeAll(const Loop& loop) {
    for (;;) {
      SignalEventImpl* first = nullptr;
      {
        const NoFork no_fork;
        const MutexLock lock(lock_);
        first = owner_ == &loop && !events_.empty() ? events_.front() : nullptr;
      }
      if (first == nullptr) {
        return;
      }
      remove(*first);
    }
  }

  // Has the owner end its run, which may be asleep, since what failed should have woken it.
  void reportFailedDescriptor() {
    const NoFork no_fork;
    const MutexLock lock(lock_);
    const int fd = signal_fd.exchange(-1, std::memory_order_relaxed);  // the next to listen opens another
    const int error = signal_descriptor_error.exchange(0, std::memory_order_relaxed);
    if (owner_ != nullptr) {
      owner_->posts->fail("write, for a signal,", fd, error);
      owner_->posts->wake();
    }
  }

  // In the child of a fork, for its own loop.
  absl::Status reopen(Loop& loop) {
    const NoFork no_fork;
    const MutexLock lock(lock_);
    if (owner_ != &loop) {
      return absl::OkStatus();
    }
    ++loop.enabled_events;  // as its destructor counts it out again
    fd_event_.reset();
    closeInherited();
    if (absl::Status status = openSignalFd(); !status.ok()) {
      return status;
    }
    return watchSignalFd(loop);
  }

private:
  friend class MadeOnce<SignalListeners>;
  SignalListeners() { watchForks(); }

  // ForkAware. No thread is in the midst of it: see above.
  void afterForkInChild() override ABSL_NO_THREAD_SAFETY_ANALYSIS {
    pending_signals.store(0, std::memory_order_relaxed);  // the parent's, as the error is
    signal_descriptor_error.store(0, std::memory_order_relaxed);
    if (const int fd = signal_fd.exchange(-1, std::memory_order_relaxed); inherited_fd_ < 0) {
      inherited_fd_ = fd;
    } else if (fd >= 0) {
      ::close(fd);  // the parent's: opened while the event was still that of its own parent, and so not watched
    }
    if (owner_ == nullptr || owner_->leftBehind()) {
      restoreFormerActions();
      closeInherited();
    }
  }

  // The listeners are of a loop that was left in the parent, as is all that belongs to it.
  void restoreFormerActions() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    for (SignalEventImpl* const event : events_) {
      event->listening_ = false;
      // Cannot fail: it has worked with that signal before.
      (void)sigaction(event->signal_, &former_actions_[static_cast<std::size_t>(event->signal_)], nullptr);
    }
    events_.clear();
    lost_event_ = fd_event_.release();
    owner_ = nullptr;
  }

  void closeInherited() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    if (inherited_fd_ >= 0) {
      ::close(std::exchange(inherited_fd_, -1));
    }
  }

  absl::Status watchSignalFd(Loop& loop) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    absl::StatusOr<FileEventPtr> fd_event = FileEventImpl::create(
        loop, signal_fd.load(std::memory_order_relaxed), [this](uint32_t) { dispatch(); }, FileTriggerType::Edge,
        FileReadyType::Read);
    if (!fd_event.ok()) {
      return fd_event.status();
    }
    fd_event_ = *std::move(fd_event);
    --loop.enabled_events;  // the listeners count
    owner_ = &loop;
    return absl::OkStatus();
  }

  void releaseIfUnused() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    if (events_.empty() && fd_event_ != nullptr) {
      ++owner_->enabled_events;  // as its destructor counts it out again
      fd_event_.reset();
      closeInherited();
      owner_ = nullptr;
    }
  }

  // On the owner's thread. A callback may destroy any listener, itself too, or add some.
  void dispatch() {
    const uint64_t signals = pending_signals.exchange(0, std::memory_order_acq_rel);
    WorkList ready;
    {
      const NoFork no_fork;
      const MutexLock lock(lock_);
      for (SignalEventImpl* event : events_) {
        if ((signals & bitOf(event->signal_)) != 0) {
          ready.add(*event);
        }
      }
    }
    // A callback may fork: what comes after it is the parent's.
    for (const uint32_t process = forkGeneration(); !ready.empty() && forkGeneration() == process;) {
      ready.takeFirst().runWork();
    }
  }

  static inline constinit MadeOnce<SignalListeners> made_;

  Mutex lock_;
  int inherited_fd_ ABSL_GUARDED_BY(lock_) = -1;  // the parent's, until its event is gone
  Loop* owner_ ABSL_GUARDED_BY(lock_) = nullptr;  // alive: its listeners hold it
  FileEventPtr fd_event_ ABSL_GUARDED_BY(lock_);
  FileEvent* lost_event_ ABSL_GUARDED_BY(lock_) = nullptr;  // of a loop that was left in the parent: never touched
  std::vector<SignalEventImpl*> events_ ABSL_GUARDED_BY(lock_);
  std::array<struct sigaction, NSIG> former_actions_ ABSL_GUARDED_BY(lock_){};
};

absl::StatusOr<SignalEventPtr> SignalEventImpl::create(Loop& loop, int signal, SignalCb cb) {
  constexpr const char* kOperation = "Dispatcher::listenForSignal";
  loop.checkThread(kOperation);
  if (!NUNCIO_CONTRACT(cb != nullptr, loop.name(), kOperation, absl::StrCat("signal ", signal, ": null callback"))) {
    return absl::InvalidArgumentError(absl::StrCat("signal ", signal, ": null callback"));
  }
  if (signal <= 0 || signal >= NSIG || signal == SIGKILL || signal == SIGSTOP) {
    return absl::InvalidArgumentError(absl::StrCat("signal ", signal, ": no signal that can be caught"));
  }
  if (isFault(signal)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "signal ", signal, " (SIG", sigabbrev_np(signal),
        "): a fault of the thread that runs; when a handler returns, the instruction that failed runs again, "
        "and the loop never gets to a callback. To see what a loop was at when the program crashed, use "
        "installCrashHandler()"));
  }
  if (loop.lost()) {
    return lostStatus(loop.name());
  }
  if (loop.ended()) {
    return absl::FailedPreconditionError(absl::StrCat("dispatcher ", loop.name(), " is shut down"));
  }
  SignalListeners& listeners = SignalListeners::get();  // may throw, which the event's destructor may not
  std::unique_ptr<SignalEventImpl> event(new SignalEventImpl(loop, signal, std::move(cb)));
  if (absl::Status status = listeners.add(loop, *event); !status.ok()) {
    return status;
  }
  return event;
}

void SignalEventImpl::leaveLoop() {
  loop_->checkThreadOfDestructor("SignalEvent::~SignalEvent");
  SignalListeners::get().remove(*this);
}

absl::Status SignalEventImpl::reopenAfterFork(Loop& loop) {
  SignalListeners* const listeners = SignalListeners::peek();
  return listeners != nullptr ? listeners->reopen(loop) : absl::OkStatus();
}

void SignalEventImpl::reportFailedDescriptor() { SignalListeners::get().reportFailedDescriptor(); }

void SignalEventImpl::stopAll(Loop& loop) {
  if (SignalListeners* const listeners = SignalListeners::peek(); listeners != nullptr) {
    listeners->removeAll(loop);
  }
}

}  // namespace nuncio
