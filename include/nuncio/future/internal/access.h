#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <source_location>
#include <utility>

#include "nuncio/future/internal/cancel_link.h"
#include "nuncio/future/internal/operations.h"
#include "nuncio/future/internal/promise_core.h"

// What combinators and coroutines may do with futures, and users may not. A part of future.h.
namespace nuncio {

template <class T>
class Promise;

namespace future_internal {

// Hands a result to the promise of a SemiFuture.
template <class T>
struct SettlePromise {
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
  // Whether it is pending on `loop`, and that is this thread's.
  template <class T>
  static bool waitsHere(const Future<T>& future, const LoopCore* loop) {
    return loop != nullptr && loop->onLoopThread() && future.pending() && future.node()->loop_ == loop &&
           !future.node()->has(kDone);
  }
  template <class T>
  static Try<T> takeResult(Future<T>& future) {
    return future.takeReady();
  }
  // Of one that is no future.
  template <class T>
  static void makeReady(Future<T>& future, Stored<T>&& value) noexcept {
    std::construct_at(&future.result_, std::move(value));
  }
  // Null when it has none.
  template <class T>
  static Stored<T>* readyValue(Future<T>& future) noexcept {
    return future.result_.hasValue() ? std::addressof(*future.result_) : nullptr;
  }
  template <class T>
  static Future<T> future(ResultNode<T>* node) {
    return Future<T>(node);
  }
  // Of a core whose future has been taken.
  template <class T>
  static Promise<T> promise(PromiseCore<T>* core) {
    return Promise<T>(core);
  }
  template <class T>
  static Future<T> viaLoop(Future<T>&& future, LoopCore& loop) {
    return std::move(future).viaLoop(loop, std::source_location());
  }
  template <class T>
  static Future<T> viaLoop(SemiFuture<T>&& future, LoopCore& loop) {
    return std::move(future).viaLoop(loop);
  }
  // What `f` returns, which runs as a task of `loop`, whose thread this is.
  template <class F>
  static auto thenLater(LoopCore& loop, F&& f, const std::source_location& place) {
    loop.retain();
    Future<void> ready(Try<void>(Unit()), &loop, place);
    return ready.chainLater(Then<void, std::decay_t<F>>{std::forward<F>(f)}, place);
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
Node* SettlePromise<T>::consumer() const noexcept {
  return Access::boundNode(promise);
}

// The future of the promise of `core`, which has none yet, on `loop`, whose thread this is not.
template <class T>
[[gnu::noinline]] Future<T> boundElsewhere(PromiseCore<T>& core, LoopCore& loop) {
  if (core.bindElsewhere(loop)) {
    return Access::future<T>(&core);
  }
  const std::source_location place = core.place_;
  core.stopUnbound(nullptr);
  core.dropUnbound(/*quiet=*/true);
  return Future<T>(failed<T>(Reason::NoMemory), place);
}
// The same, any thread. `shared`: see bindHere().
template <class T>
[[gnu::always_inline]] inline Future<T> bound(PromiseCore<T>& core, LoopCore& loop, bool shared) {
  if (!loop.onLoopThread()) [[unlikely]] {
    return boundElsewhere(core, loop);
  }
  core.bindHere(core, loop, shared);
  return Access::future<T>(&core);
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

}  // namespace future_internal
}  // namespace nuncio
