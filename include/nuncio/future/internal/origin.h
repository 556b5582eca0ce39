#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <type_traits>
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
//
// Cancelling ends a promise at once: its onCancel runs, and the future fails, whatever the producer does. Not so one
// that stands for a future of another chain or dispatcher (kLinked): its consumer may be what that refers to, so that
// it is asked to stop, and is done when it answers, be it after the consumer's loop has ended. The answer is then
// delivered by the thread that gives it.
class OriginBase : public PendingOperation {
public:
  enum State : uint32_t {
    kSet = 1,            // by the producer: the result is there
    kBound = 2,          // by the consumer: the node has a loop
    kStopped = 4,        // by the consumer: cancelled, or its loop has shut down
    kProducerGone = 8,   // by the producer: it does not touch this any more, nor will it
    kConsumerGone = 16,  // by the consumer: the same
    kWaiting = 32,       // by the consumer: a thread sleeps on the state
    kMuted = 64,         // by the consumer: it was detached
    kLinked = 128,       // by the producer: it always answers, and the consumer waits for that
    kUnwanted = 256,     // by the consumer, bound: its future was dropped
  };

  // What a promise runs when its future is cancelled.
  class CancelHandler {
  public:
    virtual ~CancelHandler() {
      if (reason_ != nullptr) {
        releaseFailure(reason_);
      }
    }
    // `reason`: null: Cancelled. Runs functions of users, unless the origin is linked: then it may return a node of the
    // loop `here`, on whose thread it is called (null: of none), to be asked to stop.
    virtual Node* cancelled(const Failure* reason, LoopCore* here) = 0;

    Failure* reason_ = nullptr;  // what it is to be run with; a reference
  };

  enum class Settled : uint8_t { Late, Done, DoneAndFree };

  // `node`: this is a part of it.
  explicit OriginBase(Node& node)
      : to_node_(static_cast<int16_t>(reinterpret_cast<std::byte*>(&node) - reinterpret_cast<std::byte*>(this))) {}

  Node& node() { return *reinterpret_cast<Node*>(reinterpret_cast<std::byte*>(this) + to_node_); }
  const Node& node() const {
    return *reinterpret_cast<const Node*>(reinterpret_cast<const std::byte*>(this) + to_node_);
  }

  // The producer's side, any thread.

  bool stopped() const { return (state_.load(std::memory_order_acquire) & kStopped) != 0; }
  // Whether somebody waits for the result, as far as is known.
  bool wanted() const { return isWanted(state()); }
  static bool isWanted(uint32_t state) { return (state & (kStopped | kUnwanted | kConsumerGone)) == 0; }
  uint32_t state() const { return state_.load(std::memory_order_acquire); }
  // Whether settling has an effect: it does not once it was cancelled, unless the consumer waits for the answer.
  bool takesResult() const { return (state_.load(std::memory_order_acquire) & (kStopped | kLinked)) != kStopped; }
  // The node of a future that is bound.
  Node* boundNode() { return (state() & kBound) != 0 ? &node() : nullptr; }
  // While nobody else has it.
  void startLinked() { state_.store(state() | kLinked, std::memory_order_relaxed); }
  // Has no effect on one that was cancelled: its consumer has gone on, and does not wait for an answer.
  void setLinked() {
    uint32_t state = state_.load(std::memory_order_relaxed);
    while ((state & kStopped) == 0 &&
           !state_.compare_exchange_weak(state, state | kLinked, std::memory_order_relaxed)) {
    }
  }
  // Whether settling, by a producer that leaves then, is a matter of this thread alone, as it mostly is.
  static bool settlesHere(uint32_t state, const Node& node) {
    return (state & (kBound | kStopped)) == kBound && node.loop_->onLoopThread();
  }
  // The result has been written, and the producer leaves. Settles here; `node` is node().
  [[gnu::always_inline]] void settleHere(uint32_t state, Node& node) noexcept {
    state_.store(state | kSet | kProducerGone, std::memory_order_relaxed);
    const CancelHandler* const handler =
        on_cancel_.load(std::memory_order_relaxed) != nullptr ? takeCancelHandler() : nullptr;
    unlist();
    complete(node);
    delete handler;  // last: destructors of what it captured may cancel the future, after which this is gone
  }
  // The result has been written, and the producer leaves, unless it `stays`; when it is late, it has not left.
  Settled settle(bool stays) noexcept;
  // Takes `handler`; runs it at once when the future is cancelled already.
  void onCancel(CancelHandler* handler) noexcept;
  // True when the caller has to free.
  bool producerGone() noexcept;

  // The consumer's side.

  // Any thread. `shared`: the producer may be at work. False without memory: nothing has happened then.
  bool bind(LoopCore& loop, bool shared) noexcept {
    if (!loop.onLoopThread()) {
      return bindElsewhere(loop);
    }
    giveLoopHere(node(), loop);
    uint32_t before;
    if (shared) {
      before = state_.fetch_or(kBound, std::memory_order_acq_rel);
    } else {
      before = state_.load(std::memory_order_relaxed);
      state_.store(before | kBound, std::memory_order_relaxed);
    }
    if ((before & kSet) != 0) {
      node().set((before & kStopped) != 0 ? kDone | kNoResult : kDone);
    } else {
      loop.addPending(*this);
    }
    return true;
  }
  bool wait(int64_t timeout_nanoseconds) noexcept;  // any thread, not bound; negative: for ever; false: no result yet
  // Set, or stopped before it was; a linked one: set.
  bool done() const { return isDone(state_.load(std::memory_order_acquire)); }
  void stopUnbound(const Failure* reason) noexcept;  // any thread
  bool dropUnbound(bool quiet) noexcept;             // true when the caller has to free
  void dropBound() noexcept { state_.fetch_or(kUnwanted, std::memory_order_relaxed); }
  // True when the caller has to free.
  bool consumerGone() noexcept {
    if (binding_) {
      return false;  // finishBinding() comes back to it
    }
    return (state_.load(std::memory_order_acquire) & kProducerGone) != 0 ||
           (state_.fetch_or(kConsumerGone, std::memory_order_acq_rel) & kProducerGone) != 0;
  }

protected:
  enum Phase : uint8_t { kPending, kStopping };  // of the node

  ~OriginBase() {
    if (on_cancel_.load(std::memory_order_relaxed) != nullptr) [[unlikely]] {
      forgetCancelHandler();
    }
  }
  Node* stopBound(const Failure* reason) noexcept;
  // In kStopping: runs what is to run when it is cancelled, and completes.
  void runStopping() noexcept;
  // The producer has posted the node, and its share with it: on its way it must not go, even when it is done already.
  void delivered() noexcept;
  void refused() noexcept;
  void abandonOperation() noexcept override;
  bool endFutileWait() noexcept override;

private:
  static bool isDone(uint32_t state) { return (state & kSet) != 0 || (state & (kStopped | kLinked)) == kStopped; }
  bool bindElsewhere(LoopCore& loop) noexcept;
  bool stop() noexcept;  // false when the result is there, or it is linked
  void finishBinding(bool refused) noexcept;
  void forgetCancelHandler() noexcept;
  CancelHandler* takeCancelHandler() noexcept;
  Node* askProducer(const Failure* reason) noexcept;

  std::atomic<uint32_t> state_{0};
  const int16_t to_node_;    // bytes; a reference would not fit into two cache lines
  bool binding_ = false;     // a task is on its way to the loop that lists this as pending; the node cannot go before
  bool set_before_ = false;  // when it was bound
  std::atomic<CancelHandler*> on_cancel_{nullptr};
  CancelHandler* stopping_ = nullptr;  // in kStopping: to be run, and owned
};

template <class T>
class Origin final : public ResultNode<T>, public OriginBase {
public:
  Origin() : OriginBase(static_cast<Node&>(*this)) {}

  void runTask() noexcept override {
    if (this->phase_ == kStopping) {
      this->runStopping();
    } else {
      this->delivered();
    }
  }
  void refuseTask() noexcept override { this->refused(); }
  const char* kind() const noexcept override { return "promise"; }
  Node* stopHere(const Failure* reason) noexcept override { return this->stopBound(reason); }
  // What took the result may be gone, while the producer is still there.
  Node* consumer() const noexcept override { return this->has(kDone) ? nullptr : this->downstream_; }
  void handleDropped() noexcept override { this->dropBound(); }
  // The node stays as long as its block and its producer; the result does not.
  void leave() noexcept override {
    if (!this->has(kNoResult)) {
      this->result_.reset();
    }
    this->free();
  }

private:
  void destroy() noexcept override { this->~Origin(); }
};
// Frees an origin that both sides have left, or that only one side ever had. Any thread.
void freeOrigin(Node& node) noexcept;

// Settles wherever and whenever it is; `wanted`: whether somebody waited for it. The result has been written, unless it
// was stopped before.
template <class T>
[[gnu::noinline]] bool finishSettling(Origin<T>& origin, bool wanted, bool stays) noexcept {
  switch (origin.settle(stays)) {
    case OriginBase::Settled::Done:
      return wanted;
    case OriginBase::Settled::DoneAndFree:
      freeOrigin(origin);
      return wanted;
    case OriginBase::Settled::Late:
      origin.result_.reset();
  }
  if (!stays && origin.producerGone()) {
    freeOrigin(origin);
  }
  return false;
}
template <class T>
[[gnu::noinline]] bool settleAnywhere(Origin<T>& origin, Try<T>&& result, bool stays) noexcept {
  const uint32_t state = origin.state();
  if ((state & OriginBase::kStopped) == 0) {
    origin.result_ = std::move(result);
  }
  return finishSettling(origin, OriginBase::isWanted(state), stays);
}
// Settles; false when it was too late, or nobody wants it. `stays`: the producer does not leave.
template <class T>
bool settle(Origin<T>& origin, Try<T>&& result, bool stays) noexcept {
  uint32_t state = origin.state();
  if (stays || !OriginBase::settlesHere(state, origin)) [[unlikely]] {
    return settleAnywhere(origin, std::move(result), stays);
  }
  std::construct_at(&origin.result_, std::move(result));         // which was empty: this is the first, and it leaves
  if constexpr (!std::is_trivially_destructible_v<Stored<T>>) {  // what was moved from may have cancelled the future
    state = origin.state();
    if ((state & OriginBase::kStopped) != 0) [[unlikely]] {
      return finishSettling(origin, false, stays);
    }
  }
  origin.settleHere(state, origin);
  return OriginBase::isWanted(state);
}

// The status that the handler F of a cancelled promise gets. That is a template, though there is but one type, since
// absl::Status is only declared here: it has to be complete where an F takes it.
void assignReason(const Failure* reason, absl::Status* status);
template <class F, class Status = std::enable_if_t<sizeof(F) != 0, absl::Status>>
Status reasonFor(const Failure* reason) {
  Status status;
  assignReason(reason, &status);
  return status;
}

// Leads from a linked promise's onCancel, on whatever thread, to something on a loop that is to stop then, and that may
// be gone by then.
class CancelLink {
public:
  // Has `target` stop, and returns the node to ask next, or null; on the thread of its loop, where an EndingScope is
  // open.
  using Stop = Node* (*)(void* target, const Failure* reason);

  CancelLink() = default;
  CancelLink(CancelLink&& other) noexcept : shared_(std::exchange(other.shared_, nullptr)) {}
  CancelLink& operator=(CancelLink&&) = delete;
  ~CancelLink() { cut(); }

  // A handler for the promise that calls `stop(target, reason)` on the thread of `loop`. Replaces an earlier target.
  // Null without memory: then nothing is called.
  OriginBase::CancelHandler* connect(LoopCore& loop, void* target, Stop stop) noexcept;
  // The target is gone. On the thread of its loop.
  void cut() noexcept;

private:
  struct Shared;
  Shared* shared_ = nullptr;
};

}  // namespace nuncio::future_internal
