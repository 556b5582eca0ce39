#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/future/call.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/promise.h"
#include "nuncio/future/submit.h"
#include "nuncio/runtime/sharded.h"

namespace nuncio {
namespace runtime_internal {

// The first failure, if any.
template <class U>
Try<void> firstFailure(std::vector<Try<U>>& results) {
  for (Try<U>& result : results) {
    if (result.failed()) {
      return Try<void>::failureOf(std::move(result));
    }
  }
  return Try<void>(Unit());
}

}  // namespace runtime_internal

// What other threads know of it, and what is under way there: it lives as long as any of that.
template <class T>
struct Sharded<T>::Core final : runtime_internal::Stoppable, std::enable_shared_from_this<Core> {
  ~Core() override { destroyOrLeak(std::move(shards)); }
  static void destroyOrLeak(Shards all) {
    for (std::unique_ptr<Shard>& shard : all) {
      if (shard->object != nullptr && !shard->loop->ended()) {  // of a worker that was left behind, and may be in it
        static_cast<void>(shard.release());
      }
    }
  }

  Future<void> stop(std::source_location place) override;
  std::string name() const override { return runtime_internal::nameOfTemplate("Sharded", __PRETTY_FUNCTION__); }
  void abandon() override { abandoned.store(true, std::memory_order_release); }
  void destroyRest() override {
    for (std::size_t i = shards.size(); i-- > 0;) {
      if (shards[i]->loop->ended()) {
        shards[i]->object.reset();
        shards[i]->gate.reset();
      }
    }
  }

  // Of workers that are there, which there was no memory to ask, or which were given up. When all have answered.
  bool anyLeft() const {
    return std::any_of(shards.begin(), shards.end(), [](const std::unique_ptr<Shard>& shard) {
      return shard->object != nullptr && future_internal::alive(shard->dispatcher);
    });
  }

  template <class Make>
  static Future<void> startAll(std::shared_ptr<Core> core, Make make, std::source_location place);
  template <class Make>
  Future<void> startHere(Shard& shard, std::size_t index, Make& make);
  static Future<void> stopAll(std::shared_ptr<Core> core);
  static Future<void> stopHere(std::shared_ptr<Core> core, std::size_t index);
  // Calls `f`, which returns a future, on a thread that runs a dispatcher: on this, or on worker 0's.
  template <class F>
  auto onSomeLoop(F f, const std::source_location& place);

  Shards shards;
  std::shared_ptr<runtime_internal::Stoppables> of_pool;  // with this, while it is started
  // Released and acquired: by who starts and stops, and by the loop that does so for a thread that has none.
  std::atomic<bool> started{false};  // and stop() is not done
  std::atomic<bool> stopping{false};
  std::atomic<bool> abandoned{false};  // no worker is asked to stop any more; released by who drains
  std::atomic<bool> open{false};       // for calls; released when all are there
  SharedFuture<void> stopped;
  runtime_internal::LocalSlot slot;
};

// A function of users that is called with the object of a worker, on its thread.
template <class T>
template <class F>
class Sharded<T>::OnShard {
  using R = std::invoke_result_t<F&, T&>;
  using U = ResultOf<F>;
  static constexpr bool kReturnsFuture = future_internal::Flatten<std::remove_cvref_t<R>>::kIsFuture;

public:
  using CallsFunction = F;

  OnShard(Shard& shard, F f) : shard_(&shard), f_(std::move(f)) {}

  auto operator()() {
    const bool open = shard_->object != nullptr && !shard_->gate->closed();
    if constexpr (kReturnsFuture) {
      if (!open) {
        return Future<U>(future_internal::failed<U>(future_internal::Reason::Cancelled));
      }
      return shard_->gate->with([this] { return f_(*shard_->object); });
    } else {
      return open ? future_internal::callInto<U>(f_, *shard_->object)
                  : future_internal::failed<U>(future_internal::Reason::Cancelled);
    }
  }

private:
  Shard* shard_;
  F f_;
};

template <class T>
template <class F>
auto Sharded<T>::Core::onSomeLoop(F f, const std::source_location& place) {
  Dispatcher& worker = shards[0]->dispatcher;
  if (LoopCore::current() != nullptr || !future_internal::alive(worker)) {  // then nothing is to be waited for
    return f();
  }
  return submit(worker, std::move(f), place).via(worker);
}

template <class T>
template <class Make>
Future<void> Sharded<T>::start(WorkerPool& pool, Make make, std::source_location place) {
  Core& core = *core_;
  if (core.started.load(std::memory_order_acquire)) {
    return makeFailedFuture<void>(
        absl::FailedPreconditionError("Sharded::start: it has been started; stop() it, and wait for that, first"),
        place);
  }
  Shards shards;
  for (std::size_t i = 0; i < pool.size(); ++i) {
    shards.push_back(std::make_unique<Shard>(pool.dispatcher(i)));
  }
  std::shared_ptr<runtime_internal::Stoppables> of_pool = pool.stoppables();
  if (!of_pool->add(core_)) {
    return makeFailedFuture<void>(absl::FailedPreconditionError("Sharded::start: the pool is being drained"), place);
  }
  Core::destroyOrLeak(std::exchange(core.shards, std::move(shards)));
  core.of_pool = std::move(of_pool);
  core.stopped = {};
  core.abandoned.store(false, std::memory_order_release);
  core.stopping.store(false, std::memory_order_release);
  core.started.store(true, std::memory_order_release);
  return core.onSomeLoop([core = core_, make = std::move(make),
                          place]() mutable { return Core::startAll(std::move(core), std::move(make), place); },
                         place);
}

// The workers use `make`, in the frame, which stays until all of them have answered.
template <class T>
template <class Make>
Future<void> Sharded<T>::Core::startAll(std::shared_ptr<Core> core, Make make, std::source_location place) {
  std::vector<Future<void>> starts;
  starts.reserve(core->shards.size());
  for (std::size_t i = 0; i < core->shards.size(); ++i) {
    Shard& shard = *core->shards[i];
    starts.push_back(
        nuncio::call(shard.dispatcher, [&core, &shard, i, &make] { return core->startHere(shard, i, make); }));
  }
  std::vector<Try<void>> results = co_await collectAll(std::move(starts));
  Try<void> failure = runtime_internal::firstFailure(results);
  if (core->stopping.load(std::memory_order_acquire)) {
    failure = future_internal::failed<void>(future_internal::Reason::Cancelled);
  } else if (failure.failed()) {
    Future<void> stopped = core->stop(place);
    static_cast<void>(co_await asTry(std::move(stopped)));  // the first failure is the result
  }
  if (failure.failed()) {
    co_await Future<void>(std::move(failure));
  }
  core->open.store(true, std::memory_order_release);
}

template <class T>
template <class Make>
Future<void> Sharded<T>::Core::startHere(Shard& shard, std::size_t index, Make& make) {
  return makeReadyFuture()
      .then([&] { return make(shard.dispatcher, index); })
      .then([this, &shard](std::unique_ptr<T> made) -> absl::Status {
        if (made == nullptr) {
          return absl::InvalidArgumentError(
              absl::StrCat("Sharded::start: make returned null on ", shard.dispatcher.name()));
        }
        if (shard.stopped) {
          return absl::CancelledError("Sharded::start: stop() was called meanwhile");
        }
        shard.gate.emplace(shard.dispatcher);
        slot.set(made.get());
        shard.object = std::move(made);
        return absl::OkStatus();
      });
}

template <class T>
Future<void> Sharded<T>::Core::stop(std::source_location place) {
  open.store(false, std::memory_order_release);
  if (!started.load(std::memory_order_acquire)) {
    return makeReadyFuture(place);
  }
  // One whose loop was shut down in the midst of it, or that lacked memory, has not stopped.
  if (!stopped.valid() || (stopped.isReady() && started.load(std::memory_order_acquire))) {
    abandoned.store(false, std::memory_order_release);
    LoopCore* const here = LoopCore::current();
    Dispatcher& home = here != nullptr ? *here->dispatcher() : shards[0]->dispatcher;
    if (!future_internal::alive(home)) {  // so nothing is to be waited for
      stopped = share(stopAll(this->shared_from_this()), place);
      return stopped.future(place);
    }
    // First there is room for the result, so that never a second one is under way.
    auto [promise, future] = makePromise<void>(home, place);
    const SharedFuture<void> result(std::move(future), place);
    if (!result.valid() || result.isReady()) {
      return result.future(place);
    }
    stopped = result;
    stopping.store(true, std::memory_order_release);
    onSomeLoop([core = this->shared_from_this()] { return stopAll(core); }, place).forwardTo(std::move(promise));
  }
  return stopped.future(place);
}

template <class T>
Future<void> Sharded<T>::Core::stopAll(std::shared_ptr<Core> core) {
  auto failure = Try<void>(Unit());
  for (std::size_t i = core->shards.size(); i-- > 0;) {
    auto result = future_internal::failed<void>(future_internal::Reason::LoopGone);
    const bool abandoned = core->abandoned.load(std::memory_order_acquire);
    if (Dispatcher& worker = core->shards[i]->dispatcher; !abandoned && future_internal::alive(worker)) {
      Future<void> stopping = nuncio::call(worker, [core, i] { return stopHere(core, i); });
      result = co_await asTry(std::move(stopping));
    }
    if (result.failed() && !failure.failed()) {
      failure = std::move(result);
    }
  }
  // What is there still is of workers that have gone. One that is about to go may use its object yet: that goes with
  // the core, at the latest.
  core->destroyRest();
  if (!core->anyLeft()) {
    const std::shared_ptr<runtime_internal::Stoppables> of_pool = std::move(core->of_pool);
    of_pool->remove(*core);
    core->started.store(false, std::memory_order_release);
  }
  co_await Future<void>(std::move(failure));
}

template <class T>
Future<void> Sharded<T>::Core::stopHere(std::shared_ptr<Core> core, std::size_t index) {
  Shard& shard = *core->shards[index];
  shard.stopped = true;
  if (shard.object == nullptr) {
    co_return;
  }
  Future<void> left = shard.gate->close();
  auto stopped = Try<void>(Unit());
  if constexpr (requires(T& object) { object.stop(); }) {
    Future<void> stopping = makeReadyFuture().then([&shard] { return shard.object->stop(); });
    stopped = co_await asTry(std::move(stopping));
  }
  co_await std::move(left);
  core->slot.set(nullptr);
  shard.object.reset();
  shard.gate.reset();
  co_await Future<void>(std::move(stopped));
}

template <class T>
template <class F>
Future<typename Sharded<T>::template ResultOf<F>> Sharded<T>::call(std::size_t index, F f, std::source_location place) {
  using U = ResultOf<F>;
  if (!core_->open.load(std::memory_order_acquire)) {
    return Future<U>(future_internal::failed<U>(future_internal::Reason::Cancelled), place);
  }
  if (index >= core_->shards.size()) {
    return makeFailedFuture<U>(
        absl::OutOfRangeError(absl::StrCat("Sharded::call: index ", index, " of ", core_->shards.size())), place);
  }
  Shard& shard = *core_->shards[index];
  if (!future_internal::alive(shard.dispatcher)) {
    return Future<U>(future_internal::failed<U>(future_internal::Reason::LoopGone), place);
  }
  OnShard<F> on_shard(shard, std::move(f));
  LoopCore* const here = LoopCore::current();
  if (here != nullptr && here == &shard.dispatcher.loop()) {
    return future_internal::readyOn(here, Try<void>(Unit()), place).then(std::move(on_shard), place);
  }
  return core_->onSomeLoop(
      [&shard, place, on_shard = std::move(on_shard)]() mutable {
        return nuncio::call(shard.dispatcher, std::move(on_shard), place);
      },
      place);
}

template <class T>
template <class F>
auto Sharded<T>::callEach(F f, const std::source_location& place) {
  using U = ResultOf<F>;
  if (size() == 0) {
    return Future<std::vector<Try<U>>>(future_internal::failed<std::vector<Try<U>>>(future_internal::Reason::Cancelled),
                                       place);
  }
  return core_->onSomeLoop(
      [this, place, f = std::make_shared<F>(std::move(f))] {
        std::vector<Future<U>> calls;
        calls.reserve(core_->shards.size());
        for (std::size_t i = 0; i < core_->shards.size(); ++i) {
          calls.push_back(call(i, [f](T& object) { return (*f)(object); }, place));
        }
        return collectAll(std::move(calls), place);
      },
      place);
}

template <class T>
template <class F>
Future<void> Sharded<T>::callAll(F f, std::source_location place) {
  using U = ResultOf<F>;
  return callEach(std::move(f), place)
      .then([](std::vector<Try<U>> results) { return runtime_internal::firstFailure(results); }, place);
}

template <class T>
template <class F, class R, class Op>
Future<R> Sharded<T>::mapReduce(F f, R init, Op op, std::source_location place) {
  using U = ResultOf<F>;
  return callEach(std::move(f), place)
      .then(
          [all = std::move(init), op = std::move(op)](std::vector<Try<U>> results) mutable -> Try<R> {
            for (Try<U>& result : results) {
              if (result.failed()) {
                return Try<R>::failureOf(std::move(result));
              }
              all = op(std::move(all), *std::move(result));
            }
            return Try<R>(std::move(all));
          },
          place);
}

}  // namespace nuncio
