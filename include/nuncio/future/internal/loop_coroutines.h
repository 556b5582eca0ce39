#pragma once

#include <cstddef>
#include <iterator>
#include <memory>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/combine.h"

// The coroutines that loop; for loops.h.
namespace nuncio::future_internal {

template <class F, class... Args>
using StepResult = ResultOf<std::invoke_result_t<F&, Args...>>;

template <class F>
Future<void> repeatLoop(Dispatcher& dispatcher, F f, std::source_location place) {
  using U = StepResult<F>;
  LoopCore& loop = loopOf(dispatcher);
  if (!runsHere(loop)) {
    co_await yield();
  }
  for (;;) {
    Future<U> step = callOn(loop, place, f);
    if constexpr (std::is_void_v<U>) {
      co_await std::move(step);
    } else {
      const bool again = co_await std::move(step);
      if (!again) {
        co_return;
      }
    }
    if (!mayGoOn(loop)) {
      co_await yield();
    }
  }
}

template <class U, class F, class P>
Future<U> untilLoop(Dispatcher& dispatcher, F f, P predicate, std::source_location place) {
  LoopCore& loop = loopOf(dispatcher);
  if (!runsHere(loop)) {
    co_await yield();
  }
  for (;;) {
    Future<U> step = callOn(loop, place, f);
    if constexpr (std::is_void_v<U>) {
      co_await std::move(step);
      if (predicate()) {
        co_return;
      }
    } else {
      U value = co_await std::move(step);
      if (predicate(std::as_const(value))) {
        co_return std::move(value);
      }
    }
    if (!mayGoOn(loop)) {
      co_await yield();
    }
  }
}

// Whether going on to the next element of a range invalidates the one before, as where they are read from a stream.
template <class Iterator>
inline constexpr bool kSinglePass = std::input_iterator<Iterator> && !std::forward_iterator<Iterator>;

// Shared by the workers of a forEach().
template <class Range, class F>
struct ForEachState {
  ForEachState(Range&& elements, F&& step)
      : range(std::move(elements)), f(std::move(step)), next(std::begin(range)), end(std::end(range)) {}
  bool atEnd() const { return failed || next == end; }

  Range range;
  F f;
  decltype(std::begin(std::declval<Range&>())) next;
  decltype(std::end(std::declval<Range&>())) end;
  bool failed = false;
};

// The element at `iterator`, to be kept for a step: the value where the iterator goes on to another, else a reference.
template <class Iterator>
decltype(auto) elementAt(Iterator& iterator) {
  if constexpr (kSinglePass<Iterator>) {
    return std::iter_value_t<Iterator>(std::ranges::iter_move(iterator));
  } else {
    return *iterator;
  }
}
// As what a step gets it: the elements of a range are its own, so that f may take them by reference; those that are
// kept for the step alone, by whatever takes them.
template <class F, class Iterator, class Element>
decltype(auto) asArgument(Element& element) {
  if constexpr (!kSinglePass<Iterator>) {
    return std::forward<std::iter_reference_t<Iterator>>(element);
  } else if constexpr (std::is_lvalue_reference_v<std::iter_reference_t<Iterator>> &&
                       std::is_invocable_v<F&, Element&>) {
    return static_cast<Element&>(element);
  } else {
    return static_cast<Element&&>(element);
  }
}

template <class State>
Future<void> forEachWorker(Dispatcher& dispatcher, std::shared_ptr<State> state, std::source_location place) {
  using Iterator = decltype(state->next);
  using F = decltype(state->f);
  LoopCore& loop = loopOf(dispatcher);
  while (!state->atEnd()) {
    auto&& element = elementAt(state->next);
    using Argument = decltype(asArgument<F, Iterator>(element));
    using U = StepResult<F, Argument>;
    if constexpr (kSinglePass<Iterator>) {
      ++state->next;
    }
    Future<U> step = callOn(loop, place, state->f, asArgument<F, Iterator>(element));
    if constexpr (!kSinglePass<Iterator>) {
      ++state->next;
    }
    AsTry<U> wrapped = asTry(std::move(step));
    Try<U> result = co_await std::move(wrapped);
    if (result.failed()) {
      state->failed = true;
      result.throwIfFailed();
    }
    if (!mayGoOn(loop)) {
      co_await yield();
    }
  }
}

template <class State>
Future<void> forEachLoop(Dispatcher& dispatcher, std::shared_ptr<State> state, std::size_t concurrency,
                         std::source_location place) {
  if (!runsHere(loopOf(dispatcher))) {
    co_await yield();
  }
  std::vector<Future<void>> workers;
  bool no_memory = false;
  while (workers.size() < concurrency && !state->atEnd()) {
    try {
      workers.reserve(workers.size() < workers.capacity() ? 0 : 2 * workers.size() + 1);
    } catch (const std::bad_alloc&) {
      no_memory = true;
      state->failed = true;
      for (Future<void>& worker : workers) {
        worker.cancel();
      }
      break;
    }
    Future<void> worker = forEachWorker(dispatcher, state, place);
    workers.push_back(std::move(worker));
  }
  Future<void> all = collect(std::move(workers), place);
  AsTry<void> wrapped = asTry(std::move(all));
  Try<void> result = co_await std::move(wrapped);
  if (no_memory) {
    result = failed<void>(Reason::NoMemory);
  }
  result.throwIfFailed();
}

// The steps of a mapWindow(), as those of a forEach(): each keeps its value.
template <class U, class F>
class MapStep {
public:
  MapStep(LoopCore& loop, F&& f, const std::source_location& place) : loop_(loop), place_(place), f_(std::move(f)) {}

  // This stays where it is from now on.
  template <class Element>
  Future<void> operator()(Element&& element) {
    const std::size_t index = values_.size();
    values_.emplace_back();
    return callOn(loop_, place_, f_, std::forward<Element>(element))
        .then(
            [this, index](Try<U>&& result) {
              if (result.failed()) {
                return Try<void>::failureOf(std::move(result));
              }
              values_[index] = std::move(result);
              return Try<void>(Unit());
            },
            place_);
  }

  // When all steps have succeeded.
  std::vector<U> takeValues() {
    std::vector<U> all;
    all.reserve(values_.size());
    for (Try<U>& value : values_) {
      all.push_back(*std::move(value));
    }
    return all;
  }

private:
  LoopCore& loop_;  // kept by the loop's coroutines
  const std::source_location place_;
  F f_;
  std::vector<Try<U>> values_;
};

template <class A, class Range, class F>
Future<A> reduceLoop(Dispatcher& dispatcher, Range range, A accumulated, F f, std::source_location place) {
  using U = StepResult<F, A, decltype(*std::begin(range))>;
  LoopCore& loop = loopOf(dispatcher);
  if (!runsHere(loop)) {
    co_await yield();
  }
  auto end = std::end(range);
  for (auto next = std::begin(range); next != end; ++next) {
    auto&& element = *next;
    Future<U> step = callOn(loop, place, f, std::move(accumulated), std::forward<decltype(element)>(element));
    U value = co_await std::move(step);
    accumulated = std::move(value);
    if (!mayGoOn(loop)) {
      co_await yield();
    }
  }
  co_return std::move(accumulated);
}

}  // namespace nuncio::future_internal
