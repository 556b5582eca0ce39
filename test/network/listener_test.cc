// Accepting connections, over TCP and in a network in memory alike.

#include "nuncio/network/listener.h"

#include <chrono>
#include <fcntl.h>
#include <memory>
#include <string>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/network/connector.h"
#include "nuncio/network/memory_network.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/network/connection_pair.h"
#include "test/test_support/contract.h"
#include "test/test_support/log_capture.h"

namespace nuncio::network::test {
namespace {

using namespace std::chrono_literals;
using ::nuncio::test::LogCapture;
using ::testing::HasSubstr;

// A connection that is there until its peer ends it, and writes down what it gets.
struct Session {
  explicit Session(ConnectionPtr from) : connection(std::move(from)) {
    recorder.on_end = [this] { connection->close(); };
    connection->start(recorder);
  }
  ~Session() { connection->abort(); }

  Recorder recorder;
  ConnectionPtr connection;
};

class ListenerTest : public ::testing::TestWithParam<Medium> {
protected:
  bool simulated() const { return GetParam() == Medium::Memory; }
  void SetUp() override {
    dispatcher_ = createDispatcher({.name = "test", .time_system = simulated() ? &time_ : nullptr});
  }

  Network& network() { return simulated() ? static_cast<Network&>(memory_) : systemNetwork(); }
  absl::StatusOr<ListenerPtr> tryListen(const Address& at, const ListenerOptions& options = {}) {
    return Listener::create(
        *dispatcher_, network(), at,
        [this](ConnectionPtr connection) {
          if (on_accept_) {
            on_accept_();
          }
          sessions_.push_back(std::make_unique<Session>(std::move(connection)));
        },
        options);
  }
  void listen(const ListenerOptions& options = {}) {
    absl::StatusOr<ListenerPtr> listener = tryListen(Address::loopback(0), options);
    ASSERT_TRUE(listener.ok()) << listener.status();
    listener_ = *std::move(listener);
  }

  std::unique_ptr<Session> connectTo(const Address& address) {
    std::unique_ptr<Session> session;
    bool done = false;
    connect(*dispatcher_, network(), address)
        .then([&](Try<ConnectionPtr> result) {
          done = true;
          EXPECT_FALSE(result.failed()) << result.status();
          if (!result.failed()) {
            session = std::make_unique<Session>(std::move(result).value());
          }
        })
        .detach();
    EXPECT_TRUE(runUntil([&] { return done; }));
    return session;
  }

  bool runUntil(const std::function<bool()>& done) {
    const auto give_up = std::chrono::steady_clock::now() + 10s;
    for (int round = 0; !done(); ++round) {
      if (simulated()) {
        time_.advanceTimeAndRun(1ms);
      } else {
        dispatcher_->run(RunType::NonBlock);
      }
      if (simulated() ? round > 60'000 : std::chrono::steady_clock::now() > give_up) {
        return false;
      }
    }
    return true;
  }
  void settle() {
    for (int i = 0; i < 50; ++i) {
      simulated() ? time_.advanceTimeAndRun(1ms) : dispatcher_->run(RunType::NonBlock);
    }
  }

  SimulatedTimeSystem time_;
  MemoryNetwork memory_{{.time = &time_}};
  DispatcherPtr dispatcher_;
  ListenerPtr listener_;
  std::function<void()> on_accept_;
  std::vector<std::unique_ptr<Session>> sessions_;
};

TEST_P(ListenerTest, AcceptsWhoConnects) {
  listen();
  EXPECT_NE(0, listener_->address().port());
  const std::unique_ptr<Session> client = connectTo(listener_->address());
  ASSERT_NE(nullptr, client);
  ASSERT_TRUE(runUntil([&] { return sessions_.size() == 1; }));
  EXPECT_EQ(listener_->address(), client->connection->peerAddress());
  EXPECT_EQ(client->connection->localAddress(), sessions_[0]->connection->peerAddress());
  client->connection->write("hello");
  ASSERT_TRUE(runUntil([&] { return sessions_[0]->recorder.received == "hello"; }));
  sessions_[0]->connection->write("welcome");
  ASSERT_TRUE(runUntil([&] { return client->recorder.received == "welcome"; }));
  EXPECT_EQ(1U, listener_->stats().accepted);
  EXPECT_EQ(1U, listener_->stats().open);
}

TEST_P(ListenerTest, PausedItAcceptsNothingWhileClientsConnect) {
  listen();
  listener_->pause();
  const std::unique_ptr<Session> client = connectTo(listener_->address());
  client->connection->write("waiting");
  settle();
  EXPECT_TRUE(sessions_.empty());
  listener_->resume();
  ASSERT_TRUE(runUntil([&] { return sessions_.size() == 1 && sessions_[0]->recorder.received == "waiting"; }));
}

TEST_P(ListenerTest, OverTheLimitItClosesAtOnceAndRaisingItHelpsAtOnce) {
  listen({.max_connections = 1});
  const std::unique_ptr<Session> first = connectTo(listener_->address());
  ASSERT_TRUE(runUntil([&] { return sessions_.size() == 1; }));
  const std::unique_ptr<Session> second = connectTo(listener_->address());
  ASSERT_TRUE(runUntil([&] { return second->recorder.closes == 1; }));
  EXPECT_EQ(1U, listener_->stats().refused);
  listener_->setMaxConnections(2);
  const std::unique_ptr<Session> third = connectTo(listener_->address());
  ASSERT_TRUE(runUntil([&] { return sessions_.size() == 2; }));
  EXPECT_EQ(0, third->recorder.closes);
}

TEST_P(ListenerTest, AConnectionThatIsDestroyedMakesRoom) {
  listen({.max_connections = 1});
  for (int i = 0; i < 3; ++i) {
    const std::unique_ptr<Session> client = connectTo(listener_->address());
    ASSERT_TRUE(runUntil([&] { return sessions_.size() == 1; })) << i;
    client->connection->close();
    ASSERT_TRUE(runUntil([&] { return sessions_[0]->recorder.closes == 1; }));
    EXPECT_EQ(1U, listener_->stats().open);
    sessions_.clear();
    EXPECT_EQ(0U, listener_->stats().open);
  }
  EXPECT_EQ(0U, listener_->stats().refused);
}

TEST_P(ListenerTest, ASecondOneOnThePortIsAnError) {
  listen();
  const absl::StatusOr<ListenerPtr> second = tryListen(listener_->address());
  ASSERT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(listener_->address().toString()));
  listener_.reset();
  EXPECT_TRUE(tryListen(Address::loopback(0)).ok());
}

TEST_P(ListenerTest, SharedTwoMayListen) {
  ListenerOptions options;
  options.listen.socket.reuse_port = true;
  listen(options);
  const absl::StatusOr<ListenerPtr> second = tryListen(listener_->address(), options);
  EXPECT_TRUE(second.ok()) << second.status();
}

TEST_P(ListenerTest, StopAcceptsWhoWaits) {
  listen();
  listener_->pause();
  std::vector<std::unique_ptr<Session>> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(connectTo(listener_->address()));
  }
  EXPECT_TRUE(sessions_.empty());
  listener_->stop();
  EXPECT_EQ(20U, sessions_.size());
  for (const std::unique_ptr<Session>& client : clients) {
    client->connection->write("x");
  }
  ASSERT_TRUE(runUntil([&] {
    return std::all_of(sessions_.begin(), sessions_.end(),
                       [](const std::unique_ptr<Session>& session) { return session->recorder.received == "x"; });
  }));
  listener_->stop();
}

TEST_P(ListenerTest, OneThatLeftWhileItWaitedDoesNotStopIt) {
  listen();
  listener_->pause();
  std::unique_ptr<Session> leaving = connectTo(listener_->address());
  leaving.reset();  // with an RST
  const std::unique_ptr<Session> staying = connectTo(listener_->address());
  staying->connection->write("here");
  listener_->resume();
  ASSERT_TRUE(runUntil([&] { return !sessions_.empty() && sessions_.back()->recorder.received == "here"; }));
}

TEST_P(ListenerTest, MayBeDestroyedAndStoppedInItsCallback) {
  listen();
  on_accept_ = [&] { listener_.reset(); };
  std::unique_ptr<Session> client = connectTo(listener_->address());
  ASSERT_TRUE(runUntil([&] { return listener_ == nullptr; }));
  listen();
  on_accept_ = [&] { listener_->stop(); };
  client = connectTo(listener_->address());
  ASSERT_TRUE(runUntil([&] { return listener_->stats().accepted == 1; }));
  settle();
}

TEST_P(ListenerTest, RefusesWrongArguments) {
  EXPECT_TRUE(absl::IsInvalidArgument(tryListen(Address::loopback(0), {.accepts_per_turn = 0}).status()));
  EXPECT_TRUE(
      absl::IsInvalidArgument(tryListen(Address::loopback(0), {.connection = {.idle_timeout = -1ms}}).status()));
  EXPECT_CONTRACT_VIOLATION(EXPECT_FALSE(Listener::create(*dispatcher_, network(), Address::loopback(0), nullptr).ok()),
                            HasSubstr("null callback"));
}

INSTANTIATE_TEST_SUITE_P(Media, ListenerTest, ::testing::Values(Medium::Tcp, Medium::Memory),
                         [](const auto& medium) { return nameOf(medium.param); });

// --- What only the kernel has

class SystemListenerTest : public ListenerTest {};

// As many descriptors as there are, but for `left`.
class FewDescriptors {
public:
  explicit FewDescriptors(int left) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const int next = ::dup(0);
    ::close(next);
    rlimit few = before_;
    few.rlim_cur = static_cast<rlim_t>(next) + 200;
    ::setrlimit(RLIMIT_NOFILE, &few);
    for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) {
      taken_.push_back(fd);
    }
    give(left);
  }
  ~FewDescriptors() {
    give(static_cast<int>(taken_.size()));
    ::setrlimit(RLIMIT_NOFILE, &before_);
  }
  void give(int count) {
    for (; count > 0; --count) {
      ::close(taken_.back());
      taken_.pop_back();
    }
  }

private:
  rlimit before_{};
  std::vector<int> taken_;
};

TEST_P(SystemListenerTest, WithoutDescriptorsItRefusesPausesAndGoesOnAgain) {
  const LogCapture log(LogLayer::Network);
  listen();
  listener_->pause();
  std::vector<std::unique_ptr<Session>> clients;
  for (int i = 0; i < 3; ++i) {
    clients.push_back(connectTo(listener_->address()));
  }
  {
    FewDescriptors few(0);
    listener_->resume();
    ASSERT_TRUE(runUntil([&] { return listener_->stats().lacking == 1; }));
    EXPECT_EQ(3U, listener_->stats().refused);
    ASSERT_TRUE(runUntil([&] { return clients[0]->recorder.closes == 1 && clients[2]->recorder.closes == 1; }));
    EXPECT_TRUE(log.contains("accept failed"));
  }
  const std::unique_ptr<Session> late = connectTo(listener_->address());
  ASSERT_TRUE(runUntil([&] { return sessions_.size() == 1; }));  // once its pause is over
  EXPECT_EQ(1U, listener_->stats().lacking);
}

TEST_P(SystemListenerTest, ADualStackListenerReportsIPv4AsIPv4) {
  absl::StatusOr<ListenerPtr> listener = tryListen(Address::anyV6(0));
  if (!listener.ok()) {
    ASSERT_THAT(std::string(listener.status().message()), HasSubstr("Address family not supported"));
    return;  // a machine without IPv6
  }
  const std::unique_ptr<Session> client = connectTo(Address::loopback((*listener)->address().port()));
  ASSERT_TRUE(runUntil([&] { return sessions_.size() == 1; }));
  EXPECT_EQ(Address::Family::IPv4, sessions_[0]->connection->peerAddress().family());
}

TEST_P(SystemListenerTest, ALeftoverSocketFileIsRemovedAndALivingOneIsNot) {
  const std::string path = "/tmp/nuncio_listener_test_" + std::to_string(::getpid());  // paths may have 108 bytes
  const Address at = *Address::unixPath(path);
  {
    absl::StatusOr<ListenerPtr> first = tryListen(at);
    ASSERT_TRUE(first.ok()) << first.status();
    EXPECT_TRUE(absl::IsAlreadyExists(tryListen(at).status()));
    const std::unique_ptr<Session> client = connectTo(at);
    ASSERT_TRUE(runUntil([&] { return !sessions_.empty() && sessions_.back()->recorder.closes == 0; }));
  }
  EXPECT_NE(0, ::access(path.c_str(), F_OK));  // it goes with its listener
  // What a process that was killed leaves behind.
  const int dead = ::socket(AF_UNIX, SOCK_STREAM, 0);
  const Address::Native native = at.native();
  ASSERT_EQ(0, ::bind(dead, native.data(), native.length));
  ::close(dead);
  ASSERT_EQ(0, ::access(path.c_str(), F_OK));
  EXPECT_TRUE(tryListen(at).ok());
}

INSTANTIATE_TEST_SUITE_P(Media, SystemListenerTest, ::testing::Values(Medium::Tcp),
                         [](const auto& medium) { return nameOf(medium.param); });

}  // namespace
}  // namespace nuncio::network::test
