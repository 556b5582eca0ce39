#include "source/network/listener_impl.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/logging.h"
#include "source/common/errno_status.h"
#include "source/network/connection_impl.h"

namespace nuncio::network {
namespace {

constexpr std::chrono::milliseconds kPauseWhenLacking{100};
constexpr std::chrono::seconds kBetweenLogs{1};

bool isLack(int error) { return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM; }

FileDescriptor openSpare() { return FileDescriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

absl::StatusOr<ListenerPtr> Listener::create(Dispatcher& dispatcher, Network& network, const Address& at, AcceptCb cb,
                                             const ListenerOptions& options) {
  absl::StatusOr<ListenHandlePtr> handle = network.listen(at, options.listen);
  if (!handle.ok()) {
    return handle.status();
  }
  return create(dispatcher, *std::move(handle), std::move(cb), options);
}

absl::StatusOr<ListenerPtr> Listener::create(Dispatcher& dispatcher, ListenHandlePtr handle, AcceptCb cb,
                                             const ListenerOptions& options) {
  return ListenerImpl::create(dispatcher, std::move(handle), std::move(cb), options);
}

absl::StatusOr<std::unique_ptr<ListenerImpl>> ListenerImpl::create(Dispatcher& dispatcher, ListenHandlePtr handle,
                                                                   AcceptCb cb, const ListenerOptions& options) {
  if (!NUNCIO_CONTRACT(handle != nullptr && cb != nullptr, dispatcher.name(), "Listener::create",
                       "no handle, or a null callback")) {
    return absl::InvalidArgumentError("Listener::create: no handle, or a null callback");
  }
  if (options.accepts_per_turn <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("ListenerOptions: accepts_per_turn ", options.accepts_per_turn, "; it has to be above 0"));
  }
  if (absl::Status status = checkOptions(options.connection); !status.ok()) {
    return status;
  }
  std::unique_ptr<ListenerImpl> listener(new (std::nothrow)
                                             ListenerImpl(dispatcher, std::move(handle), std::move(cb), options));
  if (listener == nullptr) {
    return noMemoryStatus("a listener");
  }
  absl::StatusOr<FileEventPtr> event = listener->handle_->createReadyEvent(
      dispatcher, [self = listener.get()](uint32_t /*events*/) { self->acceptSome(); });
  if (!event.ok()) {
    return event.status();
  }
  listener->event_ = *std::move(event);
  return listener;
}

ListenerImpl::ListenerImpl(Dispatcher& dispatcher, ListenHandlePtr handle, AcceptCb cb, const ListenerOptions& options)
    : dispatcher_(dispatcher),
      handle_(std::move(handle)),
      address_(handle_->address()),
      cb_(std::move(cb)),
      options_(options),
      count_(std::make_shared<ConnectionCount>(0)),
      spare_(openSpare()) {}

ListenerImpl::~ListenerImpl() {
  if (destroyed_ != nullptr) {
    *destroyed_ = true;
  }
}

ListenerStats ListenerImpl::stats() const {
  ListenerStats stats = stats_;
  stats.open = open();
  return stats;
}

void ListenerImpl::pause() {
  paused_ = true;
  enable();
}

void ListenerImpl::resume() {
  paused_ = false;
  enable();
}

void ListenerImpl::enable() {
  if (event_ != nullptr) {
    event_->setEnabled(paused_ || waits_ ? 0 : FileReadyType::Read);
  }
}

void ListenerImpl::stop() {
  if (handle_ == nullptr) {
    return;
  }
  bool destroyed = false;
  bool* const outer = std::exchange(destroyed_, &destroyed);
  while (handle_ != nullptr && acceptOne()) {
    if (destroyed) {
      if (outer != nullptr) {
        *outer = true;
      }
      return;
    }
  }
  destroyed_ = outer;
  event_.reset();
  handle_.reset();
}

void ListenerImpl::acceptSome() {
  bool destroyed = false;
  destroyed_ = &destroyed;
  for (int i = 0; i < options_.accepts_per_turn && handle_ != nullptr && !paused_ && acceptOne(); ++i) {
    if (destroyed) {
      return;
    }
  }
  if (!destroyed) {
    destroyed_ = nullptr;
  }
}

bool ListenerImpl::acceptOne() {
  ListenHandle::Accepted accepted = handle_->accept();
  if (accepted.handle != nullptr) {
    if (give_away_ == nullptr || !give_away_(accepted.handle)) {
      take(std::move(accepted.handle));
    }
    return true;
  }
  if (accepted.error == EAGAIN) {
    return false;
  }
  if (isLack(accepted.error)) {
    lack(accepted.error);
    return false;
  }
  ++stats_.failed;  // it has ended meanwhile: see accept(2), which wants such errors taken for that
  return accepted.error != EBADF && accepted.error != EINVAL && accepted.error != ENOTSOCK;
}

void ListenerImpl::take(IoHandlePtr handle) {
  if (open() >= options_.max_connections) {
    ++stats_.refused;
    return;  // closes it
  }
  absl::StatusOr<ConnectionPtr> connection =
      ConnectionImpl::create(dispatcher_, std::move(handle), options_.connection, CountedIn(count_));
  if (!connection.ok()) {
    ++stats_.failed;
    NUNCIO_LOG(Network, warn, "listener {}: a connection was dropped: {}", address_.toString(),
               connection.status().ToString());
    return;
  }
  ++stats_.accepted;
  cb_(*std::move(connection));
}

// Level-triggered, the event would come again at once, and nothing would have changed: so it pauses.
void ListenerImpl::lack(int error) {
  ++stats_.lacking;
  if (error == EMFILE || error == ENFILE) {
    refuseWithSpare();
  }
  const MonotonicTime now = dispatcher_.approximateMonotonicTime();
  ++not_logged_;
  if (!logged_ || now - logged_at_ >= kBetweenLogs) {
    NUNCIO_LOG(Network, err, "listener {}: accept failed {} times: {}; it pauses for {} ms each time",
               address_.toString(), not_logged_, std::strerror(error), kPauseWhenLacking.count());
    logged_ = true;
    logged_at_ = now;
    not_logged_ = 0;
  }
  if (pause_ == nullptr) {
    pause_ = dispatcher_.createTimer([this] {
      waits_ = false;
      enable();
    });
  }
  waits_ = true;
  pause_->enableTimer(kPauseWhenLacking);
  enable();
}

void ListenerImpl::refuseWithSpare() {
  for (int i = 0; i < options_.accepts_per_turn && spare_.get() >= 0; ++i) {
    spare_ = FileDescriptor();
    const bool refused = handle_->accept().handle != nullptr;
    stats_.refused += refused ? 1 : 0;
    spare_ = openSpare();
    if (!refused) {
      return;
    }
  }
}

}  // namespace nuncio::network
