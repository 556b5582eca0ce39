#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sys/uio.h>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/network/address.h"

namespace nuncio::network {

// What a read or a write came to: so many bytes, or an error number of the system's. `error` is EAGAIN where it would
// have to wait; a read of no bytes without an error is the end of the stream.
struct IoResult {
  std::size_t bytes = 0;
  int error = 0;

  bool ok() const { return error == 0; }
  bool wouldBlock() const { return error == EAGAIN; }
};

// IoHandle: one end of a stream of bytes: a socket of the kernel's, or one of a pair in memory. What a Connection
// stands on; those who use connections need it only to make one of a stream that they have got in another way.
//
//   IoResult result = handle->read(spans);
//   if (result.wouldBlock()) return;                 // the event tells when there is more
//
// No call waits, and none is interrupted: EINTR is dealt with inside. Whatever becomes of the peer is an error of the
// call that meets it; no signal is raised (SIGPIPE).
//
// Threads: one at a time; with an event, that of its dispatcher. Lifetime: destroying it closes the stream; the event
// goes before.
class IoHandle {
public:
  virtual ~IoHandle() = default;

  // Into `spans` (not empty, at most 1,024), in order. ECONNRESET where the peer has broken it off: after all that came
  // before that has been read.
  virtual IoResult read(absl::Span<const iovec> spans) = 0;

  // Of `spans`, in order; a part of them is taken when there is no room for all. EPIPE after shutdownWrite(), and where
  // the peer is gone, which may also be ECONNRESET.
  virtual IoResult write(absl::Span<const iovec> spans) = 0;

  // What was written is the last: the peer reads the end of the stream after it. 0, or an error number: ENOTCONN where
  // the stream is broken or was closed.
  virtual int shutdownWrite() = 0;

  // Closes it in order: what was written is still delivered, and the end of the stream after it. With unread input the
  // system makes that an RST, as it does when more comes afterwards. Nothing may be read or written any more.
  virtual void close() = 0;

  // Breaks it off: what was written and is not delivered yet is thrown away, and the peer reads ECONNRESET (RST). Unix
  // sockets know no such thing: there it is a close, and the peer reads the end of the stream, or ECONNRESET where
  // something was unread here. Nothing may be read or written any more.
  virtual void abort() = 0;

  // Of one that was made by Network::connect(), when the event has reported Write: 0 when it is connected, or why it
  // failed, which is told once. EINPROGRESS: it still tries, and the event tells again.
  virtual int connectResult() = 0;

  // Whether the peer's system has acknowledged all that was written: then a close loses nothing any more.
  virtual bool delivered() const = 0;

  // Of this end, and of the other; a default Address where the system knows none. That of the other is known when it is
  // closed, too.
  virtual Address localAddress() const = 0;
  virtual Address peerAddress() const = 0;

  // Of the socket, for setsockopt() and the like; -1: there is none. It stays this handle's.
  virtual int nativeFd() const = 0;

  // Calls back for what is ready, edge-triggered: read or write until EAGAIN. One event a handle at a time. Errors: as
  // Dispatcher::createFileEvent.
  virtual absl::StatusOr<FileEventPtr> createReadyEvent(Dispatcher& dispatcher, FileReadyCb cb, uint32_t events) = 0;
};

using IoHandlePtr = std::unique_ptr<IoHandle>;

// ListenHandle: where streams arrive. Threads and lifetime: as IoHandle.
class ListenHandle {
public:
  virtual ~ListenHandle() = default;

  // The next one, or nullptr and an error number: EAGAIN when there is none; EMFILE, ENFILE, ENOBUFS, ENOMEM when
  // something is lacking, with the stream left in the queue. Others are of a stream that has ended before it was
  // accepted: go on with the next.
  struct Accepted {
    IoHandlePtr handle;
    int error = 0;
  };
  virtual Accepted accept() = 0;

  // With the port that the system chose, where 0 was asked for.
  virtual const Address& address() const = 0;

  virtual int nativeFd() const = 0;

  // Calls back in each iteration in which streams wait to be accepted (level-triggered), while it is enabled.
  virtual absl::StatusOr<FileEventPtr> createReadyEvent(Dispatcher& dispatcher, FileReadyCb cb) = 0;
};

using ListenHandlePtr = std::unique_ptr<ListenHandle>;

}  // namespace nuncio::network
