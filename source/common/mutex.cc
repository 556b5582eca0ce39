#include "nuncio/common/mutex.h"

#include "source/common/pause.h"

namespace nuncio {
void Mutex::lockContended() {
  constexpr int kSpins = 100;
  for (int i = 0; i < kSpins; ++i) {
    pauseProcessor();
    if (mutex_.try_lock()) {
      return;
    }
  }
  mutex_.lock();
}

void CondVar::wait(Mutex& mutex) {
  std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
  condition_.wait(lock);
  lock.release();
}

bool CondVar::waitFor(Mutex& mutex, std::chrono::nanoseconds timeout) {
  std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
  const std::cv_status status = condition_.wait_for(lock, timeout);
  lock.release();
  return status == std::cv_status::no_timeout;
}

}  // namespace nuncio
