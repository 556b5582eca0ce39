#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"

#include "nuncio/common/time.h"
#include "nuncio/network/network.h"

namespace nuncio::network {

class MemoryLink;

// How streams in memory behave, and what goes wrong on them. Chances are 0 to 1, drawn for each call from a generator
// with `seed`: where all is done on one thread, a run is the same each time.
struct MemoryLinkOptions {
  // What each direction holds: of what was written and is not read yet. A write beyond it is a short one, or EAGAIN.
  std::size_t capacity = std::size_t{256} * 1024;
  // The part of it that has arrived at the other end, as its system would hold it: that can still be read after the
  // stream was broken off, and what is on its way then cannot.
  std::size_t receive_window = std::size_t{64} * 1024;
  // From a write until it can be read, and how much of it can be read a second (0: all at once). Of `time`.
  std::chrono::microseconds delay{0};
  uint64_t bytes_per_second = 0;

  double short_read = 0;   // that a read gives only a part of what is there
  double short_write = 0;  // that a write takes only a part of what there is room for
  double again = 0;        // that a read or write is EAGAIN for no reason; the event tells again
  uint64_t seed = 1;

  // Whose clock it is, for `delay` and `bytes_per_second`; not owned. Null: the machine's.
  TimeSource* time = nullptr;
};

// Two ends of a stream in memory: no descriptor, no system call. Their events are as those of sockets: edge-triggered,
// and Closed with the peer's end. An end may live on another thread than the other one.
struct MemoryPair {
  IoHandlePtr first;
  IoHandlePtr second;
  std::shared_ptr<MemoryLink> link;
};
MemoryPair makeMemoryPair(const MemoryLinkOptions& options = {});

// MemoryLink: what is between two ends, in the hands of a test. Threads: any.
class MemoryLink {
public:
  virtual ~MemoryLink() = default;

  // Both ends read ECONNRESET after what has arrived, as if somebody between them had sent an RST to each.
  virtual void reset() = 0;
  // Nothing arrives any more, and nobody is told, as where a cable was cut: until restore().
  virtual void cut() = 0;
  virtual void restore() = 0;
};

// MemoryNetwork: a network of addresses on which listeners and connectors meet, all in one process and without a
// kernel.
//
//   SimulatedTimeSystem time;
//   MemoryNetwork network({.delay = 20ms, .time = &time});
//   ... a Listener on network, at 10.0.0.1:80; a Connector on network, to that ...
//
// An address is any that parses; port 0 becomes one from 49,152 up. Nobody listens: ECONNREFUSED. The queue of a
// listener is full: it tries until there is room. A connect takes one delay there and one back.
//
// Threads: any. Lifetime: longer than its handles.
class MemoryNetwork final : public Network {
public:
  explicit MemoryNetwork(const MemoryLinkOptions& options = {});
  ~MemoryNetwork() override;
  MemoryNetwork(const MemoryNetwork&) = delete;
  MemoryNetwork& operator=(const MemoryNetwork&) = delete;

  absl::StatusOr<IoHandlePtr> connect(const Address& to, const ConnectOptions& options) override;
  absl::StatusOr<ListenHandlePtr> listen(const Address& at, const ListenOptions& options) override;

  // Nobody answers at `address` from now on, neither yes nor no, until that is taken back: connects to it hang.
  void setSilent(const Address& address, bool silent);
  // The links of streams that were accepted or wait to be, oldest first, without those of which both ends are gone.
  std::vector<std::shared_ptr<MemoryLink>> links() const;

private:
  class Impl;
  const std::shared_ptr<Impl> impl_;  // shared with its handles
};

}  // namespace nuncio::network
