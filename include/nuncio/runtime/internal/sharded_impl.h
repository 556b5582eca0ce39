#pragma once

#include <cstddef>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/future/call.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
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

// A function of users that is called with the object of a worker, on its thread.
template <class T>
template <class F>
class Sharded<T>::OnShard {
  using R = std::invoke_result_t<F&, T&>;
  using U = ResultOf<F>;
  static constexpr bool kReturnsFuture = future_internal::Flatten<std::remove_cvref_t<R>>::kIsFuture;

public:
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
auto Sharded<T>::onSomeLoop(F f, const std::source_location& place) {
  Dispatcher& worker = shards_[0]->dispatcher;
  if (LoopCore::current() != nullptr || !future_internal::alive(worker)) {  // then nothing is to be waited for
    return f();
  }
  return submit(worker, std::move(f), place).via(worker);
}

template <class T>
template <class Make>
Future<void> Sharded<T>::start(WorkerPool& pool, Make make, std::source_location place) {
  if (started_) {
    return makeFailedFuture<void>(
        absl::FailedPreconditionError("Sharded::start: it has been started; stop() it, and wait for that, first"),
        place);
  }
  Shards shards;
  for (std::size_t i = 0; i < pool.size(); ++i) {
    shards.push_back(std::make_unique<Shard>(pool.dispatcher(i)));
  }
  shards_ = std::move(shards);
  started_ = true;
  stopped_ = {};
  return onSomeLoop([this, make = std::move(make)]() mutable { return startAll(std::move(make)); }, place);
}

// The workers use `make`, in the frame, which stays until all of them have answered.
template <class T>
template <class Make>
Future<void> Sharded<T>::startAll(Make make) {
  std::vector<Future<void>> starts;
  starts.reserve(shards_.size());
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    starts.push_back(
        nuncio::call(shards_[i]->dispatcher, [this, i, &make] { return startHere(*shards_[i], i, make); }));
  }
  std::vector<Try<void>> results = co_await collectAll(std::move(starts));
  Try<void> failure = runtime_internal::firstFailure(results);
  if (failure.failed()) {
    static_cast<void>(co_await asTry(stopAll()));  // the first failure is the result
    co_await Future<void>(std::move(failure));
  }
  open_.store(true, std::memory_order_release);
}

template <class T>
template <class Make>
Future<void> Sharded<T>::startHere(Shard& shard, std::size_t index, Make& make) {
  return makeReadyFuture()
      .then([&] { return make(shard.dispatcher, index); })
      .then([this, &shard](std::unique_ptr<T> made) {
        if (made == nullptr) {
          return absl::InvalidArgumentError(
              absl::StrCat("Sharded::start: make returned null on ", shard.dispatcher.name()));
        }
        shard.gate.emplace(shard.dispatcher);
        slot_.set(made.get());
        shard.object = std::move(made);
        return absl::OkStatus();
      });
}

template <class T>
Future<void> Sharded<T>::stop(std::source_location place) {
  open_.store(false, std::memory_order_release);
  if (!started_) {
    return makeReadyFuture(place);
  }
  if (!stopped_.valid()) {
    stopped_ = share(onSomeLoop([this] { return stopAll(); }, place));
  }
  return stopped_.future();
}

template <class T>
Future<void> Sharded<T>::stopAll() {
  auto failure = Try<void>(Unit());
  for (std::size_t i = shards_.size(); i-- > 0;) {
    auto result = future_internal::failed<void>(future_internal::Reason::LoopGone);
    if (Dispatcher& worker = shards_[i]->dispatcher; future_internal::alive(worker)) {
      Future<void> stopping = nuncio::call(worker, [this, i] { return stopHere(*shards_[i]); });
      result = co_await asTry(std::move(stopping));
    }
    if (result.failed() && !failure.failed()) {
      failure = std::move(result);
    }
  }
  // What is there still is of workers that have gone.
  for (const std::unique_ptr<Shard>& shard : shards_) {
    shard->object.reset();
    shard->gate.reset();
  }
  started_ = false;
  co_await Future<void>(std::move(failure));
}

template <class T>
Future<void> Sharded<T>::stopHere(Shard& shard) {
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
  slot_.set(nullptr);
  shard.object.reset();
  shard.gate.reset();
  co_await Future<void>(std::move(stopped));
}

template <class T>
template <class F>
Future<typename Sharded<T>::template ResultOf<F>> Sharded<T>::call(std::size_t index, F f, std::source_location place) {
  using U = ResultOf<F>;
  if (!open_.load(std::memory_order_acquire)) {
    return Future<U>(future_internal::failed<U>(future_internal::Reason::Cancelled), place);
  }
  if (index >= shards_.size()) {
    return makeFailedFuture<U>(
        absl::OutOfRangeError(absl::StrCat("Sharded::call: index ", index, " of ", shards_.size())), place);
  }
  Shard& shard = *shards_[index];
  if (!future_internal::alive(shard.dispatcher)) {
    return Future<U>(future_internal::failed<U>(future_internal::Reason::LoopGone), place);
  }
  OnShard<F> on_shard(shard, std::move(f));
  LoopCore* const here = LoopCore::current();
  if (here != nullptr && here == &shard.dispatcher.loop()) {
    return future_internal::readyOn(here, Try<void>(Unit()), place).then(std::move(on_shard), place);
  }
  return onSomeLoop(
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
  return onSomeLoop(
      [this, place, f = std::make_shared<F>(std::move(f))] {
        std::vector<Future<U>> calls;
        calls.reserve(shards_.size());
        for (std::size_t i = 0; i < shards_.size(); ++i) {
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
