#pragma once

#include <cstddef>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/future/internal/fifo.h"
#include "nuncio/future/internal/wait_list.h"

namespace nuncio {
namespace future_internal {

// FailedPrecondition for who pushes, OutOfRange for who pops.
Failure* closedToPush() noexcept;
Failure* closedToPop() noexcept;

}  // namespace future_internal

// Queue: hands items from producers to consumers, in order, and makes producers wait while it is full.
//
//   Queue<Request> requests(dispatcher, 100);
//   co_await requests.push(std::move(request));      // waits while 100 are in it
//   Request next = co_await requests.pop();          // waits while it is empty
//
// A capacity of 0: a rendezvous, each push waits until a pop takes its item. Those who wait are served first in, first
// out. Cancelling a push that waits takes its item out. No item is lost: cancelling or dropping a pop leaves the items
// to the others, and an item that was handed to it already goes back to the front, unless somebody has looked at it:
// the function of a then(), a coroutine that goes on, result() or get(). So anyOf(stop, queue.pop()) and
// within(queue.pop(), d) may lose a pop, but not its item; nor is an item lost with an anyOf() that it has won, when
// that is cancelled or dropped in turn.
//
// T moves without throwing. Threads: the dispatcher's only. Lifetime: when it is destroyed, those who wait fail with
// Cancelled, and the items are destroyed. Cost: a push that need not wait allocates nothing, once the memory for the
// items has grown (by doubling, up to the capacity); a pop takes a block of the loop's pool.
template <class T>
class Queue {
public:
  Queue(Dispatcher& dispatcher, std::size_t capacity)
      : loop_(dispatcher),
        capacity_(capacity),
        pushers_(*loop_, "queue"),
        poppers_(*loop_, "queue", typename Poppers::OfItems()) {}

  // Done when the item is in the queue, or handed to a pop. FailedPrecondition, and the item destroyed, once it is
  // closed; ResourceExhausted without memory.
  Future<void> push(T item, std::source_location place = std::source_location::current()) {
    future_internal::checkThread(*loop_, "Queue::push");
    if (closed()) {
      return failed<void>(Try<void>::fromFailure(future_internal::closedToPush()), place);
    }
    if (poppers_.empty() && items_.size() >= capacity_) {
      return pushers_.wait(std::move(item), place);
    }
    Future<void> done = future_internal::readyOn(*loop_, Try<void>(Unit()), place);
    if (!put(item)) {
      return failed<void>(future_internal::failed<void>(future_internal::Reason::NoMemory), place);
    }
    return done;
  }
  // Without waiting: false, and `item` untouched, where push() would wait or fail.
  bool tryPush(T&& item) {
    future_internal::checkThread(*loop_, "Queue::tryPush");
    return !closed() && (!poppers_.empty() || items_.size() < capacity_) && put(item);
  }

  // The first item. Once the queue is closed and empty: OutOfRange, or what was given to close(); an item that comes
  // back after that is there for the next pop. Without memory: ResourceExhausted, and the item stays.
  Future<T> pop(std::source_location place = std::source_location::current()) {
    future_internal::checkThread(*loop_, "Queue::pop");
    if (poppers_.returned() > 0) {
      return poppers_.takeReturned(place);
    }
    if (!items_.empty() || !pushers_.empty()) {
      return poppers_.handOut([this] { return *take(); }, place);
    }
    return closed() ? failed<T>(end_, place) : poppers_.wait(Unit(), place);
  }
  // Without waiting: nothing where pop() would wait or fail.
  std::optional<T> tryPop() {
    future_internal::checkThread(*loop_, "Queue::tryPop");
    return poppers_.returned() > 0 ? std::optional<T>(poppers_.takeReturned()) : take();
  }

  // Pushes fail from now on; pops get what was pushed before, the pushes that wait included, and then fail with
  // OutOfRange or `status`. Not for the second time.
  void close() { closeWith(future_internal::closedToPop()); }
  void close(const absl::Status& status) { closeWith(future_internal::makeFailure(status)); }

  bool closed() const { return end_.failed(); }
  bool empty() const { return size() == 0; }
  // How many are in it, without those whose pushes wait; for a while more than the capacity, when items come back.
  std::size_t size() const { return items_.size() + poppers_.returned(); }
  std::size_t capacity() const { return capacity_; }
  std::size_t waitingPushes() const { return pushers_.size(); }
  std::size_t waitingPops() const { return poppers_.size(); }

private:
  using Poppers = future_internal::WaitList<T>;

  template <class U>
  Future<U> failed(Try<void> failure, const std::source_location& place) {
    return future_internal::readyOn(*loop_, Try<U>::failureOf(std::move(failure)), place);
  }

  // There is a pop that waits, or room. False without memory. Last for the queue: a pop whose future was dropped
  // destroys the item.
  bool put(T& item) {
    if (poppers_.empty()) {
      return items_.push(std::move(item));
    }
    poppers_.front().hand(Try<T>(std::move(item)));
    return true;
  }

  std::optional<T> take() {
    std::optional<T> item;
    if (!items_.empty()) {
      item.emplace(items_.pop());
      // There was room for it a moment ago.
      if (!pushers_.empty() && items_.push(std::move(pushers_.front().payload))) {
        pushers_.front().finish(Try<void>(Unit()));
      }
    } else if (!pushers_.empty()) {
      item.emplace(std::move(pushers_.front().payload));
      pushers_.front().finish(Try<void>(Unit()));
    }
    return item;
  }

  void closeWith(future_internal::Failure* failure) {
    future_internal::checkThread(*loop_, "Queue::close");
    Try<void> end = Try<void>::fromFailure(failure);
    if (!closed()) {
      end_ = std::move(end);
      poppers_.failAll(end_);
    }
  }

  const LoopRef loop_;
  const std::size_t capacity_;
  Try<void> end_;
  future_internal::Fifo<T> items_;
  future_internal::WaitList<void, T> pushers_;
  Poppers poppers_;
};

}  // namespace nuncio
