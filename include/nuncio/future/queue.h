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
// out. Cancelling a push that waits takes its item out; cancelling a pop that waits leaves the items to the others. But
// an item that was handed to a pop is gone with it, when its future is cancelled, or dropped, before it was looked at.
//
// T moves without throwing. Threads: the dispatcher's only. Lifetime: when it is destroyed, those who wait fail with
// Cancelled, and the items are destroyed. Cost: pushes and pops that need not wait allocate nothing, once the memory
// for the items has grown (by doubling, up to the capacity); those that wait their future's node.
template <class T>
class Queue {
public:
  Queue(Dispatcher& dispatcher, std::size_t capacity)
      : loop_(dispatcher), capacity_(capacity), pushers_(*loop_, "queue"), poppers_(*loop_, "queue") {}

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

  // The first item. Once the queue is closed and empty: OutOfRange, or what was given to close().
  Future<T> pop(std::source_location place = std::source_location::current()) {
    future_internal::checkThread(*loop_, "Queue::pop");
    if (std::optional<T> item = take(); item.has_value()) {
      return future_internal::readyOn(*loop_, Try<T>(*std::move(item)), place);
    }
    return closed() ? failed<T>(end_, place) : poppers_.wait(Unit(), place);
  }
  // Without waiting: nothing where pop() would wait or fail.
  std::optional<T> tryPop() {
    future_internal::checkThread(*loop_, "Queue::tryPop");
    return take();
  }

  // Pushes fail from now on; pops get what was pushed before, the pushes that wait included, and then fail with
  // OutOfRange or `status`. Not for the second time.
  void close() { closeWith(future_internal::closedToPop()); }
  void close(const absl::Status& status) { closeWith(future_internal::makeFailure(status)); }

  bool closed() const { return end_.failed(); }
  bool empty() const { return items_.empty(); }
  // How many are in it, without those whose pushes wait.
  std::size_t size() const { return items_.size(); }
  std::size_t capacity() const { return capacity_; }
  std::size_t waitingPushes() const { return pushers_.size(); }
  std::size_t waitingPops() const { return poppers_.size(); }

private:
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
    poppers_.front().finish(Try<T>(std::move(item)));
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

  const future_internal::LoopRef loop_;
  const std::size_t capacity_;
  Try<void> end_;
  future_internal::Fifo<T> items_;
  future_internal::WaitList<void, T> pushers_;
  future_internal::WaitList<T> poppers_;
};

}  // namespace nuncio
