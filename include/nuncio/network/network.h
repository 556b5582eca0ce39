#pragma once

#include <optional>

#include "absl/status/statusor.h"

#include "nuncio/network/address.h"
#include "nuncio/network/io_handle.h"
#include "nuncio/network/socket_options.h"

namespace nuncio::network {

struct ListenOptions {
  // How many streams may wait to be accepted; the system has a limit of its own (net.core.somaxconn). > 0.
  int backlog = 1024;
  // Of the listener, and what accepted sockets inherit from it.
  SocketOptions socket;
};

struct ConnectOptions {
  // The address from which it goes; a port of 0: of the system's choice.
  std::optional<Address> local;
  SocketOptions socket;
};

// Network: where addresses are: the system's (systemNetwork()), or one in memory, for tests (MemoryNetwork). Listeners
// and connectors take one, and so know of no difference.
//
// Threads: any.
class Network {
public:
  virtual ~Network() = default;

  // A stream to `to`, that is connected, or tries: see IoHandle::connectResult(). An error: what there is to know at
  // once. ResourceExhausted without descriptors or memory; Unavailable where there is no way to the address, where the
  // ports have run out, or nobody listens there; InvalidArgument for addresses that do not go together.
  virtual absl::StatusOr<IoHandlePtr> connect(const Address& to, const ConnectOptions& options) = 0;

  // AlreadyExists: somebody listens there. PermissionDenied. Unavailable: the address is none of this machine's.
  virtual absl::StatusOr<ListenHandlePtr> listen(const Address& at, const ListenOptions& options) = 0;
};

// Sockets.
Network& systemNetwork();

}  // namespace nuncio::network
