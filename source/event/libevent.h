#pragma once

#include "absl/status/statusor.h"
#include "event2/event.h"

#include "nuncio/common/c_smart_ptr.h"

// The only door to libevent: ownership of its objects, and how an event_base is made. Included by *_impl files and
// loop.h alone.
namespace nuncio {

using EventBasePtr = CSmartPtr<event_base, event_base_free>;
using EventConfigPtr = CSmartPtr<event_config, event_config_free>;
using EventPtr = CSmartPtr<event, event_free>;

// An event_base on epoll, without locks: nobody calls libevent from a second thread here. Also, once for the process:
// sends libevent's messages to our log, and ignores SIGPIPE where its action is the default. ResourceExhausted when the
// process lacks descriptors or memory.
absl::StatusOr<EventBasePtr> newEventBase();

}  // namespace nuncio
