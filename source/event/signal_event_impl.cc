#include "source/event/signal_event_impl.h"

#include <cerrno>
#include <csignal>
#include <cstring>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/mutex.h"

namespace nuncio {
namespace {

// libevent delivers the signals of a process to one event_base: the last that asked, with no word to the one before.
class SignalOwner {
public:
  static SignalOwner& get() {
    static SignalOwner& owner = *new SignalOwner;  // never destroyed: handles may outlive main
    return owner;
  }

  absl::Status acquire(Loop& loop) {
    const MutexLock lock(lock_);
    if (owner_ != nullptr && owner_ != &loop) {
      return absl::FailedPreconditionError(absl::StrCat("dispatcher ", owner_->name(),
                                                        " listens for signals; one dispatcher of a process can, so ask "
                                                        "it to, and post from its callback"));
    }
    owner_ = &loop;
    ++events_;
    return absl::OkStatus();
  }

  void release() {
    const MutexLock lock(lock_);
    if (--events_ == 0) {
      owner_ = nullptr;
    }
  }

private:
  Mutex lock_;
  const Loop* owner_ ABSL_GUARDED_BY(lock_) = nullptr;  // alive: its events hold it
  int events_ ABSL_GUARDED_BY(lock_) = 0;
};

}  // namespace

absl::StatusOr<SignalEventPtr> SignalEventImpl::create(const LoopRef& loop, int signal, SignalCb cb) {
  constexpr const char* kOperation = "Dispatcher::listenForSignal";
  loop->checkThread(kOperation);
  if (!NUNCIO_CONTRACT(cb != nullptr, loop->name(), kOperation, absl::StrCat("signal ", signal, ": null callback"))) {
    return absl::InvalidArgumentError(absl::StrCat("signal ", signal, ": null callback"));
  }
  if (signal <= 0 || signal >= NSIG || signal == SIGKILL || signal == SIGSTOP) {
    return absl::InvalidArgumentError(absl::StrCat("signal ", signal, ": no signal that can be caught"));
  }
  if (absl::Status status = SignalOwner::get().acquire(*loop); !status.ok()) {
    return status;
  }
  loop->checkFork();
  std::unique_ptr<SignalEventImpl> event(new SignalEventImpl(loop, std::move(cb)));
  event->raw_event_.reset(event_new(
      loop->base(), signal, EV_SIGNAL | EV_PERSIST,
      [](evutil_socket_t, short, void* self) {
        auto* const impl = static_cast<SignalEventImpl*>(self);
        ++impl->loop_->events_delivered;
        impl->loop_->callOwned("signal", impl->cb_);
      },
      event.get()));
  if (event->raw_event_ == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("signal ", signal, ": no memory for an event"));
  }
  if (event_add(event->raw_event_.get(), nullptr) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("signal ", signal, ": ", std::strerror(errno), " (the C library may reserve it)"));
  }
  ++loop->enabled_events;
  event->counted_ = true;
  return event;
}

SignalEventImpl::~SignalEventImpl() {
  loop_->checkThreadOfDestructor("SignalEvent::~SignalEvent");
  loop_->forgetOwned(&cb_);
  loop_->enabled_events -= counted_ ? 1 : 0;
  if (raw_event_ != nullptr) {
    loop_->checkFork();
    raw_event_.reset();  // restores the handler, before another dispatcher may listen
  }
  SignalOwner::get().release();
}

}  // namespace nuncio
