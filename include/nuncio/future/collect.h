#pragma once

#include <cstddef>
#include <source_location>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/collect_tuple.h"
#include "nuncio/future/internal/collect_vector.h"

// Many futures as one.
//
//   collect(std::move(reads)).then([](std::vector<Page> pages) { ... });     // all values, in the order of `reads`
//   collect(user(), quota()).then([](std::tuple<User, Quota> both) { ... });
//   collectAll(std::move(writes)).then([](std::vector<Try<void>> each) { ... });  // whatever came of each
//   collectAny(std::move(replicas)).then([](std::pair<size_t, Try<Page>> first) { ... });
//   collectN(std::move(votes), 3).then([](std::vector<std::pair<size_t, Vote>> quorum) { ... });
//
// As soon as the inputs that came decide the result, the others are cancelled, and what comes of them is not logged;
// the result is given when they have ended, so that nothing that was lent to any of them is in use any more. Mostly
// that is at once. An input on another dispatcher takes until that has answered; abandon() lets it go instead
// (cancellation.h). Cancelling the result cancels all inputs; so does a dispatcher that shuts down. Dropping it does
// not.
//
// Futures of several dispatchers are brought to that of the first one that has any. What is ready already counts first,
// in input order.
//
// Where all values move trivially, as numbers and pointers do, collect() and collectAll() are ready as soon as the last
// one is set on the dispatcher's thread; otherwise, when the task that takes the last result has run.
//
// Threads: as Future's methods. Cost: three allocations, however many inputs; one for a given number of arguments.
namespace nuncio {

// All values, in input order; empty for none. The first failure is the result, when the others have ended.
template <class T>
auto collect(std::vector<Future<T>> futures, std::source_location place = std::source_location::current()) {
  return future_internal::joinBy<future_internal::CollectPolicy<T>>(futures, place, futures.size());
}

// The same for futures of several types. The value of a void future is a Unit.
template <class... Ts>
  requires(sizeof...(Ts) > 0)
Future<std::tuple<future_internal::Stored<Ts>...>> collect(Future<Ts>... futures) {
  using Policy = future_internal::CollectTuplePolicy<Ts...>;
  return future_internal::joinEach<Policy>(futures...);
}

// All results, in input order; never fails, but for being cancelled.
template <class T>
Future<std::vector<Try<T>>> collectAll(std::vector<Future<T>> futures,
                                       std::source_location place = std::source_location::current()) {
  return future_internal::joinBy<future_internal::CollectAllPolicy<T>>(futures, place, futures.size());
}

template <class... Ts>
  requires(sizeof...(Ts) > 0)
Future<std::tuple<Try<Ts>...>> collectAll(Future<Ts>... futures) {
  using Policy = future_internal::CollectAllTuplePolicy<Ts...>;
  return future_internal::joinEach<Policy>(futures...);
}

// The first result, value or failure, and its index. InvalidArgument for none.
template <class T>
Future<std::pair<std::size_t, Try<T>>> collectAny(std::vector<Future<T>> futures,
                                                  std::source_location place = std::source_location::current()) {
  using Result = std::pair<std::size_t, Try<T>>;
  if (futures.empty()) {
    return Future<Result>(Try<Result>::fromFailure(future_internal::noInput()), place);
  }
  return future_internal::joinBy<future_internal::CollectAnyPolicy<T>>(futures, place);
}

// The same for futures of several types: at the index of the future that was first. std::get<1>(result) is a Try of the
// second one.
template <class... Ts>
  requires(sizeof...(Ts) > 0)
Future<std::variant<Try<Ts>...>> collectAny(Future<Ts>... futures) {
  using Policy = future_internal::CollectAnyTuplePolicy<Ts...>;
  return future_internal::joinEach<Policy>(futures...);
}

// The first `k` values with their indices, in the order in which they came (of void futures: the indices). Fails with
// the failure after which there cannot be `k` values any more; with InvalidArgument when there are less than `k`
// futures.
template <class T>
auto collectN(std::vector<Future<T>> futures, std::size_t k,
              std::source_location place = std::source_location::current())
    -> Future<typename future_internal::CollectNPolicy<T>::Result> {
  return future_internal::joinBy<future_internal::CollectNPolicy<T>>(futures, place, futures.size(), k);
}

}  // namespace nuncio
