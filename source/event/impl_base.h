#pragma once

#include "source/event/loop.h"

namespace nuncio {

// ImplBase: what kinds of events on libevent have in common: the raw event, which it deletes, and the loop.
class ImplBase {
protected:
  explicit ImplBase(const LoopRef& loop) : loop_(loop) {}
  ~ImplBase() {
    if (raw_event_ != nullptr) {
      loop_->checkFork();  // before event_free reaches into an epoll that may be the parent's
    }
  }

  LoopRef loop_;        // outlives the event, and the event_base with it
  EventPtr raw_event_;  // null until it is made
};

}  // namespace nuncio
