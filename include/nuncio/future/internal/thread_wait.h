#pragma once

#include <atomic>
#include <cstdint>

#include "nuncio/future/internal/node.h"

// How a thread that runs no dispatcher waits for a future; for future_impl.h.
namespace nuncio::future_internal {

// What a thread without a loop waits for: from the first wait on it stands for the future, so that waiting again costs
// nothing. The result is brought here by the loop's thread.
class ThreadWait {
public:
  bool wait(int64_t timeout_nanoseconds) noexcept;  // negative: for ever; false: no result yet

protected:
  ~ThreadWait() = default;
  // After this another thread may free it.
  void wake() noexcept;

private:
  std::atomic<uint32_t> state_{0};  // released by wake(), acquired by wait()
};

template <class T>
class ThreadWaitNode final : public ResultNode<T>, public ThreadWait {
public:
  void runTask() noexcept override {
    if (this->upstream_ != nullptr) {
      this->result_ = takeInput<T>(*this);
    }
    if (this->has(kCancelled)) {
      this->result_ = failed<T>(this->loop_->closing() ? Reason::LoopGone : Reason::Cancelled);
    }
    const bool held = this->downstream_ == nullptr && !this->has(kDropped);
    complete(*this);
    if (held) {
      wake();
    }
  }
  ThreadWait* threadWait() noexcept override { return this; }
  const char* kind() const noexcept override { return "wait"; }

private:
  void destroy() noexcept override { this->~ThreadWaitNode(); }
};

}  // namespace nuncio::future_internal
