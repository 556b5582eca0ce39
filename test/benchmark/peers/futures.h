#pragma once

#include "benchmark/benchmark.h"

// What the peers of futures have in common. Each has, where it can do it:
//
//   int addToReady()                    ten thens of AddOne on a ready future, and its value
//   void addToPending(...)              the same on the future of a promise that is fulfilled then, again and again
//   void callWhile(from, to, f, answer) on the thread of `from`: runs `f` on the loop `to` and gives what it returns to
//                                       `answer`, here, as long as that returns true
namespace nuncio::bench {

constexpr int kThens = 10;

// What a then adds. A call that the compiler does not see through.
struct AddOne {
  [[gnu::noinline]] int operator()(int value) const {
    ::benchmark::DoNotOptimize(value);
    return value + 1;
  }
};

}  // namespace nuncio::bench
