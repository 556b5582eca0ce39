#pragma once

#include <chrono>
#include <source_location>
#include <utility>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/origin.h"

// What future.h declares and needs promises and semi-futures for.
namespace nuncio {
namespace future_internal {

// Hands a result to the promise of a SemiFuture.
template <class T>
struct Fulfil {
  using Result = void;
  static constexpr bool kReturnsFuture = false;
  static constexpr bool kRunsWhenCancelled = true;
  static constexpr const char* kKind = "semi";

  Try<void> apply(Try<T>&& input) noexcept {
    promise.setTry(std::move(input));
    return Try<void>(Unit());
  }

  Promise<T> promise;
  CancelLink link;
};

// For the combinators and coroutines: what only friends may.
struct Access {
  template <class T>
  static TaskQueue* loop(const Future<T>& future) {
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
  static void settle(Future<T>& future) {
    future.settle();
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
  static Future<T> viaLoop(Future<T>&& future, TaskQueue& loop) {
    return std::move(future).viaLoop(loop, std::source_location());
  }
  template <class T>
  static Future<T> viaLoop(SemiFuture<T>&& future, TaskQueue& loop) {
    return std::move(future).viaLoop(loop);
  }
  template <class T>
  static void onCancel(Promise<T>& promise, OriginBase::CancelHandler* handler) {
    if (Origin<T>* const origin = promise.open(); origin != nullptr) {
      origin->onCancel(handler);
    } else {
      delete handler;
    }
  }
};

// Done after `delay`. A null `loop`: failed.
Future<void> sleepOn(TaskQueue* loop, std::chrono::nanoseconds delay, const std::source_location& place);

// A future on `loop`; where that is null, one without a loop, or on that of this thread.
template <class T>
Future<T> onLoop(Future<T>&& inner, TaskQueue* loop) {
  return loop != nullptr ? Access::viaLoop(std::move(inner), *loop) : std::move(inner);
}
template <class T>
Future<T> onLoop(SemiFuture<T>&& inner, TaskQueue* loop) {
  if (loop == nullptr) {
    loop = TaskQueue::current();
  }
  if (loop == nullptr) {
    return inner.isReady() ? Future<T>(std::move(inner).get()) : Future<T>(failed<T>(Reason::NoDispatcher));
  }
  return Access::viaLoop(std::move(inner), *loop);
}

template <class T, class Op>
template <class AnyFuture>
void Stage<T, Op>::future(AnyFuture&& inner) noexcept {
  Future<U> here = future_internal::onLoop(std::forward<AnyFuture>(inner), this->loop_);
  Access::settle(here);
  if (here.isReady() || !here.valid()) {
    this->result_ = here.valid() ? Access::takeResult(here) : failed<U>(Reason::Invalid);
  } else {
    inner_ = Access::takeNode(here);
  }
}
template <class T, class Op>
template <class AnyFuture>
auto Stage<T, Op>::onLoop(AnyFuture&& inner) noexcept {
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
  settle();
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
  settle();
  if (!pending()) {
    releaseLoop();
    promise.setTry(result_.ready() ? takeReady() : future_internal::failed<T>(Reason::Invalid));
    return;
  }
  using Op = future_internal::Fulfil<T>;
  using Stage = future_internal::Stage<T, Op>;
  TaskQueue* const loop = node()->loop_;
  Op op{std::move(promise), future_internal::CancelLink()};
  Stage* const stage = future_internal::makeNode<Stage>(node(), loop, node()->place_, std::move(op));
  if (stage == nullptr) {
    // NOLINTNEXTLINE(bugprone-use-after-move): without memory nothing has been moved
    op.promise.setTry(future_internal::failed<T>(Reason::NoMemory));
    drop(true);
    return;
  }
  stage->set(future_internal::kDropped);  // before a cancel can come
  const auto cancel = [](void* target) { future_internal::cancelNode(static_cast<Stage*>(target)); };
  future_internal::Access::onCancel(stage->op().promise, stage->op().link.connect(*loop, stage, cancel));
  if (!future_internal::attach(*node(), *stage)) {
    stage->op().promise.setTry(future_internal::failed<T>(Reason::LoopGone));
    stage->free();
    drop(true);
    return;
  }
  takeNode();
}

template <class T>
template <class S>
S Future<T>::wait(std::chrono::nanoseconds timeout) {
  if (isReady()) {
    return S();
  }
  if (!pending() || TaskQueue::current() != nullptr || node()->loop_->onLoopThread()) {
    S status;
    future_internal::assignWaitStatus(
        pending() ? future_internal::WaitResult::OnLoop : future_internal::WaitResult::Invalid, &status);
    return status;
  }
  TaskQueue& loop = *node()->loop_;
  loop.retain();
  SemiFuture<T> semi = std::move(*this).semi();
  S status = semi.wait(timeout);
  *this = std::move(semi).viaLoop(loop);
  loop.release();
  return status;
}

}  // namespace nuncio
