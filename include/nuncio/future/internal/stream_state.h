#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <utility>

#include "nuncio/future/internal/fifo.h"
#include "nuncio/future/internal/wait_list.h"

// For stream.h.
namespace nuncio::future_internal {

Failure* brokenStream(const std::source_location& place) noexcept;

// What the ends of a stream share. It goes with the last of them.
template <class T>
struct StreamState {
  enum class Reader : uint8_t { NotTaken, Here, Gone };
  using Waiting = WaitList<std::optional<T>>;

  StreamState(Dispatcher& dispatcher, const std::source_location& made)
      : loop(dispatcher), place(made), waiting(*loop, "stream", typename Waiting::OfItems()) {}

  void finish(Try<void>&& how) {
    end = std::move(how);
    if (end.hasValue()) {
      waiting.finishAll();
    } else {
      waiting.failAll(end);
    }
  }
  void removeWriter() {
    if (--writers != 0) {
      return;
    }
    if (!end.ready()) {
      finish(Try<void>::fromFailure(brokenStream(place)));
    }
    freeIfUnused();
  }
  void removeReader() {
    const Fifo<T> rest = std::move(items);  // destroyed last: that may run anything
    reader = Reader::Gone;
    waiting.failAll(Try<void>::fromFailure(destroyedFailure(waiting.name())));
    waiting.forgetItems();
    freeIfUnused();
  }
  void freeIfUnused() {
    if (writers == 0 && reader != Reader::Here) {
      delete this;
    }
  }

  const LoopRef loop;
  const std::source_location place;
  std::size_t writers = 1;
  Reader reader = Reader::NotTaken;
  Try<void> end;  // a value: closed
  Fifo<T> items;
  Waiting waiting;
};

}  // namespace nuncio::future_internal
