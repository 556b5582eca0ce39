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

// What is left to do when a coroutine has stopped running, which its frame cannot do for itself: it may be gone.
struct CoroutineRun {
  enum class Outcome : uint8_t {
    Waits,     // again
    Ended,     // `completed`, its future, has its result
    Answered,  // it ended, and its future is elsewhere: answer(away) brings the result there
    Left,      // it is on its way to another thread: its frame is not to be touched any more
  };
  CoroutineRun() noexcept {}  // leaves out what the outcome will say
  void finish() const noexcept;

  Outcome outcome = Outcome::Waits;
  union {
    Node* completed;
    void* away;
  };
  void (*answer)(void* away) noexcept;
};

// What can be done to a coroutine from outside. On the thread of `loop`.
struct CoroutineState {
  LoopCore* loop = nullptr;  // where it goes on; kept
  Node* node = nullptr;      // its future; null once it is elsewhere
  Node* home = nullptr;      // once it is elsewhere: what waits for its result there, on another loop perhaps
  std::coroutine_handle<> frame;
  AwaitNode* awaiting = nullptr;  // null while it runs
  bool cancelled = false;
  Failure* reason = nullptr;    // why, while it runs: for what it waits for next; a reference
  CoroutineRun* run = nullptr;  // of the last resume(); null when it runs for the first time
  void (*arrive)(CoroutineState& state) noexcept = nullptr;  // to be called on the thread that it goes to

  CoroutineState() = default;
  CoroutineState(const CoroutineState&) = delete;
  CoroutineState& operator=(const CoroutineState&) = delete;
  ~CoroutineState() {
    setLoop(nullptr);
    if (reason != nullptr) {
      releaseFailure(reason);
    }
  }

  void setLoop(LoopCore* next) {
    if (next != nullptr) {
      next->retain();
    }
    if (loop != nullptr) {
      loop->release();
    }
    loop = next;
  }
  // Its first loop.
  void adopt(LoopCore& first) {
    setLoop(&first);
    if (node != nullptr && node->loop_ == nullptr) {
      giveLoop(*node, first);
    }
  }
  // It is about to wait, on the loop's thread. Done once, for all its waits: see LoopCore::addWaiting().
  void listWaiting() const {
    if (node != nullptr && !node->listed()) {
      loop->addWaiting(*node);
    }
  }
  // Asks it to stop: it ends when what it waits for has ended, or at its next co_await. Returns what to ask next.
  Node* stop(const Failure* reason) noexcept;
  // Goes on where it waited, and then does what is left to do.
  void resume();
  void destroyFrame() noexcept;

private:
  void stopWaiting() const noexcept;
};

// A co_await that waits: in the frame. As a task: what it waits for is done.
class AwaitNode : public Node {
public:
  void runTask() final;
  const char* kind() const noexcept override { return "co_await"; }
  Node* consumer() const noexcept final {
    Node* const home = coroutine_.home;
    return home == nullptr || !home->loop_->onLoopThread() ? coroutine_.node : home;
  }
  LoopCore* consumersLoop() const noexcept final {
    const Node* const home = coroutine_.home;
    return home != nullptr && home->loop_ != loop_ ? home->loop_ : nullptr;
  }
  bool mayGoWithout() const noexcept final { return upstream_ != nullptr; }

protected:
  explicit AwaitNode(CoroutineState& coroutine) : coroutine_(coroutine) {}
  ~AwaitNode() = default;

  CoroutineState& coroutine_;

private:
  void destroy() noexcept final {}
};

inline Node* awaitedBy(const CoroutineState* state) noexcept { return state != nullptr ? state->awaiting : nullptr; }

// The future of a coroutine.
template <class T>
class CoroutineNode final : public ResultNode<T> {
public:
  void runTask() noexcept override {  // its coroutine went to another dispatcher, and is done there
    this->result_ = takeInput<T>(*this);
    complete(*this);
  }
  Node* stopHere(const Failure* reason) noexcept override { return state != nullptr ? state->stop(reason) : nullptr; }
  const char* kind() const noexcept override { return "coroutine"; }
  Node* waitsFor(std::size_t index) const noexcept override { return index == 0 ? awaitedBy(state) : nullptr; }

  CoroutineState* state = nullptr;  // null when it is done, or has left

private:
  void destroy() noexcept override { this->~CoroutineNode(); }
};

// co_await of a future.
template <class T, bool kAsTry>
class FutureAwaiter final : public AwaitNode {
public:
  FutureAwaiter(CoroutineState& coroutine, Future<T>&& future, const std::source_location& place)
      : AwaitNode(coroutine), future_(std::move(future)) {
    place_ = place;
    if constexpr (kMovesTrivially<T>) {
      set(kTakesAtOnce);
    }
  }
  FutureAwaiter(const FutureAwaiter&) = delete;
  FutureAwaiter& operator=(const FutureAwaiter&) = delete;

  bool await_ready() {
    if (coroutine_.cancelled) {
      return false;  // it does not look at what it would get
    }
    if (Access::waitsHere(future_, coroutine_.loop)) [[likely]] {
      return false;
    }
    Access::takeIfDone(future_);
    return Access::node(future_) == nullptr;  // ready, or no future
  }

  // False: it is ready after all. A coroutine that has been cancelled waits, too: until what it would have waited for
  // has ended.
  bool await_suspend(std::coroutine_handle<> /*frame*/) {
    if (!Access::waitsHere(future_, coroutine_.loop)) [[unlikely]] {
      return suspendSlow();
    }
    loop_ = coroutine_.loop;
    coroutine_.awaiting = this;
    coroutine_.listWaiting();
    attachHere(*Access::takeNode(future_), *this);
    return true;
  }

  // future_ is then one that is ready.
  bool takeAtOnce(void* value) noexcept override {
    upstream_ = nullptr;
    Access::makeReady(future_, std::move(*static_cast<Stored<T>*>(value)));
    queueTask(*this);
    return true;
  }

  auto await_resume() {
    if constexpr (kMovesTrivially<T>) {
      if (Stored<T>* const value = Access::readyValue(future_); value != nullptr) [[likely]] {
        if constexpr (kAsTry) {
          return Try<T>(std::move(*value));
        } else if constexpr (std::is_void_v<T>) {
          return;
        } else {
          return T(std::move(*value));
        }
      }
    }
    Try<T> result = takeSlow();
    if constexpr (kAsTry) {
      return result;
    } else if constexpr (std::is_void_v<T>) {
      result.throwIfFailed();
    } else {
      return T(std::move(result).value());
    }
  }

private:
  [[gnu::noinline]] Try<T> takeSlow() {
    return upstream_ != nullptr ? takeInput<T>(*this)
           : future_.isReady()  ? Access::takeResult(future_)
                                : failed<T>(Reason::Invalid);
  }

  [[gnu::noinline]] bool suspendSlow() {
    if (coroutine_.loop == nullptr) {
      coroutine_.adopt(*Access::loop(future_));
    }
    loop_ = coroutine_.loop;
    if (Access::node(future_) != nullptr && Access::loop(future_) != loop_) {
      future_ = Access::viaLoop(std::move(future_), *loop_);
      Access::takeIfDone(future_);
    }
    ResultNode<T>* const upstream = Access::takeNode(future_);
    if (upstream == nullptr) {
      if (!coroutine_.cancelled) {
        return false;
      }
      std::move(future_).detach();
      coroutine_.awaiting = this;  // CoroutineState::resume() sees to the rest
      return true;
    }
    coroutine_.awaiting = this;
    if (loop_->onLoopThread()) {
      coroutine_.listWaiting();
      attachHere(*upstream, *this);
      return true;
    }
    if (attachElsewhere(*upstream, *this)) {
      return true;  // it may have gone on already, on another thread
    }
    coroutine_.awaiting = nullptr;
    dropFromHandle(*upstream, true);
    future_ = Future<T>(failed<T>(Reason::NoMemory));
    return false;
  }

  Future<T> future_;
};

// co_await yield(), and co_await resumeOn(): a task that resumes.
class TaskAwaiter final : public AwaitNode {
public:
  // With a failure it does not wait, and throws that.
  TaskAwaiter(CoroutineState& coroutine, const std::source_location& place, Try<void>&& failure = Unit())
      : AwaitNode(coroutine), failure_(std::move(failure)) {
    place_ = place;
  }
  TaskAwaiter(const TaskAwaiter&) = delete;
  TaskAwaiter& operator=(const TaskAwaiter&) = delete;

  bool await_ready() const { return failure_.failed(); }
  bool await_suspend(std::coroutine_handle<> frame) noexcept;
  void await_resume() const { failure_.throwIfFailed(); }

private:
  Try<void> failure_;
};

}  // namespace nuncio::future_internal
