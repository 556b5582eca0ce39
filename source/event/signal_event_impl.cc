#include "source/event/signal_event_impl.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/mutex.h"
#include "nuncio/common/no_fork.h"
#include "source/common/fork.h"
#include "source/common/made_once.h"

namespace nuncio {
namespace {

static_assert(NSIG - 1 <= 64, "signals fit into the bits of a word");

bool isFault(int signal) {
  constexpr std::array<int, 6> kFaults = {SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGTRAP, SIGSYS};
  return std::find(kFaults.begin(), kFaults.end(), signal) != kFaults.end();
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
    if (!listensFor(event.signal_)) {
      struct sigaction& former = formerAction(event.signal_);
      if (sigaction(event.signal_, nullptr, &former) != 0) {
        return absl::InvalidArgumentError(
            absl::StrCat("signal ", event.signal_, ": ", std::strerror(errno), " (the C library may reserve it)"));
      }
      if (absl::Status status = loop.backend().listen(event.signal_); !status.ok()) {
        restoreFormerAction(event.signal_);  // libevent may have failed after it has set its own
        return status;
      }
    }
    owner_ = &loop;
    events_.push_back(&event);
    event.listening_ = true;
    loop.watch();
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
    event.loop_->unwatch();
    events_.erase(std::find(events_.begin(), events_.end(), &event));
    if (!listensFor(event.signal_)) {
      restoreFormerAction(event.signal_);
      event.loop_->backend().unlisten(event.signal_);
    }
    if (events_.empty()) {
      owner_ = nullptr;
    }
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

  // The owner may be asleep, since what failed should have woken it.
  void reportFailure(Loop& loop) {
    const NoFork no_fork;
    const MutexLock lock(lock_);
    (owner_ != nullptr ? owner_ : &loop)->backend().reportFailedSignals();
  }

  // On the owner's thread. A callback may destroy any listener, itself too, or add some.
  void dispatch(uint64_t signals) {
    WorkList ready;
    {
      const NoFork no_fork;
      const MutexLock lock(lock_);
      for (SignalEventImpl* event : events_) {
        if ((signals & signalBit(event->signal_)) != 0) {
          ready.add(*event);
        }
      }
    }
    // A callback may fork: what comes after it is the parent's.
    for (const uint32_t process = forkGeneration(); !ready.empty() && forkGeneration() == process;) {
      ready.takeFirst().runWork();
    }
  }

private:
  friend class MadeOnce<SignalListeners>;
  SignalListeners() { watchForks(); }

  // ForkAware. No thread is in the midst of it: see above.
  void afterForkInChild() override ABSL_NO_THREAD_SAFETY_ANALYSIS {
    if (owner_ == nullptr || !owner_->leftBehind()) {
      return;
    }
    // The listeners are of a loop that was left in the parent, as is all that belongs to it.
    for (SignalEventImpl* const event : events_) {
      event->listening_ = false;
      restoreFormerAction(event->signal_);
    }
    events_.clear();
    owner_ = nullptr;
  }

  bool listensFor(int signal) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    return std::any_of(events_.begin(), events_.end(),
                       [signal](const SignalEventImpl* event) { return event->signal_ == signal; });
  }
  struct sigaction& formerAction(int signal) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    return former_actions_[static_cast<std::size_t>(signal)];
  }
  // Cannot fail: it has worked with that signal before.
  void restoreFormerAction(int signal) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_) {
    (void)sigaction(signal, &formerAction(signal), nullptr);
  }

  static inline constinit MadeOnce<SignalListeners> made_;

  Mutex lock_;
  Loop* owner_ ABSL_GUARDED_BY(lock_) = nullptr;  // alive: its listeners hold it
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
  loop.checkFork();                                     // else the parent's event_base would get the child's signal
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

void SignalEventImpl::dispatch(uint64_t signals) { SignalListeners::get().dispatch(signals); }

void SignalEventImpl::reportFailure(Loop& loop) { SignalListeners::get().reportFailure(loop); }

void SignalEventImpl::stopAll(Loop& loop) {
  if (SignalListeners* const listeners = SignalListeners::peek(); listeners != nullptr) {
    listeners->removeAll(loop);
  }
}

}  // namespace nuncio
