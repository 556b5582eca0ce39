// Drives examples/reconnecting_client with a server that misbehaves as the tests say. Client and server share a thread
// and a dispatcher, the time is simulated, the sockets are real.

#include "examples/reconnecting_client/reconnecting_client.h"

#include <arpa/inet.h>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "examples/reconnecting_client/line_server.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/notification.h"

namespace reconnecting_client {
namespace {

using nuncio::test::Descriptor;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr milliseconds kStageTimeout{300};
constexpr milliseconds kRequestTimeout{700};
constexpr milliseconds kRetryInterval{1100};

// A port of 127.0.0.1 where the test accepts, or, before listen(), refuses.
class Port {
public:
  Port() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address_);
    auto* const any = reinterpret_cast<sockaddr*>(&address_);
    EXPECT_EQ(::bind(socket_.get(), any, size), 0);
    EXPECT_EQ(::getsockname(socket_.get(), any, &size), 0);
  }

  void listen() { EXPECT_EQ(::listen(socket_.get(), 64), 0); }
  // An invalid one when nobody is there.
  Descriptor accept() { return Descriptor(::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)); }
  const sockaddr_in& address() const { return address_; }
  std::string text() const { return absl::StrCat("127.0.0.1:", ntohs(address_.sin_port)); }

private:
  Descriptor socket_;
  sockaddr_in address_ = {};
};

class ReconnectingClientTest : public testing::Test {
protected:
  ReconnectingClientTest() {
    resolver_ = lookupServer("where directory", resolver_answer_);
    directory_ = lookupServer("where service", directory_answer_);
    resolver_answer_ = directory_->addressText();
    directory_answer_ = server_.text();
    options_.resolver = resolver_->address();
    options_.directory = "directory";
    options_.service = "service";
    options_.stage_timeout = kStageTimeout;
    options_.request_timeout = kRequestTimeout;
    options_.retry_interval = kRetryInterval;
    options_.max_retries = 3;
    options_.on_reset = [this](const absl::Status& why, bool will_retry) {
      resets_.push_back(absl::StrCat(why.ToString(), will_retry ? "" : " (last)"));
      if (when_reset_) {
        when_reset_();
      }
    };
  }

  std::unique_ptr<LineServer> lookupServer(const std::string& question, const std::string& answer) {
    auto server = LineServer::create(*dispatcher_, [question, &answer]() -> LineServer::Answer {
      return [question, &answer](const std::string& line) { return line == question ? answer + "\n" : ""; };
    });
    EXPECT_TRUE(server.ok()) << server.status();
    return *std::move(server);
  }

  void start() {
    client_ = std::make_unique<ReconnectingClient>(*dispatcher_, options_);
    client_->start();
  }

  // Runs the loop until `done`; false when patience ends. No simulated time passes.
  bool runUntil(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + nuncio::test::kPatience;
    while (!done()) {
      dispatcher_->run(nuncio::RunType::NonBlock);
      if (std::chrono::steady_clock::now() > deadline) {
        return false;
      }
    }
    return true;
  }
  bool runUntil(Stage stage) {
    return runUntil([&] { return client_->stage() == stage; });
  }
  bool runUntilResets(size_t count) {
    return runUntil([&] { return resets_.size() == count; });
  }
  void advance(milliseconds time) { time_.advanceTimeAndRun(time); }

  Descriptor accept() {
    Descriptor accepted;
    EXPECT_TRUE(runUntil([&] {
      accepted = server_.accept();
      return accepted.get() >= 0;
    }));
    return accepted;
  }
  std::string read(const Descriptor& peer, size_t size) {
    std::string text;
    EXPECT_TRUE(runUntil([&] {
      text += nuncio::test::readAvailable(peer.get());
      return text.size() >= size;
    })) << text;
    return text;
  }
  void expect(const Descriptor& peer, const std::string& text) { EXPECT_EQ(read(peer, text.size()), text); }
  static void write(const Descriptor& peer, const std::string& text) { nuncio::test::writeText(peer.get(), text); }

  // The server's end of a connection whose handshake is done.
  Descriptor connect() {
    Descriptor peer = accept();
    expect(peer, "hello\n");
    write(peer, "welcome\n");
    EXPECT_TRUE(runUntil(Stage::Write));
    return peer;
  }
  Descriptor startAndConnect() {
    server_.listen();
    start();
    return connect();
  }

  // Writes, and notes each outcome.
  void clientWrites(const std::string& text) {
    ++written_;
    client_->write(text)
        .then([this, text](nuncio::Try<void> result) {
          ++outcomes_[text];
          results_.push_back(absl::StrCat(text, ": ", absl::StatusCodeToString(result.status().code())));
          if (when_done_) {
            when_done_();
          }
        })
        .detach();
  }
  bool runUntilDone(size_t count) {
    return runUntil([&] { return results_.size() == count; });
  }

  void TearDown() override {
    client_.reset();
    dispatcher_->run(nuncio::RunType::NonBlock);
    EXPECT_EQ(results_.size(), written_) << "each write has an outcome";
    for (const auto& [text, count] : outcomes_) {
      EXPECT_EQ(count, 1) << text;
    }
  }

  nuncio::SimulatedTimeSystem time_;
  const nuncio::DispatcherPtr dispatcher_ = nuncio::createDispatcher({.name = "test", .time_system = &time_});
  std::string resolver_answer_;
  std::string directory_answer_;
  std::unique_ptr<LineServer> resolver_;
  std::unique_ptr<LineServer> directory_;
  Port server_;
  Options options_;
  std::unique_ptr<ReconnectingClient> client_;

  size_t written_ = 0;
  std::map<std::string, int> outcomes_;
  std::vector<std::string> results_;
  std::vector<std::string> resets_;
  std::function<void()> when_done_;
  std::function<void()> when_reset_;
};

TEST_F(ReconnectingClientTest, LooksUpTwiceConnectsShakesHandsAndWrites) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  expect(peer, "put 1 a\n");
  EXPECT_THAT(results_, IsEmpty());
  write(peer, "ok 1\n");
  ASSERT_TRUE(runUntilDone(1));
  EXPECT_THAT(results_, ElementsAre("a: OK"));
  EXPECT_THAT(resets_, IsEmpty());
}

TEST_F(ReconnectingClientTest, AWriteThatComesBeforeTheConnectionWaitsForIt) {
  server_.listen();
  start();
  clientWrites("a");
  clientWrites("b");
  const Descriptor peer = connect();
  expect(peer, "put 1 a\nput 2 b\n");
  write(peer, "ok 1\nok 2\n");
  ASSERT_TRUE(runUntilDone(2));
  EXPECT_THAT(results_, ElementsAre("a: OK", "b: OK"));
}

TEST_F(ReconnectingClientTest, ARefusedConnectionIsTriedAgainAfterTheIntervalAndNotBefore) {
  start();
  ASSERT_TRUE(runUntil(Stage::RetryWait));
  EXPECT_EQ(client_->retries(), 1);
  advance(kRetryInterval - milliseconds(1));
  EXPECT_EQ(client_->stage(), Stage::RetryWait);
  server_.listen();
  advance(milliseconds(1));
  EXPECT_NE(client_->stage(), Stage::RetryWait);
  connect();
  ASSERT_TRUE(runUntilResets(2));  // refused, and hung up on
  EXPECT_THAT(resets_[0], HasSubstr("Connection refused"));
}

TEST_F(ReconnectingClientTest, CountsRetriesAndGivesUpAfterTheLast) {
  server_.listen();
  start();
  for (int attempt = 0; attempt <= options_.max_retries; ++attempt) {
    clientWrites(absl::StrCat("in attempt ", attempt));
    EXPECT_EQ(client_->retries(), attempt);
    accept();  // and close at once
    ASSERT_TRUE(runUntilResets(static_cast<size_t>(attempt) + 1));
    advance(kRetryInterval);
  }
  EXPECT_EQ(client_->stage(), Stage::Stopped);
  EXPECT_EQ(client_->retries(), options_.max_retries);
  EXPECT_THAT(resets_.back(), HasSubstr("(last)"));
  clientWrites("too late");
  advance(10 * kRetryInterval);
  EXPECT_LT(server_.accept().get(), 0) << "one more attempt";
  EXPECT_THAT(results_.back(), "too late: UNAVAILABLE");
}

TEST_F(ReconnectingClientTest, StartsAnewAfterItGaveUp) {
  options_.max_retries = 0;
  start();
  ASSERT_TRUE(runUntil(Stage::Stopped));
  server_.listen();
  client_->start();
  connect();
}

TEST_F(ReconnectingClientTest, AHandshakeForgivesEarlierRetries) {
  start();
  ASSERT_TRUE(runUntil(Stage::RetryWait));
  server_.listen();
  advance(kRetryInterval);
  const Descriptor peer = connect();
  EXPECT_EQ(client_->retries(), 0);
}

TEST_F(ReconnectingClientTest, AServerThatNeverAnswersTheHandshakeHasItsTimeAndNoMore) {
  server_.listen();
  start();
  const Descriptor peer = accept();
  expect(peer, "hello\n");
  advance(kStageTimeout - milliseconds(1));
  EXPECT_EQ(client_->stage(), Stage::Handshake);
  advance(milliseconds(1));
  EXPECT_EQ(client_->stage(), Stage::RetryWait);
  EXPECT_THAT(resets_, ElementsAre(StartsWith("DEADLINE_EXCEEDED")));
}

TEST_F(ReconnectingClientTest, AHandshakeThatComesByteByByteIsAHandshake) {
  server_.listen();
  start();
  const Descriptor peer = accept();
  for (const char byte : std::string("welcome\n")) {
    EXPECT_NE(client_->stage(), Stage::Write);
    write(peer, std::string(1, byte));
    dispatcher_->run(nuncio::RunType::NonBlock);
  }
  EXPECT_TRUE(runUntil(Stage::Write));
}

struct Misbehaviour {
  std::string name;
  std::string instead_of_welcome;
  std::string reason;
};

class WrongHandshakeTest : public ReconnectingClientTest, public testing::WithParamInterface<Misbehaviour> {};

TEST_P(WrongHandshakeTest, IsAReset) {
  server_.listen();
  start();
  clientWrites("a");
  const Descriptor peer = accept();
  write(peer, GetParam().instead_of_welcome);
  if (GetParam().instead_of_welcome.empty()) {
    ::shutdown(peer.get(), SHUT_WR);
  }
  ASSERT_TRUE(runUntilResets(1));
  EXPECT_THAT(resets_[0], HasSubstr(GetParam().reason));
  EXPECT_EQ(client_->stage(), Stage::RetryWait);
  EXPECT_EQ(results_.size(), 1);
}

INSTANTIATE_TEST_SUITE_P(, WrongHandshakeTest,
                         testing::Values(Misbehaviour{"AnotherWord", "go away\n", "not a welcome"},
                                         Misbehaviour{"Garbage", std::string("\0\xff\x01\n\n\r\n", 7), "not a welcome"},
                                         Misbehaviour{"GarbageWithoutEnd", std::string(100'000, 'x'),
                                                      "more than 1024 bytes"},
                                         Misbehaviour{"HalfClose", "", "closed the connection"}),
                         [](const auto& misbehaviour) { return misbehaviour.param.name; });

TEST_F(ReconnectingClientTest, ALookupThatFailsIsAReset) {
  resolver_answer_ = "nobody knows";
  start();
  ASSERT_TRUE(runUntilResets(1));
  resolver_answer_ = directory_->addressText();
  directory_answer_ = "127.0.0.1:99999";
  advance(kRetryInterval);
  ASSERT_TRUE(runUntilResets(2));
  EXPECT_THAT(resets_, ElementsAre(StartsWith("INVALID_ARGUMENT"), StartsWith("INVALID_ARGUMENT")));
}

TEST_F(ReconnectingClientTest, EachAttemptLooksUpAnew) {
  start();
  ASSERT_TRUE(runUntil(Stage::RetryWait));
  Port moved;
  moved.listen();
  directory_answer_ = moved.text();
  advance(kRetryInterval);
  EXPECT_TRUE(runUntil([&] { return moved.accept().get() >= 0; }));
}

TEST_F(ReconnectingClientTest, AHalfClosedConnectionFailsWhatIsPending) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  ::shutdown(peer.get(), SHUT_WR);
  ASSERT_TRUE(runUntilResets(1));
  EXPECT_THAT(results_, ElementsAre("a: UNAVAILABLE"));
}

TEST_F(ReconnectingClientTest, AConnectionThatIsResetFailsWhatIsPending) {
  Descriptor peer = startAndConnect();
  clientWrites("a");
  nuncio::test::resetOnClose(peer.get());
  peer.close();
  ASSERT_TRUE(runUntilResets(1));
  EXPECT_EQ(results_.size(), 1);
  EXPECT_THAT(resets_[0], HasSubstr("connection lost"));
}

TEST_F(ReconnectingClientTest, AServerThatStopsAcknowledgingLosesTheConnectionWhenTheOldestRequestIsTooOld) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  advance(milliseconds(100));
  clientWrites("b");
  write(peer, "ok 1\n");
  ASSERT_TRUE(runUntilDone(1));
  advance(milliseconds(100));
  clientWrites("c");
  advance(kRequestTimeout - milliseconds(101));
  EXPECT_EQ(client_->stage(), Stage::Write);
  advance(milliseconds(1));  // now "b" is as old as may be
  EXPECT_EQ(client_->stage(), Stage::RetryWait);
  EXPECT_THAT(results_, ElementsAre("a: OK", "b: DEADLINE_EXCEEDED", "c: DEADLINE_EXCEEDED"));
}

TEST_F(ReconnectingClientTest, AnAcknowledgementThatComesByteByByteCounts) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  for (const char byte : std::string("ok 1")) {
    write(peer, std::string(1, byte));
    advance(kRequestTimeout / 5);
  }
  EXPECT_THAT(results_, IsEmpty());
  write(peer, "\n");
  ASSERT_TRUE(runUntilDone(1));
  EXPECT_THAT(results_, ElementsAre("a: OK"));
}

TEST_F(ReconnectingClientTest, BytesOfAnAcknowledgementDoNotBuyTime) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  for (const char byte : std::string("ok 1")) {
    write(peer, std::string(1, byte));
    advance(kRequestTimeout / 4);
  }
  ASSERT_TRUE(runUntilDone(1));
  EXPECT_THAT(results_, ElementsAre("a: DEADLINE_EXCEEDED"));
}

TEST_F(ReconnectingClientTest, AnIdleConnectionLastsAndItsNextRequestHasAllItsTime) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  write(peer, "ok 1\n");
  ASSERT_TRUE(runUntilDone(1));
  advance(10 * kRequestTimeout);
  clientWrites("b");
  advance(kRequestTimeout - milliseconds(1));
  EXPECT_EQ(client_->stage(), Stage::Write);
  write(peer, "ok 2\n");
  ASSERT_TRUE(runUntilDone(2));
  advance(10 * kRequestTimeout);
  EXPECT_EQ(client_->stage(), Stage::Write);
}

TEST_F(ReconnectingClientTest, AcknowledgementsThatNobodyAskedForAreAReset) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  write(peer, "ok 1\nok 2\n");
  ASSERT_TRUE(runUntilResets(1));
  EXPECT_THAT(results_, ElementsAre("a: OK"));
  EXPECT_THAT(resets_, ElementsAre(StartsWith("DATA_LOSS")));
}

TEST_F(ReconnectingClientTest, AcknowledgementsOutOfOrderAreAReset) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  clientWrites("b");
  write(peer, "ok 2\nok 1\n");
  ASSERT_TRUE(runUntilDone(2));
  EXPECT_THAT(results_, ElementsAre("a: DATA_LOSS", "b: DATA_LOSS"));
}

TEST_F(ReconnectingClientTest, AFloodOfGarbageIsOneReset) {
  const Descriptor peer = startAndConnect();
  ASSERT_GT(::send(peer.get(), std::string(1'000'000, '\n').data(), 1'000'000, MSG_NOSIGNAL), 0);
  ASSERT_TRUE(runUntil(Stage::RetryWait));
  dispatcher_->run(nuncio::RunType::NonBlock);
  EXPECT_EQ(resets_.size(), 1);
}

TEST_F(ReconnectingClientTest, AServerThatReadsNothingCostsNoMoreMemoryThanAllowed) {
  options_.max_pending_bytes = 10'000'000;
  const Descriptor peer = startAndConnect();
  const std::string text(100'000, 'x');
  for (int i = 0; i < 99; ++i) {
    clientWrites(absl::StrCat(i, text));
  }
  EXPECT_LE(client_->pendingBytes(), options_.max_pending_bytes);
  clientWrites("z" + text);
  EXPECT_EQ(results_.size(), 1);
  EXPECT_THAT(results_[0], HasSubstr("RESOURCE_EXHAUSTED"));
  client_->close();
  EXPECT_EQ(client_->pendingBytes(), 0);
  dispatcher_->run(nuncio::RunType::NonBlock);
  EXPECT_EQ(results_.size(), 100);
}

TEST_F(ReconnectingClientTest, AServerThatReadsSlowlyGetsAllOfIt) {
  options_.max_pending_bytes = 100'000'000;
  const Descriptor peer = startAndConnect();
  const std::string text(20'000'000, 'x');  // NOLINT(bugprone-string-constructor): large on purpose
  clientWrites(text);
  expect(peer, absl::StrCat("put 1 ", text, "\n"));
  write(peer, "ok 1\n");
  ASSERT_TRUE(runUntilDone(1));
}

TEST_F(ReconnectingClientTest, AWriteOfTwoLinesIsRefused) {
  const Descriptor peer = startAndConnect();
  clientWrites("a\nput 2 b");
  EXPECT_THAT(results_, ElementsAre(HasSubstr("INVALID_ARGUMENT")));
}

TEST_F(ReconnectingClientTest, AResetBecauseOfAResetIsNone) {
  startAndConnect();  // and hang up
  clientWrites("a");
  clientWrites("b");
  when_done_ = when_reset_ = [this] { client_->reset(absl::AbortedError("nested")); };
  ASSERT_TRUE(runUntilResets(1));
  EXPECT_EQ(results_.size(), 2);
  EXPECT_EQ(client_->retries(), 1);
  advance(kRetryInterval);
  const Descriptor peer = connect();
  EXPECT_EQ(resets_.size(), 1);
}

TEST_F(ReconnectingClientTest, AWriteBecauseOfAResetGoesWithTheNextAttempt) {
  startAndConnect();  // and hang up
  clientWrites("a");
  when_reset_ = [this] { clientWrites("b"); };
  ASSERT_TRUE(runUntilResets(1));
  advance(kRetryInterval);
  const Descriptor peer = connect();
  expect(peer, "put 2 b\n");
  write(peer, "ok 2\n");
  ASSERT_TRUE(runUntilDone(2));
  EXPECT_THAT(results_, ElementsAre("a: UNAVAILABLE", "b: OK"));
}

TEST_F(ReconnectingClientTest, AResetInTheContinuationOfAnAcknowledgedWriteFailsTheOthers) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  clientWrites("b");
  when_done_ = [this] { client_->reset(absl::AbortedError("enough")); };
  write(peer, "ok 1\nok");
  ASSERT_TRUE(runUntilResets(1));
  EXPECT_THAT(results_, ElementsAre("a: OK", "b: ABORTED"));
  EXPECT_EQ(client_->retries(), 1);
}

TEST_F(ReconnectingClientTest, NothingIsCalledBackAfterClose) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  client_->reset(absl::AbortedError("now"));  // on_reset is on its way
  client_->close();
  advance(10 * kRetryInterval);
  EXPECT_THAT(resets_, IsEmpty());
  EXPECT_EQ(client_->stage(), Stage::Stopped);
  EXPECT_THAT(results_, ElementsAre("a: ABORTED"));
  EXPECT_LT(server_.accept().get(), 0) << "another attempt";
}

TEST_F(ReconnectingClientTest, CloseFailsWhatIsPendingOnce) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  client_->close();
  client_->close();
  write(peer, "ok 1\n");
  ASSERT_TRUE(runUntilDone(1));
  EXPECT_THAT(results_, ElementsAre("a: CANCELLED"));
}

TEST_F(ReconnectingClientTest, CloseInTheContinuationOfAFailedWrite) {
  startAndConnect();  // and hang up
  clientWrites("a");
  clientWrites("b");
  when_done_ = [this] { client_->close(); };
  ASSERT_TRUE(runUntilDone(2));
  advance(10 * kRetryInterval);
  EXPECT_THAT(resets_, IsEmpty());
}

TEST_F(ReconnectingClientTest, MayBeDestroyedInTheContinuationOfAWrite) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  clientWrites("b");
  when_done_ = [this] { client_.reset(); };
  write(peer, "ok 1\n");
  ASSERT_TRUE(runUntilDone(2));
  EXPECT_THAT(results_, ElementsAre("a: OK", "b: CANCELLED"));
}

TEST_F(ReconnectingClientTest, MayBeDestroyedWhenItWasReset) {
  startAndConnect();  // and hang up
  when_reset_ = [this] { client_.reset(); };
  ASSERT_TRUE(runUntilResets(1));
  advance(10 * kRetryInterval);
  EXPECT_EQ(resets_.size(), 1);
}

TEST_F(ReconnectingClientTest, LeaksNoDescriptorInWhateverStageItIsClosed) {
  server_.listen();
  const int before = nuncio::test::countOpenDescriptors();
  const auto settled = [&] { return nuncio::test::countOpenDescriptors() == before; };
  for (const Stage stage : {Stage::Lookup, Stage::SecondLookup, Stage::Connect, Stage::Handshake}) {
    start();
    ASSERT_TRUE(runUntil([&] { return client_->stage() >= stage; }));
    client_->close();
    EXPECT_TRUE(runUntil([&] {
      server_.accept();  // what is still in the kernel's queue is no descriptor of ours
      return settled();
    }));
  }
  start();
  {
    const Descriptor peer = connect();
    clientWrites("a");
    client_->reset(absl::AbortedError("now"));
  }
  EXPECT_TRUE(runUntil(settled)) << "after a reset";
  advance(kRetryInterval);
  {
    const Descriptor peer = connect();
  }
  client_.reset();
  EXPECT_TRUE(runUntil(settled)) << "after the destructor";
}

TEST_F(ReconnectingClientTest, AThousandAttemptsTakeNoMoreDescriptorsThanOne) {
  options_.max_retries = 1000;
  server_.listen();
  start();
  accept();
  ASSERT_TRUE(runUntilResets(1));
  const int before = nuncio::test::countOpenDescriptors();
  for (size_t attempt = 2; attempt <= 1000; ++attempt) {
    advance(kRetryInterval);
    accept();
    ASSERT_TRUE(runUntilResets(attempt));
  }
  EXPECT_TRUE(runUntil([&] { return nuncio::test::countOpenDescriptors() <= before; }));
}

TEST_F(ReconnectingClientTest, ADispatcherThatShutsDownFailsWhatIsPending) {
  const Descriptor peer = startAndConnect();
  clientWrites("a");
  nuncio::Future<void> write = client_->write("b");
  dispatcher_->shutdown();
  EXPECT_EQ(std::move(write).get().status().code(), absl::StatusCode::kCancelled);
  client_.reset();
  ++outcomes_["a"];  // a continuation that had not run never does
  results_.emplace_back("a");
}

}  // namespace
}  // namespace reconnecting_client
