#pragma once

#include <atomic>
#include <new>

#include "absl/status/statusor.h"

#include "nuncio/event/callback.h"
#include "nuncio/event/signal_event.h"
#include "source/event/loop.h"

namespace nuncio {

// The error of the signal handler's write to its eventfd; 0 while there was none. Relaxed: it guards nothing.
inline std::atomic<int> signal_descriptor_error{0};

// SignalEventImpl: a listener for one signal.
//
// Not libevent's: its handler writes a byte for each signal into a pipe, and a flood of one signal that fills the pipe
// hides all others, and after 65,536 of them itself (its counter has 16 bits). Ours sets a bit and writes to an
// eventfd, so that a signal is never lost, and costs the same however often it comes.
class SignalEventImpl final : public SignalEvent, private WorkItem {
public:
  // See Dispatcher::listenForSignal.
  static absl::StatusOr<SignalEventPtr> create(Loop& loop, int signal, SignalCb cb);
  ~SignalEventImpl() override = default;
  static void operator delete(SignalEventImpl* event, std::destroying_delete_t) { Loop::destroyHandle(event); }

  // Stops listening to all signals, when the dispatcher goes before its handles.
  static void stopAll(Loop& loop);
  // In the child of a fork, for its own loop: listens with an eventfd of its own instead of the parent's.
  static absl::Status reopenAfterFork(Loop& loop);

  // Whether the handler's write to the eventfd has failed. Any thread.
  static bool descriptorFailed() { return signal_descriptor_error.load(std::memory_order_relaxed) != 0; }
  // Then: has the loop that listens end its run. Any thread.
  static void reportFailedDescriptor();

private:
  friend class Loop;
  friend class SignalListeners;
  SignalEventImpl(Loop& loop, int signal, SignalCb cb)
      : loop_(loop.countHandle()), signal_(signal), cb_(std::move(cb)) {}
  void leaveLoop();
  static void freeMemory(Loop&, SignalEventImpl* event) { ::operator delete(event); }
  void runWork() override { loop_->callOwned("signal", *this); }

  Loop* const loop_;
  const int signal_;
  SignalCb cb_;
  bool listening_ = false;
};

}  // namespace nuncio
