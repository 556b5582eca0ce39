#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/future/internal/node.h"
#include "nuncio/future/internal/operations.h"

// The continuations of a chain: what then(), thenError() and ensure() make; for future.h.
namespace nuncio::future_internal {

// Makes a continuation from an operation.
template <class T, class Op>
class Continuation final : public ResultNode<typename Op::Result> {
public:
  using U = typename Op::Result;

  explicit Continuation(Op&& op) noexcept(std::is_nothrow_move_constructible_v<Op>) : op_(std::move(op)) {}
  ~Continuation() {
    if (this->phase_ == kWaiting) {
      op_.~Op();
    }
  }

  // An operation that gives its result to a promise names the node of that one's future: who waits is there.
  Node* consumer() const noexcept override {
    if constexpr (kGivesToPromise) {
      Node* const there = promisesNode();
      return there != nullptr && there->loop_->onLoopThread() ? there : nullptr;
    } else {
      return this->downstream_;
    }
  }
  LoopCore* consumersLoop() const noexcept override {
    if constexpr (kGivesToPromise) {
      const Node* const there = promisesNode();
      return there != nullptr && there->loop_ != this->loop_ ? there->loop_ : nullptr;
    } else {
      return nullptr;
    }
  }
  const char* kind() const noexcept override { return this->phase_ == kForwarding ? "returned future" : Op::kKind; }

  void runTask() override {
    if (this->phase_ == kForwarding) {
      takeForwarded();
      complete(*this);
      return;
    }
    this->loop_->nameCallback(CallbackId::ofPlace(this->place_));
    if (this->loop_->closing()) {
      this->set(kCancelled);
    }
    Try<T> input;
    if (this->has(kCancelled)) {
      if constexpr (!Op::kRunsWhenCancelled) {
        if (this->upstream_ != nullptr) {
          discardInput(*this);
        }
        endOp();
        this->set(kNoResult);
        complete(*this);
        return;
      }
      // That was for what came before. What this starts cleans up: it is not disturbed by asking again.
      this->set(kCleansUp);
      input = this->upstream_ != nullptr ? takeInput<T>(*this) : Try<T>();
      if (!input.failed()) {
        input = failed<T>(this->loop_->closing() ? Reason::LoopGone : Reason::Cancelled);
      }
    } else {
      input = takeInput<T>(*this);
    }
    try {
      if constexpr (Op::kReturnsFuture) {
        op_.applyTo(std::move(input), *this);
      } else {
        this->result_ = op_.apply(std::move(input));
      }
    } catch (...) {  // the thread ends: those that wait learn of it at shutdown
      endOp();
      this->set(kNoResult);
      complete(*this);
      throw;
    }
    endOp();
    if (this->phase_ == kForwarding) {
      forward();
    } else {
      complete(*this);
    }
  }

  // While it waits.
  Op& op() { return op_; }

  // For the operation.
  void result(Try<U>&& result) noexcept { this->result_ = std::move(result); }
  template <class AnyFuture>
  void future(AnyFuture&& inner) noexcept;
  template <class AnyFuture>
  auto onLoop(AnyFuture&& inner) noexcept;

private:
  enum Phase : uint8_t { kWaiting, kFinished, kForwarding };

  void destroy() noexcept override { this->~Continuation(); }

  static constexpr bool kGivesToPromise = requires(const Op& op) { op.consumer(); };
  Node* promisesNode() const noexcept { return this->phase_ == kWaiting ? op_.consumer() : nullptr; }

  void endOp() noexcept {
    op_.~Op();
    this->phase_ = inner_ != nullptr ? kForwarding : kFinished;
  }

  void takeForwarded() noexcept {
    if (this->upstream_ == nullptr) {  // a circle, of which this was taken out
      this->set(kNoResult);
    } else if (this->has(kCancelled)) {
      discardInput(*this);
      this->set(kNoResult);
    } else if (givesBack(*this->upstream_)) {
      this->set(kPasses);
    } else {
      this->result_ = takeInput<U>(*this);
    }
  }

  // The function's own future takes the place of this continuation, where somebody waits for this already; so that a
  // function that returns futures for ever does not pile up continuations.
  void forward() noexcept {
    ResultNode<U>& inner = *std::exchange(inner_, nullptr);
    if (this->has(kCancelled) && !this->has(kCleansUp)) {
      cancelNode(&inner);
    }
    Node* consumer = this->downstream_;
    if (consumer != nullptr && consumer->upstream_ != this) {
      consumer = nullptr;  // it knows this in another way, as a LetGoNode does
    }
    if (this->downstream_ == nullptr && this->has(kDropped)) {
      dropFromHandle(inner, this->has(kQuiet));
      this->leave();
      return;
    }
    if (consumer == nullptr) {
      this->unset(kQueued);
      consumer = this;
    }
    attachHere(inner, *consumer);
    if (!inner.has(kDone) && !consumer->listed()) {
      this->loop_->addWaiting(*consumer);
    }
    if (consumer != this) {
      this->leave();
    }
  }

  union {
    Op op_;
  };
  ResultNode<U>* inner_ = nullptr;
};

// A continuation with a large function, which has an allocation of its own that is freed when the function ran, while
// the continuation and its neighbours may last.
template <class Op>
struct BoxedOp {
  using Result = typename Op::Result;
  static constexpr bool kReturnsFuture = Op::kReturnsFuture;
  static constexpr bool kRunsWhenCancelled = Op::kRunsWhenCancelled;
  static constexpr const char* kKind = Op::kKind;

  explicit BoxedOp(Op* boxed) noexcept : op(boxed) {}
  BoxedOp(BoxedOp&& other) noexcept : op(std::exchange(other.op, nullptr)) {}
  BoxedOp& operator=(BoxedOp&&) = delete;
  ~BoxedOp() { delete op; }

  template <class T>
  auto apply(Try<T>&& input) {
    return op->apply(std::move(input));
  }
  template <class T, class Out>
  void applyTo(Try<T>&& input, Out& out) {
    op->applyTo(std::move(input), out);
  }

  Op* op;  // owned
};
inline constexpr std::size_t kMaxOpInContinuation = 1024;

// Null without memory: then `op` is as it was. Throws what moving it throws.
template <class T, class Op>
ResultNode<typename Op::Result>* makeContinuation(Node& upstream, const std::source_location& place, Op&& op) {
  if constexpr (sizeof(Op) <= kMaxOpInContinuation) {
    return makeNode<Continuation<T, Op>>(&upstream, upstream.loop_, place, std::forward<Op>(op));
  } else {
    Op* const boxed = new (std::nothrow) Op(std::forward<Op>(op));
    if (boxed == nullptr) {
      return nullptr;
    }
    return makeNode<Continuation<T, BoxedOp<Op>>>(&upstream, upstream.loop_, place, BoxedOp<Op>(boxed));
  }
}

// For an operation that returns a future, and runs without a continuation.
// `loop` is kept, and goes to the future.
template <class U>
class InPlaceOut {
public:
  InPlaceOut(LoopCore* loop, const std::source_location& place) : loop_(loop), place_(place) {}
  InPlaceOut(const InPlaceOut&) = delete;
  InPlaceOut& operator=(const InPlaceOut&) = delete;
  ~InPlaceOut() {
    if (loop_ != nullptr) {  // the thread ended in the function
      loop_->release();
    }
  }
  void result(Try<U>&& result) noexcept;
  template <class AnyFuture>
  void future(AnyFuture&& inner) noexcept;
  template <class AnyFuture>
  auto onLoop(AnyFuture&& inner) noexcept;
  Future<U> take() && { return std::move(future_); }

private:
  LoopCore* loop_;
  const std::source_location place_;
  Future<U> future_;
};

}  // namespace nuncio::future_internal
