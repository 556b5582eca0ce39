// A client whose connection comes back: five messages for a server that hangs up whenever it has taken two.
//
//   tools/bazelw run //examples:reconnecting_client
//
// line_socket.h is a connection that reads lines as futures, reconnecting_client.h the client, line_server.h what it
// talks to here.

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "examples/reconnecting_client/line_server.h"
#include "examples/reconnecting_client/reconnecting_client.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"

namespace {

using reconnecting_client::LineServer;
using reconnecting_client::ReconnectingClient;

// Writes each message until the server has acknowledged it.
nuncio::Future<void> sendAll(nuncio::Dispatcher&, ReconnectingClient& client) {
  for (int i = 1; i <= 5;) {
    const std::string text = absl::StrCat("message ", i);
    const nuncio::Try<void> written = co_await nuncio::asTry(client.write(text));
    if (written.hasValue()) {
      std::printf("%s: acknowledged\n", text.c_str());
      ++i;
    } else {
      std::printf("%s: %s\n", text.c_str(), std::string(written.status().message()).c_str());
    }
  }
}

// Acknowledges two messages of each client.
LineServer::Answer shortTempered() {
  return [taken = 0](const std::string& line) mutable -> std::string {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (words.front() == "hello") {
      return "welcome\n";
    }
    return words.size() > 1 && taken++ < 2 ? absl::StrCat("ok ", words[1], "\n") : "";
  };
}

}  // namespace

int main() {
  const nuncio::DispatcherPtr dispatcher = nuncio::createDispatcher({.name = "main"});
  const auto server = LineServer::create(*dispatcher, shortTempered);
  const auto directory = LineServer::create(*dispatcher, [&]() -> LineServer::Answer {
    return [&](const std::string&) { return absl::StrCat((*server)->addressText(), "\n"); };
  });
  const auto resolver = LineServer::create(*dispatcher, [&]() -> LineServer::Answer {
    return [&](const std::string&) { return absl::StrCat((*directory)->addressText(), "\n"); };
  });
  if (!server.ok() || !directory.ok() || !resolver.ok()) {
    std::fprintf(stderr, "cannot listen on 127.0.0.1\n");
    return 1;
  }

  ReconnectingClient client(*dispatcher, {.resolver = (*resolver)->address(),
                                          .directory = "directory",
                                          .service = "messages",
                                          .retry_interval = std::chrono::milliseconds(20),
                                          .on_reset = [](const absl::Status&, bool) { std::puts("reset"); }});
  client.start();
  sendAll(*dispatcher, client).ensure([&] { dispatcher->exit(); }).detach();
  dispatcher->run(nuncio::RunType::RunUntilExit);
  return 0;
}
