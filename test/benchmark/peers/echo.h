#pragma once

#include <array>
#include <cerrno>
#include <sys/socket.h>

#include "test/benchmark/support.h"

namespace nuncio::bench {

inline constexpr std::size_t kEchoBuffer = 4096;

// What a server of the workload `echo` does when a connection is readable, where the peer leaves reading and writing to
// its user: one read, one write. The client has one small message outstanding, so the write is never cut short.
inline void echoOnce(int fd) {
  std::array<char, kEchoBuffer> buffer;
  const ssize_t size = recv(fd, buffer.data(), buffer.size(), 0);
  if (size > 0) {
    require(send(fd, buffer.data(), static_cast<std::size_t>(size), MSG_NOSIGNAL) == size, "send");
  } else {
    require(size < 0 && errno == EAGAIN, "recv");
  }
}

}  // namespace nuncio::bench
