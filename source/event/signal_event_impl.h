#pragma once

#include <atomic>
#include <new>

#include "absl/status/statusor.h"

#include "nuncio/event/callback.h"
#include "nuncio/event/signal_event.h"
#include "source/event/loop.h"

namespace nuncio {

// SignalEventImpl: a listener for one signal.
//
// Not libevent's: its handler writes a byte for each signal into a pipe, and a flood of one signal that fills the pipe
// hides all others, and after 65,536 of them itself (its counter has 16 bits). Ours sets a bit and writes to an
// eventfd, so that a signal is never lost, and costs the same however often it comes.
class SignalEventImpl final : public SignalEvent, private WorkItem {
public:
  // See Dispatcher::listenForSignal.
  static absl::StatusOr<SignalEventPtr> create(const LoopRef& loop, int signal, SignalCb cb);
  ~SignalEventImpl() override = default;
  static void operator delete(SignalEventImpl* event, std::destroying_delete_t) { Loop::destroyHandle(event); }

  // Stops listening to all signals, when the dispatcher goes before its handles.
  static void stopAll(Loop& loop);

  // Whether the handler's write to the eventfd has failed. Any thread.
  static bool descriptorFailed() { return descriptor_error.load(std::memory_order_relaxed) != 0; }
  // Then: has the loop end its run, if it is the one that listens.
  static void reportFailedDescriptor(Loop& loop);

private:
  friend class Loop;
  friend class SignalListeners;
  SignalEventImpl(const LoopRef& loop, int signal, SignalCb cb) : loop_(loop), signal_(signal), cb_(std::move(cb)) {}
  static void onSignal(int signal);  // the handler
  void leaveLoop();
  static void destroyAndFree(SignalEventImpl* event);
  void runWork() override { loop_->callOwned("signal", *this); }

  static inline std::atomic<int> descriptor_error{0};  // relaxed: it guards nothing

  LoopRef loop_;
  const int signal_;
  SignalCb cb_;
  bool listening_ = false;
};

}  // namespace nuncio
