#include "nuncio/network/byte_stream.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/future/promise.h"

namespace nuncio::network {
namespace {

// What a read or a write says of a connection that has ended.
absl::Status asStatus(const ConnectionEnd& end) {
  switch (end.reason) {
    case EndReason::Reset:
      return absl::UnavailableError(absl::StrCat("the connection was reset: ", end.status.message()));
    case EndReason::Timeout:
      return absl::DeadlineExceededError(end.status.message());
    case EndReason::Truncated:
      return absl::DataLossError(absl::StrCat("the stream was truncated: ", end.status.message()));
    case EndReason::Failed:
      return end.status;
    case EndReason::Fin:
    case EndReason::Local:
      break;
  }
  return absl::CancelledError("the connection is closed");
}

absl::Status busy(const char* what) {
  return absl::FailedPreconditionError(absl::StrCat("another ", what, " waits on this stream; one at a time"));
}

}  // namespace

// What of it the connection's callbacks need: stays until the connection is destroyed, after the ByteStream.
class ByteStream::Impl final : public ConnectionCallbacks, public DeferredDeletable {
public:
  // How much a read wants.
  struct Wanted {
    std::size_t least = 1;
    std::size_t most = 0;
    std::string delimiter;  // empty: none
  };

  Impl(ConnectionPtr connection, const ByteStreamOptions& options)
      : connection_(std::move(connection)), options_(options) {
    connection_->start(*this);
  }

  Connection& connection() { return *connection_; }

  Future<Buffer> read(Wanted wanted, std::source_location place) {
    if (waits(reader_)) {
      return makeFailedFuture<Buffer>(busy("read"), place);
    }
    wanted_ = std::move(wanted);
    if (std::optional<Try<Buffer>> result = tryRead()) {
      return makeReady(std::move(*result), place);
    }
    auto [promise, future] = makePromise<Buffer>(connection_->dispatcher(), place);
    reader_.emplace(std::move(promise));
    reader_->onCancel([this] { reader_.reset(); });
    return std::move(future);
  }

  template <class Data>
  Future<void> write(Data& data, std::source_location place) {
    if (waits(writer_)) {
      return makeFailedFuture<void>(busy("write"), place);
    }
    if (!connection_->write(data)) {
      return makeFailedFuture<void>(end_ ? asStatus(*end_) : absl::CancelledError("nothing more is taken"), place);
    }
    if (!above_) {
      return makeReadyFuture(place);
    }
    auto [promise, future] = makePromise<void>(connection_->dispatcher(), place);
    writer_.emplace(std::move(promise));
    writer_->onCancel([this] { writer_.reset(); });
    return std::move(future);
  }

  Future<void> close(CloseKind kind, std::source_location place) {
    if (end_) {
      return makeReadyFuture(place);
    }
    auto [promise, future] = makePromise<void>(connection_->dispatcher(), place);
    closers_.push_back(std::move(promise));
    connection_->close(kind);
    return std::move(future);
  }

  // The ByteStream goes: nobody is told anything any more.
  void leave() {
    fail(absl::CancelledError("the stream is gone"));
    if (connection_->state() != Connection::State::Closed) {
      connection_->abort();
    }
    left_ = true;
  }

  // ConnectionCallbacks
  void onData(Buffer& data) override {
    input_.move(data);
    if (left_) {
      input_.clear();
      return;
    }
    if (input_.length() >= options_.read_ahead && !wantsMore()) {
      pause_ = connection_->pauseReading();
    }
    answerReader();
  }
  void onEnd() override {
    ended_ = true;
    answerReader();
  }
  void onClosed(const ConnectionEnd& end) override {
    end_ = end;
    answerReader();
    if (auto writer = std::exchange(writer_, std::nullopt)) {
      writer->setStatus(asStatus(end));
    }
    for (Promise<void>& closer : std::exchange(closers_, {})) {
      closer.setValue();
    }
  }
  void onAboveWriteWatermark() override { above_ = true; }
  void onBelowWriteWatermark() override {
    above_ = false;
    if (auto writer = std::exchange(writer_, std::nullopt)) {
      writer->setValue();
    }
  }

private:
  template <class T>
  static Future<T> makeReady(Try<T> result, std::source_location place) {
    return result.failed() ? makeFailedFuture<T>(result.status(), place)
                           : makeReadyFuture<T>(std::move(result).value(), place);
  }

  // Whether there is somebody who still wants to know.
  template <class T>
  static bool waits(std::optional<Promise<T>>& promise) {
    if (promise && promise->done()) {
      promise.reset();  // its future was dropped
    }
    return promise.has_value();
  }

  // A reader waits for more than there may be read ahead.
  bool wantsMore() { return waits(reader_) && input_.length() < std::max(wanted_.least, wanted_.most); }

  void answerReader() {
    if (!waits(reader_)) {
      return;
    }
    if (std::optional<Try<Buffer>> result = tryRead()) {
      std::exchange(reader_, std::nullopt)->setTry(std::move(*result));
    }
  }

  // What a read comes to now; nullopt: it has to wait.
  std::optional<Try<Buffer>> tryRead() {
    if (!wanted_.delimiter.empty()) {
      const auto found = input_.search(wanted_.delimiter, 0, wanted_.most);
      if (found) {
        return take(*found + wanted_.delimiter.size());
      }
      if (input_.length() >= wanted_.most) {
        return Try<Buffer>(absl::ResourceExhaustedError(
            absl::StrCat("no delimiter within ", wanted_.most, " bytes; they can be read in another way")));
      }
    } else if (input_.length() >= wanted_.least) {
      return take(std::min(input_.length(), wanted_.most));
    }
    if (end_ && !(ended_ && end_->reason == EndReason::Fin)) {
      return Try<Buffer>(asStatus(*end_));
    }
    if (ended_) {
      return input_.empty()
                 ? Try<Buffer>(Buffer())
                 : Try<Buffer>(absl::OutOfRangeError(absl::StrCat("the stream ended after ", input_.length(),
                                                                  " bytes; they can be read by readSome()")));
    }
    resumeFor();
    return std::nullopt;
  }

  Try<Buffer> take(std::size_t bytes) {
    Buffer taken;
    taken.move(input_, bytes);
    resumeFor();
    return Try<Buffer>(std::move(taken));
  }

  // Reads on, where there is room for more, or a reader who waits for it.
  void resumeFor() {
    if (input_.length() < options_.read_ahead || input_.length() < std::max(wanted_.least, wanted_.most)) {
      pause_.resume();
    }
  }

  void fail(const absl::Status& status) {
    if (auto reader = std::exchange(reader_, std::nullopt)) {
      reader->setStatus(status);
    }
    if (auto writer = std::exchange(writer_, std::nullopt)) {
      writer->setStatus(status);
    }
    for (Promise<void>& closer : std::exchange(closers_, {})) {
      closer.setStatus(status);
    }
  }

  ConnectionPtr connection_;
  const ByteStreamOptions options_;
  Buffer input_;
  ReadPause pause_;
  Wanted wanted_;
  std::optional<Promise<Buffer>> reader_;
  std::optional<Promise<void>> writer_;
  std::vector<Promise<void>> closers_;
  std::optional<ConnectionEnd> end_;
  bool ended_ = false;
  bool above_ = false;
  bool left_ = false;
};

ByteStream::ByteStream(ConnectionPtr connection, const ByteStreamOptions& options)
    : impl_(std::make_unique<Impl>(std::move(connection), options)) {}
ByteStream::ByteStream(ByteStream&& other) noexcept = default;
ByteStream& ByteStream::operator=(ByteStream&& other) noexcept {
  std::swap(impl_, other.impl_);
  return *this;
}

ByteStream::~ByteStream() {
  if (impl_ != nullptr) {
    impl_->leave();
    Dispatcher& dispatcher = impl_->connection().dispatcher();
    dispatcher.deferredDelete(std::move(impl_));
  }
}

Future<Buffer> ByteStream::readSome(std::size_t max, std::source_location place) {
  return impl_->read({.least = 1, .most = std::max<std::size_t>(1, max)}, place);
}

Future<Buffer> ByteStream::readExactly(std::size_t bytes, std::source_location place) {
  return impl_->read({.least = bytes, .most = bytes}, place);
}

Future<Buffer> ByteStream::readUntil(std::string delimiter, std::size_t max, std::source_location place) {
  if (!NUNCIO_CONTRACT(!delimiter.empty(), impl_->connection().dispatcher().name(), "ByteStream::readUntil",
                       "an empty delimiter")) {
    return makeFailedFuture<Buffer>(absl::InvalidArgumentError("readUntil: an empty delimiter"), place);
  }
  return impl_->read({.least = 1, .most = max, .delimiter = std::move(delimiter)}, place);
}

Future<void> ByteStream::write(absl::string_view data, std::source_location place) { return impl_->write(data, place); }
Future<void> ByteStream::write(Buffer data, std::source_location place) { return impl_->write(data, place); }
void ByteStream::shutdownWrite() { impl_->connection().shutdownWrite(); }
Future<void> ByteStream::close(CloseKind kind, std::source_location place) { return impl_->close(kind, place); }
Connection& ByteStream::connection() { return impl_->connection(); }

}  // namespace nuncio::network
