#include "nuncio/common/mutex.h"

#include "source/common/pause.h"

namespace nuncio {

void Mutex::lockContended() {
  constexpr int kSpins = 100;
  for (int i = 0; i < kSpins; ++i) {
    pauseProcessor();
    if (state_.load(std::memory_order_relaxed) == kFree && tryLock()) {
      return;
    }
  }
  // From here on the lock is taken as one that others may sleep on, since nobody counts them.
  while (state_.exchange(kHeldWithSleepers, std::memory_order_acquire) != kFree) {
    state_.wait(kHeldWithSleepers, std::memory_order_relaxed);
  }
}

void CondVar::wait(Mutex& mutex) { condition_.wait(mutex); }

bool CondVar::waitFor(Mutex& mutex, std::chrono::nanoseconds timeout) {
  return condition_.wait_for(mutex, timeout) == std::cv_status::no_timeout;
}

}  // namespace nuncio
