#pragma once

#include "absl/status/statusor.h"

#include "nuncio/event/callback.h"
#include "nuncio/event/signal_event.h"
#include "source/event/impl_base.h"

namespace nuncio {

class SignalEventImpl final : public SignalEvent, private ImplBase {
public:
  // See Dispatcher::listenForSignal.
  static absl::StatusOr<SignalEventPtr> create(const LoopRef& loop, int signal, SignalCb cb);
  ~SignalEventImpl() override;

private:
  SignalEventImpl(const LoopRef& loop, SignalCb cb) : ImplBase(loop), cb_(std::move(cb)) {}

  SignalCb cb_;
  bool counted_ = false;  // among the enabled events of the loop
};

}  // namespace nuncio
