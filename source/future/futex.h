#pragma once

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace nuncio::future_internal {

// Waits until `done(state)`; false after `timeout_nanoseconds` (negative: never). Whoever makes it so wakes those who
// wait where `waiting` is set in the state.
template <class Done>
bool waitOnState(std::atomic<uint32_t>& state, uint32_t waiting, int64_t timeout_nanoseconds, Done done) noexcept {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  for (;;) {
    uint32_t now = state.load(std::memory_order_acquire);
    if (done(now)) {
      return true;
    }
    if ((now & waiting) == 0) {
      state.fetch_or(waiting, std::memory_order_acq_rel);
      continue;
    }
    timespec timeout{};
    if (timeout_nanoseconds >= 0) {
      const int64_t left = timeout_nanoseconds - (Clock::now() - start) / std::chrono::nanoseconds(1);
      if (left <= 0) {
        return false;
      }
      timeout.tv_sec = left / 1'000'000'000;
      timeout.tv_nsec = left % 1'000'000'000;
    }
    // Returns at once when the state is another by now, and at times for no reason.
    ::syscall(SYS_futex, &state, FUTEX_WAIT_PRIVATE, now, timeout_nanoseconds >= 0 ? &timeout : nullptr, nullptr, 0);
  }
}

// The state may be gone by now: then this does nothing, or wakes somebody else, who looks again.
inline void wakeThreads(std::atomic<uint32_t>* state) noexcept {
  ::syscall(SYS_futex, state, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace nuncio::future_internal
