#pragma once

#include <memory>
#include <new>
#include <source_location>
#include <utility>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/shared_state.h"

namespace nuncio {

// SharedFuture: a result for any number of consumers. Each gets a future of its own, with a copy.
//
//   SharedFuture<Config> config = share(load(dispatcher));
//   config.future().then([](Config c) { ... }).detach();            // on the dispatcher of the future that was shared
//   config.via(worker).then([](Config c) { ... }).detach();         // on another's
//
// Copies share the result. Cancelling a consumer's future does not concern the others, nor what the result comes from,
// even when it was the last one's; cancel() stops that, and all consumers' futures fail with Cancelled. Destroying all
// copies stops nothing: consumers that wait still get the result. A failure that no consumer ever saw is logged as a
// dropped future's is.
//
// T can be copied; an exception from that is the consumer's result. Threads: any, also the same object by several at a
// time, except for assigning to it. Lifetime: any. Cost: one allocation, and a promise for each consumer that waits.
template <class T>
class SharedFuture {
  using State = future_internal::SharedState<T>;

public:
  using ValueType = T;

  SharedFuture() = default;  // no future: consumers get FailedPrecondition
  // Without memory: no future, and consumers get ResourceExhausted.
  explicit SharedFuture(Future<T>&& future, std::source_location place = std::source_location::current()) {
    if (!future.valid()) {
      return;
    }
    try {
      state_ = std::make_shared<State>(future_internal::Access::loop(future), place);
    } catch (const std::bad_alloc&) {
      why_invalid_ = future_internal::Reason::NoMemory;
      std::move(future).detach();
      return;
    }
    if (future.isReady()) {
      future_internal::Access::takeIfDone(future);
      state_->settle(future_internal::Access::takeResult(future));
      return;
    }
    state_->setSource(std::move(future).then(future_internal::SharedResult<T>(state_), place));
  }

  bool valid() const { return state_ != nullptr; }
  // Whether the result is there.
  bool isReady() const { return state_ != nullptr && state_->ready(); }
  // Only when it is ready.
  const Try<T>& result() const { return state_->result(); }

  // A copy of the result, on the dispatcher of the future that was shared; on another; for a thread to wait for.
  Future<T> future(std::source_location place = std::source_location::current()) const {
    LoopCore* const loop = state_ != nullptr ? state_->loop() : nullptr;
    return future_internal::onLoop(semiFuture(place), loop);
  }
  Future<T> via(Dispatcher& dispatcher, std::source_location place = std::source_location::current()) const {
    return semiFuture(place).via(dispatcher);
  }
  SemiFuture<T> semiFuture(std::source_location place = std::source_location::current()) const {
    if (state_ == nullptr) {
      return SemiFuture<T>(future_internal::failed<T>(why_invalid_), place);
    }
    return state_->get(place);
  }

  // Asks what the result comes from to stop.
  void cancel() const {
    if (state_ != nullptr) {
      state_->cancel();
    }
  }

private:
  std::shared_ptr<State> state_;  // shared by the copies, and by the continuation that will bring the result
  future_internal::Reason why_invalid_ = future_internal::Reason::Invalid;
};

template <class T>
SharedFuture<T> share(Future<T>&& future, std::source_location place = std::source_location::current()) {
  return SharedFuture<T>(std::move(future), place);
}

}  // namespace nuncio
