#pragma once

#include <cstdint>

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

// ForkAware: an object that takes part in forks from watchForks() to unwatchForks(), which is the time in which its
// functions may be called: to be called when it is complete, and while it is still.
class ForkAware {
public:
  ForkAware() = default;
  ForkAware(const ForkAware&) = delete;
  ForkAware& operator=(const ForkAware&) = delete;

  // Takes its lock, if it has one. Any thread: the one that forks.
  virtual void beforeFork() = 0;
  // In the child, while all objects are still locked: gives up what was of threads that are not there. No signal is
  // handled meanwhile.
  virtual void afterForkInChild() = 0;
  // In both processes: gives its lock back.
  virtual void afterFork() = 0;

  void watchForks();
  void unwatchForks();

protected:
  virtual ~ForkAware() = default;

private:
  friend class Forks;
  ForkAware* previous_ = nullptr;
  ForkAware* next_ = nullptr;
};

// How many forks lie between the process and the first of its ancestors that used this library.
uint32_t forkGeneration() noexcept;

}  // namespace nuncio
