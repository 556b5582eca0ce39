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

void CondVar::wait(Mutex& mutex) {
  const uint32_t before = notifications_.load(std::memory_order_relaxed);  // what changes later notifies later
  mutex.unlock();
  notifications_.wait(before, std::memory_order_relaxed);
  mutex.lock();
}

}  // namespace nuncio
