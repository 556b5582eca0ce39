#include "source/event/libevent.h"

#include <array>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <mutex>
#include <unistd.h>

#include "nuncio/common/assert.h"
#include "nuncio/common/file_descriptor.h"
#include "nuncio/common/logging.h"
#include "nuncio/common/no_fork.h"
#include "source/common/errno_status.h"

namespace nuncio {
namespace {

// Descriptors that are kept for libevent until it asks for them: the kernel gives out numbers one by one, to whichever
// thread asks first.
class Reserve {
public:
  // As many as are needed, its pair of signal descriptors among them; and as many again as it needs to try for the pair
  // once more.
  static constexpr std::size_t kMost = 5;
  static constexpr std::size_t kSpare = 2;

  explicit Reserve(std::size_t needed) : needed_(needed) {}

  absl::Status open() {
    for (std::size_t i = 0; i < needed_ + kSpare; ++i) {
      descriptors_[i] = FileDescriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      if (descriptors_[i].get() < 0 && i < needed_) {
        return errnoStatus(errno, "no descriptors for a dispatcher, which takes five (four in simulated time)");
      }
    }
    return absl::OkStatus();
  }
  void releaseNeeded() { release(0, needed_); }
  void releaseSpare() { release(needed_, kSpare); }

private:
  void release(std::size_t first, std::size_t number) {
    for (std::size_t i = first; i < first + number; ++i) {
      descriptors_[i] = FileDescriptor();
    }
  }

  const std::size_t needed_;
  std::array<FileDescriptor, kMost + kSpare> descriptors_;
};

// A call of libevent that may end in its exit(): where to go instead.
struct Attempt {
  std::jmp_buf escape;
  Reserve* reserve;  // null: none
};
thread_local constinit Attempt* current_attempt = nullptr;
thread_local constinit bool log_off = false;

void logLibevent(int severity, const char* message) {
  if (log_off) {
    return;
  }
  const int saved_errno = errno;  // libevent's callers look at it after the message
  if (severity == EVENT_LOG_ERR && current_attempt == nullptr) {
    NUNCIO_LOG(Event, err, "libevent: {}", message);
  } else if (severity == EVENT_LOG_ERR || severity == EVENT_LOG_WARN) {
    NUNCIO_LOG(Event, debug, "libevent: {}", message);  // each is also an error that we return, and name better
    if (current_attempt != nullptr && current_attempt->reserve != nullptr) {
      current_attempt->reserve->releaseSpare();  // it found no pipe, and tries a pair of sockets next
    }
  } else {
    NUNCIO_LOG(Event, trace, "libevent: {}", message);
  }
  errno = saved_errno;
}

// libevent's exit() follows when this returns.
void onLibeventFatal(int error) {
  constexpr int kFailedAssertion = static_cast<int>(0xdeaddead);  // where it would call abort() by itself
  if (error == kFailedAssertion) {
    std::abort();
  }
  if (current_attempt != nullptr) {
    std::longjmp(current_attempt->escape, 1);
  }
}

// Calls `f`, which calls libevent and nothing that has a destructor. False where libevent would have ended the process:
// what it had made by then is lost.
template <class F>
bool attempt(Reserve* reserve, F f) {
  Attempt here{.escape = {}, .reserve = reserve};
  current_attempt = &here;
  if (setjmp(here.escape) != 0) {  // NOLINT(cert-err52-cpp): an exception would need unwind tables in libevent
    current_attempt = nullptr;
    return false;
  }
  f();
  current_attempt = nullptr;
  return true;
}

void prepareProcess() {
  const NoFork no_fork;  // a child could find it begun
  static std::once_flag once;
  std::call_once(once, [] {
    event_set_log_callback(&logLibevent);
    event_set_fatal_callback(&onLibeventFatal);
    struct sigaction action{};
    if (sigaction(SIGPIPE, nullptr, &action) == 0 && action.sa_handler == SIG_DFL) {
      action = {};
      action.sa_handler = [](int) {};  // not SIG_IGN, which exec would pass on to other programs
      action.sa_flags = SA_RESTART;
      NUNCIO_RELEASE_ASSERT(sigaction(SIGPIPE, &action, nullptr) == 0, "sigaction for SIGPIPE");
    }
  });
}

}  // namespace

absl::StatusOr<EventBasePtr> newEventBase(int flags, std::size_t descriptors) {
  prepareProcess();
  const EventConfigPtr config(event_config_new());
  if (config == nullptr) {
    return absl::ResourceExhaustedError("no memory for an event_config");
  }
  for (const char* method : {"select", "poll", "devpoll"}) {
    // Else a lack of descriptors would end in a slower backend.
    if (event_config_avoid_method(config.get(), method) != 0) {
      return absl::ResourceExhaustedError("no memory for an event_config");
    }
  }
  event_config_set_flag(config.get(), flags | EVENT_BASE_FLAG_IGNORE_ENV);
  Reserve reserve(descriptors);
  if (absl::Status status = reserve.open(); !status.ok()) {
    return status;
  }
  event_base* base = nullptr;
  const bool survived = attempt(&reserve, [&] {
    reserve.releaseNeeded();
    base = event_base_new_with_config(config.get());
  });
  if (!survived) {
    return absl::ResourceExhaustedError(
        "no descriptors for a dispatcher: other threads took some of the five that it takes; raise the limit of open "
        "files (ulimit -n)");
  }
  if (base == nullptr) {
    return absl::ResourceExhaustedError("libevent could not create an event_base on epoll (descriptors, memory?)");
  }
  return EventBasePtr(base);
}

Reinited reinitEventBase(event_base* base) {
  int result = -1;
  if (!attempt(nullptr, [&] { result = event_reinit(base); })) {
    return Reinited::No;
  }
  return result == 0 ? Reinited::Yes : Reinited::InPart;
}

LibeventLogOff::LibeventLogOff() { log_off = true; }
LibeventLogOff::~LibeventLogOff() { log_off = false; }

}  // namespace nuncio
