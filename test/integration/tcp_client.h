#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace nuncio {

// TcpClient: a client on 127.0.0.1, with plain blocking sockets. Functions that wait give up when kTestPatience has
// passed, and then return what they have.
class TcpClient {
public:
  explicit TcpClient(uint16_t port);
  ~TcpClient();
  TcpClient(TcpClient&& other) noexcept;
  TcpClient(const TcpClient&) = delete;
  TcpClient& operator=(const TcpClient&) = delete;

  bool connected() const { return fd_ >= 0; }
  int fd() const { return fd_; }

  bool send(absl::string_view data) const;
  // Sends `byte` over and over until nothing more is taken for a while, or `limit` bytes are; how many were.
  size_t sendUntilStuck(char byte, size_t limit) const;
  // `size` bytes, or less at the end of the stream.
  std::string receive(size_t size) const;
  // Counts what comes until the end of the stream. -1 when the stream ends with an error, as it does on a reset.
  int64_t countUntilEnd() const;
  // Waits for the end of the stream, in order or by a reset, and ignores what comes before.
  bool waitForEnd() const;
  void shutdownWrite() const;
  // Closes so that the server gets an RST.
  void reset();

private:
  int fd_ = -1;
};

// Waits until nobody listens on `port` any more.
bool waitUntilRefused(uint16_t port);

}  // namespace nuncio
