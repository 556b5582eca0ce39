#pragma once

#include <cstdint>
#include <new>
#include <utility>

#include "absl/status/statusor.h"

#include "nuncio/event/callback.h"
#include "nuncio/event/signal_event.h"
#include "source/event/loop.h"

namespace nuncio {

// SignalEventImpl: a listener for one signal. How signals come is the backend's matter.
class SignalEventImpl final : public SignalEvent, private WorkItem {
public:
  // See Dispatcher::listenForSignal.
  static absl::StatusOr<SignalEventPtr> create(Loop& loop, int signal, SignalCb cb);
  ~SignalEventImpl() override = default;
  static void operator delete(SignalEventImpl* event, std::destroying_delete_t) { Loop::destroyHandle(event); }

  // Stops listening to all signals, when the dispatcher goes before its handles.
  static void stopAll(Loop& loop);
  // Calls back the listeners of `signals` (bit s - 1 for signal s), all of `loop`.
  static void dispatch(uint64_t signals);
  // Backend::signalsFailed() of `loop`, or another, says so: has the loop that listens end its run. Any thread.
  static void reportFailure(Loop& loop);

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
