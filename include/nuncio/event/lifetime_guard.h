#pragma once

#include <cstdint>
#include <functional>
#include <type_traits>
#include <utility>

#include "nuncio/event/internal/lifetime_version.h"

namespace nuncio {

// What LifetimeGuard::wrap() makes. To be called on the owner's thread, moved and destroyed on any.
template <class F>
class GuardedFunction {
public:
  template <class G>
  GuardedFunction(const lifetime_internal::Version& version, G&& f)
      : version_(version), wrapped_at_(version.now()), f_(std::forward<G>(f)) {}

  template <class... Args>
    requires std::is_invocable_v<F&, Args...>
  auto operator()(Args&&... args) {
    using Result = typename lifetime_internal::Wrap<std::remove_cvref_t<std::invoke_result_t<F&, Args...>>>::Type;
    if (version_.now() != wrapped_at_) {
      if constexpr (std::is_void_v<Result>) {
        return;
      } else {
        return Result(lifetime_internal::ownerGone());
      }
    } else {
      return static_cast<Result>(std::invoke(f_, std::forward<Args>(args)...));
    }
  }

private:
  lifetime_internal::Version version_;
  uint64_t wrapped_at_;
  F f_;
};

// LifetimeGuard: callbacks that do nothing once their owner is destroyed, or reset to a new version.
//
//   class Client {
//     void connect() {
//       dispatcher_.post(guard_.wrap([this] { start(); }));
//       timer_ = dispatcher_.createTimer(guard_.wrap([this] { timedOut(); }));
//       resolver_.resolve(host_).then(guard_.wrap([this](Address a) { return open(a); })).detach();
//     }
//     void reset() { guard_.reset(); ... }   // nothing that was wrapped before runs any more
//     ...
//     LifetimeGuard guard_;                  // last, so that it goes first
//   };
//
// What a wrapped function returns when it does nothing: one that returns void, nothing, and a then() that it was given
// to goes on with its void; one that returns absl::Status, StatusOr, Try, Future or SemiFuture: Cancelled; one that
// returns any other U returns absl::StatusOr<U> instead, which then() takes for a U or Cancelled.
//
// Threads: the owner's, where it is made, reset, destroyed, wraps, and where what it wrapped is called. What it wrapped
// may be moved to and destroyed on any thread: the function, with its captures, is destroyed there.
// Cost: one allocation for the guard, none for what it wraps, which is two words larger than the function: one with a
// capture of `this` fits into a TimerCb.
class LifetimeGuard {
public:
  LifetimeGuard() = default;
  LifetimeGuard(const LifetimeGuard&) = delete;
  LifetimeGuard& operator=(const LifetimeGuard&) = delete;
  ~LifetimeGuard() { reset(); }

  // `f`: anything that can be called; its arguments are passed through.
  template <class F>
  GuardedFunction<std::decay_t<F>> wrap(F&& f) const {
    return GuardedFunction<std::decay_t<F>>(version_, std::forward<F>(f));
  }

  // What was wrapped before does nothing any more.
  void reset() { version_.advance(); }

private:
  lifetime_internal::Version version_;
};

}  // namespace nuncio
