#pragma once

#include <atomic>
#include <exception>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "nuncio/common/inline_function.h"
#include "nuncio/event/callback.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/operations.h"

// For call.h.
namespace nuncio::future_internal {

// AwayCall: what is pending at home, on the loop of who calls, while another loop runs the function.
//
// The other side has the node's address, with which it gives the answer: a post, that brings the result. Until then it
// does not touch the node, so that its memory stays with the core of the home loop: that, and that nothing of it is
// counted or locked, is what makes such a call three times as fast as one by a promise (see fut_x100 in
// docs/benchmarks.md). In return the node stays until the answer has come, whatever becomes of its future and its loop:
// who is asked to stop says so in `stopped_`, which the other side looks at before it runs the function, and waits.
class AwayCall : public PendingOperation {
public:
  // Nobody wants the answer: the function need not run. Any thread, until the answer is given.
  bool stopped() const { return stopped_.load(std::memory_order_acquire); }

protected:
  ~AwayCall() = default;

  // On the home loop's thread.
  void stop(LoopCore& home) noexcept {
    if (!stopped()) {
      stopped_.store(true, std::memory_order_release);
      home.countStoppedCall(1);
    }
  }
  void answered(LoopCore& home) noexcept {
    if (stopped()) {
      home.countStoppedCall(-1);
    }
    unlist();
  }

private:
  std::atomic<bool> stopped_{false};
};

template <class U>
class AwayNode final : public ResultNode<U>, public AwayCall {
public:
  // The answer. On the home loop's thread.
  void arrive(Try<U>&& result) noexcept {
    if (!stopped()) {
      std::construct_at(&this->result_, std::move(result));  // which was empty: there is one answer
    }
    finish();
  }
  // Where there is no memory for a post: the answer stays here, and the node is to be delivered. Any thread.
  void park(Try<U>&& result) noexcept { this->result_ = std::move(result); }

  // Delivered.
  void runTask() noexcept override { finish(); }
  // The home loop is gone, or takes no answer any more.
  void refuseTask() noexcept override {
    this->set(kNoResult);
    finish();
  }
  const char* kind() const noexcept override { return "call"; }
  Node* stopHere(const Failure* /*reason*/) noexcept override {
    stop(*this->loop_);
    return nullptr;
  }

private:
  // A result that is not wanted is destroyed with the node.
  void finish() noexcept {
    if (stopped()) {
      this->set(kNoResult);
    }
    answered(*this->loop_);
    complete(*this);
  }
  void abandonOperation() noexcept override {
    stop(*this->loop_);
    this->loop_->addUnanswered(*this);
  }
  void destroy() noexcept override { this->~AwayNode(); }
};

template <bool kYes>
struct RelocatableIf {};
template <>
struct RelocatableIf<true> {
  using TriviallyRelocatable = void;
};

// The answer on its way home.
template <class U>
class Answer : public RelocatableIf<inline_function_internal::kTriviallyRelocatable<Stored<U>>> {
public:
  Answer(LoopCore& home, AwayNode<U>& node, Try<U>&& result) noexcept
      : home_(&home), node_(&node), result_(std::move(result)) {}
  Answer(Answer&& other) noexcept
      : home_(other.home_), node_(std::exchange(other.node_, nullptr)), result_(std::move(other.result_)) {}
  Answer& operator=(Answer&&) = delete;
  ~Answer() {
    // On another thread it was the post that was refused; giveAnswer() sees to that.
    if (node_ != nullptr && home_->onLoopThread()) {
      node_->refuseTask();
    }
  }

  void operator()() noexcept {
    AwayNode<U>& node = *std::exchange(node_, nullptr);
    if (home_->onLoopThread()) [[likely]] {
      node.arrive(std::move(result_));
    } else {
      node.park(std::move(result_));
    }
  }

private:
  LoopCore* home_;
  AwayNode<U>* node_;  // null: given, or moved from
  Try<U> result_;
};

// Gives `node` of the loop `home` its answer, after which both may be gone. When `home` takes no more, `result` is
// destroyed here. Any thread.
template <class U>
void giveAnswer(LoopCore& home, AwayNode<U>& node, Try<U>&& result) noexcept {
  if (home.onLoopThread()) {
    node.arrive(std::move(result));
    return;
  }
  Answer<U> answer(home, node, std::move(result));
  try {
    PostCb post(std::move(answer));
    if (home.tryPost(post)) [[likely]] {
      return;
    }
    if (home.takesPosts()) {  // there was no memory
      post();
    }
  } catch (const std::bad_alloc&) {
    answer();
  }
  home.deliver(node);
}

// What call() posts.
template <class U, class F>
class CallRequest : public RelocatableIf<inline_function_internal::kTriviallyRelocatable<F>> {
public:
  using CallsFunction = typename inline_function_internal::NamedBy<F>::Type;

  template <class G>
  CallRequest(LoopCore& home, AwayNode<U>& node, G&& f) : home_(&home), node_(&node), f_(std::forward<G>(f)) {}
  CallRequest(CallRequest&& other) noexcept(std::is_nothrow_move_constructible_v<F>)
      : home_(other.home_), node_(other.node_), f_(std::move(other.f_)) {
    other.disarm();
  }
  CallRequest& operator=(CallRequest&&) = delete;
  ~CallRequest() {
    if (node_ != nullptr) {  // it was refused
      AwayNode<U>& node = disarm();
      giveAnswer(*home_, node, failed<U>(Reason::LoopGone));
    }
  }

  // f goes before the answer is given.
  void operator()() {
    if (home_->hasStoppedCalls() && node_->stopped()) [[unlikely]] {
      giveAnswer(*home_, disarm(), failed<U>(Reason::Cancelled));
      return;
    }
    Try<U> result = callInto<U>(f_);
    giveAnswer(*home_, disarm(), std::move(result));
  }

private:
  AwayNode<U>& disarm() noexcept {
    std::destroy_at(&f_);
    return *std::exchange(node_, nullptr);
  }

  LoopCore* home_;
  AwayNode<U>* node_;  // null: it has run, or was moved from
  union {
    F f_;  // until then
  };
};

}  // namespace nuncio::future_internal
