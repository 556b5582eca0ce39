#pragma once

#include <source_location>
#include <utility>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/let_go.h"

// How cancelling is waited for, or does not reach what is awaited.
//
//   co_await cancelAndWait(std::move(serving_));                     // now nothing of it is left
//   within(abandon(submit(worker, work).via(here)), 1s)              // a deadline that does not wait for the worker
//   within(uncancellable(store.commit(transaction)), 1s)             // a commit that goes on, also when it is late
//
// What is cancelled ends before whoever waits for it goes on, so that it may refer to that one's variables. abandon()
// and uncancellable() are the ways out: the future they make is done at once when it is cancelled, and what it waited
// for is left alone. That must own, or keep alive, all that it uses.
//
// Threads: as Future's methods. Cost: a node; nothing for a future that is ready.
namespace nuncio {

// Asks `future` to stop, and is done when all of it has ended, functions of ensure() and what is on other dispatchers
// included. Never fails, but for lack of memory. For owners whose destructor may not wait: see docs/pitfalls.md.
template <class T>
Future<void> cancelAndWait(Future<T>&& future, std::source_location place = std::source_location::current()) {
  future.cancel();
  return future_internal::endOf(std::move(future), place);
}

// The result of `future`. When this is cancelled, it is done at once; `future` is asked to stop, and ends by itself.
template <class T>
Future<T> abandon(Future<T>&& future, std::source_location place = std::source_location::current()) {
  return future_internal::mayLetGo(std::move(future), /*ask=*/true, place);
}

// The result of `future`. When this is cancelled, it is done at once, and `future` goes on as if nothing had happened;
// a failure is then logged.
template <class T>
Future<T> uncancellable(Future<T>&& future, std::source_location place = std::source_location::current()) {
  return future_internal::mayLetGo(std::move(future), /*ask=*/false, place);
}

}  // namespace nuncio
