#pragma once

#include <memory>

namespace nuncio {

// SignalEvent: a registration for a signal; see Dispatcher::listenForSignal. Destroying it restores the handler that
// the process had before, also in its own callback. Threads: the dispatcher's thread only.
class SignalEvent {
public:
  virtual ~SignalEvent() = default;
};

using SignalEventPtr = std::unique_ptr<SignalEvent>;

}  // namespace nuncio
