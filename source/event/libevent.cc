#include "source/event/libevent.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <mutex>
#include <unistd.h>

#include "nuncio/common/file_descriptor.h"
#include "nuncio/common/logging.h"
#include "source/common/errno_status.h"

namespace nuncio {
namespace {

void logLibevent(int severity, const char* message) {
  const int saved_errno = errno;  // libevent's callers look at it after the message
  if (severity == EVENT_LOG_ERR) {
    NUNCIO_LOG(Event, err, "libevent: {}", message);
  } else if (severity == EVENT_LOG_WARN) {
    NUNCIO_LOG(Event, debug, "libevent: {}", message);  // each is also an error that we return, and name better
  } else {
    NUNCIO_LOG(Event, trace, "libevent: {}", message);
  }
  errno = saved_errno;
}

void prepareProcess() {
  static std::once_flag once;
  std::call_once(once, [] {
    event_set_log_callback(&logLibevent);
    struct sigaction action{};
    if (sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) {
      signal(SIGPIPE, SIG_IGN);
    }
  });
}

// libevent 2.1 calls exit() when it finds no descriptors for its pipe of signals, so look before: an epoll, a pipe.
absl::Status checkDescriptors() {
  std::array<FileDescriptor, 3> probes;
  for (FileDescriptor& probe : probes) {
    probe = FileDescriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (probe.get() < 0) {
      return errnoStatus(errno, "no descriptors for a dispatcher");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<EventBasePtr> newEventBase() {
  prepareProcess();
  if (absl::Status status = checkDescriptors(); !status.ok()) {
    return status;
  }
  const EventConfigPtr config(event_config_new());
  if (config == nullptr) {
    return absl::ResourceExhaustedError("no memory for an event_config");
  }
  for (const char* method : {"select", "poll", "devpoll"}) {
    event_config_avoid_method(config.get(), method);  // else a lack of descriptors would end in a slower backend
  }
  event_config_set_flag(config.get(), EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV);
  EventBasePtr base(event_base_new_with_config(config.get()));
  if (base == nullptr) {
    return absl::ResourceExhaustedError("libevent could not create an event_base on epoll (descriptors, memory?)");
  }
  return base;
}

}  // namespace nuncio
