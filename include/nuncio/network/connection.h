#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "nuncio/event/deferred_deletable.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/network/address.h"
#include "nuncio/network/buffer.h"
#include "nuncio/network/io_handle.h"

namespace nuncio::network {

class Connection;

// How a connection has ended.
enum class EndReason : uint8_t {
  Fin,        // both sides have ended their streams, and all has been read and sent
  Local,      // close() or abort() was called here
  Reset,      // the peer, or something on the way, has broken it off
  Truncated,  // the peer's stream ended where it must not: without TLS's close_notify
  Timeout,    // one of ConnectionOptions' times has passed; the status says which
  Failed,     // anything else: a handshake, a limit, the system; the status says what
};
absl::string_view endReasonName(EndReason reason);

struct ConnectionEnd {
  EndReason reason = EndReason::Local;
  absl::Status status;  // OK for Fin and Local; otherwise what happened, in words
  uint64_t unsent = 0;  // bytes that write() had taken and the system had not
};

// What a connection tells its user. No function is called from inside a call of the user's to the connection, but
// onAboveWriteWatermark(), which write() may call; and none after onClosed(), or once the connection is destroyed. In
// each of them everything may be called, and the connection be handed to deferredDelete().
class ConnectionCallbacks {
public:
  virtual ~ConnectionCallbacks() = default;

  // Bytes have come. What is taken from `data` (drain(), move()) is gone; the rest stays, and is there again, in front,
  // when more has come, or after Connection::readAgain(). The buffer is the connection's: not to be kept.
  virtual void onData(Buffer& data) = 0;

  // The peer has ended its stream: no more data will come, once. What is written still reaches it. Who has nothing more
  // to say calls close().
  virtual void onEnd() = 0;

  // The connection is over, once, and its descriptor closed. From here it is usually handed to deferredDelete().
  virtual void onClosed(const ConnectionEnd& end) = 0;

  // More than write_high_watermark bytes wait to be sent: time to stop writing. And: no more than write_low_watermark,
  // after that. The two take turns.
  virtual void onAboveWriteWatermark() {}
  virtual void onBelowWriteWatermark() {}
};

struct ConnectionOptions {
  // Of bytes that wait to be sent; see ConnectionCallbacks. low <= high.
  std::size_t write_high_watermark = std::size_t{64} * 1024;
  std::size_t write_low_watermark = std::size_t{32} * 1024;
  // A write beyond this ends the connection, with ResourceExhausted: somebody goes on writing to a peer that does not
  // read.
  std::size_t write_limit = std::size_t{1024} * 1024;
  // Of bytes that onData() leaves: with more of them nothing is read until no more than half as many are left. > 0.
  std::size_t read_limit = std::size_t{1024} * 1024;

  // Without a byte in either direction for so long: Timeout. 0: never.
  std::chrono::milliseconds idle_timeout{0};
  // From its beginning, whatever it does. 0: for ever.
  std::chrono::milliseconds max_lifetime{0};
  // What close(CloseKind::Flush) allows for what is queued to be sent and for the peer to take it: so much time, and
  // that many bytes from the peer, which are thrown away. Without time (0) it does not wait at all once all is sent.
  std::chrono::milliseconds close_timeout{5000};
  std::size_t close_discard_limit = std::size_t{1024} * 1024;
};

enum class CloseKind : uint8_t {
  // Sends what was written, and the end of the stream; then throws away what comes until the peer's system has taken
  // it all, or close_timeout or close_discard_limit is over; then closes. (A close with unread input would make the
  // kernel send RST, and throw away what it had accepted before.)
  Flush,
  // The same, but waits for the peer's end, whatever its system says.
  FlushAndWait,
  // Tries to send what was written, once, and closes. With something left to send that is an abort(), so that the peer
  // does not take what it got for all there is, as where a time has passed; with unread input the kernel makes it one.
  Now,
};

// While there is one, its connection reads nothing, so that the peer is slowed down in the end. Harmless when the
// connection is closed, or gone. Threads: the connection's.
class [[nodiscard]] ReadPause {
public:
  ReadPause() = default;  // pauses nothing
  ReadPause(ReadPause&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  ReadPause& operator=(ReadPause&& other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~ReadPause() { resume(); }

  // Ends it now. Reading goes on in this iteration of the loop, when no other pause is there.
  void resume();

private:
  friend class ConnectionImpl;
  struct State;
  explicit ReadPause(std::shared_ptr<State> state);

  std::shared_ptr<State> state_;  // shared with the connection
};

// What a connection has moved.
struct ConnectionCounters {
  uint64_t bytes_received = 0;
  uint64_t bytes_sent = 0;  // taken by the system
};

// Connection: a stream of bytes to a peer, in both directions, each of which ends by itself (half-close).
//
//   class Session : public ConnectionCallbacks, public DeferredDeletable {
//   public:
//     Session(ConnectionPtr connection) : connection_(std::move(connection)) { connection_->start(*this); }
//     void onData(Buffer& data) override { connection_->write(data); }          // an echo
//     void onEnd() override { connection_->close(); }
//     void onClosed(const ConnectionEnd& end) override { owner_.remove(*this); } // deferredDelete()
//   ...
//
// Where it comes from: a Listener, a Connector, or createConnection(). For coroutines see ByteStream.
//
// Threads: those of its dispatcher, throughout. Lifetime: its owner's; one that was started is closed before it is
// destroyed, and not destroyed while one of its callbacks runs, which is what deferredDelete() is for: both are
// contracts, fatal in debug; in release it is aborted, and nothing of it runs any more. When its dispatcher is shut
// down, nothing is called any more, and it may be destroyed. It may not outlive the dispatcher's thread's use of it.
//
// Cost: an idle connection has no buffers. A message that is read at once and answered is a recv and a send, and no
// allocation.
class Connection : public DeferredDeletable {
public:
  enum class State : uint8_t {
    Open,     // also while it waits for start(), or for a handshake
    Closing,  // by close()
    Closed,
  };

  // Has `callbacks` told of all from now on; they outlive the connection. Until then nothing is read. Once.
  virtual void start(ConnectionCallbacks& callbacks) = 0;

  // Sends `data`, after all that was written before; at once where nothing is queued, but in onData() when that
  // returns. What the system does not take now is copied, and sent when it does. Empty data does nothing. False where
  // it is not taken: the connection is closing or closed, its stream was ended, it has failed, which onClosed() will
  // tell, or it would go beyond write_limit. Without memory it ends (Failed), with whatever has been sent.
  virtual bool write(absl::string_view data) = 0;
  // The same, and takes all out of `data`, without copying larger parts; where it is not taken, `data` is as before.
  virtual bool write(Buffer& data) = 0;

  // Ends this side's stream after what was written; the other one goes on. When that has ended too, the connection is
  // over (Fin). Once is enough.
  virtual void shutdownWrite() = 0;

  // Ends the connection: no data is called back any more, and onClosed() comes with Local when it is done. May be
  // called again, for something quicker.
  virtual void close(CloseKind kind = CloseKind::Flush) = 0;
  // The same with a time of its own instead of close_timeout; >= 0.
  virtual void close(CloseKind kind, std::chrono::milliseconds timeout) = 0;

  // Breaks it off, before the loop polls again: what was not sent is thrown away, and the peer reads ECONNRESET, so
  // that it does not take what it has got for all there is. (Unix sockets: see IoHandle::abort().)
  virtual void abort() = 0;

  // Stops reading while the result is there.
  virtual ReadPause pauseReading() = 0;

  // Calls onData() again in this iteration, with what it left, if that is anything, and reads on when that was too
  // much: for users who can go on by now.
  virtual void readAgain() = 0;

  virtual State state() const = 0;
  // Bytes that wait to be sent.
  virtual std::size_t unsent() const = 0;
  virtual const ConnectionCounters& counters() const = 0;
  // The former is not known any more in onClosed(), and asked of the system each time.
  virtual Address localAddress() const = 0;
  virtual Address peerAddress() const = 0;
  virtual Dispatcher& dispatcher() = 0;
};

using ConnectionPtr = std::unique_ptr<Connection>;

// A connection on a stream that is there. On the dispatcher's thread. ResourceExhausted without memory, or what
// IoHandle::createReadyEvent() says; InvalidArgument for options that contradict each other.
absl::StatusOr<ConnectionPtr> createConnection(Dispatcher& dispatcher, IoHandlePtr handle,
                                               const ConnectionOptions& options = {});

}  // namespace nuncio::network
