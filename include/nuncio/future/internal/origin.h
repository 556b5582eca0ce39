#pragma once

#include <atomic>
#include <cstdint>
#include <source_location>
#include <utility>

#include "nuncio/future/internal/node.h"

namespace nuncio::future_internal {

// OriginBase: what a Promise and its future share.
//
// One producer, since the Promise's pointer to it is taken only once; one consumer, the future. Each does its part with
// one atomic operation on `state_`, by whose old value it learns how far the other is. The producer writes the result
// before kSet; who reads kSet may read the result. The consumer takes its interest away by kStopped, and then never
// touches the result. The one who leaves last frees.
//
// When both are on the loop's thread, as they mostly are, plain loads and stores do: the other bits were set before, or
// are the loop thread's own.
class OriginBase : public PendingOperation {
public:
  enum State : uint32_t {
    kSet = 1,            // by the producer: the result is there
    kBound = 2,          // by the consumer: the node has a loop
    kStopped = 4,        // by the consumer: cancelled, or its loop has shut down
    kProducerGone = 8,   //
    kConsumerGone = 16,  //
    kWaiting = 32,       // by the consumer: a thread sleeps on the state
    kMuted = 64,         // by the consumer: it was detached
  };

  // What a promise runs when its future is cancelled.
  class CancelHandler {
  public:
    virtual ~CancelHandler() = default;
    virtual void cancelled() = 0;
  };

  enum class Settled : uint8_t { Late, Done, DoneAndFree };

  explicit OriginBase(Node& node) : node_(node) {}

  Node& node() const { return node_; }

  // The producer's side, any thread.

  bool stopped() const { return (state_.load(std::memory_order_acquire) & kStopped) != 0; }
  // The result has been written, and the producer leaves; when it is late, it has not left. `stays`: it does not leave.
  Settled settle(bool stays) noexcept {
    const uint32_t state = state_.load(std::memory_order_acquire);
    if ((state & kBound) == 0 || stays || !node_.loop_->onLoopThread()) {
      return settleElsewhere(stays);
    }
    if ((state & kStopped) != 0) {
      return Settled::Late;
    }
    state_.store(state | kSet | kProducerGone, std::memory_order_relaxed);
    if (on_cancel_.load(std::memory_order_relaxed) != nullptr) {
      forgetCancelHandler();
    }
    unlist();
    complete(node_);
    return Settled::Done;
  }
  // Takes `handler`; runs it at once when the future is cancelled already.
  void onCancel(CancelHandler* handler) noexcept;
  // True when the caller has to free.
  bool producerGone() noexcept;

  // The consumer's side.

  // Any thread. `shared`: the producer may be at work.
  void bind(TaskQueue& loop, bool shared) noexcept {
    giveLoop(node_, loop);
    if (!loop.onLoopThread()) {
      bindElsewhere(loop);
      return;
    }
    uint32_t before;
    if (shared) {
      before = state_.fetch_or(kBound, std::memory_order_acq_rel);
    } else {
      before = state_.load(std::memory_order_relaxed);
      state_.store(before | kBound, std::memory_order_relaxed);
    }
    if ((before & kSet) != 0) {
      node_.set(kDone);
    } else {
      loop.addPending(*this);
    }
  }
  bool wait(int64_t timeout_nanoseconds) noexcept;  // any thread, not bound; negative: for ever; false: no result yet
  // Set, or stopped before it was.
  bool done() const { return (state_.load(std::memory_order_acquire) & (kSet | kStopped)) != 0; }
  void stopUnbound() noexcept;            // any thread
  bool dropUnbound(bool quiet) noexcept;  // true when the caller has to free
  // True when the caller has to free.
  bool consumerGone() noexcept {
    if (binding_) {
      return false;  // finishBinding() comes back to it
    }
    return (state_.load(std::memory_order_acquire) & kProducerGone) != 0 ||
           (state_.fetch_or(kConsumerGone, std::memory_order_acq_rel) & kProducerGone) != 0;
  }

protected:
  ~OriginBase();
  void cancelBound() noexcept;
  // The producer has posted the node, and its share with it: on its way it must not go, even when it is abandoned.
  void delivered() noexcept;
  void undelivered() noexcept;  // it is abandoned as a pending operation, too
  void abandonOperation() noexcept override;

private:
  void bindElsewhere(TaskQueue& loop) noexcept;
  bool stop() noexcept;  // false when the result is there
  void finishBinding(bool was_set, bool refused) noexcept;
  Settled settleElsewhere(bool stays) noexcept;
  void forgetCancelHandler() noexcept;
  void runCancelHandler() noexcept;

  Node& node_;
  std::atomic<uint32_t> state_{0};
  bool binding_ = false;  // a task is on its way to the loop that lists this as pending; the node cannot go before
  std::atomic<CancelHandler*> on_cancel_{nullptr};
};

template <class T>
class Origin final : public ResultNode<T>, public OriginBase {
public:
  Origin() : OriginBase(static_cast<Node&>(*this)) {}

  void runTask() noexcept override { this->delivered(); }
  void refuseTask() noexcept override { this->undelivered(); }
  const char* kind() const noexcept override { return "promise"; }
  void cancelHere() noexcept override { this->cancelBound(); }

private:
  void destroy() noexcept override { this->~Origin(); }
};
// Frees an origin that both sides have left, or that only one side ever had. Any thread.
void freeOrigin(Node& node) noexcept;

// Settles; false when it was too late. `stays`: the producer does not leave.
template <class T>
bool settle(Origin<T>& origin, Try<T>&& result, bool stays) noexcept {
  if (!origin.stopped()) {
    origin.result_ = std::move(result);
    switch (origin.settle(stays)) {
      case OriginBase::Settled::Done:
        return true;
      case OriginBase::Settled::DoneAndFree:
        freeOrigin(origin);
        return true;
      case OriginBase::Settled::Late:
        origin.result_.reset();
    }
  }
  if (!stays && origin.producerGone()) {
    freeOrigin(origin);
  }
  return false;
}

// Leads from a promise's onCancel, on whatever thread, to something on a loop that is to stop then, and that may be
// gone by then.
class CancelLink {
public:
  CancelLink() = default;
  CancelLink(CancelLink&& other) noexcept : shared_(std::exchange(other.shared_, nullptr)) {}
  CancelLink& operator=(CancelLink&&) = delete;
  ~CancelLink() { cut(); }

  // A handler for the promise that calls `cancel(target)` on the thread of `loop`. Replaces an earlier target. Null
  // without memory: then nothing is called.
  OriginBase::CancelHandler* connect(TaskQueue& loop, void* target, void (*cancel)(void* target)) noexcept;
  // The target is gone. On the thread of its loop.
  void cut() noexcept;

private:
  struct Shared;
  Shared* shared_ = nullptr;
};

}  // namespace nuncio::future_internal
