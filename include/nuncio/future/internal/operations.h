#pragma once

#include <type_traits>
#include <utility>

#include "nuncio/common/caught_exception.h"
#include "nuncio/future/internal/node.h"
#include "nuncio/future/internal/traits.h"

// What the functions of then(), thenError() and ensure() make of a result; for continuation.h.
namespace nuncio::future_internal {

// An operation takes the Try of what came before to a result. One whose function returns no future has
//   Try<Result> apply(Try<T>&& input)
// and one whose function does has
//   void applyTo(Try<T>&& input, Out& out)    which gives a Try or a future to `out`, once
// neither of which throws, but for what unwinds a thread that ends in the function; and both have
//   Result                 the type of the result
//   kReturnsFuture
//   kRunsWhenCancelled     also where the future was cancelled, or its loop shuts down
//   kKind                  for traces

template <class F, class... Args>
inline constexpr bool kFutureFrom = Flatten<std::remove_cvref_t<std::invoke_result_t<F&, Args...>>>::kIsFuture;

// Calls `f`, which does not return a future.
template <class U, class F, class... Args>
[[gnu::always_inline]] inline Try<U> callInto(F& f, Args&&... args) {
  using R = std::invoke_result_t<F&, Args...>;
  static_assert(kMakes<U, R>,
                "what the function returns makes no result of this future: it returns the T of a Future<T>, or what "
                "converts to that implicitly, or an absl::Status, absl::StatusOr, Try, Future or SemiFuture");
  try {
    if constexpr (!kMakes<U, R>) {
      return Try<U>();
    } else if constexpr (std::is_void_v<R>) {
      f(std::forward<Args>(args)...);
      return Try<U>(Unit());
    } else {
      return Try<U>(f(std::forward<Args>(args)...));
    }
  } catch (...) {
    return Try<U>(caughtException());
  }
}

// Calls `f`, which does.
template <class U, class Out, class F, class... Args>
void callForFuture(Out& out, F& f, Args&&... args) {
  static_assert(std::is_same_v<U, ResultOf<std::invoke_result_t<F&, Args...>>>,
                "the function returns a future of another type than that of the future that it is given to");
  try {
    out.future(f(std::forward<Args>(args)...));
  } catch (...) {
    out.result(Try<U>(caughtException()));
  }
}

// then(f), where f takes the value.
template <class T, class F>
struct ThenValue {
  using R = typename ValueCall<F, T>::Type::type;
  using Result = ResultOf<R>;
  static constexpr bool kReturnsFuture = Flatten<std::remove_cvref_t<R>>::kIsFuture;
  static constexpr bool kRunsWhenCancelled = false;
  static constexpr const char* kKind = "then";

  [[gnu::always_inline]] Try<Result> apply(Try<T>&& input) {
    if (!input.hasValue()) [[unlikely]] {
      return Try<Result>::failureOf(std::move(input));
    }
    if constexpr (std::is_void_v<T>) {
      return callInto<Result>(f);
    } else {
      return callInto<Result>(f, *std::move(input));
    }
  }
  template <class Out>
  void applyTo(Try<T>&& input, Out& out) {
    if (!input.hasValue()) {
      out.result(Try<Result>::failureOf(std::move(input)));
    } else if constexpr (std::is_void_v<T>) {
      callForFuture<Result>(out, f);
    } else {
      callForFuture<Result>(out, f, *std::move(input));
    }
  }

  F f;
};

// then(f), where f takes the Try.
template <class T, class F>
struct ThenTry {
  using R = std::invoke_result_t<F&, Try<T>&&>;
  using Result = ResultOf<R>;
  static constexpr bool kReturnsFuture = Flatten<std::remove_cvref_t<R>>::kIsFuture;
  static constexpr bool kRunsWhenCancelled = false;
  static constexpr const char* kKind = "then(Try)";

  Try<Result> apply(Try<T>&& input) { return callInto<Result>(f, std::move(input)); }
  template <class Out>
  void applyTo(Try<T>&& input, Out& out) {
    callForFuture<Result>(out, f, std::move(input));
  }

  F f;
};

// then(f), where f fits neither: fails to compile, and says no more than that.
template <class T, class F>
struct ThenMisfit {
  static_assert(!kHidesParameters<F>,
                "then(f): what a std::bind expression takes cannot be told: give a lambda, or std::bind_front");
  static_assert(!std::is_member_pointer_v<F>,
                "then(f): a member function needs an object: then(&Class::method, pointer)");
  static_assert(kHidesParameters<F> || std::is_member_pointer_v<F> || fitsThen<F, T>(),
                "then(f): f takes neither the T of this Future<T> (nothing, for void) nor a Try<T>, by value, by const "
                "reference or by &&");

  using Result = void;
  static constexpr bool kReturnsFuture = false;
  static constexpr bool kRunsWhenCancelled = false;
  static constexpr const char* kKind = "then";

  Try<void> apply(Try<T>&&) { return {}; }

  F f;
};

template <class T, class F>
using Then = std::conditional_t<!fitsThen<F, T>(), ThenMisfit<T, F>,
                                std::conditional_t<kTakesTry<F, T>, ThenTry<T, F>, ThenValue<T, F>>>;

// thenError(f).
template <class T, class F>
struct ThenStatus {
  static_assert(std::is_invocable_v<F&, absl::Status&&>, "thenError(f): f takes an absl::Status");

  using Result = T;
  static constexpr bool kReturnsFuture = kFutureFrom<F, absl::Status&&>;
  static constexpr bool kRunsWhenCancelled = false;
  static constexpr const char* kKind = "thenError";

  Try<T> apply(Try<T>&& input) { return input.failed() ? callInto<T>(f, input.status()) : std::move(input); }
  template <class Out>
  void applyTo(Try<T>&& input, Out& out) {
    if (input.failed()) {
      callForFuture<T>(out, f, input.status());
    } else {
      out.result(std::move(input));
    }
  }

  F f;
};

// thenError<E>(f).
template <class T, class E, class F>
struct ThenException {
  static_assert(std::is_invocable_v<F&, E&>, "thenError<E>(f): f takes an E&");

  using Result = T;
  static constexpr bool kReturnsFuture = kFutureFrom<F, E&>;
  static constexpr bool kRunsWhenCancelled = false;
  static constexpr const char* kKind = "thenError<E>";

  Try<T> apply(Try<T>&& input) {
    Try<T> result;
    const bool handled = handle(input, [&](E& e) { result = callInto<T>(f, e); });
    return handled ? std::move(result) : std::move(input);
  }
  template <class Out>
  void applyTo(Try<T>&& input, Out& out) {
    if (!handle(input, [&](E& e) { callForFuture<T>(out, f, e); })) {
      out.result(std::move(input));
    }
  }

  F f;

private:
  // False when it is no E. A Status that was never thrown is a StatusError, and nothing else.
  template <class Call>
  static bool handle(const Try<T>& input, Call call) {
    if (!input.failed()) {
      return false;
    }
    try {
      if (wasThrown(input.failure())) {
        std::rethrow_exception(input.exception());
      }
      if constexpr (std::is_same_v<std::remove_cv_t<E>, StatusError>) {
        E error(input.status());
        call(error);
        return true;
      }
    } catch (E& e) {
      call(e);
      return true;
    } catch (...) {
      static_cast<void>(caughtException());  // which is passed on
    }
    return false;
  }
};

// ensure(f): runs it, and passes on what came before. A failure of f wins over a value only.
template <class T, class F>
struct Ensure {
  static_assert(std::is_invocable_v<F&>, "ensure(f): f takes nothing");
  static_assert(std::is_void_v<ResultOf<std::invoke_result_t<F&>>>,
                "ensure(f): f returns nothing, an absl::Status, a Try<void>, or a future of void");

  using Result = T;
  static constexpr bool kReturnsFuture = kFutureFrom<F>;
  static constexpr bool kRunsWhenCancelled = true;
  static constexpr const char* kKind = "ensure";

  Try<T> apply(Try<T>&& input) { return choose(callInto<void>(f), std::move(input)); }
  template <class Out>
  void applyTo(Try<T>&& input, Out& out) {
    try {
      auto done = out.onLoop(f());
      if (done.isReady()) {  // at once, also where a continuation would have to wait for its turn
        out.result(choose(std::move(done).get(), std::move(input)));
        return;
      }
      out.future(std::move(done).then(
          [input = std::move(input)](Try<void>&& late) mutable { return choose(std::move(late), std::move(input)); }));
    } catch (...) {
      out.result(choose(Try<void>(caughtException()), std::move(input)));
    }
  }
  static Try<T> choose(Try<void>&& done, Try<T>&& input) {
    return done.failed() && !input.failed() ? Try<T>::failureOf(std::move(done)) : std::move(input);
  }

  F f;
};

}  // namespace nuncio::future_internal
