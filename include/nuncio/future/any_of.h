#pragma once

#include <cstddef>
#include <tuple>
#include <variant>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/collect_tuple.h"

// Waiting for one of several futures, or for all of them, in a coroutine or anywhere: Flow's choose and when.
//
//   std::variant<Request, Unit> next = co_await anyOf(connection.read(), std::move(closing));
//   if (next.index() == 1) { co_return; }
//   handle(std::get<0>(next));
//
//   auto both = co_await allOf(fetchUser(id), fetchQuota(id));
//   auto& [user, quota] = both;
//
// They return futures, so then() works on them as well. What they share with collect(), of several dispatchers,
// cancelling and cost, nuncio/future/collect.h says.
namespace nuncio {

// The value of the first that is done, at the index of its future, or its failure; the losers are cancelled. Of several
// that are ready already, the one that stands first. The value of a void future is a Unit. collectAny() gives the
// failure of the first, too, as a value.
template <class... Ts>
  requires(sizeof...(Ts) > 0)
Future<std::variant<future_internal::Stored<Ts>...>> anyOf(Future<Ts>... futures) {
  return future_internal::joinEach<future_internal::AnyOfPolicy<Ts...>>(futures...);
}

// All values, or the first failure, at which the others are cancelled: the same as collect().
template <class... Ts>
  requires(sizeof...(Ts) > 0)
Future<std::tuple<future_internal::Stored<Ts>...>> allOf(Future<Ts>... futures) {
  return future_internal::joinEach<future_internal::CollectTuplePolicy<Ts...>>(futures...);
}

}  // namespace nuncio
