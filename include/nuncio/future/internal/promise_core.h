#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "nuncio/future/internal/node.h"
#include "nuncio/future/internal/promise_state.h"

namespace nuncio::future_internal {

// `core` is the first node of its block.
template <class Core>
Block& blockOfCore(Core& core) noexcept {
  return *reinterpret_cast<Block*>(reinterpret_cast<std::byte*>(&core) - kBlockHeader);
}

// PromiseCoreBase: what a Promise and its future share: the state, of which promise_state.h has the table, the node,
// which is the consumer's once it is bound, and the function that is to run when the future is cancelled.
//
// One producer, since the Promise's pointer to this is taken only once; one consumer, the future. Who leaves last
// frees.
//
// Cancelling ends a promise at once: its onCancel runs, and the future fails, whatever the producer does. Not so one
// that stands for a future of another chain or dispatcher (linked): its consumer may be what that refers to, so that it
// is asked to stop, and is done when it answers, be it after the consumer's loop has ended. The answer is then
// delivered by the thread that gives it.
class PromiseCoreBase : public PendingOperation {
public:
  // What a promise runs when its future is cancelled.
  class CancelHandler {
  public:
    virtual ~CancelHandler() {
      if (reason_ != nullptr) {
        releaseFailure(reason_);
      }
    }
    // `reason`: null: Cancelled. Runs functions of users, unless the promise is linked: then it may return a node of
    // the loop `here`, on whose thread it is called (null: of none), to be asked to stop.
    virtual Node* cancelled(const Failure* reason, LoopCore* here) = 0;

    Failure* reason_ = nullptr;  // what it is to be run with; a reference
  };

  // `node`: this is a part of it.
  explicit PromiseCoreBase(Node& node)
      : to_node_(static_cast<int16_t>(reinterpret_cast<std::byte*>(&node) - reinterpret_cast<std::byte*>(this))) {}

  Node& node() { return *reinterpret_cast<Node*>(reinterpret_cast<std::byte*>(this) + to_node_); }
  const Node& node() const {
    return *reinterpret_cast<const Node*>(reinterpret_cast<const std::byte*>(this) + to_node_);
  }
  PromiseState::Seen seen() const { return state_.seen(); }

  // The producer's side, any thread.

  // Whether the producer and a consumer of this one node are all that have to do with it, and no task is on its way
  // that will look at it when it arrives.
  template <class Core>
  bool mayLeaveTogether(Core& core) const {
    return !binding_ && blockOfCore(core).nodes == 1;
  }
  // The node of a future that is bound.
  Node* boundNode() { return seen().bound() ? &node() : nullptr; }
  void link() { state_.link(); }
  // While nobody else has it.
  void linkNew() { state_.linkNew(); }
  // The result has been written, and the producer leaves: on the loop's thread, as it mostly is.
  [[gnu::always_inline]] void settleHere(PromiseState::Seen seen, Node& node) noexcept {
    state_.settleAndLeaveHere(seen);
    const CancelHandler* const handler =
        on_cancel_.load(std::memory_order_relaxed) != nullptr ? takeCancelHandler() : nullptr;
    unlist();
    complete(node);
    delete handler;  // last: destructors of what it captured may cancel the future, after which this is gone
  }
  // The same where the consumer has taken the result from the producer's hand, and leaves with it: nobody is left to
  // read the state, and nothing that a destructor would have to do.
  template <class Core>
  [[gnu::always_inline]] void leaveTogether(Core& core) noexcept {
    unlist();
    if (on_cancel_.load(std::memory_order_relaxed) == nullptr) [[likely]] {
      Block& block = blockOfCore(core);
      recycleBlock(block, sizeof(Core) <= kMaxInSmallBlock ? uint32_t{BlockPool::kSmallBytes} : block.size);
    } else {
      leaveTogetherSlow();
    }
  }
  // The result has been written, and the producer leaves; any thread. False when it was late: then it has not left.
  bool settle() noexcept;
  // Takes `handler`; runs it at once when the future is cancelled already.
  void onCancel(CancelHandler* handler) noexcept;
  // May free this.
  void producerLeaves() noexcept;

  // The consumer's side.

  // On the thread of `loop`. `core`: this. `shared`: the producer may be at work.
  template <class Core>
  void bindHere(Core& core, LoopCore& loop, bool shared) noexcept {
    core.loop_ = blockOfCore(core).loop = &loop;
    loop.retainHere();
    const PromiseState::Seen before = shared ? state_.bind() : state_.bindNew();
    if (before.set()) [[unlikely]] {
      core.set(before.stopped() ? kDone | kNoResult : kDone);
    } else {
      loop.addPending(*this);
    }
  }
  // On another. False without memory: nothing has happened then.
  bool bindElsewhere(LoopCore& loop) noexcept;
  // What is made for `loop`, on its thread, and nobody has yet.
  void bindFirst(LoopCore& loop) noexcept {
    state_.bindNew();
    loop.addPending(*this);
  }
  // Until it is done; any thread, not bound; negative: for ever; false: no result yet.
  bool wait(int64_t timeout_nanoseconds) noexcept { return state_.wait(timeout_nanoseconds); }
  void stopUnbound(const Failure* reason) noexcept;  // any thread
  // Any thread. `quiet`: a failure is not logged. May free this.
  void dropUnbound(bool quiet) noexcept;
  void dropBound() noexcept { state_.unwant(); }
  // What the consumer had of the block is gone. True when the caller has to free the block.
  bool consumerLeaves() noexcept {
    return !binding_ && state_.consumerLeaves();  // else finishBinding() comes back to it
  }

protected:
  enum Phase : uint8_t { kPending, kStopping };  // of the node

  ~PromiseCoreBase() {
    if (on_cancel_.load(std::memory_order_relaxed) != nullptr) [[unlikely]] {
      forgetCancelHandler();
    }
  }
  Node* stopBound(const Failure* reason) noexcept;
  // In kStopping: runs what is to run when it is cancelled, and completes.
  void runStopping() noexcept;
  // As a task. The producer has posted the node, and its share with it, so that it cannot be freed on its way, even
  // when it is done already: by a cancel, or since its loop has shut down.
  void arrived() noexcept;
  void refused() noexcept;
  void abandonOperation() noexcept override;
  bool endFutileWait() noexcept override;

private:
  void leaveTogetherSlow() noexcept;
  void finishBinding(bool refused) noexcept;
  void completeWithoutResult() noexcept;
  void forgetCancelHandler() noexcept;
  CancelHandler* takeCancelHandler() noexcept;
  Node* askProducer(const Failure* reason) noexcept;

  PromiseState state_;
  const int16_t to_node_;    // bytes; a reference would not fit into two cache lines
  bool binding_ = false;     // a task is on its way to the loop that lists this as pending; the node cannot go before
  bool set_before_ = false;  // when it was bound
  std::atomic<CancelHandler*> on_cancel_{nullptr};
  CancelHandler* stopping_ = nullptr;  // in kStopping: to be run, and owned
};

// PromiseCore: the same with room for the result. The producer writes it before it settles.
template <class T>
class PromiseCore final : public ResultNode<T>, public PromiseCoreBase {
public:
  PromiseCore() : PromiseCoreBase(static_cast<Node&>(*this)) {}

  void runTask() noexcept override {
    if (this->phase_ == kStopping) {
      this->runStopping();
    } else {
      this->arrived();
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
  void destroy() noexcept override { this->~PromiseCore(); }
};

// The result has been written, unless `seen` says that it was stopped before.
template <class T>
[[gnu::noinline]] bool finishSettling(PromiseCore<T>& core, PromiseState::Seen seen) noexcept {
  if (core.settle()) {
    return seen.wanted();
  }
  core.result_.reset();
  core.producerLeaves();
  return false;
}
template <class T>
[[gnu::noinline]] bool settleAnywhere(PromiseCore<T>& core, Try<T>&& result) noexcept {
  const PromiseState::Seen seen = core.seen();
  if (!seen.stopped()) {
    core.result_ = std::move(result);
  }
  return finishSettling(core, seen);
}
// On the loop's thread: gives the value to what waits for it, from hand to hand, and frees the core. False, and nothing
// has happened, where the result has to be left in the core for a task.
template <class T>
[[gnu::always_inline]] inline bool handOnValue(PromiseCore<T>& core, Try<T>& result) noexcept {
  Node* const consumer = core.downstream_;
  if (consumer == nullptr || !consumer->takesAtOnce() || !result.hasValue() || core.loop_->closing() ||
      !core.mayLeaveTogether(core) || !consumer->takeAtOnce(std::addressof(*result))) {
    return false;
  }
  core.leaveTogether(core);
  return true;
}
// On the loop's thread: leaves it in the core, for a task.
template <class T>
[[gnu::noinline]] bool settleHere(PromiseCore<T>& core, Try<T>&& result) noexcept {
  PromiseState::Seen seen = core.seen();
  std::construct_at(&core.result_, std::move(result));  // which was empty: this is the first
  // A move that runs functions of users may have cancelled the future.
  if constexpr (!kMovesTrivially<T>) {
    seen = core.seen();
    if (seen.stopped()) [[unlikely]] {
      return finishSettling(core, seen);
    }
  }
  core.settleHere(seen, core);
  return seen.wanted();
}

// Gives a promise its result, by its producer, who leaves; any thread. False when it was too late, or nobody wants it.
template <class T>
bool settle(PromiseCore<T>& core, Try<T>&& result) noexcept {
  const PromiseState::Seen seen = core.seen();
  if (!seen.settlesOnLoop() || !core.loop_->onLoopThread()) [[unlikely]] {
    return settleAnywhere(core, std::move(result));
  }
  if constexpr (kMovesTrivially<T>) {
    if (handOnValue(core, result)) {
      return true;
    }
  }
  return settleHere(core, std::move(result));
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

}  // namespace nuncio::future_internal
