#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"

namespace nuncio::network {

// SocketOptions: what the kernel is asked to do with a connection, or with a listener and the connections that it
// accepts, which inherit all of it.
//
//   SocketOptions options;
//   options.keep_alive = KeepAlive{.idle = std::chrono::minutes(5)};
//   options.not_sent_low_watermark_bytes = 128 * 1024;
//   if (absl::Status status = check(options); !status.ok()) return status;  // once, when a configuration is read
//
// What is not set is left as the kernel has it, and costs no system call; what is set costs one for each socket, or for
// each listener. A Unix socket takes the sizes of its buffers; the rest is for TCP, and is left out there.
//
// Threads: a value: as an int.

// Probes on a connection that is silent, so that a peer that is gone without a word is noticed: after `idle` without
// anything from it, every `interval`, until `count` have had no answer. Costs a packet for each probe, four system
// calls, and the connections of peers that are cut off for so long.
struct KeepAlive {
  std::chrono::seconds idle{60};      // 1 to 32,767 s
  std::chrono::seconds interval{10};  // 1 to 32,767 s
  int count = 6;                      // 1 to 127

  friend bool operator==(const KeepAlive&, const KeepAlive&) = default;
};

struct SocketOptions {
  // Of connections.

  // TCP_NODELAY: small writes go out at once, and do not wait for the acknowledgement of the one before. Buys some 40
  // ms for a request that is written in two pieces; costs packets where a program writes byte by byte.
  bool no_delay = true;

  // SO_KEEPALIVE and the like. Off: a connection whose peer has lost its power is kept for ever, unless it is written
  // to.
  std::optional<KeepAlive> keep_alive;

  // SO_SNDBUF, SO_RCVBUF: bytes that wait in the kernel, to be sent or to be read, of which it takes double for its own
  // needs, and at most net.core.wmem_max and rmem_max. Bounds memory, and with it throughput, to a buffer each round
  // trip; a size that is set is not adapted to the connection any more. 1 to 2^30 bytes.
  std::optional<int> send_buffer_bytes;
  std::optional<int> receive_buffer_bytes;

  // TCP_NOTSENT_LOWAT: a socket is writable as long as no more than so many bytes wait that were never sent. Keeps what
  // is queued in the program, where it can be bounded and dropped; costs a wake-up more now and then. 1 to 2^30 bytes.
  std::optional<int> not_sent_low_watermark_bytes;

  // TCP_USER_TIMEOUT: how long what was sent may have no acknowledgement before the connection is given up with
  // ETIMEDOUT; else that is net.ipv4.tcp_retries2, some 15 minutes. It then bounds unanswered probes too, in place of
  // KeepAlive::count. 1 ms to 2^31 - 1 ms.
  std::optional<std::chrono::milliseconds> user_timeout;

  // IP_TOS, IPV6_TCLASS: the byte by which routers tell traffic apart (DSCP in its upper six bits; the lower two are
  // the kernel's own for TCP). 0 to 255.
  std::optional<int> traffic_class;

  // SO_MARK: a number by which this machine's routes and filters tell connections apart. Needs CAP_NET_ADMIN.
  std::optional<uint32_t> mark;

  // Of listeners.

  // SO_REUSEADDR: binds although connections of a process before this one linger in TIME_WAIT. Without it a restart
  // fails for a minute with EADDRINUSE; two listeners at once are an error either way.
  bool reuse_address = true;

  // SO_REUSEPORT: several listeners of one user share an address, and the kernel spreads connections over them by a
  // hash of the peer's address, without a look at their load. A listener that closes resets what waits in its queue.
  bool reuse_port = false;

  // IPV6_V6ONLY: a listener on an IPv6 address takes IPv6 alone; false: also IPv4, whose peers it reports as IPv4. Set
  // either way, as the kernel's own default is a matter of the system.
  bool v6_only = false;

  // Of connections that are made from a local address.

  // IP_BIND_ADDRESS_NO_PORT: bind() to an address with port 0 leaves the choice of the port to connect(), which can
  // give the same one to connections to different peers. Without it all connections from an address have some 28,000
  // ports between them, and bind() then fails with EADDRINUSE. Costs that the port is not known between the two calls.
  bool bind_address_no_port = true;

  friend bool operator==(const SocketOptions&, const SocketOptions&) = default;
};

// InvalidArgument for a value out of its range, which it names.
absl::Status check(const SocketOptions& options);

}  // namespace nuncio::network
