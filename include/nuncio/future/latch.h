#pragma once

#include <cstdint>
#include <source_location>

#include "nuncio/future/internal/wait_list.h"

namespace nuncio {

// Latch: opens, for good, when it was counted down to zero: a CountDownLatch to wait for without blocking.
//
//   Latch started(dispatcher, listeners.size());
//   for (Listener& listener : listeners) { listener.start().ensure([&] { started.countDown(); }).detach(); }
//   co_await started.wait();
//
// Threads: the dispatcher's only. Lifetime: when it is destroyed, those who wait fail with Cancelled.
// Cost: a wait allocates its future's node; none once it is open.
class Latch {
public:
  // A `count` of 0: open from the start.
  Latch(Dispatcher& dispatcher, uint64_t count) : loop_(dispatcher), count_(count), waiters_(*loop_, "latch") {}

  // `n` may not be more than what is left: fatal in debug; in release it opens, with an error in the log.
  void countDown(uint64_t n = 1);

  // Done when it is open, for any number of waiters, in the order in which they came.
  Future<void> wait(std::source_location place = std::source_location::current());

  bool open() const { return count_ == 0; }
  // What is left.
  uint64_t count() const { return count_; }

private:
  const LoopRef loop_;
  uint64_t count_;
  future_internal::WaitList<void> waiters_;
};

}  // namespace nuncio
