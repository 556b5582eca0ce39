#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include "nuncio/future/try.h"

#ifndef __GLIBCXX__
#include <functional>
#endif

#ifdef __GLIBCXX__
// Its <functional> alone costs the compiler a tenth of a second; reference_wrapper is declared by <type_traits>.
namespace std {
_GLIBCXX_BEGIN_NAMESPACE_VERSION
template <class F>
struct is_bind_expression;  // NOLINT(readability-identifier-naming)
_GLIBCXX_END_NAMESPACE_VERSION
}  // namespace std
#endif

// What may be given to then() and its like, and what comes of it; for the headers beside this one.
namespace nuncio {

template <class F>
class GuardedFunction;

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

template <class R>
using ResultOf = typename Flatten<std::remove_cvref_t<R>>::Type;

// Whether what a function returns, an R that is no future, makes a result of U.
template <class U, class R>
inline constexpr bool kMakes = std::is_constructible_v<Try<U>, R>;
template <class U>
inline constexpr bool kMakes<U, void> = std::is_void_v<U>;

// What a function takes: the types of its parameters, as it declares them.

template <class... P>
struct Parameters {};
struct AnyParameters {};     // it has several signatures, or a generic one
struct HiddenParameters {};  // a std::bind expression: takes anything, and passes on what it likes

template <class P>
struct FirstParameter {
  using Type = void;
};
template <class P, class... Rest>
struct FirstParameter<Parameters<P, Rest...>> {
  using Type = std::remove_cvref_t<P>;
};

template <std::size_t kCount, class P>
struct WithoutFirst {
  using Type = P;
};
template <std::size_t kCount, class P, class... Rest>
  requires(kCount > 0)
struct WithoutFirst<kCount, Parameters<P, Rest...>> : WithoutFirst<kCount - 1, Parameters<Rest...>> {};

template <class Signature>
struct ParametersOfSignature {
  using Type = AnyParameters;  // with an ellipsis, or volatile
};
template <class R, class... P, bool kNoexcept>
struct ParametersOfSignature<R(P...) noexcept(kNoexcept)> {
  using Type = Parameters<P...>;
};
template <class R, class... P, bool kNoexcept>
struct ParametersOfSignature<R(P...) const noexcept(kNoexcept)> {
  using Type = Parameters<P...>;
};
template <class R, class... P, bool kNoexcept>
struct ParametersOfSignature<R(P...) & noexcept(kNoexcept)> {
  using Type = Parameters<P...>;
};
template <class R, class... P, bool kNoexcept>
struct ParametersOfSignature<R(P...) const & noexcept(kNoexcept)> {
  using Type = Parameters<P...>;
};
template <class R, class... P, bool kNoexcept>
struct ParametersOfSignature<R(P...) && noexcept(kNoexcept)> {
  using Type = Parameters<P...>;
};
template <class R, class... P, bool kNoexcept>
struct ParametersOfSignature<R(P...) const && noexcept(kNoexcept)> {
  using Type = Parameters<P...>;
};

// Of the operator() of an F; since C++23 that may be static, or take the object as its first parameter.
template <class F, class Operator>
struct ParametersOfOperator;
template <class F, class Signature, class C>
struct ParametersOfOperator<F, Signature C::*> : ParametersOfSignature<Signature> {};
template <class F, class Signature>
struct ParametersOfOperator<F, Signature*> {
  using All = typename ParametersOfSignature<Signature>::Type;
  static constexpr bool kTakesObject = std::is_same_v<typename FirstParameter<All>::Type, F>;
  using Type = typename WithoutFirst<kTakesObject ? 1 : 0, All>::Type;
};

// std::bind_front and absl::bind_front, and what each of them returns: `Binder<F, what is bound...>`. Found by
// argument-dependent lookup where their header is included, by `Neighbour`, a type of their namespace.
template <class Neighbour>
struct Bindable {};
template <template <class...> class Binder, class Neighbour, class... Bound>
concept BindsFrontBeside = requires(Bindable<Neighbour> f, Bound... bound) {
  requires std::is_same_v<decltype(bind_front(f, bound...)), Binder<Bindable<Neighbour>, Bound...>>;
};
template <class T>
using IntFor = int;
template <template <class...> class Binder, class... Bound>
concept BindsFront = BindsFrontBeside<Binder, std::exception_ptr, IntFor<Bound>...> ||
                     BindsFrontBeside<Binder, absl::Status, IntFor<Bound>...>;

template <class F>
concept HasOneOperator = requires { &F::operator(); };
template <class F>
concept IsBind = requires { requires std::is_bind_expression<F>::value; };

template <class F>
struct ParametersOf {
  using Type = AnyParameters;
};
template <class Signature>
  requires std::is_function_v<Signature>
struct ParametersOf<Signature> : ParametersOfSignature<Signature> {};
template <class Signature>
  requires std::is_function_v<Signature>
struct ParametersOf<Signature*> : ParametersOfSignature<Signature> {};
// As std::invoke calls it: the object comes first.
template <class P, class Object>
struct WithObject {
  using Type = P;
};
template <class... P, class Object>
struct WithObject<Parameters<P...>, Object> {
  using Type = Parameters<Object, P...>;
};
template <class Signature, class C>
  requires std::is_function_v<Signature>
struct ParametersOf<Signature C::*> : WithObject<typename ParametersOfSignature<Signature>::Type, C> {};
template <HasOneOperator F>
struct ParametersOf<F> : ParametersOfOperator<F, decltype(&F::operator())> {};
template <IsBind F>
struct ParametersOf<F> {
  using Type = HiddenParameters;
};
template <class F>
struct ParametersOf<std::reference_wrapper<F>> : ParametersOf<F> {};
template <class F>
struct ParametersOf<GuardedFunction<F>> : ParametersOf<F> {};
template <template <class...> class Binder, class F, class... Bound>
  requires(!HasOneOperator<Binder<F, Bound...>> && BindsFront<Binder, Bound...>)
struct ParametersOf<Binder<F, Bound...>> : WithoutFirst<sizeof...(Bound), typename ParametersOf<F>::Type> {};

// What then(method, object) calls. A method that is declared with && takes what it needs from the object.
template <class Method, class Object, class... Args>
concept CalledOn = requires(Method method, Object&& object, Args&&... args) {
  (std::forward<Object>(object).*method)(std::forward<Args>(args)...);
};
template <class Method, class Object>
struct BoundMethod {
  template <class... Args>
    requires CalledOn<Method, decltype(*std::declval<Object&>()), Args...> ||
             CalledOn<Method, std::remove_reference_t<decltype(*std::declval<Object&>())>, Args...>
  decltype(auto) operator()(Args&&... args) {
    if constexpr (CalledOn<Method, decltype(*object), Args...>) {
      return ((*object).*method)(std::forward<Args>(args)...);
    } else {
      return (std::move(*object).*method)(std::forward<Args>(args)...);
    }
  }

  Method method;
  Object object;
};
template <class Signature, class C, class Object>
struct ParametersOf<BoundMethod<Signature C::*, Object>> : ParametersOfSignature<Signature> {};

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

// Whether F takes the Try: its parameter is one. A function with several signatures, or a generic one, takes the value
// where it can, since its body need not compile with a Try.
template <class F, class T>
constexpr bool takesTry() {
  using P = typename ParametersOf<F>::Type;
  if constexpr (std::is_same_v<P, AnyParameters>) {
    return !ValueCall<F, T>::kValid;
  } else {
    return kIs<typename FirstParameter<P>::Type, Try>;
  }
}
template <class F, class T>
inline constexpr bool kTakesTry = takesTry<F, T>();

template <class F>
inline constexpr bool kHidesParameters = std::is_same_v<typename ParametersOf<F>::Type, HiddenParameters>;

// Whether F can be called with what it takes.
template <class F, class T>
constexpr bool fitsThen() {
  if constexpr (std::is_member_pointer_v<F> || kHidesParameters<F>) {
    return false;
  } else if constexpr (kTakesTry<F, T>) {
    return std::is_invocable_v<F&, Try<T>&&>;
  } else {
    return ValueCall<F, T>::kValid;
  }
}

}  // namespace future_internal
}  // namespace nuncio
