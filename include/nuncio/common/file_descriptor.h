#pragma once

#include <unistd.h>
#include <utility>

namespace nuncio {

// FileDescriptor: owns a file descriptor and closes it. Declare it before the FileEvent that watches it: a descriptor
// is to be closed only after its event is gone.
//
//   FileDescriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)); // -1 on error
//
// Threads: one at a time.
class FileDescriptor {
public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) {
      (void)::close(fd_);  // Linux frees the number also where it reports an error
    }
  }

  // -1 when it owns none.
  int get() const { return fd_; }

private:
  int fd_ = -1;
};

}  // namespace nuncio
