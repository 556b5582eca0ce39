#pragma once

#include "nuncio/common/file_descriptor.h"
#include "nuncio/network/address.h"
#include "nuncio/network/io_handle.h"

namespace nuncio::network {

// The descriptor of a socket of ours, non-blocking, closed on exec; or ResourceExhausted and the like.
absl::StatusOr<FileDescriptor> openSocket(Address::Family family);

// An IoHandle on a stream socket, non-blocking. `peer`: where it is known already.
IoHandlePtr makeSocketHandle(FileDescriptor fd, const Address& peer);

// A ListenHandle on a socket that listens, non-blocking. `unlink`: its path is ours, and goes with it.
ListenHandlePtr makeSocketListenHandle(FileDescriptor fd, const Address& address, bool unlink);

}  // namespace nuncio::network
