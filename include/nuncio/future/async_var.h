#pragma once

#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/future/internal/wait_list.h"

namespace nuncio {

// AsyncVar: a variable whose changes can be waited for, as Flow's AsyncVar.
//
//   AsyncVar<State> state(dispatcher, State::Starting);
//   while (state.get() != State::Ready) {
//     co_await state.onChange();
//   }
//
// Who waits learns that it changed, not each value: between the change and the waiter's turn it may change again, and
// even back. T is compared with ==.
//
// Threads: the dispatcher's only. Lifetime: when it is destroyed, those who wait fail with Cancelled.
// Cost: a wait allocates its future's node.
template <class T>
class AsyncVar {
public:
  explicit AsyncVar(Dispatcher& dispatcher, T value = T())
      : loop_(dispatcher), value_(std::move(value)), waiters_(*loop_, "variable") {}

  const T& get() const { return value_; }

  // Wakes those who wait when `value` is another than before.
  void set(T value) {
    future_internal::checkThread(*loop_, "AsyncVar::set");
    if (!(value_ == value)) {
      value_ = std::move(value);
      waiters_.finishAll();
    }
  }

  // Done at the next change from now on.
  Future<void> onChange(std::source_location place = std::source_location::current()) {
    future_internal::checkThread(*loop_, "AsyncVar::onChange");
    return waiters_.wait(Unit(), place);
  }

private:
  const LoopRef loop_;
  T value_;
  future_internal::WaitList<void> waiters_;
};

}  // namespace nuncio
