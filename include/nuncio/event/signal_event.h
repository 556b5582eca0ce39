#pragma once

#include <memory>

namespace nuncio {

// SignalEvent: a registration for a signal; see Dispatcher::listenForSignal. A dispatcher can have several for the same
// signal, and each is called back. Destroying the last one of a signal, also in its own callback, and destroying the
// dispatcher, restores the action that the process had before; a signal that has come by then, and was not called back,
// is lost. So to change the callback make the new one first; to change the dispatcher block the signal meanwhile.
// Threads: the dispatcher's thread only.
class SignalEvent {
public:
  virtual ~SignalEvent() = default;
};

using SignalEventPtr = std::unique_ptr<SignalEvent>;

}  // namespace nuncio
