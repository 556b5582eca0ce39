#pragma once

#include <bit>
#include <chrono>
#include <cstdint>
#include <source_location>
#include <utility>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/access.h"
#include "nuncio/future/internal/cancel_link.h"
#include "nuncio/future/internal/thread_wait.h"
#include "nuncio/future/promise.h"
#include "nuncio/future/semi_future.h"

// What future.h and continuation.h declare; and with them promises and semi-futures, since they name each other.
namespace nuncio {
namespace future_internal {

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
void Future<T>::cancelPending(const future_internal::Failure* reason) {
  using Pass = future_internal::PassNode<T>;
  Node* const upstream = node();
  const LoopCore::Visit visit(upstream->loop_);
  if (visit.admitted() && upstream->has(future_internal::kDone)) {
    return;
  }
  Pass* pass = nullptr;
  if (!visit.admitted() || reason != nullptr) {
    pass = reason != nullptr
               ? future_internal::makeNode<Pass>(nullptr, upstream->loop_, upstream->place_, reason, false)
               : future_internal::makeNode<Pass>(nullptr, upstream->loop_, upstream->place_);
  }
  if (visit.admitted()) {
    if (pass != nullptr) {
      future_internal::attachHere(*upstream, *pass);
      node_or_place_ = static_cast<Node*>(pass);
    }
    future_internal::cancelNode(node(), reason);  // this may be gone then
  } else if (pass != nullptr) {
    pass->set(future_internal::kCancelled);
    if (future_internal::attach(*upstream, *pass)) {
      node_or_place_ = static_cast<Node*>(pass);
    } else {
      pass->free();
    }
  }
}

template <class T>
void Future<T>::takeForFunction() {
  if (!pending()) {
    return;
  }
  LoopCore* const loop = node()->loop_;
  if (loop != nullptr && loop->onLoopThread()) [[likely]] {
    if (node()->has(future_internal::kDone) &&
        (!future_internal::givesBack(*node()) || future_internal::InPlace::allowed(loop))) {
      takeFromNode();
    }
  } else {
    takeElsewhere();
  }
}

template <class T>
bool Future<T>::doneHere() const {
  if (!pending()) {
    return false;
  }
  const LoopCore::Visit visit(node()->loop_);
  return visit.admitted() && node()->has(future_internal::kDone);
}

template <class T>
void Future<T>::takeIfDone() {
  if (!pending()) {
    return;
  }
  const LoopCore* const loop = node()->loop_;
  if (loop != nullptr && loop->onLoopThread()) [[likely]] {
    if (node()->has(future_internal::kDone)) {
      takeFromNode();
    }
  } else {
    takeElsewhere();
  }
}

template <class T>
void Future<T>::takeElsewhere() {
  const LoopCore::Visit visit(node()->loop_);
  if (visit.admitted() && node()->has(future_internal::kDone)) {
    takeFromNode();
  }
}

template <class T>
void Future<T>::takeFromNode() {
  Node& done = *takeNode();  // moving the result may run functions of users: meanwhile this is no future
  const std::source_location made = done.place_;
  loop_ = done.loop_;
  if (loop_ != nullptr) {
    loop_->retain();
  }
  result_ = future_internal::takeResult(done);
  node_or_place_ = std::bit_cast<void*>(made);
}

template <class T>
template <class Op>
inline Future<typename Op::Result> Future<T>::chain(Op op, std::source_location place) {
  if (result_.ready()) [[likely]] {
    if (future_internal::InPlace::allowed(loop_)) [[likely]] {
      return runInPlace(op, place);
    }
  }
  Future self(std::move(*this));
  Future<typename Op::Result> later = self.chainLater(std::move(op), place);
  return Future<typename Op::Result>(std::move(later));  // moved, since the callee knows the address of `later`
}

template <class T>
template <class Op>
inline Future<typename Op::Result> Future<T>::runInPlace(Op& op, std::source_location place) {
  using U = typename Op::Result;
  if constexpr (Op::kReturnsFuture) {
    future_internal::InPlaceOut<U> out(std::exchange(loop_, nullptr), place);
    op.applyTo(takeReady(), out);
    return std::move(out).take();
  } else {
    LoopCore* const loop = std::exchange(loop_, nullptr);  // first: op may destroy this
    try {
      return Future<U>(op.apply(takeReady()), loop, place);
    } catch (...) {  // the thread ends in it
      if (loop != nullptr) {
        loop->release();
      }
      throw;
    }
  }
}

template <class T>
Try<T> Future<T>::getLater() {
  takeIfDone();
  if (result_.ready()) {
    releaseLoop();
    return takeReady();
  }
  if (pending() && node()->loop_->onLoopThread()) {
    return future_internal::failed<T>(Reason::OnLoop);
  }
  return std::move(*this).semi().get();
}

template <class T>
template <class Op>
Future<typename Op::Result> Future<T>::chainLater(Op op, std::source_location place) {
  using U = typename Op::Result;
  const bool asked = result_.ready();  // whether it may run in place: it may not
  takeForFunction();
  if (result_.ready()) {
    if (loop_ == nullptr && LoopCore::current() != nullptr) {  // so that it has to wait its turn
      loop_ = LoopCore::current();
      loop_->retain();
    }
    if (!asked && future_internal::InPlace::allowed(loop_)) {
      return runInPlace(op, place);
    }
  }
  const bool was_ready = result_.ready();
  if (!toNode()) {
    return failure<U>(was_ready ? Reason::NoMemory : Reason::Invalid, place);
  }
  if (!Op::kRunsWhenCancelled && node()->loop_->ended()) {
    return failure<U>(Reason::LoopGone, place);
  }
  future_internal::ResultNode<U>* const next = future_internal::makeContinuation<T>(*node(), place, std::move(op));
  if (next == nullptr) {
    return failure<U>(Reason::NoMemory, place);
  }
  if (!future_internal::attach(*node(), *next)) {
    next->free();
    return failure<U>(Reason::NoMemory, place);
  }
  takeNode();
  return Future<U>(next);
}

template <class T>
template <class U>
Future<U> Future<T>::failure(Reason reason, const std::source_location& place) {
  drop(true);
  return Future<U>(future_internal::failed<U>(reason), place);
}

template <class T>
bool Future<T>::toNode() {
  if (result_.ready()) {
    using Ready = future_internal::ReadyNode<T>;
    Node* const node = future_internal::makeNode<Ready>(nullptr, loop_, place(), std::move(result_));
    if (node == nullptr) {
      return false;
    }
    result_.reset();
    node_or_place_ = node;
    releaseLoop();
  }
  return node_or_place_ != nullptr;
}

template <class T>
Future<T> Future<T>::viaLoop(LoopCore& loop, const std::source_location& place) && {
  if (pending() && node()->loop_ == &loop) {  // also when it is done: nobody has looked at its result
    return std::move(*this);
  }
  takeIfDone();
  if (result_.ready()) {
    loop.retain();
    releaseLoop();
    loop_ = &loop;
    return std::move(*this);
  }
  if (!pending()) {
    return std::move(*this);
  }
  return std::move(*this).semi(place).viaLoop(loop);
}

template <class T>
inline void Future<T>::drop(bool quiet) {
  void* const rest = result_.hasValue() ? nullptr : node_or_place_;
  node_or_place_ = nullptr;
  if (rest != nullptr || loop_ != nullptr) [[unlikely]] {
    future_internal::dropParts(result_.takeFailure(), rest, std::exchange(loop_, nullptr), quiet);
  }
  result_.reset();
}

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
  using Op = future_internal::SettlePromise<T>;
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
