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

// Runs `function(refused)` on the loop's thread. False when the loop is gone, or without memory.
template <class Function>
bool handOver(TaskQueue& loop, Function function) noexcept {
  auto* const task = new (std::nothrow) HandedOver<Function>(loop, function);
  if (task == nullptr) {
    return false;
  }
  if (!loop.postTask(*task)) {
    delete task;
    return false;
  }
  return true;
}

}  // namespace nuncio::future_internal
