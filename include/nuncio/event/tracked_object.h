#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace nuncio {

// CrashOutput: what a tracked object may write with while the process is dying: straight to stderr, with no allocation
// and no lock, so that it is safe in a signal handler.
class CrashOutput {
public:
  CrashOutput& operator<<(absl::string_view text);
  CrashOutput& operator<<(uint64_t number);
};

// TrackedObject: what a dispatcher is working on, for the dump of a crash. See Dispatcher::pushTrackedObject and
// installCrashHandler.
class TrackedObject {
public:
  virtual ~TrackedObject() = default;

  // Describes the object, one line or more. Called in a signal handler, on the thread that crashed: it may not
  // allocate, lock, log, or follow a pointer that might be invalid.
  virtual void dumpState(CrashOutput& out) const = 0;
};

// Makes SIGSEGV, SIGABRT, SIGFPE, SIGBUS and SIGILL print the dispatcher of the thread that crashed and what it was
// working on, innermost first, and then do what they did before (a core dump, say). Idempotent; for the whole process;
// any thread, before the dispatchers run, or else a stack overflow on their threads goes unreported. Allocates nothing
// when it strikes.
void installCrashHandler();

}  // namespace nuncio
