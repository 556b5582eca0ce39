#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace nuncio {

// What came of WorkerPool::drain().
struct DrainReport {
  // All have left, stopped and ended, and nothing was cut short: each Sharded was stopped in its turn, and not just
  // destroyed. What left its gate after the deadline, and before its worker shut down, is no fault where there was
  // nothing else to stop.
  bool ok() const { return still_inside.empty() && still_stopping.empty() && stalled_workers.empty(); }
  // For people: "drained in 12 ms", or what was not in time, in as many lines as it takes.
  std::string toString() const;

  std::chrono::nanoseconds waited{0};  // from the call on, in the time of the dispatcher that drained

  // What was not in time:
  // Who was inside of a gate, "connections on worker_2: entered at server.cc:40 in ...", and in further lines what it
  // waited for. See Gate::whoIsInside(). "worker_1: who is inside is not known: RESOURCE_EXHAUSTED: ...", where it
  // could not tell.
  std::vector<std::string> still_inside;
  // What was being stopped, or waited for its turn: "Sharded<Cache>", in the order of their turns.
  std::vector<std::string> still_stopping;
  // Workers that did not answer, or did and then did not end: "worker_1, in CALLBACK", where the name of the callback
  // is known.
  std::vector<std::string> stalled_workers;

  // What failed when it was stopped, "Sharded<Cache>: UNAVAILABLE: ...". Nothing was late for that.
  std::vector<std::string> failures;
};

}  // namespace nuncio
