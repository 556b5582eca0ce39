#include "nuncio/future/internal/thread_wait.h"

#include <atomic>
#include <cstdint>

#include "source/future/futex.h"

namespace nuncio::future_internal {
namespace {

// Of the state.
constexpr uint32_t kResult = 1;
constexpr uint32_t kThreadWaits = 2;

}  // namespace

bool ThreadWait::wait(int64_t timeout_nanoseconds) noexcept {
  return waitOnState(state_, kThreadWaits, timeout_nanoseconds, [](uint32_t state) { return (state & kResult) != 0; });
}

void ThreadWait::wake() noexcept {
  if ((state_.fetch_or(kResult, std::memory_order_acq_rel) & kThreadWaits) != 0) {
    wakeThreads(&state_);
  }
}

}  // namespace nuncio::future_internal
