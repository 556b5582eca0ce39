#pragma once

#include <new>

#include "nuncio/event/task_queue.h"

namespace nuncio::future_internal {

// A task that another thread hands to a loop; frees itself.
template <class Function>
class HandedOver final : public Task {
public:
  HandedOver(TaskQueue& loop, Function function) : loop_(loop), function_(function) { loop_.retain(); }
  ~HandedOver() { loop_.release(); }

  void runTask() noexcept override {
    function_(/*refused=*/false);
    delete this;
  }
  void refuseTask() noexcept override {
    function_(/*refused=*/true);
    delete this;
  }

private:
  TaskQueue& loop_;
  Function function_;
};

// Runs `function(refused)` on the loop's thread; once the loop is gone, here, or on the thread that visits it at the
// moment. False without memory. Any thread.
template <class Function>
bool handOver(TaskQueue& loop, Function function) noexcept {
  auto* const task = new (std::nothrow) HandedOver<Function>(loop, function);
  if (task == nullptr) {
    return false;
  }
  loop.deliver(*task);
  return true;
}

}  // namespace nuncio::future_internal
