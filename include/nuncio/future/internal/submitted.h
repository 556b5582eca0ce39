#pragma once

#include <exception>
#include <optional>
#include <type_traits>
#include <utility>

#include "nuncio/common/caught_exception.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"

// For submit.h.
namespace nuncio::future_internal {

// What submit() posts. Its promise is linked: whoever waits for the answer may be what f refers to.
template <class U, class F>
class Submitted {
public:
  using CallsFunction = typename inline_function_internal::NamedBy<F>::Type;

  template <class G>
  Submitted(Promise<U>&& promise, G&& f) : f_(std::forward<G>(f)), promise_(std::move(promise)) {}
  Submitted(Submitted&& other) noexcept(std::is_nothrow_move_constructible_v<F>) = default;
  Submitted& operator=(Submitted&&) = delete;
  ~Submitted() {
    if (!Access::spent(promise_)) {  // else it has run, or was moved from
      f_.reset();
      promise_.setTry(failed<U>(Reason::LoopGone));
    }
  }

  // f goes before the answer is given.
  void operator()() {
    if (Access::stopped(promise_)) {
      return;
    }
    using R = std::remove_cvref_t<std::invoke_result_t<F&>>;
    if constexpr (Flatten<R>::kIsFuture) {
      Future<U> inner = start();
      f_.reset();
      std::move(inner).forwardTo(std::move(promise_));
    } else {
      Try<U> result = callInto<U>(*f_);
      f_.reset();
      promise_.setTry(std::move(result));
    }
  }

private:
  Future<U> start() {
    try {
      return onLoop((*f_)(), LoopCore::current());
    } catch (...) {
      return Future<U>(Try<U>(caughtException()));
    }
  }

  std::optional<F> f_;  // until it has run
  Promise<U> promise_;
};

inline bool isTarget(const LoopCore& loop, Dispatcher& target) { return &target.loop() == &loop; }
inline bool isTarget(const LoopCore& loop, const PostHandle& target) { return loop.isOf(target); }

inline bool alive(Dispatcher& target) { return target.handle().alive(); }
inline bool alive(const PostHandle& target) { return target.alive(); }

}  // namespace nuncio::future_internal
