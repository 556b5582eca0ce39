#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <utility>

#include "nuncio/event/internal/loop_core.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/combine.h"

// The lines in which futures wait at a semaphore, a queue and their like; for the headers beside this one.
namespace nuncio::future_internal {

// In a debug build: aborts with the name of `operation` when another thread than the loop's may be at work here.
void checkThreadSlow(const LoopCore& loop, const char* operation);
inline void checkThread(const LoopCore& loop, const char* operation) {
  if (!loop.onLoopThread()) [[unlikely]] {
    checkThreadSlow(loop, operation);
  }
}

// Cancelled: the `name` was destroyed.
Failure* destroyedFailure(const char* name) noexcept;

template <class T, class Payload>
class WaitList;

// A future in a line, with what it waits for, or what it brings: `payload`. Cancelling it takes it out of the line.
//
// One that has got an item stays with the list until somebody has looked at the item: a future that is dropped, or
// loses in anyOf(), gives it back.
template <class T, class Payload>
class WaitNode final : public ResultNode<T>, public PendingOperation {
public:
  WaitNode(WaitList<T, Payload>& list, Payload&& brought) : payload(std::move(brought)), list_(&list) {}

  void runTask() noexcept override {}
  Node* stopHere(const Failure* /*reason*/) noexcept override {
    leaveLine();
    return nullptr;
  }
  void handleDropped() noexcept override {
    if (list_ != nullptr && list_->has_items_) {
      leaveLine();
    }
  }
  void leave() noexcept override {
    if (list_ != nullptr) {  // it has an item
      list_->takeBack(*this);
    } else {
      this->free();
    }
  }
  const char* kind() const noexcept override { return name_; }

  // Takes it out of the line, and completes it.
  void finish(Try<T>&& result) noexcept {
    list_->remove(*this);
    this->result_ = std::move(result);
    complete(*this);
  }
  // The same with an item that is not to be lost.
  void hand(Try<T>&& item) noexcept {
    WaitList<T, Payload>& list = *list_;
    list.remove(*this);
    list.addHanded(*this);
    this->result_ = std::move(item);  // runs destructors of users, which may destroy the list
    complete(*this);
  }

  [[no_unique_address]] Payload payload;

private:
  friend class WaitList<T, Payload>;

  void destroy() noexcept override { this->~WaitNode(); }
  void abandonOperation() noexcept override { leaveLine(); }

  void leaveLine() noexcept {
    if (list_ == nullptr || this->has(kGivesBack)) {  // it has left, or is about to be done
      return;
    }
    WaitList<T, Payload>& list = *list_;
    list.remove(*this);
    this->set(kNoResult);
    list.on_leave_(list.owner_);  // last for the list: completing may run destructors, which may destroy it
    complete(*this);
  }

  WaitList<T, Payload>* list_;  // null when it has left
  const char* name_ = nullptr;
  WaitNode* previous_ = nullptr;
  WaitNode* next_ = nullptr;
  uint64_t order_ = 0;  // of items that were handed
};

// A line of futures, first in, first out, linked: joining allocates the future's node, and nothing else does. Those
// that wait when it is destroyed fail. On the loop's thread.
template <class T, class Payload = Unit>
class WaitList {
public:
  using Waiter = WaitNode<T, Payload>;

  // `name`: of the primitive, for messages, constant. `on_leave(owner)`: called after a waiter was cancelled: it may be
  // the turn of those behind it.
  WaitList(LoopCore& loop, const char* name, void* owner, void (*on_leave)(void* owner))
      : loop_(loop), name_(name), owner_(owner), on_leave_(on_leave) {}
  WaitList(LoopCore& loop, const char* name) : WaitList(loop, name, nullptr, [](void*) {}) {}
  // One whose waiters get items, by hand(): a waiter whose future is dropped leaves the line. `on_leave`: called also
  // when an item has come back, and nobody waits for it.
  struct OfItems {};
  WaitList(LoopCore& loop, const char* name, OfItems /*tag*/, void* owner, void (*on_leave)(void* owner))
      : WaitList(loop, name, owner, on_leave) {
    has_items_ = true;
  }
  WaitList(LoopCore& loop, const char* name, OfItems tag) : WaitList(loop, name, tag, nullptr, [](void*) {}) {}
  WaitList(const WaitList&) = delete;
  WaitList& operator=(const WaitList&) = delete;
  ~WaitList() {
    while (!empty()) {
      failAll(Try<void>::fromFailure(destroyedFailure(name_)));
    }
    forgetItems();
  }

  bool empty() const { return line_.first == nullptr; }
  std::size_t size() const { return line_.size; }
  const char* name() const { return name_; }
  // Not when empty.
  Waiter& front() const { return *line_.first; }

  // A future at the end of the line.
  Future<T> wait(Payload&& payload, const std::source_location& place) {
    if (loop_.closing()) {
      return Future<T>(failed<T>(Reason::LoopGone), place);
    }
    Waiter* const waiter = makeNode<Waiter>(nullptr, &loop_, place, *this, std::move(payload));
    if (waiter == nullptr) {
      return Future<T>(failed<T>(Reason::NoMemory), place);
    }
    waiter->name_ = name_;
    line_.add(*waiter);
    loop_.addPending(*waiter);
    return Access::future<T>(waiter);
  }

  // Completes all that wait now with an empty value.
  void finishAll() {
    for (std::size_t left = size(); left > 0 && !empty(); --left) {
      front().finish(Try<T>(Stored<T>()));
    }
  }
  // The same with a failure.
  void failAll(const Try<void>& failure) {
    for (std::size_t left = size(); left > 0 && !empty(); --left) {
      front().finish(Try<T>::failureOf(Try<void>(failure)));
    }
  }

  // Nobody wants items any more: those that were handed out are not to come back, those that did are destroyed.
  void forgetItems() noexcept {
    while (handed_.first != nullptr) {
      handed_.remove(*handed_.first).list_ = nullptr;
    }
    while (returned_.first != nullptr) {
      Waiter& node = returned_.remove(*returned_.first);
      node.list_ = nullptr;
      node.free();
    }
  }

  // Items that were given back, in their order; they come before all others.
  std::size_t returned() const { return returned_.size; }
  // The first of them, as a future that has it. Not when there is none.
  Future<T> takeReturned(const std::source_location& place) {
    Waiter& node = returned_.remove(*returned_.first);
    node.place_ = place;
    node.unset(kDropped | kQuiet);
    handed_.add(node);
    return Access::future<T>(&node);
  }
  // The same without a future.
  Stored<T> takeReturned() {
    Waiter& node = returned_.remove(*returned_.first);
    Stored<T> item = *std::move(node.result_);
    node.list_ = nullptr;
    node.free();
    return item;
  }
  // What `take` returns as a future that has it, and gives it back when nobody looks at it. Without memory: a future
  // that failed, and nothing is taken.
  template <class Take>
  Future<T> handOut(Take take, const std::source_location& place) {
    Waiter* const node = makeNode<Waiter>(nullptr, &loop_, place, *this, Payload());
    if (node == nullptr) {
      return readyOn(loop_, failed<T>(Reason::NoMemory), place);
    }
    node->name_ = name_;
    node->result_ = Try<T>(take());
    node->set(kDone);
    addHanded(*node);
    return Access::future<T>(node);
  }

private:
  friend Waiter;

  // Linked by the nodes' previous_ and next_.
  struct Line {
    void add(Waiter& waiter) noexcept { addAfter(last, waiter); }
    // After `before`; null: first.
    void addAfter(Waiter* before, Waiter& waiter) noexcept {
      waiter.previous_ = before;
      waiter.next_ = before != nullptr ? before->next_ : first;
      (before != nullptr ? before->next_ : first) = &waiter;
      (waiter.next_ != nullptr ? waiter.next_->previous_ : last) = &waiter;
      ++size;
    }
    Waiter& remove(Waiter& waiter) noexcept {
      (waiter.previous_ != nullptr ? waiter.previous_->next_ : first) = waiter.next_;
      (waiter.next_ != nullptr ? waiter.next_->previous_ : last) = waiter.previous_;
      --size;
      return waiter;
    }

    Waiter* first = nullptr;
    Waiter* last = nullptr;
    std::size_t size = 0;
  };

  void remove(Waiter& waiter) noexcept {
    waiter.unlist();
    waiter.list_ = nullptr;
    line_.remove(waiter);
  }
  void addHanded(Waiter& waiter) noexcept {
    waiter.list_ = this;
    waiter.order_ = next_order_++;
    waiter.set(kGivesBack);
    handed_.add(waiter);
  }
  // The future of `waiter` is gone. When its item is still there, it goes to who waits, or back to the front, before
  // those that were handed out after it.
  void takeBack(Waiter& waiter) noexcept {
    handed_.remove(waiter);
    waiter.downstream_ = nullptr;
    if (!waiter.result_.hasValue() || loop_.closing()) {
      waiter.list_ = nullptr;
      waiter.free();
      return;
    }
    if (!empty()) {
      waiter.list_ = nullptr;
      front().hand(std::move(waiter.result_));
      waiter.free();  // last: a destructor of what was moved from may do anything
      return;
    }
    Waiter* before = returned_.last;
    while (before != nullptr && before->order_ > waiter.order_) {
      before = before->previous_;
    }
    returned_.addAfter(before, waiter);
    on_leave_(owner_);
  }

  LoopCore& loop_;  // kept by the primitive
  const char* const name_;
  void* const owner_;
  void (*const on_leave_)(void* owner);
  Line line_;
  Line handed_;    // futures that have an item at which nobody has looked
  Line returned_;  // items of such, without a future
  uint64_t next_order_ = 0;
  bool has_items_ = false;
};

}  // namespace nuncio::future_internal
