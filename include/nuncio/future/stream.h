#pragma once

#include <cstddef>
#include <exception>
#include <optional>
#include <source_location>
#include <utility>

#include "nuncio/future/internal/stream_state.h"

namespace nuncio {

template <class T>
class FutureStream;

// PromiseStream and FutureStream: a stream of values, as Flow's: one or more producers send them, and never wait; one
// consumer takes them, in order. For producers that are to wait, see Queue.
//
//   PromiseStream<Event> events(dispatcher);
//   FutureStream<Event> stream = events.stream();
//   events.send(event);
//   ...
//   for (;;) {
//     std::optional<Event> event = co_await stream.next();
//     if (!event.has_value()) { break; }                       // closed
//     handle(*event);
//   }
//
// Copies of a PromiseStream send to the same stream. When the last of them is destroyed before close() or sendError(),
// the stream ends with Aborted, and the message names where the first one was made.
//
// T moves without throwing. Threads: the dispatcher's only. Lifetime: the ends are independent; the buffer goes with
// the consumer. Cost: a send allocates nothing, once the memory of the buffer has grown; a next() takes a block of the
// loop's pool.
template <class T>
class PromiseStream {
  using State = future_internal::StreamState<T>;

public:
  explicit PromiseStream(Dispatcher& dispatcher, std::source_location place = std::source_location::current())
      : state_(new State(dispatcher, place)) {}
  PromiseStream(const PromiseStream& other) : state_(other.state_) {
    if (state_ != nullptr) {
      ++state_->writers;
    }
  }
  PromiseStream(PromiseStream&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  PromiseStream& operator=(PromiseStream other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~PromiseStream() {
    if (state_ != nullptr) {
      future_internal::checkThread(*state_->loop, "PromiseStream::~PromiseStream");
      state_->removeWriter();
    }
  }

  // The consumer's end. Once; a second one is invalid.
  FutureStream<T> stream() {
    if (state_ == nullptr || state_->reader != State::Reader::NotTaken) {
      return FutureStream<T>();
    }
    state_->reader = State::Reader::Here;
    return FutureStream<T>(*state_);
  }

  // False, and the value destroyed, when the stream has ended, its consumer is gone, or without memory.
  bool send(T value) {
    if (done()) {
      return false;
    }
    future_internal::checkThread(*state_->loop, "PromiseStream::send");
    if (state_->waiting.empty()) {
      return state_->items.push(std::move(value));
    }
    state_->waiting.front().hand(Try<std::optional<T>>(std::optional<T>(std::move(value))));
    return true;
  }
  // Ends the stream, after what was sent before. False when it has ended, or its consumer is gone.
  bool close() { return finish(Try<void>(Unit())); }
  // The same with a failure; an OK status is Internal.
  bool sendError(const absl::Status& status) {
    return finish(Try<void>::fromFailure(future_internal::makeFailure(status)));
  }
  bool sendError(std::exception_ptr exception) {
    return finish(Try<void>::fromFailure(future_internal::makeFailure(std::move(exception))));
  }

  // Whether there is no use in sending: the stream has ended, or its consumer is gone.
  bool done() const { return state_ == nullptr || state_->end.ready() || state_->reader == State::Reader::Gone; }

private:
  bool finish(Try<void>&& how) {
    if (done()) {
      return false;
    }
    future_internal::checkThread(*state_->loop, "PromiseStream::close");
    state_->finish(std::move(how));
    return true;
  }

  State* state_;
};

// See PromiseStream.
template <class T>
class [[nodiscard]] FutureStream {
  using State = future_internal::StreamState<T>;

public:
  FutureStream() = default;  // of no stream
  FutureStream(FutureStream&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  FutureStream& operator=(FutureStream other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  // Producers' sends return false from now on. A next() that is pending fails with Cancelled.
  ~FutureStream() {
    if (state_ != nullptr) {
      future_internal::checkThread(*state_->loop, "FutureStream::~FutureStream");
      state_->removeReader();
    }
  }

  bool valid() const { return state_ != nullptr; }

  // The next value; nullopt when the stream was closed; or the failure that ended it. After the end the same again.
  // No value is lost: cancelling or dropping it leaves the value to the next one; see Queue. FailedPrecondition on an
  // invalid stream.
  Future<std::optional<T>> next(std::source_location place = std::source_location::current()) {
    using Result = Try<std::optional<T>>;
    if (state_ == nullptr) {
      return Future<std::optional<T>>(future_internal::failed<std::optional<T>>(future_internal::Reason::Invalid),
                                      place);
    }
    LoopCore& loop = *state_->loop;
    future_internal::checkThread(loop, "FutureStream::next");
    if (state_->waiting.returned() > 0) {
      return state_->waiting.takeReturned(place);
    }
    if (!state_->items.empty()) {
      return state_->waiting.handOut([this] { return std::optional<T>(state_->items.pop()); }, place);
    }
    if (!state_->end.ready()) {
      return state_->waiting.wait(Unit(), place);
    }
    return future_internal::readyOn(
        loop, state_->end.failed() ? Result::failureOf(Try<void>(state_->end)) : Result(std::optional<T>()), place);
  }

  // How many values wait to be taken.
  std::size_t buffered() const { return state_ != nullptr ? state_->items.size() + state_->waiting.returned() : 0; }

private:
  friend class PromiseStream<T>;
  explicit FutureStream(State& state) : state_(&state) {}

  State* state_ = nullptr;
};

}  // namespace nuncio
