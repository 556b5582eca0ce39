#pragma once

#include <cstdint>

#include "nuncio/common/mutex.h"
#include "nuncio/common/no_fork.h"

// All that this library does about fork(). A child has one thread, the copy of the one that forked, and a copy of the
// memory as it was at that moment, whatever the other threads were doing to it. So that it can be used there:
//
// - What has a lock is a ForkAware object: fork() waits until it has taken that lock, and both processes give it back.
// - What locks we do not know, as those of log sinks, and what is made at its first use, is used within a NoFork scope,
//   or made without a lock (MadeOnce).
// - What belongs to one thread, as loops do, is told in the child, where it gives up what was another thread's.
//
// Signals are blocked from the fork until all are told. The handlers are registered before main, so that they run after
// those that a program registers for what it does before a fork, and before those for what it does after.
namespace nuncio {

// ForkAware: an object that takes part in forks between watchForks(), to be called at the end of its constructor, and
// unwatchForks(), first thing in its destructor. Its lock is never held while another one's is taken: forks take them
// in no order that is known.
class ForkAware {
public:
  // `lock`: held over forks; null: there is none. It may be a member of the derived class.
  explicit ForkAware(Mutex* lock = nullptr) : lock_(lock) {}
  virtual ~ForkAware() = default;
  ForkAware(const ForkAware&) = delete;
  ForkAware& operator=(const ForkAware&) = delete;

  void watchForks();
  void unwatchForks();

private:
  friend class Forks;
  // Under the lock, on the thread that forks.
  virtual void beforeFork() {}
  // In the child, while all objects are still locked, and no signal is handled: gives up what was of threads that are
  // not there.
  virtual void afterForkInChild() {}

  Mutex* const lock_;
  ForkAware* previous_ = nullptr;
  ForkAware* next_ = nullptr;
};

// How many forks lie between the process and the first of its ancestors that used this library.
uint32_t forkGeneration() noexcept;

}  // namespace nuncio
