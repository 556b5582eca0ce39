#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <unistd.h>
#include <utility>

#include "absl/status/status.h"

#include "nuncio/common/file_descriptor.h"
#include "nuncio/event/dispatcher.h"

namespace echo_server {

// While the server drains, a client that is silent for so long is taken to have nothing more on its way.
inline constexpr std::chrono::milliseconds kDrainIdleTimeout{250};

struct Limits {
  size_t max_buffer;
  std::chrono::milliseconds idle_timeout;
};

// What all connections of a worker share.
struct Context {
  nuncio::Dispatcher& dispatcher;
  const Limits limits;
  const std::function<void(uint64_t bytes)> on_echoed;
  const std::function<void(int fd)> on_closed;  // hands the connection to deferred deletion
  bool draining = false;
  // What is read is moved on before the next read, so that one buffer serves all.
  std::array<char, 64 * 1024> scratch;
};

// Connection: one client, who gets back what it sends.
//
// Its file event is level-triggered: an event reads once and leaves the rest to the next iteration, so that a busy
// client gets no more turns than the others. An echo is three system calls: epoll_wait, read, write.
//
// A client that stops reading costs at most `max_buffer` bytes: we stop reading too, and the idle timeout ends it.
class Connection : public nuncio::DeferredDeletable {
public:
  Connection(nuncio::FileDescriptor socket, Context& context) : context_(context), socket_(std::move(socket)) {}

  absl::Status start() {
    idle_timer_ = context_.dispatcher.createTimer([this] { onIdle(); });
    restartIdleTimer();
    auto event = context_.dispatcher.createFileEvent(
        socket_.get(), [this](uint32_t events) { onReady(events); }, nuncio::FileTriggerType::Level, kRead);
    if (!event.ok()) {
      return event.status();
    }
    event_ = *std::move(event);
    return absl::OkStatus();
  }

  void restartIdleTimer() {
    idle_timer_->enableTimer(context_.draining ? kDrainIdleTimeout : context_.limits.idle_timeout);
  }

private:
  static constexpr uint32_t kRead = nuncio::FileReadyType::Read;
  static constexpr uint32_t kWrite = nuncio::FileReadyType::Write;

  void onReady(uint32_t events) {
    restartIdleTimer();
    const bool connected = ((events & kRead) == 0 || receive()) && flush();
    if (!connected || (end_of_input_ && output_.empty())) {
      close();
      return;
    }
    // The same as before, as a rule, and then it costs no system call.
    const bool want_read = !end_of_input_ && output_.size() < context_.limits.max_buffer;
    const bool want_write = !output_.empty();
    event_->setEnabled((want_read ? kRead : 0) | (want_write ? kWrite : 0));
  }

  // False when the client is gone.
  bool receive() {
    const size_t room = std::min(context_.limits.max_buffer - output_.size(), context_.scratch.size());
    const ssize_t size = ::read(socket_.get(), context_.scratch.data(), room);
    if (size < 0) {
      return errno == EAGAIN;
    }
    end_of_input_ = size == 0;  // it will send no more, but it may still read: first it gets all of its echo
    output_.append(context_.scratch.data(), static_cast<size_t>(size));
    return true;
  }

  // Sends as much as the client takes now. False when it is gone.
  bool flush() {
    if (output_.empty()) {
      return true;
    }
    const ssize_t size = ::write(socket_.get(), output_.data() + sent_, output_.size() - sent_);
    if (size < 0) {
      return errno == EAGAIN;
    }
    context_.on_echoed(static_cast<uint64_t>(size));
    sent_ += static_cast<size_t>(size);
    if (sent_ == output_.size()) {
      output_.clear();
      sent_ = 0;
    }
    return true;
  }

  void onIdle() {
    // While the server drains, a client that is slow to take the last of its echo may have all of the time there is.
    if (!context_.draining || output_.empty()) {
      close();
    }
  }

  // Our methods are still on the stack: this falls silent and leaves the rest to deferred deletion.
  void close() {
    event_.reset();
    idle_timer_.reset();
    context_.on_closed(socket_.get());
  }

  Context& context_;
  nuncio::FileDescriptor socket_;  // before the event that watches it, and so closed after that is gone
  nuncio::FileEventPtr event_;
  nuncio::TimerPtr idle_timer_;
  // What was received; the first `sent_` bytes of it are echoed. Emptied only when all of it is, and never moved.
  std::string output_;
  size_t sent_ = 0;
  bool end_of_input_ = false;
};

}  // namespace echo_server
