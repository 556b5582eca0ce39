#pragma once

#include <cstddef>

#include "absl/status/statusor.h"
#include "event2/event.h"

#include "nuncio/common/c_smart_ptr.h"

// The only door to libevent: ownership of its objects, and how an event_base is made. Its functions are called by
// libevent.cc, the backends and file_event_impl.cc alone.
namespace nuncio {

using EventBasePtr = CSmartPtr<event_base, event_base_free>;
using EventConfigPtr = CSmartPtr<event_config, event_config_free>;
using EventPtr = CSmartPtr<event, event_free>;

// An event_base on epoll, with `flags` (EVENT_BASE_FLAG_*) beside ours, which needs so many descriptors. Also, once for
// the process: sends libevent's messages to our log, puts our function in place of its exit(), and handles SIGPIPE, by
// doing nothing, where its action is the default. ResourceExhausted when the process lacks descriptors or memory.
//
// libevent 2.1 calls exit() when it finds no descriptors for its pair of signal sockets. They are reserved before, and
// when other threads take them in the moment in which they pass to libevent, twice in a row, control leaves libevent by
// longjmp. That loses the epoll descriptor, whose number nobody but libevent knows, and about 3 KB.
absl::StatusOr<EventBasePtr> newEventBase(int flags, std::size_t descriptors);

// event_reinit, for the child of a fork. InPart: some descriptors cannot be watched any more. No: for lack of
// descriptors or memory, where libevent would have called exit(); `base` is not to be used any more, nor freed.
enum class Reinited { Yes, InPart, No };
Reinited reinitEventBase(event_base* base);

// While it lives, what libevent has to say on this thread is not logged.
class LibeventLogOff {
public:
  LibeventLogOff();
  LibeventLogOff(const LibeventLogOff&) = delete;
  LibeventLogOff& operator=(const LibeventLogOff&) = delete;
  ~LibeventLogOff();
};

}  // namespace nuncio
