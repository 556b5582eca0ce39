#pragma once

#include <cstdint>
#include <limits>
#include <memory>

#include "absl/status/statusor.h"

#include "nuncio/common/inline_function.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/network/connection.h"
#include "nuncio/network/network.h"

namespace nuncio::network {

// Takes each connection as it comes; usually calls start() at once. On the listener's dispatcher.
using AcceptCb = InlineFunction<void(ConnectionPtr), 48>;

struct ListenerOptions {
  ListenOptions listen;
  ConnectionOptions connection;  // of those that it accepts
  // Of connections that are there at a time, from their acceptance until they are destroyed. Those beyond are accepted
  // and closed at once, so that their clients know.
  uint64_t max_connections = std::numeric_limits<uint64_t>::max();
  // So many are accepted before others have their turn. > 0.
  int accepts_per_turn = 16;
};

struct ListenerStats {
  uint64_t accepted = 0;  // and given to the callback
  uint64_t refused = 0;   // closed at once: over max_connections
  uint64_t failed = 0;    // ended before they were accepted, or there was no memory for them
  uint64_t lacking = 0;   // times that a descriptor, or memory of the system's, was lacking
  uint64_t open = 0;      // now
};

// Listener: accepts connections.
//
//   auto listener = Listener::create(dispatcher, systemNetwork(), Address::any(8080), [&](ConnectionPtr connection) {
//     sessions.add(std::make_unique<Session>(std::move(connection)));
//   });
//   if (!listener.ok()) return listener.status();       // says who or what is in the way
//
// Without descriptors (EMFILE, ENFILE) those who wait are accepted and closed with one that is kept for that, so that
// they need not wait for nothing; then it pauses for 100 ms, and says so in the log once a second. A connection that
// was reset while it waited is skipped.
//
// Threads: the dispatcher's. Lifetime: its connections may outlive it. Destroying it closes it: who waits to be
// accepted is reset; stop() accepts them first. May be destroyed in its callback. It may outlive the dispatcher, and
// then does nothing.
class Listener {
public:
  // Errors: what Network::listen() and Dispatcher::createFileEvent() say; InvalidArgument for options out of range.
  static absl::StatusOr<std::unique_ptr<Listener>> create(Dispatcher& dispatcher, Network& network, const Address& at,
                                                          AcceptCb cb, const ListenerOptions& options = {});
  // On a handle that listens already.
  static absl::StatusOr<std::unique_ptr<Listener>> create(Dispatcher& dispatcher, ListenHandlePtr handle, AcceptCb cb,
                                                          const ListenerOptions& options = {});
  virtual ~Listener() = default;

  // With the port that the system chose, where 0 was asked for.
  virtual const Address& address() const = 0;

  // Accepts nothing until resume(); clients connect all the same, and wait in the system's queue.
  virtual void pause() = 0;
  virtual void resume() = 0;

  // From now on; those that are there stay.
  virtual void setMaxConnections(uint64_t max_connections) = 0;

  // Accepts what waits, though it be paused, and closes. Clients that connect in the very moment between are reset:
  // only a descriptor that another process goes on to listen on has no such moment. Once is enough.
  virtual void stop() = 0;

  virtual ListenerStats stats() const = 0;
};

using ListenerPtr = std::unique_ptr<Listener>;

}  // namespace nuncio::network
