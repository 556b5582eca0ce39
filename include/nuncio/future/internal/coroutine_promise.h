#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/common/caught_exception.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/awaiters.h"
#include "nuncio/future/internal/duration.h"

// What the compiler asks of a coroutine that returns a Future; for coroutine.h.
namespace nuncio::future_internal {

struct Yield {};
struct ResumeOn {
  Dispatcher& dispatcher;
};
template <class T>
struct AsTry {
  Future<T> future;
};
template <class T>
struct SemiAsTry {
  SemiFuture<T> future;
};

// The loop that a parameter names, if it is a dispatcher. A const one names its loop as well as another.
template <class A>
LoopCore* loopOfArgument(A& argument) {
  if constexpr (std::is_convertible_v<A*, const Dispatcher*>) {
    return &loopOf(const_cast<Dispatcher&>(static_cast<const Dispatcher&>(argument)));
  } else {
    return nullptr;
  }
}

template <class T>
class CoroutinePromise;

template <class T>
class CoroutinePromiseBase {
public:
  template <class... Args>
  explicit CoroutinePromiseBase(Args&... arguments) {
    LoopCore* loop = nullptr;
    static_cast<void>(((loop = loopOfArgument(arguments), loop != nullptr) || ...));
    state_.setLoop(loop != nullptr ? loop : LoopCore::current());
    node_ = makeNode<CoroutineNode<T>>(nullptr, state_.loop, std::source_location());
    if (node_ != nullptr) {
      node_->state = &state_;
      state_.node = node_;
    }
  }
  CoroutinePromiseBase(const CoroutinePromiseBase&) = delete;
  CoroutinePromiseBase& operator=(const CoroutinePromiseBase&) = delete;
  // Parameters are destroyed after this, which may take a while, and refer to what waits for this coroutine: whoever
  // resumed it tells that it has ended when all of the frame is gone.
  ~CoroutinePromiseBase() {
    if (node_ != nullptr) {
      node_->state = nullptr;
      node_->unlink();
      if (result_.ready()) {
        node_->result_ = std::move(result_);
      } else {
        node_->set(kNoResult);
      }
      if (state_.run != nullptr) {
        state_.run->completed = node_;
        state_.run->outcome = CoroutineRun::Outcome::Ended;
      } else {
        complete(*node_);  // it has never waited, and nobody waits for it yet
      }
    } else if (away_ != nullptr) {
      link_.cut();
      away_->result = result_.ready() ? std::move(result_) : failed<T>(Reason::Cancelled);
      state_.run->answer = [](void* away) noexcept {
        Away* const self = static_cast<Away*>(away);
        self->promise.setTry(std::move(self->result));
        delete self;
      };
      state_.run->away = away_;
      state_.run->outcome = CoroutineRun::Outcome::Answered;
    }
  }

  // Without memory for the frame.
  static Future<T> get_return_object_on_allocation_failure() { return Future<T>(failed<T>(Reason::NoMemory)); }
  static void* operator new(std::size_t size) noexcept { return ::operator new(size, std::nothrow); }
  static void operator delete(void* frame) noexcept { ::operator delete(frame); }

  Future<T> get_return_object() {
    return node_ != nullptr ? Access::future<T>(node_) : Future<T>(failed<T>(Reason::NoMemory));
  }
  // Without memory for the node, the body is left before it begins.
  struct Start {
    bool ready;
    bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<> /*frame*/) const noexcept {}
    void await_resume() const {
      if (!ready) {
        throw std::bad_alloc();
      }
    }
  };
  Start initial_suspend() const noexcept { return Start{node_ != nullptr}; }
  std::suspend_never final_suspend() const noexcept { return {}; }
  void unhandled_exception() {
    std::exception_ptr exception = caughtException();
    if (node_ != nullptr || away_ != nullptr) {
      result_ = Try<T>(std::move(exception));
    }
  }

  template <class U>
  FutureAwaiter<U, false> await_transform(Future<U>&& future,
                                          std::source_location place = std::source_location::current()) {
    return FutureAwaiter<U, false>(started(place), std::move(future), place);
  }
  template <class U>
  FutureAwaiter<U, false> await_transform(SemiFuture<U>&& future,
                                          std::source_location place = std::source_location::current()) {
    return FutureAwaiter<U, false>(started(place), onLoop(std::move(future), state_.loop), place);
  }
  template <class U>
  FutureAwaiter<U, true> await_transform(AsTry<U>&& wrapped,
                                         std::source_location place = std::source_location::current()) {
    return FutureAwaiter<U, true>(started(place), std::move(wrapped.future), place);
  }
  template <class U>
  FutureAwaiter<U, true> await_transform(SemiAsTry<U>&& wrapped,
                                         std::source_location place = std::source_location::current()) {
    return FutureAwaiter<U, true>(started(place), onLoop(std::move(wrapped.future), state_.loop), place);
  }
  TaskAwaiter await_transform(Yield, std::source_location place = std::source_location::current()) {
    return TaskAwaiter(started(place), place);
  }
  TaskAwaiter await_transform(ResumeOn target, std::source_location place = std::source_location::current()) {
    started(place);
    if (!state_.cancelled) {
      LoopCore& loop = loopOf(target.dispatcher);
      if (loop.ended()) {
        return TaskAwaiter(state_, place, failed<void>(Reason::LoopGone));
      }
      leaveFor(loop);
    }
    return TaskAwaiter(state_, place);
  }
  template <class Rep, class Period>
  auto await_transform(std::chrono::duration<Rep, Period> delay,
                       std::source_location place = std::source_location::current()) {
    return FutureAwaiter<void, false>(started(place), sleepOn(state_.loop, inNanoseconds(delay), place), place);
  }

protected:
  Try<T> result_;

private:
  // `place`: the first co_await stands for the coroutine.
  CoroutineState& started(const std::source_location& place) {
    if (!state_.frame) {
      state_.frame = frame();
      if (node_ != nullptr) {
        node_->place_ = place;
      }
    }
    return state_;
  }
  std::coroutine_handle<> frame();

  // From the first time on, the result goes home by a promise.
  void leaveFor(LoopCore& loop) {
    if (node_ != nullptr && node_->loop_ == nullptr) {
      state_.adopt(loop);
      return;
    }
    if (node_ != nullptr) {
      if (node_->loop_ == &loop) {
        state_.setLoop(&loop);
        return;
      }
      auto away = std::make_unique<Away>(node_->place_);
      Access::linkNew(away->promise);
      Future<T> inner = Access::viaLoop(away->promise.semiFuture(), *node_->loop_);
      ResultNode<T>* const answer = Access::takeNode(inner);
      if (answer == nullptr) {
        std::move(inner).detach();
        throw std::bad_alloc();
      }
      away_ = away.release();
      CoroutineNode<T>& home = *std::exchange(node_, nullptr);
      home.state = nullptr;
      home.unlink();
      state_.node = nullptr;
      state_.home = answer;
      attachHere(*answer, home);
    }
    link_.cut();  // it cannot be reached on its way
    state_.setLoop(&loop);
    state_.arrive = [](CoroutineState& state) noexcept {
      std::coroutine_handle<CoroutinePromise<T>>::from_address(state.frame.address()).promise().arrive();
    };
  }
  // On the new thread.
  void arrive() noexcept {
    if (Access::stopped(away_->promise)) {
      state_.cancelled = true;  // on its way
      return;
    }
    const auto stop = [](void* target, const Failure* reason) {
      return static_cast<CoroutineState*>(target)->stop(reason);
    };
    Access::link(away_->promise, link_.connect(*state_.loop, &state_, stop));
  }

  // What brings the result home.
  struct Away {
    explicit Away(const std::source_location& place) : promise(place) {}
    Promise<T> promise;
    Try<T> result;
  };

  CoroutineState state_;
  CoroutineNode<T>* node_;  // null when there is no memory for it, and once the coroutine has left
  Away* away_ = nullptr;    // once it has left its first dispatcher; owned
  CancelLink link_;
};

template <class T>
class CoroutinePromise final : public CoroutinePromiseBase<T> {
public:
  using CoroutinePromiseBase<T>::CoroutinePromiseBase;
  template <class V = T>
  void return_value(V&& value) {
    static_assert(kMakes<T, V&&>,
                  "co_return: this makes no result of the coroutine's Future<T>: return a T, what converts to it "
                  "implicitly, an absl::Status, absl::StatusOr or Try");
    this->result_ = Try<T>(std::forward<V>(value));
  }
};
template <>
class CoroutinePromise<void> final : public CoroutinePromiseBase<void> {
public:
  using CoroutinePromiseBase<void>::CoroutinePromiseBase;
  void return_void() { this->result_ = Try<void>(Unit()); }
};

template <class T>
std::coroutine_handle<> CoroutinePromiseBase<T>::frame() {
  return std::coroutine_handle<CoroutinePromise<T>>::from_promise(static_cast<CoroutinePromise<T>&>(*this));
}

}  // namespace nuncio::future_internal
