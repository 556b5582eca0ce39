#pragma once

#include <type_traits>
#include <utility>

#include "nuncio/future/try.h"

// What may be given to then() and its like, and what comes of it; for the headers beside this one.
namespace nuncio {

template <class F>
class GuardedFunction;
template <class T>
class Future;
template <class T>
class SemiFuture;

namespace future_internal {

// What a function's return type R makes of a future: Future<Type>.
template <class R>
struct Flatten {
  using Type = R;
  static constexpr bool kIsFuture = false;
};
template <class U>
struct Flatten<Future<U>> {
  using Type = U;
  static constexpr bool kIsFuture = true;
};
template <class U>
struct Flatten<SemiFuture<U>> {
  using Type = U;
  static constexpr bool kIsFuture = true;
};
template <class U>
struct Flatten<Try<U>> {
  using Type = U;
  static constexpr bool kIsFuture = false;
};
template <class U>
struct Flatten<absl::StatusOr<U>> {
  using Type = U;
  static constexpr bool kIsFuture = false;
};
template <>
struct Flatten<absl::Status> {
  using Type = void;
  static constexpr bool kIsFuture = false;
};

// What calling F with the value of a T returns.
template <class F, class T>
struct ValueCall {
  static constexpr bool kValid = std::is_invocable_v<F&, T&&>;
  using Type = std::invoke_result<F&, T&&>;
};
template <class F>
struct ValueCall<F, void> {
  static constexpr bool kValid = std::is_invocable_v<F&>;
  using Type = std::invoke_result<F&>;
};

// Whether F takes a Try, rather than a value of which a Try could be made. Not asked of generic functions, whose bodies
// need not compile with a Try.
template <class F, class T>
inline constexpr bool kTakesTry = !ValueCall<F, T>::kValid;
template <class F, class T>
  requires(!std::is_class_v<F> || requires { &F::operator(); })
inline constexpr bool kTakesTry<F, T> = std::is_invocable_v<F&, Try<T>&&>;
template <class F, class T>
inline constexpr bool kTakesTry<GuardedFunction<F>, T> = kTakesTry<F, T>;

template <class R>
using ResultOf = typename Flatten<std::remove_cvref_t<R>>::Type;

// Whether what a function returns, an R that is no future, makes a result of U.
template <class U, class R>
inline constexpr bool kMakes = std::is_constructible_v<Try<U>, R>;
template <class U>
inline constexpr bool kMakes<U, void> = std::is_void_v<U>;

}  // namespace future_internal
}  // namespace nuncio
