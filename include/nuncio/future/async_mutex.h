#pragma once

#include <cstddef>
#include <optional>
#include <source_location>

#include "nuncio/future/semaphore.h"

namespace nuncio {

// AsyncMutex: one at a time, over whole chains of continuations or coroutines, first come, first served.
//
//   AsyncMutex::Guard guard = co_await mutex.lock();
//   co_await file.write(header); // nobody else writes meanwhile, who asks the mutex
//   co_await file.write(body);
//
// It is for the order of asynchronous steps, and no lock: what runs on one dispatcher needs none. Not recursive.
//
// Threads, lifetime, cost: as Semaphore, with one unit. Guard's release() unlocks before its destructor does.
class AsyncMutex {
public:
  using Guard = Semaphore::Units;

  explicit AsyncMutex(Dispatcher& dispatcher) : semaphore_(dispatcher, 1, "mutex") {}

  // Cancelling it takes it out of the line.
  Future<Guard> lock(std::source_location place = std::source_location::current()) {
    return semaphore_.acquire(1, place);
  }
  // Without waiting: nothing when it is locked.
  std::optional<Guard> tryLock() { return semaphore_.tryAcquire(1); }

  bool locked() const { return semaphore_.available() == 0; }
  std::size_t waiters() const { return semaphore_.waiters(); }

private:
  Semaphore semaphore_;
};

}  // namespace nuncio
