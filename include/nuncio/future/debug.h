#pragma once

#include <string>

#include "nuncio/future/future.h"

// What a future waits for, for people who ask why nothing happens.
//
//   NUNCIO_LOG(Future, info, "stuck:\n{}", asyncTrace(future));
//
//   then at client.cc:40 in void Client::connect()
//   coroutine at lookup.cc:12 in nuncio::Future<Address> lookup(std::string)
//   co_await at lookup.cc:19 in nuncio::Future<Address> lookup(std::string)
//   promise at resolver.cc:88 in void Resolver::ask()
//
// Cost: none before it is called, since nodes know their place anyway; then some 100 bytes of text a line.
namespace nuncio {
namespace future_internal {

// For asyncTrace(). `node` may be null.
std::string traceNode(const Node* node);

}  // namespace future_internal

// What `future` waits for, the innermost last, a line each: what it is, and where it was made; for a coroutine, where
// it first waited, and where it waits now. What one with several inputs waits for is indented. Empty when the future is
// ready, or none. Ends at a promise, also at one that a continuation of another dispatcher holds, and after 1,000
// lines, saying how many there were not room for. On the thread of the future's dispatcher, whose own all this is.
// Elsewhere it says only that.
template <class T>
std::string asyncTrace(const Future<T>& future) {
  return future_internal::traceNode(future_internal::Access::node(future));
}

}  // namespace nuncio
