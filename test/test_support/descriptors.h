#pragma once

#include <array>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"

namespace nuncio::test {

// Descriptor: owns a file descriptor.
class Descriptor {
public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { close(); }

  int get() const { return fd_; }
  void close();

private:
  int fd_ = -1;
};

// Two connected ends, non-blocking; [0] is the one that tests watch.
struct Pair {
  Descriptor watched;
  Descriptor peer;
};

Pair makeSocketPair();     // Unix stream sockets
Pair makeTcpConnection();  // over the loopback interface, on a port of the kernel's choice
Pair makePipe();           // watched: the reading end

// All of `text` is expected to fit.
void writeText(int fd, absl::string_view text);
// What can be read without blocking.
std::string readAvailable(int fd);
// Makes the next close of `fd` send RST in place of FIN.
void resetOnClose(int fd);
// How many descriptors below `limit` are open; needs none itself.
int countOpenDescriptors(int limit = 4096);

}  // namespace nuncio::test
