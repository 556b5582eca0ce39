#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "test/benchmark/support.h"

namespace nuncio::bench {

// The duration of each round trip: what A measures between two answers from B. tools/bench shows the median and the
// 99th percentile.
class RoundTrips {
public:
  explicit RoundTrips(std::size_t count) { nanoseconds_.reserve(count); }

  void start() { started_ = last_ = Clock::now(); }
  // After a pause that is not to count.
  void restart() { last_ = Clock::now(); }
  // False after the last one.
  bool next() {
    const auto now = Clock::now();
    nanoseconds_.push_back(std::chrono::nanoseconds(now - last_).count());
    last_ = now;
    return nanoseconds_.size() < nanoseconds_.capacity();
  }

  void report(::benchmark::State& state, std::size_t expected) {
    expectCount(state, expected, nanoseconds_.size());
    state.SetIterationTime(std::chrono::duration<double>(last_ - started_).count());
    std::sort(nanoseconds_.begin(), nanoseconds_.end());
    state.counters["median_ns"] = static_cast<double>(nanoseconds_[nanoseconds_.size() / 2]);
    state.counters["p99_ns"] = static_cast<double>(nanoseconds_[nanoseconds_.size() * 99 / 100]);
  }

private:
  Clock::time_point started_;
  Clock::time_point last_;
  std::vector<int64_t> nanoseconds_;
};

}  // namespace nuncio::bench
