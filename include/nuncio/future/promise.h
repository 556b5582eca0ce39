#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/promise_core.h"
#include "nuncio/future/semi_future.h"

namespace nuncio {

// Promise: how the one who knows the answer gives it. To be kept by that one, and to be used once.
//
// Every set returns whether it was the first and the future still wants it: false when it was settled, cancelled or
// dropped before. Destroying a promise that has not been settled fails its future with Aborted, naming where it was
// made. One that a library's function makes names that, and not its caller, unless it is given the place:
//
//   auto promise = std::make_unique<Promise<int>>(std::source_location::current());
//   promises.emplace_back(std::source_location::current());
//
// Threads: any. Sets, on the same object, may race with each other: one wins. All else, and moving it, may not.
template <class T>
class [[nodiscard]] Promise {
  friend struct future_internal::Access;
  using Core = future_internal::PromiseCore<T>;

public:
  // Without memory: a promise whose sets return false, and whose future fails with ResourceExhausted.
  explicit Promise(std::source_location place = std::source_location::current()) {
    Core* const core = future_internal::makeNode<Core>(nullptr, nullptr, place);
    core_.store(core, std::memory_order_relaxed);
    future_ = core != nullptr ? core : noMemory();
  }
  Promise(Promise&& other) noexcept
      : core_(other.core_.load(std::memory_order_relaxed)), future_(std::exchange(other.future_, nullptr)) {
    other.core_.store(nullptr, std::memory_order_relaxed);
  }
  Promise& operator=(Promise&& other) noexcept {
    if (this != &other) {
      if (core_.load(std::memory_order_relaxed) != nullptr || future_ != nullptr) [[unlikely]] {
        breakPromise();
      }
      core_.store(other.core_.load(std::memory_order_relaxed), std::memory_order_relaxed);
      other.core_.store(nullptr, std::memory_order_relaxed);
      future_ = std::exchange(other.future_, nullptr);
    }
    return *this;
  }
  ~Promise() {
    if (core_.load(std::memory_order_relaxed) != nullptr || future_ != nullptr) [[unlikely]] {
      breakPromise();
    }
  }

  // The future. Once; a second one fails with FailedPrecondition.
  SemiFuture<T> semiFuture() {
    Core* const core = takeFuture();
    return core != nullptr ? SemiFuture<T>(core) : SemiFuture<T>(noFuture());
  }
  // The same on a dispatcher; cheaper than semiFuture().via(dispatcher) on its thread.
  Future<T> future(Dispatcher& dispatcher) {
    Core* const core = takeFuture();
    if (core == nullptr) {
      return Future<T>(noFuture());
    }
    return future_internal::bound(*core, future_internal::loopOf(dispatcher), /*shared=*/false);
  }

  template <class V = future_internal::Stored<T>>
  bool setValue(V&& value) {
    static_assert(future_internal::kMakes<T, V&&>,
                  "setValue(value): the value is no T of the Promise<T>, and does not convert to one implicitly");
    return setTry(Try<T>(std::forward<V>(value)));
  }
  bool setValue()
    requires std::is_void_v<T>
  {
    return setTry(Try<T>(Unit()));
  }
  bool setStatus(const absl::Status& status) { return setTry(Try<T>(status)); }
  bool setException(std::exception_ptr exception) { return setTry(Try<T>(std::move(exception))); }
  bool setTry(Try<T>&& result) {
    // Who takes the pointer settles. (Looked at first, since an exchange locks a cache line.)
    if (core_.load(std::memory_order_relaxed) == nullptr) {
      return false;
    }
    Core* const core = core_.exchange(nullptr, std::memory_order_acq_rel);
    return core != nullptr && future_internal::settle(*core, std::move(result));
  }
  // Settles with what `f` returns or throws.
  template <class F>
  bool setWith(F&& f) {
    return setTry(future_internal::callInto<T>(f));
  }

  // Calls `f` once, when the future is cancelled or its dispatcher shuts down before this is settled: at once when it
  // has been. f takes nothing, or the absl::Status that was given to cancel(), Cancelled otherwise. It runs on the
  // thread that cancels, mostly the dispatcher's, before whoever waits for the future goes on; setting the promise has
  // no effect any more: what there is to do is to stop working on it. One allocation. Replaces an earlier one. Nothing
  // once this is settled.
  template <class F>
  void onCancel(F&& f) {
    class Handler final : public future_internal::PromiseCoreBase::CancelHandler {
    public:
      explicit Handler(F&& function) : f_(std::forward<F>(function)) {}
      future_internal::Node* cancelled(const future_internal::Failure* reason, LoopCore* /*here*/) override {
        if constexpr (std::is_invocable_v<std::decay_t<F>&>) {
          f_();
        } else {
          f_(future_internal::reasonFor<F>(reason));
        }
        return nullptr;
      }

    private:
      std::decay_t<F> f_;
    };
    if (Core* const core = unsettled(); core != nullptr) {
      core->onCancel(new Handler(std::forward<F>(f)));
    }
  }

  // Whether nobody wants the answer any more (the future was cancelled or dropped, or its dispatcher is gone), or it
  // was given: there is no use in working on it.
  bool done() const {
    const Core* const core = unsettled();
    return core == nullptr || !core->seen().wanted();
  }

private:
  // Of a core whose future has been taken.
  explicit Promise(Core* core) noexcept : core_(core), future_(nullptr) {}

  // In place of the future of a promise that was made without memory: an address at which no core is, never looked at.
  // It saves a third word, or a flag in each of the other two.
  static Core* noMemory() { return reinterpret_cast<Core*>(1); }  // NOLINT(performance-no-int-to-ptr): no address

  Core* unsettled() const { return core_.load(std::memory_order_relaxed); }
  // Null when there is none any more, or never was.
  Core* takeFuture() { return future_ != noMemory() ? std::exchange(future_, nullptr) : nullptr; }
  Try<T> noFuture() const {
    using future_internal::Reason;
    return future_internal::failed<T>(future_ == noMemory() ? Reason::NoMemory : Reason::Retrieved);
  }

  [[gnu::noinline]] void breakPromise() {
    Core* const core = core_.load(std::memory_order_relaxed);
    core_.store(nullptr, std::memory_order_relaxed);
    Core* const future = takeFuture();
    if (core == nullptr) {
      if (future != nullptr) {
        future->dropUnbound(/*quiet=*/true);
      }
    } else if (future != nullptr) {  // nobody else has ever had it
      future_internal::freeBlock(future_internal::blockOf(*core));
    } else if (!core->seen().late()) {
      settle(*core, Try<T>::fromFailure(future_internal::brokenPromise(core->place_)));
    } else {
      core->producerLeaves();
    }
  }

  // Two shares of one object: the producer's, until it is settled, acquired and released by sets, of which one wins,
  // and else relaxed; and the consumer's, until the future is taken.
  std::atomic<Core*> core_;
  Core* future_;
};

static_assert(sizeof(Promise<int>) <= 16);

// A promise, and its future on `dispatcher`:
//
//   auto [promise, future] = makePromise<int>(dispatcher);
//
// As `promise.future(dispatcher)`, and cheaper on the dispatcher's thread, since neither has ever been without the
// other. Any thread. Without memory: as there.
template <class T>
std::pair<Promise<T>, Future<T>> makePromise(Dispatcher& dispatcher,
                                             std::source_location place = std::source_location::current()) {
  using Core = future_internal::PromiseCore<T>;
  if (LoopCore& loop = future_internal::loopOf(dispatcher); loop.onLoopThread()) {
    if (Core* const core = future_internal::makeNode<Core>(nullptr, &loop, place); core != nullptr) {
      core->bindFirst(loop);
      return {future_internal::Access::promise<T>(core), future_internal::Access::future<T>(core)};
    }
  }
  Promise<T> promise(place);
  Future<T> future = promise.future(dispatcher);
  return {std::move(promise), std::move(future)};
}

}  // namespace nuncio
