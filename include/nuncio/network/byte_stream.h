#pragma once

#include <cstddef>
#include <memory>
#include <source_location>
#include <string>

#include "absl/strings/string_view.h"

#include "nuncio/future/future.h"
#include "nuncio/network/connection.h"

namespace nuncio::network {

struct ByteStreamOptions {
  // Of bytes that have come and nobody has read: with so many, reading pauses. > 0.
  std::size_t read_ahead = std::size_t{64} * 1024;
};

// ByteStream: a connection for coroutines, or for then(): reads and writes that are futures.
//
//   ByteStream stream(std::move(connection));
//   for (;;) {
//     Buffer line = co_await stream.readUntil("\n", 1024);
//     if (line.empty()) { break; }                             // the peer has ended its stream
//     co_await stream.write("you said: " + line.toString());
//   }
//   co_await stream.close();
//
// One read and one write at a time: a second one fails with FailedPrecondition. Cancelling a read loses no byte: what
// has come is there for the next one. What had come before the connection ended can be read, and only then reads fail:
// with Unavailable after a reset, DeadlineExceeded after a time that has passed, DataLoss where the stream was
// truncated, and Cancelled when it was closed here; the status says more. So do writes, at once.
//
// Threads: the connection's dispatcher. Lifetime: destroying it aborts the connection, unless close() has ended it, and
// who waits for something gets Cancelled; may be done by what continues after a read. Cost: an allocation, and one for
// each read that has to wait.
class ByteStream {
public:
  // Starts it.
  explicit ByteStream(ConnectionPtr connection, const ByteStreamOptions& options = {});
  ByteStream(ByteStream&& other) noexcept;
  ByteStream& operator=(ByteStream&& other) noexcept;
  ~ByteStream();

  // What has come, at least a byte and at most `max` (> 0); nothing: the peer has ended its stream.
  Future<Buffer> readSome(std::size_t max = std::size_t{64} * 1024,
                          std::source_location place = std::source_location::current());
  // So many bytes. Where the stream ends before: nothing, if it ends right here, or else OutOfRange, and what there is
  // stays to be read.
  Future<Buffer> readExactly(std::size_t bytes, std::source_location place = std::source_location::current());
  // All up to the next `delimiter`, which is its end. ResourceExhausted where there is none in the first `max` bytes,
  // which stay to be read. Where the stream ends before: as readExactly().
  Future<Buffer> readUntil(std::string delimiter, std::size_t max,
                           std::source_location place = std::source_location::current());

  // Done when it is time to write more: at once, unless more than ConnectionOptions::write_high_watermark bytes wait to
  // be sent, and then when no more than the low one do. The bytes are taken at once; cancelling does not take them
  // back.
  Future<void> write(absl::string_view data, std::source_location place = std::source_location::current());
  Future<void> write(Buffer data, std::source_location place = std::source_location::current());

  // Ends this side's stream.
  void shutdownWrite();

  // Closes the connection, and is done when it is over, however that came; see Connection::close(). May be called
  // again.
  Future<void> close(CloseKind kind = CloseKind::Flush, std::source_location place = std::source_location::current());

  // To ask it; not to be started or destroyed.
  Connection& connection();

private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace nuncio::network
