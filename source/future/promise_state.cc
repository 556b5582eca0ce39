#include "nuncio/future/internal/promise_state.h"

#include "source/future/futex.h"

namespace nuncio::future_internal {

bool PromiseState::wait(int64_t timeout_nanoseconds) noexcept {
  return waitOnState(word_, kWaiting, timeout_nanoseconds, isDone);
}

void PromiseState::wake() noexcept { wakeThreads(&word_); }

}  // namespace nuncio::future_internal
