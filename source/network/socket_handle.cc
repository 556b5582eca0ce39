#include "source/network/socket_handle.h"

#include <cerrno>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "source/common/errno_status.h"

namespace nuncio::network {
namespace {

// A system call again, when a signal has interrupted it.
template <class Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) {
    result = call();
  }
  return result;
}

IoResult asResult(ssize_t result) {
  return result >= 0 ? IoResult{static_cast<std::size_t>(result), 0} : IoResult{0, errno};
}

// recvmsg() and sendmsg() for more than one span; for one, the calls that do without a header.
IoResult receive(int fd, absl::Span<const iovec> spans) {
  if (spans.size() == 1) {
    return asResult(uninterrupted([&] { return ::recv(fd, spans[0].iov_base, spans[0].iov_len, 0); }));
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(spans.data());  // NOLINT(*-const-cast): it is only read
  message.msg_iovlen = spans.size();
  return asResult(uninterrupted([&] { return ::recvmsg(fd, &message, 0); }));
}

IoResult transmit(int fd, absl::Span<const iovec> spans) {
  if (spans.size() == 1) {
    return asResult(uninterrupted([&] { return ::send(fd, spans[0].iov_base, spans[0].iov_len, MSG_NOSIGNAL); }));
  }
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(spans.data());  // NOLINT(*-const-cast): it is only read
  message.msg_iovlen = spans.size();
  return asResult(uninterrupted([&] { return ::sendmsg(fd, &message, MSG_NOSIGNAL); }));
}

// What getsockname() or getpeername() says.
template <class Call>
Address askAddress(int fd, Call call) {
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);
  auto* const raw = reinterpret_cast<sockaddr*>(&storage);
  if (fd < 0 || call(fd, raw, &length) != 0) {
    return {};
  }
  return Address::fromNative(raw, length).value_or(Address());
}

class SocketHandle final : public IoHandle {
public:
  SocketHandle(FileDescriptor fd, const Address& peer) : fd_(std::move(fd)), peer_(peer) {}

  IoResult read(absl::Span<const iovec> spans) override { return receive(fd_.get(), spans); }
  IoResult write(absl::Span<const iovec> spans) override { return transmit(fd_.get(), spans); }

  int shutdownWrite() override { return ::shutdown(fd_.get(), SHUT_WR) == 0 ? 0 : errno; }

  void close() override { fd_ = FileDescriptor(); }

  // A close that lingers for no time is an RST. Unix sockets take the option, and do nothing about it.
  void abort() override {
    const linger no_time{.l_onoff = 1, .l_linger = 0};
    static_cast<void>(::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &no_time, sizeof(no_time)));
    fd_ = FileDescriptor();
  }

  int connectResult() override {
    int error = 0;
    socklen_t length = sizeof(error);
    if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) {
      return errno;
    }
    return error;
  }

  // Bytes that the peer has not acknowledged; of a Unix socket, that it has not read. It knows of the end of the stream
  // with the last of them.
  bool delivered() const override {
    int waiting = 0;
    return ::ioctl(fd_.get(), SIOCOUTQ, &waiting) != 0 || waiting == 0;
  }

  Address localAddress() const override { return askAddress(fd_.get(), ::getsockname); }
  Address peerAddress() const override { return peer_.isUnnamed() ? askAddress(fd_.get(), ::getpeername) : peer_; }
  int nativeFd() const override { return fd_.get(); }

  absl::StatusOr<FileEventPtr> createReadyEvent(Dispatcher& dispatcher, FileReadyCb cb, uint32_t events) override {
    return dispatcher.createFileEvent(fd_.get(), std::move(cb), FileTriggerType::Edge, events);
  }

private:
  FileDescriptor fd_;
  const Address peer_;
};

class SocketListenHandle final : public ListenHandle {
public:
  SocketListenHandle(FileDescriptor fd, const Address& address, bool unlink)
      : fd_(std::move(fd)), address_(address), unlink_(unlink) {
    if (unlink_) {
      rememberFile();
    }
  }
  // Where the path is another's by now, it stays.
  ~SocketListenHandle() override {
    struct stat now{};
    if (unlink_ && ::lstat(pathOf(address_).c_str(), &now) == 0 && now.st_dev == device_ && now.st_ino == inode_) {
      static_cast<void>(::unlink(pathOf(address_).c_str()));
    }
  }

  Accepted accept() override {
    sockaddr_storage storage{};
    socklen_t length = sizeof(storage);
    auto* const raw = reinterpret_cast<sockaddr*>(&storage);
    FileDescriptor fd(uninterrupted([&] { return ::accept4(fd_.get(), raw, &length, SOCK_NONBLOCK | SOCK_CLOEXEC); }));
    if (fd.get() < 0) {
      return {nullptr, errno};
    }
    return {makeSocketHandle(std::move(fd), Address::fromNative(raw, length).value_or(Address())), 0};
  }

  const Address& address() const override { return address_; }
  int nativeFd() const override { return fd_.get(); }

  absl::StatusOr<FileEventPtr> createReadyEvent(Dispatcher& dispatcher, FileReadyCb cb) override {
    return dispatcher.createFileEvent(fd_.get(), std::move(cb), FileTriggerType::Level, FileReadyType::Read);
  }

private:
  static std::string pathOf(const Address& address) { return std::string(address.path()); }
  void rememberFile() {
    if (struct stat file{}; ::lstat(pathOf(address_).c_str(), &file) == 0) {
      device_ = file.st_dev;
      inode_ = file.st_ino;
    }
  }

  const FileDescriptor fd_;
  const Address address_;
  const bool unlink_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

int domainOf(Address::Family family) {
  switch (family) {
    case Address::Family::IPv4:
      return AF_INET;
    case Address::Family::IPv6:
      return AF_INET6;
    case Address::Family::Unix:
      return AF_UNIX;
  }
  return AF_UNSPEC;
}

}  // namespace

absl::StatusOr<FileDescriptor> openSocket(Address::Family family) {
  FileDescriptor fd(::socket(domainOf(family), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) {
    return errnoStatus(errno, "socket");
  }
  return fd;
}

IoHandlePtr makeSocketHandle(FileDescriptor fd, const Address& peer) {
  return std::make_unique<SocketHandle>(std::move(fd), peer);
}

ListenHandlePtr makeSocketListenHandle(FileDescriptor fd, const Address& address, bool unlink) {
  return std::make_unique<SocketListenHandle>(std::move(fd), address, unlink);
}

}  // namespace nuncio::network
