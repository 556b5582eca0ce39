#pragma once

#include "absl/status/status.h"

#include "nuncio/network/address.h"
#include "nuncio/network/socket_options.h"

namespace nuncio::network {

// When in the life of a socket options are set.
enum class SocketPhase : uint8_t {
  Listener,    // before bind(): what is for a listener, and what its connections inherit from it
  LocalBind,   // of a socket that is to connect, before it is bound to a local address
  Connection,  // before connect(), or of an accepted one whose listener was made with other options
};

// Sets, of options that check() accepts, those that are for `phase` and a socket of `family`. A setting that fails is
// named in the Status with its value ("setting SO_MARK to 7: Operation not permitted"; codes as errnoStatus()), and
// those behind it are not tried. `fd`: a socket of `family`, or one of IPv6 whose peer is an IPv4 address.
absl::Status applySocketOptions(int fd, Address::Family family, const SocketOptions& options, SocketPhase phase);

}  // namespace nuncio::network
