#include "test/integration/tcp_client.h"

#include <algorithm>
#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "test/integration/subprocess.h"

namespace nuncio {

namespace {
// A server that took in what these small buffers do not hold has it in its own memory.
constexpr int kBufferBytes = 64 * 1024;
constexpr std::chrono::milliseconds kStuck{500};
}  // namespace

TcpClient::TcpClient(uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const timeval patience{kTestPatience.count(), 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &kBufferBytes, sizeof(kBufferBytes));
  ::setsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &kBufferBytes, sizeof(kBufferBytes));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd_ >= 0 && ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    ::close(std::exchange(fd_, -1));
  }
}

TcpClient::~TcpClient() {
  if (fd_ >= 0) {
    ::close(fd_);
  }
}

TcpClient::TcpClient(TcpClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

bool TcpClient::send(absl::string_view data) const {
  return ::send(fd_, data.data(), data.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(data.size());
}

size_t TcpClient::sendUntilStuck(char byte, size_t limit) const {
  const std::string data(64 * 1024, byte);
  size_t sent = 0;
  while (sent < limit) {
    pollfd writable{fd_, POLLOUT, 0};
    if (::poll(&writable, 1, kStuck.count()) == 0) {
      break;
    }
    const ssize_t size = ::send(fd_, data.data(), std::min(data.size(), limit - sent), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size < 0 && errno != EAGAIN) {
      break;
    }
    sent += static_cast<size_t>(std::max<ssize_t>(size, 0));
  }
  return sent;
}

std::string TcpClient::receive(size_t size) const {
  std::string data(size, '\0');
  const ssize_t received = ::recv(fd_, data.data(), size, MSG_WAITALL);
  data.resize(static_cast<size_t>(std::max<ssize_t>(received, 0)));
  return data;
}

int64_t TcpClient::countUntilEnd() const {
  char buffer[64 * 1024];
  int64_t total = 0;
  ssize_t size;
  while ((size = ::recv(fd_, buffer, sizeof(buffer), 0)) > 0) {
    total += size;
  }
  return size == 0 ? total : -1;
}

bool TcpClient::waitForEnd() const { return countUntilEnd() >= 0 || errno == ECONNRESET; }

void TcpClient::shutdownWrite() const { ::shutdown(fd_, SHUT_WR); }

void TcpClient::reset() {
  const linger at_once{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  ::close(std::exchange(fd_, -1));
}

bool waitUntilRefused(uint16_t port) {
  const auto deadline = std::chrono::steady_clock::now() + kTestPatience;
  while (TcpClient(port).connected()) {
    if (std::chrono::steady_clock::now() > deadline) {
      return false;
    }
    // Between two looks, not a wait for something: nothing tells when a port stops to answer.
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace nuncio
