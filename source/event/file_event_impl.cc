#include "source/event/file_event_impl.h"

#include <cerrno>
#include <fcntl.h>
#include <new>
#include <poll.h>
#include <sys/stat.h>
#include <utility>

#include "absl/hash/hash.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/logging.h"
#include "source/common/errno_status.h"

namespace nuncio {
namespace {

constexpr uint32_t kAllEvents = FileReadyType::Read | FileReadyType::Write | FileReadyType::Closed;

absl::Status refused(int fd, int error) {
  const char* const hint = error == EBADF    ? " (is it closed already?)"
                           : error == EPERM  ? " (epoll cannot watch it: a file or directory is always ready)"
                           : error == ENOSPC ? " (the limit fs.epoll.max_user_watches is reached?)"
                                             : "";
  return errnoStatus(error, absl::StrCat("fd ", fd, hint));
}

absl::Status noBaseStatus(const Loop& loop) {
  return absl::ResourceExhaustedError(
      absl::StrCat("dispatcher ", loop.name(), " got no epoll of its own in the child of a fork"));
}

// Whether the stream has ended or failed, asked without reading from it.
bool hungUp(int fd) {
  pollfd poll_fd{fd, POLLRDHUP, 0};
  int ready = 0;
  do {
    ready = ::poll(&poll_fd, 1, 0);
  } while (ready < 0 && errno == EINTR);
  return ready > 0 && (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

// Of a file's identity: device and inode.
uint32_t hashOf(const struct stat& file) {
  return static_cast<uint32_t>(absl::HashOf(uint64_t{file.st_dev}, uint64_t{file.st_ino}));
}

}  // namespace

absl::StatusOr<FileEventPtr> FileEventImpl::create(Loop& loop, int fd, FileReadyCb cb, FileTriggerType trigger,
                                                   uint32_t events, bool own) {
  constexpr const char* kOperation = "Dispatcher::createFileEvent";
  loop.checkThread(kOperation);
  if (loop.lost()) {
    return lostStatus(loop.name());
  }
  if (loop.ended()) {
    return absl::FailedPreconditionError(absl::StrCat("dispatcher ", loop.name(), " is shut down"));
  }
  loop.checkFork();
  if (loop.base() == nullptr) {
    return noBaseStatus(loop);
  }
  if (fd < 0) {
    return absl::InvalidArgumentError(absl::StrCat("fd ", fd, ": not a file descriptor"));
  }
  if (!NUNCIO_CONTRACT(cb != nullptr, loop.name(), kOperation, absl::StrCat("fd ", fd, ": null callback"))) {
    return absl::InvalidArgumentError(absl::StrCat("fd ", fd, ": null callback"));
  }
  if ((events & ~kAllEvents) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("fd ", fd, ": unknown event bits in ", events));
  }
  if (::fcntl(fd, F_GETFL) < 0) {
    return refused(fd, errno);
  }
  std::unique_ptr<FileEventImpl> event(new (std::nothrow) FileEventImpl(loop, fd, std::move(cb), trigger, own));
  if (event == nullptr || event->raw_event_ == nullptr) {
    return noMemoryStatus("a file event");
  }
  if (absl::Status status = event->enable(events); !status.ok()) {
    return status;
  }
  return event;
}

FileEventImpl::FileEventImpl(Loop& loop, int fd, FileReadyCb cb, FileTriggerType trigger, bool own)
    : loop_(loop.countHandle()), cb_(std::move(cb)), fd_(fd), edge_(trigger == FileTriggerType::Edge), own_(own) {
  rememberDescriptor();
  raw_event_.reset(event_new(
      loop_->base(), fd_, libeventFlags(),
      [](evutil_socket_t, short what, void* self) { static_cast<FileEventImpl*>(self)->onReady(what); }, this));
}

void FileEventImpl::rememberDescriptor() {
  if constexpr (assert_internal::kDebug) {
    if (struct stat file{}; ::fstat(fd_, &file) == 0) {
      identity_ = hashOf(file);
      identity_generation_ = static_cast<uint8_t>(forkGeneration());
    }
  }
}

void FileEventImpl::checkDescriptor(const char* operation) const {
  if constexpr (assert_internal::kDebug) {
    if (loop_->dispatcherIsGone() || identity_generation_ != static_cast<uint8_t>(forkGeneration()) ||
        loop_->posts->failed()) {
      return;
    }
    struct stat file{};
    const bool open = ::fstat(fd_, &file) == 0;
    NUNCIO_CONTRACT(open && hashOf(file) == identity_, loop_->name(), operation,
                    absl::StrCat("fd ", fd_, open ? ": the number is another descriptor's by now" : ": closed by now",
                                 "; a descriptor is to be closed only after its event is destroyed"));
  }
}

void FileEventImpl::leaveLoop() {
  constexpr const char* kOperation = "FileEvent::~FileEvent";
  loop_->checkThreadOfDestructor(kOperation);
  loop_->checkFork();  // before libevent reaches into an epoll that may be the parent's
  checkDescriptor(kOperation);
  disable();
  loop_->backend().leakIfLost(raw_event_);
  unlink();
}

void FileEventImpl::activate(uint32_t events) {
  constexpr const char* kOperation = "FileEvent::activate";
  loop_->checkThread(kOperation);
  if (!NUNCIO_CONTRACT(events != 0 && (events & ~kAllEvents) == 0, loop_->name(), kOperation,
                       absl::StrCat("fd ", fd_, ": no event bits, or unknown ones, in ", events)) ||
      loop_->over()) {
    return;
  }
  checkDescriptor(kOperation);
  activated_ |= static_cast<uint8_t>(events);
  if (!queued()) {
    loop_->next_iteration.add(*this);
  }
}

bool FileEventImpl::setEnabled(uint32_t events) {
  constexpr const char* kOperation = "FileEvent::setEnabled";
  loop_->checkThread(kOperation);
  if (!NUNCIO_CONTRACT((events & ~kAllEvents) == 0, loop_->name(), kOperation,
                       absl::StrCat("fd ", fd_, ": unknown event bits in ", events)) ||
      loop_->over()) {
    return false;
  }
  checkDescriptor(kOperation);
  activated_ &= static_cast<uint8_t>(events);
  if (activated_ == 0) {
    unlink();
  }
  if (events == enabled_ && !edge_) {
    return true;
  }
  loop_->checkFork();
  disable();
  if (absl::Status status = enable(events); !status.ok()) {
    NUNCIO_LOG(Event, err, "dispatcher {}: FileEvent::setEnabled({}): {}; nothing is enabled now", loop_->name(),
               events, status.ToString());
    return false;
  }
  return true;
}

// libevent reports an error on the descriptor as Read and Write alone. For the sake of those errors, an event that has
// only Closed enabled listens for Read as well; edge-triggered, lest data that nobody reads makes the loop spin; and on
// a duplicate of the descriptor, which to epoll is another one, so that level-triggered events on it stay what they
// are.
bool FileEventImpl::closedOnly() const { return enabled_ == FileReadyType::Closed; }

short FileEventImpl::libeventFlags() const {
  int flags = EV_PERSIST | EV_FINALIZE;  // see libevent_backend.cc; without locks it changes nothing
  flags |= edge_ || closedOnly() ? EV_ET : 0;
  flags |= (enabled_ & FileReadyType::Read) != 0 || closedOnly() ? EV_READ : 0;
  flags |= (enabled_ & FileReadyType::Write) != 0 ? EV_WRITE : 0;
  flags |= (enabled_ & FileReadyType::Closed) != 0 ? EV_CLOSED : 0;
  return static_cast<short>(flags);
}

absl::Status FileEventImpl::enable(uint32_t events) {
  if (events == 0) {
    return absl::OkStatus();
  }
  enabled_ = static_cast<uint8_t>(events);
  absl::Status status;
  try {
    status = add();
  } catch (const std::bad_alloc&) {
    status = noMemoryStatus("a file event");
  }
  if (!status.ok()) {
    duplicate_ = FileDescriptor();
    enabled_ = 0;
    return status;
  }
  if (!own_) {
    loop_->watch();
  }
  return absl::OkStatus();
}

// Throws std::bad_alloc, and has then changed nothing but duplicate_.
absl::Status FileEventImpl::add() {
  if (loop_->base() == nullptr) {
    return noBaseStatus(*loop_);
  }
  int fd = fd_;
  if (closedOnly()) {
    duplicate_ = FileDescriptor(::fcntl(fd_, F_DUPFD_CLOEXEC, 0));
    fd = duplicate_.get();
    if (fd < 0) {
      return refused(fd_, errno);
    }
  }
  switch (loop_->addWatcher(fd, edge_ || closedOnly())) {
    case Loop::AddedWatcher::Yes:
      break;
    case Loop::AddedWatcher::OtherTriggerType:
      return absl::InvalidArgumentError(
          absl::StrCat("fd ", fd_, ": another event on it has the other trigger type; all need the same"));
    case Loop::AddedWatcher::TooMany:
      return absl::ResourceExhaustedError(absl::StrCat("fd ", fd_, ": a dispatcher can have ", Loop::kMaxWatchers,
                                                       " events on a descriptor, not more"));
  }
  event_assign(raw_event_.get(), loop_->base(), fd, libeventFlags(), event_get_callback(raw_event_.get()), this);
  if (event_add(raw_event_.get(), nullptr) != 0) {
    const int error = errno;
    loop_->removeWatcher(fd);
    return refused(fd_, error);
  }
  return absl::OkStatus();
}

void FileEventImpl::disable() {
  if (enabled_ != 0) {
    if (loop_->base() != nullptr &&
        event_del(raw_event_.get()) != 0) {  // not where the descriptor is closed, which libevent takes for removed
      loop_->posts->fail("epoll_ctl", fd_, errno);
    }
    loop_->removeWatcher(event_get_fd(raw_event_.get()));
    duplicate_ = FileDescriptor();
    enabled_ = 0;
    if (!own_) {
      loop_->unwatch();
    }
  }
}

void FileEventImpl::onReady(short what) {
  Loop& loop = *loop_;  // which outlives this
  loop.woke();
  uint32_t events = 0;
  if (closedOnly()) {
    if ((what & EV_CLOSED) == 0 && !hungUp(fd_)) {
      return;  // data came; nobody asked for it
    }
    events = FileReadyType::Closed;
  } else {
    events |= (what & EV_READ) != 0 ? FileReadyType::Read : 0;
    events |= (what & EV_WRITE) != 0 ? FileReadyType::Write : 0;
    events |= (what & EV_CLOSED) != 0 ? FileReadyType::Closed : 0;
  }
  deliver(events);
  loop.countFileEvent();
}

void FileEventImpl::runWork() { deliver(0); }

void FileEventImpl::deliver(uint32_t events) {
  checkDescriptor("the callback of a FileEvent");
  unlink();
  events |= std::exchange(activated_, 0);
  if (closedOnly() && !edge_ && hungUp(fd_)) {
    activate(FileReadyType::Closed);  // again in each iteration, as level-triggered events are
  }
  if (own_) {
    loop_->callUnseen("file event", *this, events);
  } else {
    loop_->callOwned("file event", *this, events);
  }
}

}  // namespace nuncio
