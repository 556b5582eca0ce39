#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"

#include "nuncio/event/dispatcher.h"

namespace nuncio {

// LoopTrace: a picture of what dispatchers do: what runs when, for how long, and which post brought it.
//
//   LoopTrace trace;
//   for (Dispatcher* dispatcher : dispatchers) trace.add(*dispatcher).IgnoreError();
//   ...                                          // what is to be seen
//   trace.stop();
//   std::ofstream("trace.json") << trace.chromeJson();   // for https://ui.perfetto.dev, or chrome://tracing
//
// The picture has a track for each dispatcher, a slice for each callback, with its name, and for each time that the
// loop slept, an arrow from each post to what it became, where both are on traced dispatchers, and the number of posts
// in each batch.
//
// Threads: any, one call at a time; the dispatchers go on meanwhile, on theirs. Lifetime: of the trace and the
// dispatchers, each may go first. A dispatcher keeps the memory until it goes, for the next trace, which overwrites
// what the one before has not written out. Fork: the child's own dispatchers go on being traced. Cost: off, a branch a
// callback and a post. On, two looks at the clock and some 5 ns a callback, some 25 ns a post, and 32 bytes each;
// nothing is allocated, locked or written meanwhile. add() takes a millisecond or more, for the memory. See
// docs/observability.md.
class LoopTrace {
public:
  static constexpr std::size_t kRecords = 65'536;

  // Of each dispatcher the last `records` (callbacks, sleeps, posts, batches) are kept; rounded up to a power of two.
  // Throws std::bad_alloc.
  explicit LoopTrace(std::size_t records = kRecords);
  ~LoopTrace();
  LoopTrace(const LoopTrace&) = delete;
  LoopTrace& operator=(const LoopTrace&) = delete;

  // From now on, `dispatcher` is in the picture. FailedPrecondition when it is in another trace that is not stopped, or
  // is shut down, or once stop() was called; ResourceExhausted without memory.
  absl::Status add(Dispatcher& dispatcher);

  // The picture ends here. Idempotent; the destructor does it too.
  void stop();

  // What there is so far, in the JSON format of Chrome's trace viewer. Times are in microseconds from the constructor.
  // "otherData" has the number of records that were overwritten. Throws std::bad_alloc.
  std::string chromeJson() const;

  // How many records were overwritten so far, since there was no room for more.
  std::size_t lost() const;

private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace nuncio
