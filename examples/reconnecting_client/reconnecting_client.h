#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <netinet/in.h>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "examples/reconnecting_client/line_socket.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/event/lifetime_guard.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/status_error.h"

namespace reconnecting_client {

enum class Stage { Stopped, Lookup, SecondLookup, Connect, Handshake, Write, RetryWait };

struct Options {
  sockaddr_in resolver = {};                        // where the first lookup asks for the directory
  std::string directory;                            // the name of the second lookup's server
  std::string service;                              // the name of the server itself
  std::chrono::milliseconds stage_timeout{1000};    // for each stage until the handshake is done
  std::chrono::milliseconds request_timeout{5000};  // for the oldest request that is not acknowledged
  std::chrono::milliseconds retry_interval{1000};   // from a reset to the next attempt
  int max_retries = 10;                             // in a row, without a handshake in between
  size_t max_pending_bytes = 1024 * 1024;           // of requests that are not acknowledged
  // Told of each reset, on the dispatcher's thread, later than it; not after close(). May do anything with the client.
  std::function<void(const absl::Status& why, bool will_retry)> on_reset;
};

// ReconnectingClient: a connection that comes back, after Bigpipe's AsyncPubPipelet.
//
//   ReconnectingClient client(dispatcher, options);
//   client.start();
//   client.write("hello").then([] { ... }).thenError([](absl::Status why) { ... });
//
// An attempt has five stages: a lookup of the directory, a second one there of the server, connect, handshake, write.
// Whatever goes wrong resets the connection: all writes that are not acknowledged fail, each once, and after a while
// the next attempt begins. A write that comes before the connection is there waits for it, until the next reset at
// most. Whether a failed write took effect is for the application to find out, as always.
//
// Threads: the dispatcher's. Lifetime: the destructor closes; the dispatcher lives longer. reset(), close() and the
// destructor may be called in any continuation of a write and in on_reset.
class ReconnectingClient {
public:
  ReconnectingClient(nuncio::Dispatcher& dispatcher, Options options)
      : dispatcher_(dispatcher), options_(std::move(options)) {}
  ~ReconnectingClient() { close(); }
  ReconnectingClient(const ReconnectingClient&) = delete;
  ReconnectingClient& operator=(const ReconnectingClient&) = delete;

  // Begins, with no retries counted, when it is stopped.
  void start() {
    if (stage_ == Stage::Stopped) {
      retries_ = 0;
      attempt();
    }
  }

  // Done when the server has acknowledged `text`, a line. Fails with what reset the connection, Cancelled after
  // close(), ResourceExhausted when too much is pending.
  nuncio::Future<void> write(absl::string_view text) {
    if (stage_ == Stage::Stopped) {
      return nuncio::makeFailedFuture<void>(absl::UnavailableError("the client is stopped"));
    }
    if (text.find('\n') != absl::string_view::npos) {
      return nuncio::makeFailedFuture<void>(absl::InvalidArgumentError("a write is one line"));
    }
    const uint64_t id = last_id_ + 1;
    std::string line = absl::StrCat("put ", id, " ", text, "\n");
    if (pending_bytes_ + line.size() > options_.max_pending_bytes) {
      return nuncio::makeFailedFuture<void>(absl::ResourceExhaustedError("too many writes are not acknowledged yet"));
    }
    last_id_ = id;
    pending_bytes_ += line.size();
    nuncio::Promise<void> promise;
    nuncio::Future<void> acknowledged = promise.future(dispatcher_);
    requests_.push_back({id, std::move(line), now(), std::move(promise)});
    if (stage_ == Stage::Write) {
      socket_->write(requests_.back().line);
      watchOldestRequest();
    }
    return acknowledged;
  }

  // Gives up this attempt, and begins another after the retry interval. Nothing when there is no attempt, and so also
  // when it is called because of a reset.
  void reset(const absl::Status& why) {
    if (stage_ == Stage::Stopped || stage_ == Stage::RetryWait) {
      return;
    }
    // First what this is, then who is told.
    const bool will_retry = retries_ < options_.max_retries;
    endAttempt(will_retry ? Stage::RetryWait : Stage::Stopped);
    if (will_retry) {
      ++retries_;
      timer_->enableTimer(options_.retry_interval);
    }
    failRequests(why);
    if (options_.on_reset) {
      dispatcher_.post(guard_.wrap([on_reset = options_.on_reset, why, will_retry] { on_reset(why, will_retry); }));
    }
  }

  // Stops. Fails the writes that are not acknowledged; calls nothing else from now on.
  void close() {
    guard_.reset();
    endAttempt(Stage::Stopped);
    failRequests(absl::CancelledError("the client was closed"));
  }

  Stage stage() const { return stage_; }
  int retries() const { return retries_; }
  size_t pendingBytes() const { return pending_bytes_; }

private:
  struct Request {
    uint64_t id;
    std::string line;
    nuncio::MonotonicTime since;  // when it was sent, or is waiting for that
    nuncio::Promise<void> acknowledged;
  };

  nuncio::MonotonicTime now() const { return dispatcher_.timeSource().monotonicTime(); }

  void attempt() {
    session_ = session(dispatcher_).thenError(session_guard_.wrap([this](const absl::Status& why) { reset(why); }));
  }

  // One attempt. Fails when it ends. Nobody is called back in here, so this is never destroyed while it runs; when it
  // waits, endAttempt() destroys its frame.
  nuncio::Future<void> session(nuncio::Dispatcher& dispatcher) {
    enter(Stage::Lookup);
    const sockaddr_in directory = co_await lookUp(dispatcher, options_.resolver, options_.directory);
    enter(Stage::SecondLookup);
    const sockaddr_in server = co_await lookUp(dispatcher, directory, options_.service);
    enter(Stage::Connect);
    socket_ = co_await connectTo(dispatcher, server);
    enter(Stage::Handshake);
    socket_->write("hello\n");
    std::string line = co_await socket_->readLine();
    if (line != "welcome") {
      throw nuncio::StatusError(absl::DataLossError("the answer to the handshake is not a welcome"));
    }
    beginWriting();
    for (;;) {
      line = co_await socket_->readLine();
      acknowledge(line);
    }
  }

  // Asks `server` for the address of `name`.
  static nuncio::Future<sockaddr_in> lookUp(nuncio::Dispatcher& dispatcher, sockaddr_in server, std::string name) {
    const LineSocketPtr socket = co_await connectTo(dispatcher, server);
    socket->write(absl::StrCat("where ", name, "\n"));
    const std::string answer = co_await socket->readLine();
    co_return parseAddress(answer);
  }

  void enter(Stage stage) {
    stage_ = stage;
    timer_->enableTimer(options_.stage_timeout);
  }

  void beginWriting() {
    stage_ = Stage::Write;
    retries_ = 0;
    timer_->disableTimer();
    for (Request& request : requests_) {
      request.since = now();
      socket_->write(request.line);
    }
    watchOldestRequest();
  }

  void acknowledge(absl::string_view line) {
    if (requests_.empty() || line != absl::StrCat("ok ", requests_.front().id)) {
      throw nuncio::StatusError(absl::DataLossError("not the acknowledgement of the oldest write"));
    }
    pending_bytes_ -= requests_.front().line.size();
    requests_.front().acknowledged.setValue();  // continuations run later, as tasks of the loop
    requests_.pop_front();
  }

  // The timer stays where it is when requests are acknowledged; it looks for the oldest one when it fires.
  void watchOldestRequest() {
    if (!requests_.empty() && !timer_->enabled()) {
      const auto left = requests_.front().since + options_.request_timeout - now();
      timer_->enableTimer(std::max(std::chrono::ceil<std::chrono::milliseconds>(left), std::chrono::milliseconds(0)));
    }
  }

  void onTimer() {
    if (stage_ == Stage::RetryWait) {
      attempt();
    } else if (stage_ != Stage::Write) {
      reset(absl::DeadlineExceededError("no connection in time"));
    } else if (!requests_.empty() && now() - requests_.front().since >= options_.request_timeout) {
      reset(absl::DeadlineExceededError("the server acknowledges nothing"));
    } else {
      watchOldestRequest();
    }
  }

  void endAttempt(Stage next) {
    stage_ = next;
    timer_->disableTimer();
    session_guard_.reset();  // what the session had to say is of no interest any more
    session_.cancel();
    socket_.reset();
  }

  void failRequests(const absl::Status& why) {
    pending_bytes_ = 0;
    for (Request& request : std::exchange(requests_, {})) {
      request.acknowledged.setStatus(why);
    }
  }

  nuncio::Dispatcher& dispatcher_;
  const Options options_;
  Stage stage_ = Stage::Stopped;
  int retries_ = 0;
  // One is enough: for the stage, for the oldest request, or for the retry.
  const nuncio::TimerPtr timer_ = dispatcher_.createTimer([this] { onTimer(); });
  LineSocketPtr socket_;  // from the handshake on
  nuncio::Future<void> session_;
  std::deque<Request> requests_;  // not acknowledged; by age
  size_t pending_bytes_ = 0;
  uint64_t last_id_ = 0;
  nuncio::LifetimeGuard session_guard_;  // of this attempt
  nuncio::LifetimeGuard guard_;          // of all of them
};

}  // namespace reconnecting_client
