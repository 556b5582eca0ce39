#pragma once

#include <chrono>
#include <cstdint>
#include <source_location>
#include <utility>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/cancel_link.h"
#include "nuncio/future/internal/promise_core.h"
#include "nuncio/future/internal/thread_wait.h"

// What future.h declares and needs promises and semi-futures for.
namespace nuncio {
namespace future_internal {

// Hands a result to the promise of a SemiFuture.
template <class T>
struct Fulfil {
  using Result = void;
  static constexpr bool kReturnsFuture = false;
  static constexpr bool kRunsWhenCancelled = true;
  static constexpr const char* kKind = "forwardTo";

  Try<void> apply(Try<T>&& input) noexcept {
    promise.setTry(std::move(input));
    return Try<void>(Unit());
  }

  Node* consumer() const noexcept;

  Promise<T> promise;
  CancelLink link;
};

// For the combinators and coroutines: what only friends may.
struct Access {
  template <class T>
  static LoopCore* loop(const Future<T>& future) {
    return future.pending() ? future.node()->loop_ : future.loop_;
  }
  // Null when it is ready, or no future.
  template <class T>
  static ResultNode<T>* node(const Future<T>& future) {
    return future.pending() ? future.node() : nullptr;
  }
  template <class T>
  static ResultNode<T>* takeNode(Future<T>& future) {
    return future.pending() ? future.takeNode() : nullptr;
  }
  // Takes the result of a node that is done, on the loop's thread.
  template <class T>
  static void takeIfDone(Future<T>& future) {
    future.takeIfDone();
  }
  template <class T>
  static Try<T> takeResult(Future<T>& future) {
    return future.takeReady();
  }
  template <class T>
  static Future<T> future(ResultNode<T>* node) {
    return Future<T>(node);
  }
  template <class T>
  static Future<T> viaLoop(Future<T>&& future, LoopCore& loop) {
    return std::move(future).viaLoop(loop, std::source_location());
  }
  template <class T>
  static Future<T> viaLoop(SemiFuture<T>&& future, LoopCore& loop) {
    return std::move(future).viaLoop(loop);
  }
  // Whether the promise's future was cancelled.
  template <class T>
  static bool stopped(const Promise<T>& promise) {
    const PromiseCore<T>* const core = promise.unsettled();
    return core == nullptr || core->seen().stopped();
  }
  // Settled, or moved from.
  template <class T>
  static bool spent(const Promise<T>& promise) {
    return promise.unsettled() == nullptr;
  }
  // The node of the promise's future, when that is bound.
  template <class T>
  static Node* boundNode(const Promise<T>& promise) {
    PromiseCore<T>* const core = promise.unsettled();
    return core != nullptr ? core->boundNode() : nullptr;
  }
  // From now on the promise's future waits for the answer also when it is cancelled; `handler` asks for that, and runs
  // no function of users. It may be null.
  template <class T>
  static void link(Promise<T>& promise, PromiseCoreBase::CancelHandler* handler) {
    if (PromiseCore<T>* const core = promise.unsettled(); core != nullptr) {
      core->link();
      if (handler != nullptr) {
        core->onCancel(handler);
      }
    } else {
      delete handler;
    }
  }
  // The same without a handler, for a promise whose future nobody else has yet.
  template <class T>
  static void linkNew(Promise<T>& promise) {
    if (PromiseCore<T>* const core = promise.unsettled(); core != nullptr) {
      core->linkNew();
    }
  }
};

// Whether the future is done on `loop`, whose thread this is, with a value that goes back when nobody looks at it: then
// it stays where it is for as long as that can be.
template <class T>
bool holdsItem(const Future<T>& future, const LoopCore* loop) {
  const Node* const node = Access::node(future);
  return loop != nullptr && node != nullptr && node->loop_ == loop && loop->onLoopThread() && node->has(kDone) &&
         givesBack(*node);
}

template <class T>
Node* Fulfil<T>::consumer() const noexcept {
  return Access::boundNode(promise);
}

// The future of the promise of `core`, which has none yet, on `loop`. `shared`: see bind().
template <class T>
[[gnu::always_inline]] inline Future<T> bound(PromiseCore<T>& core, LoopCore& loop, bool shared) {
  if (core.bind(loop, shared)) [[likely]] {
    return Access::future<T>(&core);
  }
  const std::source_location place = core.place_;
  core.stopUnbound(nullptr);
  core.dropUnbound(/*quiet=*/true);
  return Future<T>(failed<T>(Reason::NoMemory), place);
}

// Asks `future` to stop, and gives `failure` (whose reference it takes) when that has ended.
template <class T>
Future<T> endWith(Future<T>&& future, Failure* failure, const std::source_location& place) {
  Access::takeIfDone(future);
  ResultNode<T>* const upstream = Access::node(future);
  PassNode<T>* const pass =
      upstream != nullptr ? makeNode<PassNode<T>>(nullptr, upstream->loop_, place, failure, true) : nullptr;
  if (pass != nullptr) {
    pass->set(kCancelled | kEnding);
    if (attach(*upstream, *pass)) {
      Access::takeNode(future);
      if (pass->loop_->onLoopThread()) {
        cancelNode(upstream);
      }
      releaseFailure(failure);
      return Access::future<T>(pass);
    }
    pass->free();
  }
  future.cancel();
  std::move(future).detach();
  return Future<T>(Try<T>::fromFailure(failure), place);
}

// Done after `delay`. A null `loop`: failed.
Future<void> sleepOn(LoopCore* loop, std::chrono::nanoseconds delay, const std::source_location& place);

// A future on `loop`; where that is null, one without a loop, or on that of this thread.
template <class T>
Future<T> onLoop(Future<T>&& inner, LoopCore* loop) {
  return loop != nullptr ? Access::viaLoop(std::move(inner), *loop) : std::move(inner);
}
template <class T>
Future<T> onLoop(SemiFuture<T>&& inner, LoopCore* loop) {
  if (loop == nullptr) {
    loop = LoopCore::current();
  }
  if (loop == nullptr) {
    return inner.isReady() ? Future<T>(std::move(inner).get()) : Future<T>(failed<T>(Reason::NoDispatcher));
  }
  return Access::viaLoop(std::move(inner), *loop);
}

template <class T, class Op>
template <class AnyFuture>
void Continuation<T, Op>::future(AnyFuture&& inner) noexcept {
  Future<U> here = future_internal::onLoop(std::forward<AnyFuture>(inner), this->loop_);
  if (holdsItem(here, this->loop_)) {
    inner_ = Access::takeNode(here);
    return;
  }
  Access::takeIfDone(here);
  if (here.isReady() || !here.valid()) {
    this->result_ = here.valid() ? Access::takeResult(here) : failed<U>(Reason::Invalid);
  } else {
    inner_ = Access::takeNode(here);
  }
}
template <class T, class Op>
template <class AnyFuture>
auto Continuation<T, Op>::onLoop(AnyFuture&& inner) noexcept {
  return future_internal::onLoop(std::forward<AnyFuture>(inner), this->loop_);
}

template <class U>
void InPlaceOut<U>::result(Try<U>&& result) noexcept {
  future_ = Future<U>(std::move(result), std::exchange(loop_, nullptr), place_);
}
template <class U>
template <class AnyFuture>
void InPlaceOut<U>::future(AnyFuture&& inner) noexcept {
  future_ = future_internal::onLoop(std::forward<AnyFuture>(inner), loop_);
  if (loop_ != nullptr) {
    std::exchange(loop_, nullptr)->release();
  }
}
template <class U>
template <class AnyFuture>
auto InPlaceOut<U>::onLoop(AnyFuture&& inner) noexcept {
  return future_internal::onLoop(std::forward<AnyFuture>(inner), loop_);
}

}  // namespace future_internal

template <class T>
SemiFuture<T> Future<T>::semi(std::source_location place) && {
  takeIfDone();
  if (result_.ready()) {
    releaseLoop();
    const std::source_location made = this->place();
    return SemiFuture<T>(takeReady(), made);
  }
  if (!pending()) {
    return SemiFuture<T>();
  }
  Promise<T> promise(place);
  SemiFuture<T> semi = promise.semiFuture();
  std::move(*this).forwardTo(std::move(promise));
  return semi;
}

template <class T>
void Future<T>::forwardTo(Promise<T>&& promise) && {
  takeIfDone();
  if (!pending()) {
    releaseLoop();
    promise.setTry(result_.ready() ? takeReady() : future_internal::failed<T>(Reason::Invalid));
    return;
  }
  using future_internal::Access;
  using Op = future_internal::Fulfil<T>;
  using Forward = future_internal::Continuation<T, Op>;
  LoopCore* const loop = node()->loop_;
  Op op{std::move(promise), future_internal::CancelLink()};
  Forward* const forward = future_internal::makeNode<Forward>(node(), loop, node()->place_, std::move(op));
  if (forward == nullptr) {
    // NOLINTNEXTLINE(bugprone-use-after-move): without memory nothing has been moved
    op.promise.setTry(future_internal::failed<T>(Reason::NoMemory));
    drop(true);
    return;
  }
  forward->set(future_internal::kDropped);  // before a cancel can come
  const auto stop = [](void* target, const future_internal::Failure*) {
    return static_cast<future_internal::Node*>(static_cast<Forward*>(target));
  };
  Access::link(forward->op().promise, forward->op().link.connect(*loop, forward, stop));
  if (!future_internal::attach(*node(), *forward)) {
    forward->op().promise.setTry(future_internal::failed<T>(Reason::NoMemory));
    forward->free();
    drop(true);
    return;
  }
  takeNode();
}

template <class T>
template <class S>
S Future<T>::wait(std::chrono::nanoseconds timeout) {
  using future_internal::WaitResult;
  const WaitResult result = waitFor(timeout.count() < 0 ? 0 : timeout.count());
  S status;
  future_internal::assignWaitStatus(result, &status);
  return status;
}

template <class T>
future_internal::WaitResult Future<T>::waitFor(int64_t nanoseconds) {
  using future_internal::WaitResult;
  using Waiter = future_internal::ThreadWaitNode<T>;
  if (isReady()) {
    return WaitResult::Ready;
  }
  if (!pending()) {
    return WaitResult::Invalid;
  }
  LoopCore& loop = *node()->loop_;
  if (LoopCore::current() != nullptr || loop.onLoopThread()) {
    return WaitResult::OnLoop;
  }
  auto* waiter = static_cast<Waiter*>(node()->threadWait());
  if (waiter == nullptr) {
    waiter = future_internal::makeNode<Waiter>(nullptr, &loop, node()->place_);
    if (waiter == nullptr || !future_internal::attach(*node(), *waiter)) {
      if (waiter != nullptr) {
        waiter->free();
      }
      return WaitResult::NoMemory;
    }
    node_or_place_ = static_cast<Node*>(waiter);
  }
  if (!waiter->wait(nanoseconds)) {
    return WaitResult::Timeout;
  }
  takeFromNode();
  return WaitResult::Ready;
}

}  // namespace nuncio
