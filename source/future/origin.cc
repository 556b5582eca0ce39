#include "nuncio/future/internal/origin.h"

#include <chrono>
#include <climits>
#include <ctime>
#include <exception>
#include <linux/futex.h>
#include <memory>
#include <new>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

#include "nuncio/common/logging.h"
#include "source/future/hand_over.h"

namespace nuncio::future_internal {
namespace {

void callHandler(OriginBase::CancelHandler* handler) noexcept {
  if (handler == nullptr) {
    return;
  }
  try {
    handler->cancelled();
  } catch (const std::exception& e) {
    NUNCIO_LOG(Future, err, "a promise's onCancel threw: {}; it is ignored", e.what());
  } catch (...) {
    NUNCIO_LOG(Future, err, "a promise's onCancel threw; it is ignored");
  }
}

}  // namespace

OriginBase::~OriginBase() { delete on_cancel_.load(std::memory_order_relaxed); }

OriginBase::Settled OriginBase::settleElsewhere(bool stays) noexcept {
  const uint32_t before = state_.fetch_or(kSet, std::memory_order_acq_rel);
  if ((before & kStopped) != 0) {
    return Settled::Late;
  }
  if (on_cancel_.load(std::memory_order_relaxed) != nullptr) {
    forgetCancelHandler();
  }
  if ((before & kWaiting) != 0) {
    ::syscall(SYS_futex, &state_, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  }
  if ((before & (kConsumerGone | kMuted)) == kConsumerGone) {
    reportDropped(node_.failure(), node_.place_);
  }
  if ((before & kBound) != 0) {
    if (!node_.loop_->onLoopThread()) {
      if (node_.loop_->postTask(node_)) {
        return Settled::Done;
      }
    } else if (!node_.has(kDone)) {  // else it has been abandoned
      unlist();
      complete(node_);
    }
  }
  return !stays && producerGone() ? Settled::DoneAndFree : Settled::Done;
}

void OriginBase::onCancel(CancelHandler* handler) noexcept {
  // Sequentially consistent, as in runCancelHandler(): one of the two sees what the other did.
  delete on_cancel_.exchange(handler, std::memory_order_seq_cst);
  if ((state_.load(std::memory_order_seq_cst) & kStopped) != 0) {
    runCancelHandler();
  }
}

void OriginBase::forgetCancelHandler() noexcept { delete on_cancel_.exchange(nullptr, std::memory_order_acq_rel); }

void OriginBase::runCancelHandler() noexcept {
  const std::unique_ptr<CancelHandler> handler(on_cancel_.exchange(nullptr, std::memory_order_seq_cst));
  callHandler(handler.get());
}

bool OriginBase::producerGone() noexcept {
  if ((state_.load(std::memory_order_acquire) & kConsumerGone) != 0) {
    return true;
  }
  return (state_.fetch_or(kProducerGone, std::memory_order_acq_rel) & kConsumerGone) != 0;
}

void OriginBase::bindElsewhere(TaskQueue& loop) noexcept {
  binding_ = true;
  const bool was_set = (state_.fetch_or(kBound, std::memory_order_acq_rel) & kSet) != 0;
  if (!handOver(loop, [this, was_set](bool refused) { finishBinding(was_set, refused); })) {
    binding_ = false;
    stopUnbound();
    node_.set(kDone | kNoResult);
  }
}

void OriginBase::finishBinding(bool was_set, bool refused) noexcept {
  binding_ = false;
  if (blockOf(node_).nodes == 0) {  // the consumer has left
    if (consumerGone()) {
      freeOrigin(node_);
    }
  } else if (!node_.has(kDone)) {
    if (refused) {
      abandonOperation();
    } else if (was_set) {
      complete(node_);
    } else {
      node_.loop_->addPending(*this);
    }
  }
}

bool OriginBase::wait(int64_t timeout_nanoseconds) noexcept {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  for (;;) {
    uint32_t state = state_.load(std::memory_order_acquire);
    if ((state & (kSet | kStopped)) != 0) {
      return true;
    }
    if ((state & kWaiting) == 0) {
      state_.fetch_or(kWaiting, std::memory_order_acq_rel);
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
    ::syscall(SYS_futex, &state_, FUTEX_WAIT_PRIVATE, state, timeout_nanoseconds >= 0 ? &timeout : nullptr, nullptr, 0);
  }
}

bool OriginBase::stop() noexcept {
  uint32_t state = state_.load(std::memory_order_acquire);
  while ((state & kSet) == 0) {
    if (state_.compare_exchange_weak(state, state | kStopped, std::memory_order_seq_cst)) {
      return true;
    }
  }
  return false;
}

void OriginBase::stopUnbound() noexcept {
  if (stop()) {
    runCancelHandler();
  }
}

bool OriginBase::dropUnbound(bool quiet) noexcept {
  uint32_t state = state_.load(std::memory_order_acquire);
  do {
    // A failure is read before this leaves, since the producer may free it then; one that comes later the producer
    // reports.
    if (!quiet && (state & (kSet | kStopped)) == kSet) {
      reportDropped(node_.failure(), node_.place_);
      quiet = true;
    }
  } while (!state_.compare_exchange_weak(state, state | (quiet ? kConsumerGone | kMuted : uint32_t{kConsumerGone}),
                                         std::memory_order_acq_rel, std::memory_order_acquire));
  return (state & kProducerGone) != 0;
}

void OriginBase::cancelBound() noexcept {
  if (stop()) {
    unlist();
    abandonOperation();
  }
}

void OriginBase::abandonOperation() noexcept {
  state_.fetch_or(kStopped, std::memory_order_seq_cst);
  node_.set(kNoResult);
  // First taken out, since the node may go when it is complete.
  const std::unique_ptr<CancelHandler> handler(on_cancel_.exchange(nullptr, std::memory_order_seq_cst));
  complete(node_);
  callHandler(handler.get());
}

void OriginBase::delivered() noexcept {
  if (node_.has(kDone)) {
    undelivered();
    return;
  }
  // The producer has left, and the consumer is on this thread.
  state_.store(state_.load(std::memory_order_relaxed) | kProducerGone, std::memory_order_relaxed);
  unlist();
  complete(node_);
}

void OriginBase::undelivered() noexcept {
  if (producerGone()) {
    freeOrigin(node_);
  }
}

// Counted: by the link, the handler, and each task on its way.
struct CancelLink::Shared {
  Shared(TaskQueue& queue, void* what, void (*how)(void* target)) : loop(queue), target(what), cancel(how) {
    loop.retain();
  }
  ~Shared() { loop.release(); }
  Shared* share() {
    references.fetch_add(1, std::memory_order_relaxed);
    return this;
  }
  void release() {
    if (references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      delete this;
    }
  }

  class Handler;

  TaskQueue& loop;
  void* target;  // the loop's thread; null when it is gone
  void (*const cancel)(void* target);
  std::atomic<int> references{1};  // released and acquired, as counts of owners are
};

class CancelLink::Shared::Handler final : public OriginBase::CancelHandler {
public:
  explicit Handler(Shared* shared) : shared_(shared->share()) {}
  ~Handler() override { shared_->release(); }
  void cancelled() override {
    Shared* const shared = shared_->share();
    const auto stop = [shared](bool) {
      if (shared->target != nullptr) {
        shared->cancel(shared->target);
      }
      shared->release();
    };
    if (!handOver(shared->loop, stop)) {
      shared->release();
    }
  }

private:
  Shared* const shared_;
};

OriginBase::CancelHandler* CancelLink::connect(TaskQueue& loop, void* target, void (*cancel)(void* target)) noexcept {
  cut();
  shared_ = new (std::nothrow) Shared(loop, target, cancel);
  return shared_ != nullptr ? new (std::nothrow) Shared::Handler(shared_) : nullptr;
}

void CancelLink::cut() noexcept {
  if (shared_ != nullptr) {
    shared_->target = nullptr;
    std::exchange(shared_, nullptr)->release();
  }
}

}  // namespace nuncio::future_internal
