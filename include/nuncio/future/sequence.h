#pragma once

#include <cstddef>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/future/async_mutex.h"
#include "nuncio/future/internal/wait_list.h"

namespace nuncio {

// Sequence: runs asynchronous functions one after another, each when the future of the one before is done, as
// libprocess' Sequence does.
//
//   Sequence writes(dispatcher);
//   Future<void> first = writes.run([this] { return write("one"); });
//   Future<void> second = writes.run([this] { return write("two"); }); // not before "one" is written, or has failed
//
// A failure is that function's own: the next one runs all the same. Cancelling a future whose function waits skips it;
// cancelling that of the running one cancels what it waits for, and the next one runs when that has ended.
//
// Threads: the dispatcher's only. Lifetime: when it is destroyed, functions that wait are destroyed, and their futures
// fail with Cancelled; the running one goes on. Cost: nothing allocated where none waits and the result is ready.
class Sequence {
public:
  explicit Sequence(Dispatcher& dispatcher) : loop_(dispatcher), mutex_(dispatcher) {}

  // Runs `f`, which takes nothing and returns what Future::then() allows, after those that were given before; at once
  // when there are none. f is destroyed when it has returned: see keepAlive() for coroutines.
  template <class F>
  auto run(F&& f, std::source_location place = std::source_location::current()) {
    return mutex_.lock(place).then(
        [loop = &*loop_, place, f = std::decay_t<F>(std::forward<F>(f))](AsyncMutex::Guard guard) mutable {
          return future_internal::callOn(*loop, place, f).ensure([guard = std::move(guard)] {}, place);
        },
        place);
  }

  // How many wait.
  std::size_t waiting() const { return mutex_.waiters(); }
  // Whether one runs.
  bool running() const { return mutex_.locked(); }

private:
  const LoopRef loop_;
  AsyncMutex mutex_;
};

}  // namespace nuncio
