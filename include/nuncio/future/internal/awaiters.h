#pragma once

#include <coroutine>
#include <cstddef>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/future/future.h"

// What co_await makes; for coroutine.h.
namespace nuncio::future_internal {

class AwaitNode;

// What can be done to a coroutine from outside. On the thread of `loop`.
struct CoroutineState {
  TaskQueue* loop = nullptr;  // where it goes on; kept
  Node* node = nullptr;       // its future; null once it is elsewhere
  std::coroutine_handle<> frame;
  AwaitNode* awaiting = nullptr;  // null while it runs
  bool cancelled = false;
  CoroutineState* outer = nullptr;                           // while they are cancelled: the one that awaits this one
  void (*arrive)(CoroutineState& state) noexcept = nullptr;  // to be called on the thread that it goes to

  CoroutineState() = default;
  CoroutineState(const CoroutineState&) = delete;
  CoroutineState& operator=(const CoroutineState&) = delete;
  ~CoroutineState() { setLoop(nullptr); }

  void setLoop(TaskQueue* next) {
    if (next != nullptr) {
      next->retain();
    }
    if (loop != nullptr) {
      loop->release();
    }
    loop = next;
  }
  // Its first loop.
  void adopt(TaskQueue& first) {
    setLoop(&first);
    if (node != nullptr && node->loop_ == nullptr) {
      giveLoop(*node, first);
    }
  }
  // Asks it to stop. May destroy the frame.
  void cancel() noexcept;
};

// A co_await that waits: in the frame. As a task: what it waits for is done.
class AwaitNode : public Node {
public:
  void runTask() noexcept final;
  const char* kind() const noexcept override { return "co_await"; }

protected:
  explicit AwaitNode(CoroutineState& coroutine) : coroutine_(coroutine) {}
  ~AwaitNode() = default;

  CoroutineState& coroutine_;

private:
  // It is going to be destroyed with the frame instead of resumed.
  virtual void discard() noexcept {}
  void destroy() noexcept final {}
};

// The future of a coroutine.
template <class T>
class CoroutineNode final : public ResultNode<T> {
public:
  void runTask() noexcept override {  // its coroutine went to another dispatcher, and is done there
    this->result_ = takeInput<T>(*this);
    complete(*this);
  }
  void cancelHere() noexcept override {
    if (state != nullptr) {
      state->cancel();
    }
  }
  CoroutineState* coroutine() const noexcept override { return state; }
  const char* kind() const noexcept override { return "coroutine"; }
  Node* waitsFor(std::size_t index) const noexcept override;

  CoroutineState* state = nullptr;  // null when it is done, or has left

private:
  void destroy() noexcept override { this->~CoroutineNode(); }
};
Node* awaitedBy(const CoroutineState* state) noexcept;
template <class T>
Node* CoroutineNode<T>::waitsFor(std::size_t index) const noexcept {
  return index == 0 ? awaitedBy(state) : nullptr;
}

// co_await of a future.
template <class T, bool kAsTry>
class FutureAwaiter final : public AwaitNode {
public:
  FutureAwaiter(CoroutineState& coroutine, Future<T>&& future, const std::source_location& place)
      : AwaitNode(coroutine), future_(std::move(future)) {
    place_ = place;
  }
  FutureAwaiter(const FutureAwaiter&) = delete;
  FutureAwaiter& operator=(const FutureAwaiter&) = delete;

  bool await_ready() {
    Access::settle(future_);
    return !coroutine_.cancelled && (future_.isReady() || !future_.valid());
  }

  // False: it is ready after all.
  bool await_suspend(std::coroutine_handle<> frame) {
    if (coroutine_.cancelled) {
      future_.cancel();
      std::move(future_).detach();
      frame.destroy();
      return true;
    }
    if (coroutine_.loop == nullptr) {
      coroutine_.adopt(*Access::loop(future_));
    } else if (coroutine_.loop != Access::loop(future_)) {
      future_ = Access::viaLoop(std::move(future_), *coroutine_.loop);
      Access::settle(future_);
      if (future_.isReady()) {
        return false;
      }
    }
    ResultNode<T>* const upstream = Access::takeNode(future_);
    loop_ = coroutine_.loop;
    coroutine_.awaiting = this;
    if (attach(*upstream, *this)) {
      return true;  // it may have gone on already, on another thread
    }
    coroutine_.awaiting = nullptr;
    dropFromHandle(*upstream, true);
    future_ = Future<T>(failed<T>(Reason::LoopGone));
    return false;
  }

  auto await_resume() {
    Try<T> result = upstream_ != nullptr ? takeInput<T>(*this)
                    : future_.isReady()  ? Access::takeResult(future_)
                                         : failed<T>(Reason::Invalid);
    if constexpr (kAsTry) {
      return result;
    } else if constexpr (std::is_void_v<T>) {
      result.throwIfFailed();
    } else {
      return std::move(result).value();
    }
  }

private:
  void discard() noexcept override {
    if (upstream_ != nullptr) {
      Node& upstream = *std::exchange(upstream_, nullptr);
      upstream.leave();
    }
  }

  Future<T> future_;
};

// co_await yield(), and co_await resumeOn(): a task that resumes.
class TaskAwaiter final : public AwaitNode {
public:
  TaskAwaiter(CoroutineState& coroutine, const std::source_location& place) : AwaitNode(coroutine) { place_ = place; }
  TaskAwaiter(const TaskAwaiter&) = delete;
  TaskAwaiter& operator=(const TaskAwaiter&) = delete;

  bool await_ready() const { return false; }
  bool await_suspend(std::coroutine_handle<> frame) noexcept;
  void await_resume() const { failure_.throwIfFailed(); }

private:
  Try<void> failure_{Unit()};
};

}  // namespace nuncio::future_internal
