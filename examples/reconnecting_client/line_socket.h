#pragma once

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <netinet/in.h>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "nuncio/common/file_descriptor.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"

namespace reconnecting_client {

// The longest line that is read. A peer that sends a longer one is refused, whatever else it may have to say.
inline constexpr size_t kMaxLineBytes = 1024;

// "127.0.0.1:80".
inline absl::StatusOr<sockaddr_in> parseAddress(absl::string_view text) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  const size_t colon = text.find(':');
  uint32_t port = 0;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(text.substr(colon + 1), &port) || port > UINT16_MAX ||
      inet_pton(AF_INET, std::string(text.substr(0, colon)).c_str(), &address.sin_addr) != 1) {
    return absl::InvalidArgumentError("not an address such as 127.0.0.1:80");
  }
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

// LineSocket: a TCP connection that reads lines, as futures, and writes text.
//
// It keeps at most one read's worth of input that nobody has asked for; output as much as its user writes.
//
// Threads: the dispatcher's. Lifetime: destroying it closes the connection and fails the line that is waited for.
class LineSocket {
public:
  // `socket`: connected, or connecting; non-blocking.
  static absl::StatusOr<std::unique_ptr<LineSocket>> create(nuncio::Dispatcher& dispatcher,
                                                            nuncio::FileDescriptor socket) {
    std::unique_ptr<LineSocket> self(new LineSocket(dispatcher, std::move(socket)));
    const auto on_ready = [self = self.get()](uint32_t events) { self->onReady(events); };
    auto event = dispatcher.createFileEvent(self->fd(), on_ready, nuncio::FileTriggerType::Level, kWrite);
    if (!event.ok()) {
      return event.status();
    }
    self->event_ = *std::move(event);
    return self;
  }

  // Done when the connection is there. Once.
  nuncio::Future<void> connected() { return connected_.future(dispatcher_); }

  // The next line, without its end. One at a time. Fails with what ended the connection, and with OutOfRange when the
  // line is too long.
  nuncio::Future<std::string> readLine() {
    nuncio::Try<std::string> line = takeLine();
    if (line.ready()) {
      return nuncio::Future<std::string>(std::move(line));
    }
    reader_.emplace();
    nuncio::Future<std::string> future = reader_->future(dispatcher_);
    enableEvents();
    return future;
  }

  // Sends `text`, now or when the peer takes it. A connection that fails says so to the next who reads. Only when
  // connected.
  void write(absl::string_view text) {
    const bool idle = output_.empty();
    absl::StrAppend(&output_, text);
    if (idle && status_.ok()) {
      flush();
      enableEvents();
    }
  }

private:
  static constexpr uint32_t kRead = nuncio::FileReadyType::Read;
  static constexpr uint32_t kWrite = nuncio::FileReadyType::Write;

  LineSocket(nuncio::Dispatcher& dispatcher, nuncio::FileDescriptor socket)
      : dispatcher_(dispatcher), socket_(std::move(socket)) {}

  int fd() const { return socket_.get(); }

  void onReady(uint32_t events) {
    if ((events & kWrite) != 0) {
      onWritable();
    }
    want_read_ = reader_.has_value();
    if ((events & kRead) != 0 && want_read_ && status_.ok()) {
      receive();
    }
    enableEvents();
  }

  void onWritable() {
    int error = 0;
    socklen_t size = sizeof(error);
    if (::getsockopt(fd(), SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error != 0) {
      fail(error);
      connected_.setStatus(status_);
    } else {
      connected_.setValue();  // the first time
      flush();
    }
  }

  void flush() {
    if (output_.empty()) {
      return;
    }
    const ssize_t size = ::send(fd(), output_.data(), output_.size(), MSG_NOSIGNAL);
    if (size >= 0) {
      output_.erase(0, static_cast<size_t>(size));
    } else if (errno != EAGAIN) {
      fail(errno);
    }
  }

  void receive() {
    std::array<char, 4096> chunk;
    const ssize_t size = ::read(fd(), chunk.data(), chunk.size());
    if (size > 0) {
      input_.append(chunk.data(), static_cast<size_t>(size));
    } else if (size == 0) {
      fail(absl::UnavailableError("the peer closed the connection"));
    } else if (errno != EAGAIN) {
      fail(errno);
    }
    giveLine();
  }

  void fail(int error) { fail(absl::ErrnoToStatus(error, "connection lost")); }
  void fail(const absl::Status& status) {
    status_.Update(status);
    giveLine();
  }

  // Setting a promise runs nothing of its future's: no caller of these need expect to be destroyed in them.
  void giveLine() {
    if (!reader_.has_value()) {
      return;
    }
    nuncio::Try<std::string> line = takeLine();
    if (line.ready()) {
      reader_->setTry(std::move(line));
      reader_.reset();
    }
  }

  // Not ready: there is no line yet.
  nuncio::Try<std::string> takeLine() {
    const size_t end = input_.find('\n');
    if (std::min(end, input_.size()) > kMaxLineBytes) {
      return absl::OutOfRangeError(absl::StrCat("a line of more than ", kMaxLineBytes, " bytes"));
    }
    if (end == std::string::npos) {
      return status_.ok() ? nuncio::Try<std::string>() : nuncio::Try<std::string>(status_);
    }
    std::string line = input_.substr(0, end);
    input_.erase(0, end + 1);
    return line;
  }

  // Mostly the same as before, and then it costs no system call.
  void enableEvents() {
    want_read_ |= reader_.has_value();
    const bool want_write = !output_.empty();
    event_->setEnabled(status_.ok() ? (want_read_ ? kRead : 0) | (want_write ? kWrite : 0) : 0);
  }

  nuncio::Dispatcher& dispatcher_;
  nuncio::FileDescriptor socket_;  // before the event that watches it
  nuncio::FileEventPtr event_;
  nuncio::Promise<void> connected_;
  std::optional<nuncio::Promise<std::string>> reader_;
  bool want_read_ = false;  // what comes while nobody reads stays with the kernel
  std::string input_;
  std::string output_;
  absl::Status status_;  // what ended the connection
};

using LineSocketPtr = std::unique_ptr<LineSocket>;

inline nuncio::Future<LineSocketPtr> connectTo(nuncio::Dispatcher& dispatcher, sockaddr_in address) {
  nuncio::FileDescriptor fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd.get() < 0) {
    co_return absl::ErrnoToStatus(errno, "socket");
  }
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 && errno != EINPROGRESS) {
    co_return absl::ErrnoToStatus(errno, "connect");
  }
  absl::StatusOr<LineSocketPtr> socket = LineSocket::create(dispatcher, std::move(fd));
  if (!socket.ok()) {
    co_return socket.status();
  }
  co_await (*socket)->connected();
  co_return *std::move(socket);
}

}  // namespace reconnecting_client
