#pragma once

#include <source_location>
#include <utility>

#include "nuncio/future/future.h"

namespace nuncio {

// Keeps `object` until `future` has ended, with whatever result, or cancelled; passes the result on. As KJ's attach().
//
//   auto connection = std::make_unique<Connection>(address);
//   Future<Reply> reply = connection->call(request);
//   return holdWhile(std::move(connection), std::move(reply)); // nothing else keeps the connection
//
// The object is destroyed on the dispatcher's thread when the future has ended, and before what waits for the result
// goes on; at once when the future is ready. Hold several in a std::tuple. It is moved in before it is kept: what the
// work refers to must not move with it, so hold a pointer to that.
//
// Threads: as Future's methods. Cost: as ensure(), a continuation. Without memory for that the result is
// ResourceExhausted, and the object is destroyed, though the work goes on.
template <class Object, class T>
Future<T> holdWhile(Object object, Future<T>&& future, std::source_location place = std::source_location::current()) {
  return std::move(future).ensure([object = std::move(object)] {}, place);
}

}  // namespace nuncio
