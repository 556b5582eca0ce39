// Connecting, in a network in memory, where time is simulated and nobody answers when a test says so.

#include "nuncio/network/connector.h"

#include <chrono>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/network/listener.h"
#include "nuncio/network/memory_network.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/network/connection_pair.h"

namespace nuncio::network::test {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Address at(absl::string_view text) { return *Address::parse(text); }

class ConnectorTest : public ::testing::Test {
protected:
  ListenerPtr listen(const Address& address) {
    return *Listener::create(*dispatcher_, network_, address,
                             [this](ConnectionPtr connection) { accepted_.push_back(std::move(connection)); });
  }
  void advance(std::chrono::microseconds time) { time_.advanceTimeAndRun(time); }
  static std::string messageOf(Future<ConnectionPtr>& future) {
    return std::string(future.result().status().message());
  }

  SimulatedTimeSystem time_;
  MemoryNetwork network_{{.delay = 10ms, .time = &time_}};
  DispatcherPtr dispatcher_ = createDispatcher({.name = "test", .time_system = &time_});
  std::vector<ConnectionPtr> accepted_;
};

TEST_F(ConnectorTest, ConnectsAfterARoundTrip) {
  const ListenerPtr listener = listen(at("10.0.0.1:80"));
  Future<ConnectionPtr> connecting = connect(*dispatcher_, network_, at("10.0.0.1:80"));
  advance(19ms);
  EXPECT_FALSE(connecting.isReady());
  advance(2ms);
  ASSERT_TRUE(connecting.isReady());
  EXPECT_FALSE(connecting.result().failed());
  EXPECT_EQ(1U, accepted_.size());
}

TEST_F(ConnectorTest, ARefusalIsReportedLaterWithItsCause) {
  Future<ConnectionPtr> connecting = connect(*dispatcher_, network_, at("10.0.0.1:80"));
  EXPECT_FALSE(connecting.isReady());  // never inside the call
  advance(25ms);
  ASSERT_TRUE(connecting.isReady());
  EXPECT_TRUE(absl::IsUnavailable(connecting.result().status()));
  EXPECT_THAT(messageOf(connecting), HasSubstr("10.0.0.1:80: Connection refused"));
}

TEST_F(ConnectorTest, SilenceEndsAtTheTimeout) {
  network_.setSilent(at("10.0.0.1:80"), true);
  Future<ConnectionPtr> connecting = connect(*dispatcher_, network_, at("10.0.0.1:80"), {.timeout = 3s});
  advance(2999ms);
  EXPECT_FALSE(connecting.isReady());
  advance(2ms);
  ASSERT_TRUE(connecting.isReady());
  EXPECT_TRUE(absl::IsDeadlineExceeded(connecting.result().status()));
  EXPECT_THAT(messageOf(connecting), HasSubstr("within 3000 ms"));
  EXPECT_TRUE(network_.links().empty() || network_.links().size() == 1U);
}

TEST_F(ConnectorTest, ASilentAddressIsFollowedByTheNext) {
  const ListenerPtr listener = listen(at("10.0.0.2:80"));
  network_.setSilent(at("10.0.0.1:80"), true);
  Future<ConnectionPtr> connecting =
      connect(*dispatcher_, network_, std::vector<Address>{at("10.0.0.1:80"), at("10.0.0.2:80")});
  advance(250ms + 15ms);
  EXPECT_FALSE(connecting.isReady());
  advance(10ms);
  ASSERT_TRUE(connecting.isReady());
  EXPECT_EQ(at("10.0.0.2:80"), connecting.result().value()->peerAddress());
}

TEST_F(ConnectorTest, AFailureIsFollowedByTheNextAtOnce) {
  const ListenerPtr listener = listen(at("10.0.0.2:80"));
  Future<ConnectionPtr> connecting =
      connect(*dispatcher_, network_, std::vector<Address>{at("10.0.0.1:80"), at("10.0.0.2:80")});
  advance(45ms);
  ASSERT_TRUE(connecting.isReady());
  EXPECT_EQ(at("10.0.0.2:80"), connecting.result().value()->peerAddress());
}

TEST_F(ConnectorTest, NobodyIsGivenUpForBeingSlow) {
  const ListenerPtr listener = listen(at("10.0.0.1:80"));
  network_.setSilent(at("10.0.0.2:80"), true);
  MemoryNetwork far({.delay = 400ms, .time = &time_});
  std::vector<ConnectionPtr> accepted;
  const ListenerPtr far_listener =
      *Listener::create(*dispatcher_, far, at("10.0.0.1:80"),
                        [&](ConnectionPtr connection) { accepted.push_back(std::move(connection)); });
  far.setSilent(at("10.0.0.2:80"), true);
  Future<ConnectionPtr> connecting =
      connect(*dispatcher_, far, std::vector<Address>{at("10.0.0.1:80"), at("10.0.0.2:80")});
  advance(790ms);
  EXPECT_FALSE(connecting.isReady());
  advance(20ms);
  ASSERT_TRUE(connecting.isReady());
  EXPECT_EQ(at("10.0.0.1:80"), connecting.result().value()->peerAddress());
}

TEST_F(ConnectorTest, AllFailuresAreTold) {
  Future<ConnectionPtr> connecting =
      connect(*dispatcher_, network_, std::vector<Address>{at("10.0.0.1:80"), at("[::1]:80")});
  advance(100ms);
  ASSERT_TRUE(connecting.isReady());
  EXPECT_TRUE(absl::IsUnavailable(connecting.result().status()));
  EXPECT_THAT(messageOf(connecting), HasSubstr("10.0.0.1:80: Connection refused; connect to [::1]:80"));
}

TEST_F(ConnectorTest, CancelClosesAllAttempts) {
  network_.setSilent(at("10.0.0.1:80"), true);
  network_.setSilent(at("10.0.0.2:80"), true);
  Future<ConnectionPtr> connecting =
      connect(*dispatcher_, network_, std::vector<Address>{at("10.0.0.1:80"), at("10.0.0.2:80")});
  advance(300ms);
  EXPECT_EQ(2U, network_.links().size());
  connecting.cancel();
  advance(1ms);
  ASSERT_TRUE(connecting.isReady());
  EXPECT_TRUE(absl::IsCancelled(connecting.result().status()));
}

TEST_F(ConnectorTest, AConnectionThatComesTooLateIsClosed) {
  const ListenerPtr listener = listen(at("10.0.0.1:80"));
  {
    Future<ConnectionPtr> connecting = connect(*dispatcher_, network_, at("10.0.0.1:80"));
    advance(30ms);
    ASSERT_TRUE(connecting.isReady());
  }
  advance(30ms);
  ASSERT_EQ(1U, accepted_.size());
  Recorder recorder;
  accepted_[0]->start(recorder);
  advance(30ms);
  ASSERT_EQ(1, recorder.closes);
  EXPECT_EQ(EndReason::Reset, recorder.closed->reason);
}

TEST_F(ConnectorTest, RefusesWrongArguments) {
  for (const ConnectorOptions& options : {ConnectorOptions{.timeout = 0ms}, ConnectorOptions{.stagger = -1ms},
                                          ConnectorOptions{.connection = {.read_limit = 0}}}) {
    Future<ConnectionPtr> connecting = connect(*dispatcher_, network_, at("10.0.0.1:80"), options);
    ASSERT_TRUE(connecting.isReady());
    EXPECT_TRUE(absl::IsInvalidArgument(connecting.result().status()));
  }
  Future<ConnectionPtr> nowhere = connect(*dispatcher_, network_, std::vector<Address>{});
  ASSERT_TRUE(nowhere.isReady());
  EXPECT_TRUE(absl::IsInvalidArgument(nowhere.result().status()));
}

TEST(HappyEyeballsTest, TheFirstStaysFirstThenFamiliesTakeTurns) {
  EXPECT_THAT(happyEyeballsOrder({at("[::1]:1"), at("[::2]:1"), at("[::3]:1"), at("10.0.0.1:1"), at("10.0.0.2:1")}),
              ElementsAre(at("[::1]:1"), at("10.0.0.1:1"), at("[::2]:1"), at("10.0.0.2:1"), at("[::3]:1")));
  EXPECT_THAT(happyEyeballsOrder({at("10.0.0.1:1"), at("[::1]:1")}), ElementsAre(at("10.0.0.1:1"), at("[::1]:1")));
  EXPECT_THAT(happyEyeballsOrder({}), ElementsAre());
}

}  // namespace
}  // namespace nuncio::network::test
