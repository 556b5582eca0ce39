#pragma once

#include <cstddef>
#include <new>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

#include "nuncio/common/linked_list.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/children.h"
#include "nuncio/future/internal/combine.h"

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
// failures are not logged. Cost: a future that is added a continuation and an allocation, a next() a
// block of the loop's pool; all take constant time.
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

template <class T>
class Race<T>::State final : public future_internal::Children {
public:
  explicit State(Dispatcher& dispatcher)
      : Children(dispatcher),
        watchers(this->loop(), "race"),
        readers_(this->loop(), "race", typename Readers::OfItems(), this, cameBack) {}

  std::size_t buffered() const { return buffered_ + readers_.returned(); }
  bool mustWait() const { return buffered() == 0 && this->running() != 0; }

  Future<std::optional<Item>> next(const std::source_location& place) {
    if (readers_.returned() != 0) {
      return readers_.takeReturned(place);
    }
    if (buffered_ != 0) {
      return readers_.handOut([this] { return takeUnread(); }, place);
    }
    if (this->running() != 0) {
      return readers_.wait(Unit(), place);
    }
    return future_internal::readyOn(this->loop(), Try<std::optional<Item>>(std::nullopt), place);
  }

  bool add(Future<T>&& future, const std::source_location& place) {
    auto* const runner = new (std::nothrow) Runner(*this, added_);
    if (runner == nullptr) {
      future_internal::letGo(future);
      return false;
    }
    ++added_;
    this->start(std::move(future), *runner, place);
    return true;
  }

  std::optional<Item> take() { return readers_.returned() != 0 ? readers_.takeReturned() : takeUnread(); }

  // For the owner, when it goes.
  void close() noexcept {
    const Busy busy(*this);
    while (takeUnread().has_value()) {
    }
    readers_.forgetItems();
    this->removeOwner();
  }

  future_internal::WaitList<void> watchers;  // wait while nothing is buffered

private:
  using Readers = future_internal::WaitList<std::optional<Item>>;

  // A future that runs, and then what came of it.
  struct Runner final : future_internal::Child {
    Runner(State& owner, std::size_t index) : state(owner), item(std::optional<Item>(std::in_place, index, Try<T>())) {}

    void ended(Try<T>* result) {
      State& all = state;
      const Busy busy(all);
      all.remove(*this);
      (*item)->second =
          result != nullptr ? std::move(*result) : future_internal::failed<T>(future_internal::Reason::LoopGone);
      all.came(*this);
      all.removed();
    }

    State& state;
    Try<std::optional<Item>> item;
  };

  std::optional<Item> takeUnread() {
    if (unread_.empty()) {
      return std::nullopt;
    }
    Runner& runner = unread_.takeFirst();
    --buffered_;
    std::optional<Item> item = *std::move(runner.item);
    delete &runner;
    return item;
  }

  void came(Runner& runner) {
    if (!this->owned() || !readers_.empty()) {
      if (this->owned()) {
        readers_.front().hand(std::move(runner.item));
      }
      delete &runner;  // last: a destructor of what was moved from may do anything
      return;
    }
    unread_.add(runner);
    ++buffered_;
    watchers.finishAll();
  }

  // A result has come back, and nobody waits for it; or a reader has left.
  static void cameBack(void* state) {
    State& self = *static_cast<State*>(state);
    if (self.buffered() != 0) {
      self.watchers.finishAll();
    }
  }

  void allEnded() noexcept override {
    if (this->owned()) {
      readers_.finishAll();  // with nothing
      watchers.finishAll();
    } else if (!readers_.empty() || !watchers.empty()) {
      const Try<void> destroyed = Try<void>::fromFailure(future_internal::destroyedFailure("race"));
      readers_.failAll(destroyed);
      watchers.failAll(destroyed);
    }
  }

  Readers readers_;  // wait for a result; those that got one give it back
  std::size_t added_ = 0;
  LinkedList<Runner> unread_;  // those that have come
  std::size_t buffered_ = 0;   // how many
};

// The race of `futures`.
template <class T>
Race<T> race(Dispatcher& dispatcher, std::vector<Future<T>> futures,
             std::source_location place = std::source_location::current()) {
  return Race<T>(dispatcher, std::move(futures), place);
}
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
