#pragma once

#include <chrono>
#include <cstdint>

namespace nuncio {

inline uint64_t steadyNanoseconds() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

// FastClock: the time of steady_clock, for the deadlines of timers, at the price of one instruction.
//
// clock_gettime orders itself after all loads before it, and so makes a loop that arms many timers wait for each cache
// miss in turn: with a million timers that is four fifths of its time. This clock reads the processor's time stamp
// counter alone, and adds what has passed to a steady_clock time that is at most a millisecond old. It errs to the late
// side, by less than 3 us: a timer must not fire early. It never goes back.
//
// Where the kernel does not trust the counter (its clock source is not "tsc"), and on other processors, it asks
// steady_clock. Threads: one.
class FastClock {
public:
  // Nanoseconds of steady_clock, now or a little later.
  uint64_t now();

private:
  struct Reading {
    uint64_t ticks = 0;
    uint64_t nanoseconds = 0;
    bool exact = false;  // the two belong together
  };
  static Reading read();
  void refresh();

  Reading base_;
  Reading first_;
  uint64_t latest_ = 0;
  // An upper bound of nanoseconds a tick, times 2^32. No processor with a constant counter ticks slower than 1 GHz.
  uint64_t scale_ = uint64_t{1} << 32;
  uint64_t max_ticks_ = 0;  // how far from base_ the counter may be used
};

// TickClock: a clock that all threads share, for who compares times of several: the processor's time stamp counter,
// which the kernel keeps in step between processors where it trusts it; else nanoseconds of steady_clock. What a tick
// is worth is found by reading both clocks, at the beginning and at the end of what is looked at. Threads: any.
class TickClock {
public:
  static uint64_t now();
};

}  // namespace nuncio
