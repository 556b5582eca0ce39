#include <cerrno>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_cat.h"

#include "nuncio/network/network.h"
#include "source/common/errno_status.h"
#include "source/network/apply_socket_options.h"
#include "source/network/socket_handle.h"

namespace nuncio::network {
namespace {

// What bind(), listen() and connect() say, in the words of the interface.
absl::Status networkStatus(int error, absl::string_view what) {
  absl::Status status = errnoStatus(error, what);
  switch (error) {
    case EADDRINUSE:
      return absl::AlreadyExistsError(absl::StrCat(status.message(), " (somebody listens there)"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(status.message());
    case EADDRNOTAVAIL:
    case ECONNREFUSED:
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
    case EHOSTDOWN:
    case ENOENT:
    case EAGAIN:  // the queue of a Unix listener is full, or the ports have run out
      return absl::UnavailableError(status.message());
    default:
      return status;
  }
}

absl::Status bindTo(int fd, const Address& address) {
  const Address::Native native = address.native();
  if (::bind(fd, native.data(), native.length) != 0) {
    return networkStatus(errno, absl::StrCat("bind to ", address.toString()));
  }
  return absl::OkStatus();
}

absl::StatusOr<Address> boundAddress(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);
  auto* const raw = reinterpret_cast<sockaddr*>(&storage);
  if (::getsockname(fd, raw, &length) != 0) {
    return errnoStatus(errno, "getsockname");
  }
  return Address::fromNative(raw, length);
}

// A socket's file that nobody listens on any more is in the way of bind().
bool removeLeftover(const Address& at) {
  absl::StatusOr<FileDescriptor> probe = openSocket(Address::Family::Unix);
  const Address::Native native = at.native();
  if (!probe.ok() || ::connect(probe->get(), native.data(), native.length) == 0 || errno != ECONNREFUSED) {
    return false;
  }
  return ::unlink(std::string(at.path()).c_str()) == 0;
}

class SystemNetwork final : public Network {
public:
  absl::StatusOr<IoHandlePtr> connect(const Address& to, const ConnectOptions& options) override {
    absl::StatusOr<FileDescriptor> fd = openSocket(to.family());
    if (!fd.ok()) {
      return fd.status();
    }
    if (absl::Status status = applySocketOptions(fd->get(), to.family(), options.socket, SocketPhase::Connection);
        !status.ok()) {
      return status;
    }
    if (options.local) {
      if (options.local->family() != to.family()) {
        return absl::InvalidArgumentError(
            absl::StrCat("connect to ", to.toString(), " from ", options.local->toString(), ": of another kind"));
      }
      if (absl::Status status = applySocketOptions(fd->get(), to.family(), options.socket, SocketPhase::LocalBind);
          !status.ok()) {
        return status;
      }
      if (absl::Status status = bindTo(fd->get(), *options.local); !status.ok()) {
        return status;
      }
    }
    const Address::Native native = to.native();
    if (::connect(fd->get(), native.data(), native.length) != 0 && errno != EINPROGRESS && errno != EINTR) {
      return networkStatus(errno, absl::StrCat("connect to ", to.toString()));
    }
    return makeSocketHandle(*std::move(fd), to);
  }

  absl::StatusOr<ListenHandlePtr> listen(const Address& at, const ListenOptions& options) override {
    absl::StatusOr<FileDescriptor> fd = openSocket(at.family());
    if (!fd.ok()) {
      return fd.status();
    }
    if (absl::Status status = applySocketOptions(fd->get(), at.family(), options.socket, SocketPhase::Listener);
        !status.ok()) {
      return status;
    }
    absl::Status bound = bindTo(fd->get(), at);
    if (absl::IsAlreadyExists(bound) && !at.path().empty() && removeLeftover(at)) {
      bound = bindTo(fd->get(), at);
    }
    if (!bound.ok()) {
      return bound;
    }
    if (::listen(fd->get(), options.backlog) != 0) {
      return networkStatus(errno, absl::StrCat("listen on ", at.toString()));
    }
    absl::StatusOr<Address> address = boundAddress(fd->get());
    if (!address.ok()) {
      return address.status();
    }
    return makeSocketListenHandle(*std::move(fd), *address, /*unlink=*/!at.path().empty());
  }
};

}  // namespace

Network& systemNetwork() {
  static SystemNetwork network;
  return network;
}

}  // namespace nuncio::network
