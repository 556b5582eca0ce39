// Which values are accepted, and what is set on which sockets.

#include "nuncio/network/socket_options.h"

#include <chrono>
#include <cstring>
#include <functional>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/network/address.h"
#include "source/network/apply_socket_options.h"
#include "test/test_support/descriptors.h"

namespace nuncio::network {
namespace {

using namespace std::chrono_literals;
using Family = Address::Family;
using test::Descriptor;
using testing::HasSubstr;

// Sets none of them.
SocketOptions nothing() { return {.no_delay = false, .reuse_address = false, .bind_address_no_port = false}; }

// Values that no kernel has by itself.
SocketOptions everything() {
  return {.no_delay = true,
          .keep_alive = KeepAlive{.idle = 77s, .interval = 7s, .count = 3},
          .send_buffer_bytes = 20000,
          .receive_buffer_bytes = 30000,
          .not_sent_low_watermark_bytes = 40000,
          .user_timeout = 12345ms,
          .traffic_class = 0x28,
          .reuse_address = true,
          .reuse_port = true,
          .v6_only = true,
          .bind_address_no_port = true};
}

int optionOf(int fd, int level, int option) {
  int value = -1;
  socklen_t length = sizeof(value);
  EXPECT_EQ(::getsockopt(fd, level, option, &value, &length), 0) << std::strerror(errno);
  return value;
}

Descriptor tcpSocket(int family) { return Descriptor(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)); }

void expectConnectionOptionsOfEverything(int fd) {
  EXPECT_EQ(optionOf(fd, IPPROTO_TCP, TCP_NODELAY), 1);
  EXPECT_EQ(optionOf(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
  EXPECT_EQ(optionOf(fd, IPPROTO_TCP, TCP_KEEPIDLE), 77);
  EXPECT_EQ(optionOf(fd, IPPROTO_TCP, TCP_KEEPINTVL), 7);
  EXPECT_EQ(optionOf(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
  EXPECT_EQ(optionOf(fd, SOL_SOCKET, SO_SNDBUF), 40000);  // double, see socket(7)
  EXPECT_EQ(optionOf(fd, SOL_SOCKET, SO_RCVBUF), 60000);
  EXPECT_EQ(optionOf(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT), 40000);
  EXPECT_EQ(optionOf(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 12345);
  EXPECT_EQ(optionOf(fd, IPPROTO_IP, IP_TOS), 0x28);
}

TEST(SocketOptionsCheckTest, DefaultsAndUsualValuesAreAccepted) {
  EXPECT_TRUE(check({}).ok());
  EXPECT_TRUE(check(nothing()).ok());
  EXPECT_TRUE(check(everything()).ok()) << check(everything());
}

TEST(SocketOptionsCheckTest, TheEndsOfEachRangeAreAccepted) {
  for (const int end : {0, 1}) {
    SocketOptions options;
    options.keep_alive = end == 0 ? KeepAlive{.idle = 1s, .interval = 1s, .count = 1} : KeepAlive{32767s, 32767s, 127};
    options.send_buffer_bytes = options.receive_buffer_bytes = end == 0 ? 1 : 1 << 30;
    options.not_sent_low_watermark_bytes = options.send_buffer_bytes;
    options.user_timeout = end == 0 ? 1ms : 2147483647ms;
    options.traffic_class = end == 0 ? 0 : 255;
    EXPECT_TRUE(check(options).ok()) << check(options);
  }
}

TEST(SocketOptionsCheckTest, ValuesBeyondTheirRangeAreRefusedByName) {
  const std::vector<std::pair<std::function<void(SocketOptions&)>, std::string>> cases = {
      {[](SocketOptions& o) { o.keep_alive = KeepAlive{.idle = 0s}; }, "keep_alive.idle: 0 s is not within 1 to 32767"},
      {[](SocketOptions& o) { o.keep_alive = KeepAlive{.idle = 32768s}; }, "keep_alive.idle: 32768 s"},
      {[](SocketOptions& o) { o.keep_alive = KeepAlive{.interval = -1s}; }, "keep_alive.interval: -1 s"},
      {[](SocketOptions& o) { o.keep_alive = KeepAlive{.interval = 32768s}; }, "keep_alive.interval: 32768 s"},
      {[](SocketOptions& o) { o.keep_alive = KeepAlive{.count = 0}; }, "keep_alive.count: 0"},
      {[](SocketOptions& o) { o.keep_alive = KeepAlive{.count = 128}; }, "keep_alive.count: 128"},
      {[](SocketOptions& o) { o.send_buffer_bytes = 0; }, "send_buffer_bytes: 0"},
      {[](SocketOptions& o) { o.send_buffer_bytes = (1 << 30) + 1; }, "send_buffer_bytes: 1073741825"},
      {[](SocketOptions& o) { o.receive_buffer_bytes = -1; }, "receive_buffer_bytes: -1"},
      {[](SocketOptions& o) { o.not_sent_low_watermark_bytes = 0; }, "not_sent_low_watermark_bytes: 0"},
      {[](SocketOptions& o) { o.user_timeout = 0ms; }, "user_timeout: 0 ms is not within 1 to 2147483647 ms"},
      {[](SocketOptions& o) { o.user_timeout = std::chrono::milliseconds::max(); },
       "user_timeout: 9223372036854775807"},
      {[](SocketOptions& o) { o.traffic_class = 256; }, "traffic_class: 256"},
      {[](SocketOptions& o) { o.traffic_class = -1; }, "traffic_class: -1"},
  };
  for (const auto& [change, message] : cases) {
    SocketOptions options;
    change(options);
    const absl::Status status = check(options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
}

TEST(SocketOptionsApplyTest, ConnectionsGetWhatIsForThem) {
  const Descriptor socket = tcpSocket(AF_INET);
  const absl::Status status = applySocketOptions(socket.get(), Family::IPv4, everything(), SocketPhase::Connection);
  ASSERT_TRUE(status.ok()) << status;
  expectConnectionOptionsOfEverything(socket.get());
  EXPECT_EQ(optionOf(socket.get(), SOL_SOCKET, SO_REUSEADDR), 0);
  EXPECT_EQ(optionOf(socket.get(), SOL_SOCKET, SO_REUSEPORT), 0);
  EXPECT_EQ(optionOf(socket.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 0);
}

TEST(SocketOptionsApplyTest, SocketsThatAreBoundLocallyGetThatAlone) {
  for (const auto& [native, family] : {std::pair(AF_INET, Family::IPv4), std::pair(AF_INET6, Family::IPv6)}) {
    const Descriptor socket = tcpSocket(native);
    const absl::Status status = applySocketOptions(socket.get(), family, everything(), SocketPhase::LocalBind);
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(optionOf(socket.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT), 1);
    EXPECT_EQ(optionOf(socket.get(), IPPROTO_TCP, TCP_NODELAY), 0);
    EXPECT_EQ(optionOf(socket.get(), SOL_SOCKET, SO_REUSEADDR), 0);
  }
}

// Of a listener on `any`, to which `loopback` connects.
void expectAcceptedConnectionsInherit(int native_family, const Address& any, const Address& loopback,
                                      const SocketOptions& options) {
  const Descriptor listener = tcpSocket(native_family);
  const absl::Status status = applySocketOptions(listener.get(), any.family(), options, SocketPhase::Listener);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(optionOf(listener.get(), SOL_SOCKET, SO_REUSEADDR), 1);
  EXPECT_EQ(optionOf(listener.get(), SOL_SOCKET, SO_REUSEPORT), 1);

  Address::Native name = any.native();
  ASSERT_EQ(::bind(listener.get(), name.data(), name.length), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&name.storage), &name.length), 0);
  const Address::Native target = loopback.withPort(Address::fromNative(name.data(), name.length)->port()).native();
  const Descriptor client = tcpSocket(target.storage.ss_family);
  ASSERT_EQ(::connect(client.get(), target.data(), target.length), 0);
  const Descriptor accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));

  expectConnectionOptionsOfEverything(accepted.get());
  if (native_family == AF_INET6) {
    EXPECT_EQ(optionOf(listener.get(), IPPROTO_IPV6, IPV6_V6ONLY), options.v6_only ? 1 : 0);
    EXPECT_EQ(optionOf(accepted.get(), IPPROTO_IPV6, IPV6_TCLASS), 0x28);
  }
}

TEST(SocketOptionsApplyTest, AcceptedConnectionsInheritFromTheListener) {
  expectAcceptedConnectionsInherit(AF_INET, Address::any(0), Address::loopback(0), everything());
  expectAcceptedConnectionsInherit(AF_INET6, Address::anyV6(0), Address::loopbackV6(0), everything());
}

TEST(SocketOptionsApplyTest, IPv4ConnectionsInheritFromADualStackListener) {
  SocketOptions options = everything();
  options.v6_only = false;
  expectAcceptedConnectionsInherit(AF_INET6, Address::anyV6(0), Address::loopback(0), options);
}

TEST(SocketOptionsApplyTest, UnixSocketsGetTheSizesOfTheirBuffersAlone) {
  const test::Pair pair = test::makeSocketPair();
  for (const SocketPhase phase : {SocketPhase::Listener, SocketPhase::LocalBind, SocketPhase::Connection}) {
    SocketOptions options = everything();
    options.mark = 1;
    const absl::Status status = applySocketOptions(pair.peer.get(), Family::Unix, options, phase);
    EXPECT_TRUE(status.ok()) << status;
  }
  EXPECT_EQ(optionOf(pair.peer.get(), SOL_SOCKET, SO_SNDBUF), 40000);
  EXPECT_EQ(optionOf(pair.peer.get(), SOL_SOCKET, SO_RCVBUF), 60000);
  EXPECT_EQ(optionOf(pair.peer.get(), SOL_SOCKET, SO_KEEPALIVE), 0);
}

TEST(SocketOptionsApplyTest, WhatIsNotSetCostsNoSystemCall) {
  constexpr int kNoSocket = -1;  // on which each call would fail
  for (const SocketPhase phase : {SocketPhase::Listener, SocketPhase::LocalBind, SocketPhase::Connection}) {
    EXPECT_TRUE(applySocketOptions(kNoSocket, Family::IPv4, nothing(), phase).ok());
    EXPECT_TRUE(applySocketOptions(kNoSocket, Family::Unix, {}, phase).ok());
  }
}

TEST(SocketOptionsApplyTest, AFailureNamesOptionValueAndReason) {
  const std::vector<std::pair<std::function<void(SocketOptions&)>, std::string>> cases = {
      {[](SocketOptions& o) { o.no_delay = true; }, "TCP_NODELAY to 1"},
      {[](SocketOptions& o) { o.keep_alive = KeepAlive{.idle = 9s}; }, "TCP_KEEPIDLE to 9"},
      {[](SocketOptions& o) { o.send_buffer_bytes = 5; }, "SO_SNDBUF to 5"},
      {[](SocketOptions& o) { o.receive_buffer_bytes = 6; }, "SO_RCVBUF to 6"},
      {[](SocketOptions& o) { o.not_sent_low_watermark_bytes = 7; }, "TCP_NOTSENT_LOWAT to 7"},
      {[](SocketOptions& o) { o.user_timeout = 8ms; }, "TCP_USER_TIMEOUT to 8"},
      {[](SocketOptions& o) { o.traffic_class = 40; }, "IP_TOS to 40"},
      {[](SocketOptions& o) { o.mark = 4294967295; }, "SO_MARK to 4294967295"},
      {[](SocketOptions& o) { o.reuse_address = true; }, "SO_REUSEADDR to 1"},
      {[](SocketOptions& o) { o.reuse_port = true; }, "SO_REUSEPORT to 1"},
  };
  for (const auto& [change, setting] : cases) {
    SocketOptions options = nothing();
    change(options);
    const absl::Status status = applySocketOptions(-1, Family::IPv4, options, SocketPhase::Listener);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), "setting " + setting + ": Bad file descriptor");
  }
  EXPECT_EQ(applySocketOptions(-1, Family::IPv6, nothing(), SocketPhase::Listener).message(),
            "setting IPV6_V6ONLY to 0: Bad file descriptor");
  EXPECT_EQ(applySocketOptions(-1, Family::IPv4, {}, SocketPhase::LocalBind).message(),
            "setting IP_BIND_ADDRESS_NO_PORT to 1: Bad file descriptor");
}

TEST(SocketOptionsApplyTest, OfSeveralFailuresTheFirstIsTold) {
  const test::Pair pair = test::makeSocketPair();  // no TCP: TCP_NODELAY fails, and stands behind the buffers
  SocketOptions options;
  options.send_buffer_bytes = 20000;
  options.mark = 1;
  const absl::Status status = applySocketOptions(pair.peer.get(), Family::IPv4, options, SocketPhase::Connection);
  EXPECT_TRUE(absl::StrContains(status.message(), "TCP_NODELAY to 1")) << status;
  EXPECT_EQ(optionOf(pair.peer.get(), SOL_SOCKET, SO_SNDBUF), 40000);
}

}  // namespace
}  // namespace nuncio::network
