#include "test/test_support/descriptors.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace nuncio::test {
namespace {

void setNonBlocking(int fd) { EXPECT_EQ(0, fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)); }

}  // namespace

void Descriptor::close() {
  if (fd_ >= 0) {
    ::close(std::exchange(fd_, -1));
  }
}

Pair makeSocketPair() {
  int fds[2];
  EXPECT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds));
  return {Descriptor(fds[0]), Descriptor(fds[1])};
}

Pair makeTcpConnection() {
  Descriptor listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof(address);
  EXPECT_EQ(0, bind(listener.get(), generic, size));
  EXPECT_EQ(0, listen(listener.get(), 1));
  EXPECT_EQ(0, getsockname(listener.get(), generic, &size));
  Descriptor peer(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(0, connect(peer.get(), generic, size));
  Descriptor watched(accept(listener.get(), nullptr, nullptr));
  setNonBlocking(peer.get());
  setNonBlocking(watched.get());
  return {std::move(watched), std::move(peer)};
}

Pair makePipe() {
  int fds[2];
  EXPECT_EQ(0, pipe2(fds, O_NONBLOCK | O_CLOEXEC));
  return {Descriptor(fds[0]), Descriptor(fds[1])};
}

void writeText(int fd, absl::string_view text) {
  EXPECT_EQ(static_cast<ssize_t>(text.size()), write(fd, text.data(), text.size()));
}

std::string readAvailable(int fd) {
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t size = read(fd, buffer, sizeof(buffer));
    if (size <= 0) {
      return text;
    }
    text.append(buffer, static_cast<size_t>(size));
  }
}

void resetOnClose(int fd) {
  const linger now{1, 0};
  EXPECT_EQ(0, setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)));
}

int countOpenDescriptors(int limit) {
  int count = 0;
  for (int fd = 0; fd < limit; ++fd) {
    count += fcntl(fd, F_GETFD) >= 0 ? 1 : 0;
  }
  return count;
}

}  // namespace nuncio::test
