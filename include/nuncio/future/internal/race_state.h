#pragma once

#include <cstddef>
#include <new>
#include <optional>
#include <source_location>
#include <utility>

#include "nuncio/common/linked_list.h"
#include "nuncio/future/internal/children.h"
#include "nuncio/future/internal/wait_list.h"
#include "nuncio/future/race.h"

// For race.h.
namespace nuncio {

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

}  // namespace nuncio
