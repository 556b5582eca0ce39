#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/origin.h"
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
  using Origin = future_internal::Origin<T>;

public:
  // Without memory: a promise whose sets return false, and whose future fails with ResourceExhausted.
  explicit Promise(std::source_location place = std::source_location::current())
      : origin_(pack(future_internal::makeNode<Origin>(nullptr, nullptr, place))) {}
  Promise(Promise&& other) noexcept : origin_(other.origin_.load(std::memory_order_relaxed)) { other.origin_ = 0; }
  Promise& operator=(Promise&& other) noexcept {
    if (this != &other) {
      breakPromise();
      origin_.store(other.origin_.load(std::memory_order_relaxed), std::memory_order_relaxed);
      other.origin_.store(0, std::memory_order_relaxed);
    }
    return *this;
  }
  ~Promise() { breakPromise(); }

  // The future. Once; a second one fails with FailedPrecondition.
  SemiFuture<T> semiFuture() {
    Origin* const origin = retrieve();
    return origin != nullptr ? SemiFuture<T>(origin) : SemiFuture<T>(noFuture());
  }
  // The same on a dispatcher; cheaper than semiFuture().via(dispatcher) on its thread.
  Future<T> future(Dispatcher& dispatcher) {
    Origin* const origin = retrieve();
    if (origin == nullptr) {
      return Future<T>(noFuture());
    }
    return future_internal::bound(*origin, future_internal::loopOf(dispatcher), /*shared=*/false);
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
    const uintptr_t seen = origin_.load(std::memory_order_relaxed);
    if (seen == 0 || (seen & kSettled) != 0) {
      return false;
    }
    // Who takes the pointer settles. One that has not given its future away stays with it.
    const bool stays = (seen & kNotRetrieved) != 0;
    const uintptr_t taken = origin_.exchange(stays ? seen | kSettled : 0, std::memory_order_acq_rel);
    if (taken == 0 || (taken & kSettled) != 0) {
      return false;
    }
    return future_internal::settle(*unpack(taken), std::move(result), stays);
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
    class Handler final : public future_internal::OriginBase::CancelHandler {
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
    if (Origin* const origin = open(); origin != nullptr) {
      origin->onCancel(new Handler(std::forward<F>(f)));
    }
  }

  // Whether nobody wants the answer any more (the future was cancelled or dropped, or its dispatcher is gone), or it
  // was given: there is no use in working on it.
  bool done() const {
    const Origin* const origin = open();
    return origin == nullptr || !origin->wanted();
  }

private:
  static constexpr uintptr_t kSettled = 1;       // but not retrieved
  static constexpr uintptr_t kNotRetrieved = 2;  // its future
  static constexpr uintptr_t kNoMemory = 4 | kSettled;

  static uintptr_t pack(Origin* origin) {
    return origin != nullptr ? reinterpret_cast<uintptr_t>(origin) | kNotRetrieved : kNoMemory;
  }
  static Origin* unpack(uintptr_t packed) {
    return reinterpret_cast<Origin*>(packed & ~(kSettled | kNotRetrieved));  // NOLINT(performance-no-int-to-ptr): tags
  }
  // Null when it is settled.
  Origin* open() const {
    const uintptr_t packed = origin_.load(std::memory_order_relaxed);
    return (packed & kSettled) == 0 ? unpack(packed) : nullptr;
  }

  Origin* retrieve() {
    const uintptr_t packed = origin_.load(std::memory_order_relaxed);
    if ((packed & kNotRetrieved) == 0) {
      return nullptr;
    }
    if ((packed & kSettled) != 0) {  // this has nothing more to do with it
      origin_.store(0, std::memory_order_relaxed);
      unpack(packed)->producerGone();
    } else {
      origin_.store(packed & ~kNotRetrieved, std::memory_order_relaxed);
    }
    return unpack(packed);
  }
  Try<T> noFuture() const {
    using future_internal::Reason;
    return future_internal::failed<T>(origin_.load(std::memory_order_relaxed) == kNoMemory ? Reason::NoMemory
                                                                                           : Reason::Retrieved);
  }

  void breakPromise() {
    const uintptr_t packed = origin_.load(std::memory_order_relaxed);
    if (packed == 0 || packed == kNoMemory) {
      return;
    }
    origin_.store(0, std::memory_order_relaxed);
    Origin& origin = *unpack(packed);
    if ((packed & kNotRetrieved) != 0) {
      future_internal::freeOrigin(origin);
      return;
    }
    if (origin.takesResult()) {
      Try<T> broken = Try<T>::fromFailure(future_internal::brokenPromise(origin.place_));
      future_internal::settle(origin, std::move(broken), /*stays=*/false);
    } else if (origin.producerGone()) {
      future_internal::freeOrigin(origin);
    }
  }

  std::atomic<uintptr_t> origin_;  // acquired and released by sets, of which one wins; else relaxed
};

static_assert(sizeof(Promise<int>) <= 16);

}  // namespace nuncio
