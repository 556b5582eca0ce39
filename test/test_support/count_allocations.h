#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

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

enum class Fails : uint8_t { One, AllFromThere };
// From now on this allocation of the calling thread fails, counted from 0; negative: none.
inline void failAllocation(int64_t allocation, Fails fails) {
  allocations_until_failure = allocation;
  allocations_fail_on = fails == Fails::AllFromThere && allocation >= 0;
}
// None fails any more. Whether one has failed.
inline bool stopFailing() {
  allocations_fail_on = false;
  return std::exchange(allocations_until_failure, -1) < 0;
}

// Where a test needs memory for itself: none fails meanwhile.
class FailuresPaused {
public:
  FailuresPaused() = default;
  ~FailuresPaused() {
    allocations_until_failure = until_failure_;
    allocations_fail_on = fail_on_;
  }
  FailuresPaused(const FailuresPaused&) = delete;
  FailuresPaused& operator=(const FailuresPaused&) = delete;

private:
  const int64_t until_failure_ = std::exchange(allocations_until_failure, -1);
  const bool fail_on_ = std::exchange(allocations_fail_on, false);
};

}  // namespace nuncio::test
