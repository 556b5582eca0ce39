#pragma once

#include <new>

#include "nuncio/event/internal/loop_core.h"

namespace nuncio::future_internal {

// A task that another thread hands to a loop; frees itself.
template <class Function>
class HandedOver final : public Task {
public:
  HandedOver(LoopCore& loop, Function function) : loop_(loop), function_(function) { loop_.retain(); }

  void runTask() noexcept override {
    function_(/*refused=*/false);
    delete this;
  }
  void refuseTask() noexcept override {
    function_(/*refused=*/true);
    delete this;
  }

  static void operator delete(HandedOver* self, std::destroying_delete_t /*tag*/) {
    LoopCore& loop = self->loop_;
    self->~HandedOver();
    if (!loop.giveReserved(self)) {
      ::operator delete(self);
    }
    loop.release();
  }

private:
  ~HandedOver() = default;

  LoopCore& loop_;
  Function function_;
};

// A task to be delivered to `loop`; null without memory.
template <class Function>
Task* newHandedOver(LoopCore& loop, Function function) noexcept {
  return ::new (std::nothrow) HandedOver<Function>(loop, function);
}

// Runs `function(refused)` on the loop's thread; once the loop is gone, here, or on the thread that visits it at the
// moment. False without memory. Any thread.
template <class Function>
bool handOver(LoopCore& loop, Function function) noexcept {
  Task* const task = newHandedOver(loop, function);
  if (task == nullptr) {
    return false;
  }
  loop.deliver(*task);
  return true;
}

// The same for what must not be lost where there is no memory: false only when very many of them are under way.
template <class Function>
bool handOverSurely(LoopCore& loop, Function function) noexcept {
  static_assert(sizeof(HandedOver<Function>) <= LoopCore::kReservedBytes);
  if (handOver(loop, function)) {
    return true;
  }
  void* const reserved = loop.takeReserved();
  if (reserved == nullptr) {
    return false;
  }
  loop.deliver(*::new (reserved) HandedOver<Function>(loop, function));
  return true;
}

}  // namespace nuncio::future_internal
