#pragma once

#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/event/internal/loop_core.h"
#include "nuncio/future/future.h"

// What combinators and primitives share; for the headers beside this one.
namespace nuncio::future_internal {

// Runs `node`, which has only been made, as a task: at once on its loop's thread, or else by way of that.
inline void startNode(Node& node) noexcept {
  if (node.loop_->onLoopThread()) {
    node.runTask();
  } else {
    node.set(kQueued | kDelivered);
    node.loop_->deliver(node);
  }
}

// A ready future of `loop`, which may be null.
template <class T>
Future<T> readyOn(LoopCore* loop, Try<T>&& result, const std::source_location& place) {
  Future<T> ready(std::move(result), place);
  return loop != nullptr ? Access::viaLoop(std::move(ready), *loop) : std::move(ready);
}

template <class T>
Future<T> readyOn(LoopCore& loop, Try<T>&& result, const std::source_location& place) {
  return readyOn(&loop, std::move(result), place);
}

// The result of a future that is ready, or no future.
template <class T>
Try<T> takeReady(Future<T>& future) {
  return future.valid() ? Access::takeResult(future) : failed<T>(Reason::Invalid);
}

// Nobody wants it any more.
template <class T>
void letGo(Future<T>& future) {
  future.cancel();
  std::move(future).detach();
}

// Calls `f`, which may return anything that then() allows, as a future of `loop`. Throws nothing, but for what unwinds
// a thread that ends in f.
template <class F, class... Args>
auto callOn(LoopCore& loop, const std::source_location& place, F& f, Args&&... args)
    -> Future<ResultOf<std::invoke_result_t<F&, Args...>>> {
  using U = ResultOf<std::invoke_result_t<F&, Args...>>;
  if constexpr (kFutureFrom<F, Args...>) {
    loop.retain();
    InPlaceOut<U> out(&loop, place);
    callForFuture<U>(out, f, std::forward<Args>(args)...);
    return std::move(out).take();
  } else {
    return readyOn(&loop, callInto<U>(f, std::forward<Args>(args)...), place);
  }
}

// Whether this thread is in a run of `loop`, so that a function that belongs there may be called.
inline bool runsHere(const LoopCore& loop) { return LoopCore::current() == &loop && loop.onLoopThread(); }

// Whether a coroutine that has not waited for a while may go on in place; it yields otherwise.
inline bool mayGoOn(LoopCore& loop) { return InPlace::allowed(&loop); }

}  // namespace nuncio::future_internal
