#pragma once

#include <arpa/inet.h>
#include <cerrno>
#include <functional>
#include <memory>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

#include "examples/reconnecting_client/line_socket.h"
#include "nuncio/common/file_descriptor.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"

namespace reconnecting_client {

// LineServer: answers lines, on a port of 127.0.0.1 that the kernel chooses. For the example and its test.
//
// Threads: the dispatcher's. Lifetime: clients that are connected are served until they or the dispatcher go.
class LineServer {
public:
  // What to write back. An empty answer hangs up.
  using Answer = std::function<std::string(const std::string& line)>;

  // `make_answer`: called for each client that comes.
  static absl::StatusOr<std::unique_ptr<LineServer>> create(nuncio::Dispatcher& dispatcher,
                                                            std::function<Answer()> make_answer) {
    std::unique_ptr<LineServer> self(new LineServer(dispatcher, std::move(make_answer)));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    const int fd = self->listener_.get();
    if (fd < 0 || ::bind(fd, any, size) != 0 || ::listen(fd, SOMAXCONN) != 0 || ::getsockname(fd, any, &size) != 0) {
      return absl::ErrnoToStatus(errno, "cannot listen");
    }
    self->address_ = address;
    const auto on_ready = [self = self.get()](uint32_t) { self->accept(); };
    auto event = dispatcher.createFileEvent(fd, on_ready, nuncio::FileTriggerType::Level, nuncio::FileReadyType::Read);
    if (!event.ok()) {
      return event.status();
    }
    self->event_ = *std::move(event);
    return self;
  }

  const sockaddr_in& address() const { return address_; }
  std::string addressText() const { return absl::StrCat("127.0.0.1:", ntohs(address_.sin_port)); }

private:
  LineServer(nuncio::Dispatcher& dispatcher, std::function<Answer()> make_answer)
      : dispatcher_(dispatcher), make_answer_(std::move(make_answer)) {}

  void accept() {
    nuncio::FileDescriptor fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd.get() < 0) {
      return;
    }
    absl::StatusOr<LineSocketPtr> socket = LineSocket::create(dispatcher_, std::move(fd));
    if (socket.ok()) {
      serve(dispatcher_, *std::move(socket), make_answer_()).detach();  // ends when the client goes
    }
  }

  static nuncio::Future<void> serve(nuncio::Dispatcher&, LineSocketPtr socket, Answer answer) {
    for (;;) {
      const std::string line = co_await socket->readLine();
      const std::string text = answer(line);
      if (text.empty()) {
        co_return;
      }
      socket->write(text);
    }
  }

  nuncio::Dispatcher& dispatcher_;
  const std::function<Answer()> make_answer_;
  const nuncio::FileDescriptor listener_{::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  nuncio::FileEventPtr event_;
  sockaddr_in address_ = {};
};

}  // namespace reconnecting_client
