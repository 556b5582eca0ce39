#include "source/event/signal_event_impl.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <memory>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/mutex.h"
#include "source/common/errno_status.h"
#include "source/event/file_event_impl.h"

namespace nuncio {
namespace {

// What the signal handler touches. The eventfd is opened once and never closed, so that a handler that runs late, on
// any thread, cannot write into a stranger's descriptor.
std::atomic<uint64_t> pending_signals{0};  // bit s - 1 for signal s
std::atomic<int> signal_fd{-1};
std::atomic<bool> ever_listened{false};
static_assert(NSIG - 1 <= 64);

uint64_t bitOf(int signal) { return uint64_t{1} << (signal - 1); }

}  // namespace

void SignalEventImpl::onSignal(int signal) {
  // Acquire/release: the loop that takes a bit sees what the handler's thread did before.
  if (pending_signals.fetch_or(bitOf(signal), std::memory_order_acq_rel) == 0) {
    const int saved_errno = errno;
    const uint64_t one = 1;
    if (::write(signal_fd.load(std::memory_order_relaxed), &one, sizeof(one)) < 0 && errno != EAGAIN) {
      descriptor_error.store(errno, std::memory_order_relaxed);  // EAGAIN: it is readable as it is
    }
    errno = saved_errno;
  }
}

namespace {

absl::Status openSignalFd() {
  if (signal_fd.load(std::memory_order_relaxed) < 0) {
    const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0) {
      return errnoStatus(errno, "eventfd for signals");
    }
    signal_fd.store(fd, std::memory_order_relaxed);
    ever_listened.store(true, std::memory_order_relaxed);
  }
  return absl::OkStatus();
}

}  // namespace

// The listeners of the process, all of one dispatcher: a signal is delivered to the process, not to a thread.
class SignalListeners {
public:
  static SignalListeners& get() {
    static SignalListeners& listeners = *new SignalListeners;  // never destroyed: handles may outlive main
    return listeners;
  }

  absl::Status add(const LoopRef& loop, SignalEventImpl& event) {
    const MutexLock lock(lock_);
    if (owner_ != nullptr && owner_ != &*loop) {
      return absl::FailedPreconditionError(absl::StrCat("dispatcher ", owner_->name(),
                                                        " listens for signals; one dispatcher of a process can, so ask "
                                                        "it to, and post from its callback"));
    }
    events_.reserve(events_.size() + 1);  // what may throw comes before the handler is installed
    if (absl::Status status = openSignalFd(); !status.ok()) {
      return status;
    }
    if (fd_event_ == nullptr) {
      absl::StatusOr<FileEventPtr> fd_event = FileEventImpl::create(
          loop, signal_fd.load(std::memory_order_relaxed), [this](uint32_t) { dispatch(); }, FileTriggerType::Edge,
          FileReadyType::Read);
      if (!fd_event.ok()) {
        return fd_event.status();
      }
      fd_event_ = *std::move(fd_event);
      --loop->enabled_events;  // the listeners count
      owner_ = &*loop;
    }
    if (std::none_of(events_.begin(), events_.end(),
                     [&event](const SignalEventImpl* other) { return other->signal_ == event.signal_; })) {
      struct sigaction action{};
      action.sa_handler = &SignalEventImpl::onSignal;
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
    ++loop->enabled_events;
    return absl::OkStatus();
  }

  void remove(SignalEventImpl& event) {
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
      sigaction(event.signal_, &former_actions_[static_cast<std::size_t>(event.signal_)], nullptr);
      pending_signals.fetch_and(~bitOf(event.signal_), std::memory_order_relaxed);
    }
    releaseIfUnused();
  }

  void removeAll(const Loop& loop) {
    for (;;) {
      SignalEventImpl* first = nullptr;
      {
        const MutexLock lock(lock_);
        first = owner_ == &loop && !events_.empty() ? events_.front() : nullptr;
      }
      if (first == nullptr) {
        return;
      }
      remove(*first);
    }
  }

  void reportFailedDescriptor(Loop& loop, int error) {
    const MutexLock lock(lock_);
    if (owner_ != nullptr && owner_ != &loop) {
      return;  // it will see for itself
    }
    const int fd = signal_fd.exchange(-1, std::memory_order_relaxed);  // the next to listen opens another
    SignalEventImpl::descriptor_error.store(0, std::memory_order_relaxed);
    if (owner_ != nullptr) {
      owner_->posts->fail("write, for a signal,", fd, error);
    }
  }

private:
  // A child must not find the lock taken by a thread that it does not have.
  SignalListeners() {
    pthread_atfork([]() ABSL_NO_THREAD_SAFETY_ANALYSIS { get().lock_.lock(); }, &unlockAfterFork, &unlockAfterFork);
  }
  static void unlockAfterFork() ABSL_NO_THREAD_SAFETY_ANALYSIS { get().lock_.unlock(); }

  void releaseIfUnused() ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    if (events_.empty() && fd_event_ != nullptr) {
      ++owner_->enabled_events;  // as its destructor counts it out again
      fd_event_.reset();
      owner_ = nullptr;
    }
  }

  // On the owner's thread. A callback may destroy any listener, itself too, or add some.
  void dispatch() {
    const uint64_t signals = pending_signals.exchange(0, std::memory_order_acq_rel);
    WorkList ready;
    {
      const MutexLock lock(lock_);
      for (SignalEventImpl* event : events_) {
        if ((signals & bitOf(event->signal_)) != 0) {
          ready.add(*event);
        }
      }
    }
    while (!ready.empty()) {
      ready.takeFirst().runWork();
    }
  }

  Mutex lock_;
  Loop* owner_ ABSL_GUARDED_BY(lock_) = nullptr;  // alive: its listeners hold it
  FileEventPtr fd_event_ ABSL_GUARDED_BY(lock_);
  std::vector<SignalEventImpl*> events_ ABSL_GUARDED_BY(lock_);
  std::array<struct sigaction, NSIG> former_actions_ ABSL_GUARDED_BY(lock_){};
};

absl::StatusOr<SignalEventPtr> SignalEventImpl::create(const LoopRef& loop, int signal, SignalCb cb) {
  constexpr const char* kOperation = "Dispatcher::listenForSignal";
  loop->checkThread(kOperation);
  if (!NUNCIO_CONTRACT(cb != nullptr, loop->name(), kOperation, absl::StrCat("signal ", signal, ": null callback"))) {
    return absl::InvalidArgumentError(absl::StrCat("signal ", signal, ": null callback"));
  }
  if (signal <= 0 || signal >= NSIG || signal == SIGKILL || signal == SIGSTOP) {
    return absl::InvalidArgumentError(absl::StrCat("signal ", signal, ": no signal that can be caught"));
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

void SignalEventImpl::destroyAndFree(SignalEventImpl* event) {
  event->~SignalEventImpl();
  ::operator delete(event);
}

void SignalEventImpl::reportFailedDescriptor(Loop& loop) {
  SignalListeners::get().reportFailedDescriptor(loop, descriptor_error.load(std::memory_order_relaxed));
}

void SignalEventImpl::stopAll(Loop& loop) {
  if (ever_listened.load(std::memory_order_relaxed)) {  // else get() may throw
    SignalListeners::get().removeAll(loop);
  }
}

}  // namespace nuncio
