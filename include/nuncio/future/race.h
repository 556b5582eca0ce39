#pragma once

#include <cstddef>
#include <new>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/children.h"

namespace nuncio {

// Race: the results of many futures, in the order in which they come.
//
//   Race<Page> pages = race(dispatcher, std::move(fetches));
//   for (;;) {
//     std::optional<Race<Page>::Item> item = co_await pages.next();
//     if (!item.has_value()) { break; }      // all have come
//     show(item->first, item->second);       // which one, and its value or failure
//   }
//
// What comes while nobody reads is kept, and read later; who has read enough destroys the race, which asks those that
// have not come to stop. add() takes in more at any time, also when all have come.
//
// No result is lost: when the future of a next() that has got one is dropped, or loses in an anyOf(), before anybody
// has looked at it, the result goes to the one who waits, or is the next to be read.
//
// T moves without throwing. A race that was moved from may be assigned to, or destroyed. Threads: the dispatcher's
// only; the futures are brought to it. Lifetime: its destructor asks those that have not come to stop, and does not
// wait for them; who waits for next() then gets Cancelled when all have ended. What was not read is destroyed; its
// failures are not logged. Cost: a future that is added a continuation and an allocation, a next() a block of the
// loop's pool; all take constant time.
template <class T>
class [[nodiscard]] Race {
public:
  // How many were added before it, and what came of it.
  using Item = std::pair<std::size_t, Try<T>>;

  explicit Race(Dispatcher& dispatcher) : state_(new State(dispatcher)) {}
  // Without memory: all futures are asked to stop, and std::bad_alloc is thrown.
  Race(Dispatcher& dispatcher, std::vector<Future<T>> futures,
       std::source_location place = std::source_location::current())
      : state_(new(std::nothrow) State(dispatcher)) {
    bool good = state_ != nullptr;
    for (Future<T>& future : futures) {
      if (good) {
        good = state_->add(std::move(future), place);
      } else {
        future_internal::letGo(future);
      }
    }
    if (!good) {
      close();
      throw std::bad_alloc();
    }
  }
  Race(Race&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  Race& operator=(Race other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~Race() { close(); }

  // False without memory: then `future` has been asked to stop, and does not count.
  bool add(Future<T> future, std::source_location place = std::source_location::current()) {
    checkThread("Race::add");
    return state_->add(std::move(future), place);
  }

  // The next result; nullopt when all have come, and each was read, or handed to another next(). (Should that one give
  // it back, it is the next to be read: see buffered().) Without memory: ResourceExhausted, and the result stays.
  // Several may wait for it; first come, first served. Cancelling one of them leaves the result to the others.
  Future<std::optional<Item>> next(std::source_location place = std::source_location::current()) {
    checkThread("Race::next");
    return state_->next(place);
  }

  // Done when tryNext() has something to give, or all have come. Takes nothing.
  Future<void> wait(std::source_location place = std::source_location::current()) {
    checkThread("Race::wait");
    if (state_->mustWait()) {
      return state_->watchers.wait(Unit(), place);
    }
    return future_internal::readyOn(state_->loop(), Try<void>(Unit()), place);
  }
  // The next result, if there is one now.
  std::optional<Item> tryNext() {
    checkThread("Race::tryNext");
    return state_->take();
  }

  // How many have not come.
  std::size_t pending() const { return state_->running(); }
  // How many have come, and were not read.
  std::size_t buffered() const { return state_->buffered(); }

private:
  class State;

  void checkThread(const char* operation) const { future_internal::checkThread(state_->loop(), operation); }
  void close() {
    if (state_ != nullptr) {
      checkThread("Race::~Race");
      state_->close();
    }
  }

  State* state_;  // shared with the futures
};

// The race of `futures`. Without memory: all are asked to stop, and std::bad_alloc is thrown.
template <class T>
Race<T> race(Dispatcher& dispatcher, std::vector<Future<T>> futures,
             std::source_location place = std::source_location::current()) {
  return Race<T>(dispatcher, std::move(futures), place);
}
// The same for futures that are given one by one.
template <class T, class... More>
  requires(std::is_same_v<Future<T>, More> && ...)
Race<T> race(Dispatcher& dispatcher, Future<T> first, More... more) {
  Race<T> all(dispatcher);
  if (!(all.add(std::move(first)) && ... && all.add(std::move(more)))) {
    throw std::bad_alloc();
  }
  return all;
}

}  // namespace nuncio

#include "nuncio/future/internal/race_state.h"
