#pragma once

#include <atomic>
#include <cstdint>

// Counts the calls to malloc and its kin, and with them those to operator new, and lets one of them, or all from one
// on, fail, in programs that link this. It takes the place of the C library's functions, or, where a sanitizer has done
// that already, uses the sanitizer's hook, which can only count.

namespace nuncio::test {

inline std::atomic<int64_t> allocations{0};
inline std::atomic<int64_t> frees{0};                                  // not under a sanitizer
inline thread_local constinit int64_t allocations_until_failure = -1;  // negative: none fails
inline thread_local constinit bool allocations_fail_on = false;        // all fail once one has
inline void* volatile allocation_sink = nullptr;                       // keeps an allocation from being optimised away

inline constexpr int kWarmUpRounds = 3;
// Allocations of `work`, once memory has grown to its size in the rounds before.
template <class F>
int64_t allocationsOf(F work, int rounds_before = kWarmUpRounds) {
  for (int i = 0; i < rounds_before; ++i) {
    work();
  }
  const int64_t before = allocations;
  work();
  return allocations - before;
}

}  // namespace nuncio::test
