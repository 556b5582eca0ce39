#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>

#include "nuncio/future/semaphore.h"

namespace nuncio {

// ReadWriteLock: many readers or one writer at a time, over whole chains of continuations or coroutines.
//
//   ReadWriteLock::Guard guard = co_await lock.readLock();
//   const Page page = co_await file.read(7); // others may read meanwhile, and nobody writes, who asks the lock
//
//   ReadWriteLock::Guard guard = co_await lock.writeLock();
//   co_await file.write(7, page); // alone
//
// First come, first served: readers that come after a waiting writer wait behind it, so that none starves. Cancelling
// one that waits takes it out of the line, and lets those behind it go on. Not recursive: who reads and asks again may
// wait behind a writer that waits for it. Nor does a reader become a writer: it lets go, and asks anew.
//
// It is for the order of asynchronous steps, and no lock: what runs on one dispatcher needs none.
//
// Threads, lifetime, cost: as Semaphore, of whose units a reader takes one and a writer all. Guard's release() unlocks
// before its destructor does.
class ReadWriteLock {
public:
  using Guard = Semaphore::Units;

  explicit ReadWriteLock(Dispatcher& dispatcher) : semaphore_(dispatcher, kAll, "read-write lock") {}

  Future<Guard> readLock(std::source_location place = std::source_location::current()) {
    return semaphore_.acquire(1, place);
  }
  Future<Guard> writeLock(std::source_location place = std::source_location::current()) {
    return semaphore_.acquire(kAll, place);
  }
  // Without waiting: nothing where readLock() or writeLock() would wait.
  std::optional<Guard> tryReadLock() { return semaphore_.tryAcquire(1); }
  std::optional<Guard> tryWriteLock() { return semaphore_.tryAcquire(kAll); }

  // How many read now, and whether one writes.
  uint64_t readers() const { return writing() ? 0 : kAll - semaphore_.available(); }
  bool writing() const { return semaphore_.available() == 0; }
  std::size_t waiters() const { return semaphore_.waiters(); }

private:
  static constexpr uint64_t kAll = uint64_t{1} << 62;  // more than there can be readers

  Semaphore semaphore_;
};

}  // namespace nuncio
