#pragma once

#include <cstddef>

#include "source/event/loop.h"

namespace nuncio {

// Makes `loop` the one that is named when this thread crashes, in the scope of a run; also names it in assertions.
// Gives the thread a signal stack when the crash handler is installed, so that a stack overflow can be reported.
class CrashScope {
public:
  explicit CrashScope(const Loop& loop);
  ~CrashScope();
  CrashScope(const CrashScope&) = delete;
  CrashScope& operator=(const CrashScope&) = delete;

private:
  const Loop* const outer_;  // a callback may run another dispatcher
};

}  // namespace nuncio
