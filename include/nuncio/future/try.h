#pragma once

#include <exception>
#include <new>
#include <type_traits>
#include <utility>

#include "nuncio/future/internal/try_base.h"

namespace nuncio {

// Try: what came of an operation: a value, an absl::Status that is not OK, or an exception; or nothing yet.
//
//   std::move(future).then([](Try<int> result) {
//     if (result.failed()) { log(result.status()); } else { use(*result); }
//   });
//
// A failure takes one word, and moves for nothing. A Status travels without a throw. A StatusError that was thrown, or
// a type derived from it, stays the exception that it is, and is its Status as well.
//
// T may be void, and what moves without throwing; it need not be copied. Not a reference, but a std::reference_wrapper;
// not a Status, StatusOr, exception_ptr, Try or future, which are results already; no const, no array, and no type with
// an alignment above 16. What converts to T implicitly makes a value of it; what an explicit constructor is needed for
// does not.
//
// absl::Status is only declared here: include "absl/status/status.h" to use it. That keeps futures cheap to include.
// What returns one is a template for that reason alone (`S`): the type has to be complete where it is called.
template <class T>
class [[nodiscard]] Try {
  static_assert(future_internal::CheckValue<T>::kOk);

  using Outcome = future_internal::Outcome;
  using Failure = future_internal::Failure;
  using Stored = future_internal::Stored<T>;

public:
  using ValueType = T;

  // Nothing yet.
  [[gnu::always_inline]] Try() noexcept {}
  template <class V = Stored>
    requires(!future_internal::kIsResult<std::remove_cvref_t<V>> && std::is_convertible_v<V, Stored>)
  [[gnu::always_inline]] Try(V&& value)  // NOLINT(google-explicit-constructor): a value is a result
      : outcome_(Outcome::Value) {
    ::new (memory()) Stored(std::forward<V>(value));
  }
  // An OK status is a value when T is void, and otherwise the error Internal.
  Try(const absl::Status& status) { setStatus(status); }  // NOLINT(google-explicit-constructor): a failure is a result
  Try(std::exception_ptr exception) noexcept              // NOLINT(google-explicit-constructor): as above
      : Try(FromFailure(), future_internal::makeFailure(std::move(exception))) {}
  template <class U>
    requires std::is_convertible_v<U, Stored>
  Try(absl::StatusOr<U>&& result) {  // NOLINT(google-explicit-constructor): as above
    setStatusOr(std::move(result));
  }
  template <class U>
    requires std::is_convertible_v<const U&, Stored>
  Try(const absl::StatusOr<U>& result) {  // NOLINT(google-explicit-constructor): as above
    setStatusOr(result);
  }

  [[gnu::always_inline]] Try(Try&& other) noexcept { take(other); }
  [[gnu::always_inline]] Try& operator=(Try&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  Try(const Try& other)
    requires std::is_copy_constructible_v<Stored>
  {
    copy(other);
  }
  Try& operator=(const Try& other)
    requires std::is_copy_constructible_v<Stored>
  {
    if (this != &other) {
      reset();
      copy(other);
    }
    return *this;
  }
  [[gnu::always_inline]] ~Try() { reset(); }

  // Whether there is a result.
  [[gnu::always_inline]] bool ready() const noexcept { return outcome_ != Outcome::None; }
  [[gnu::always_inline]] bool hasValue() const noexcept { return outcome_ == Outcome::Value; }
  [[gnu::always_inline]] bool failed() const noexcept { return outcome_ == Outcome::Failure; }
  // Whether it failed with an exception that is no StatusError, and so has no Status of its own.
  bool hasException() const noexcept { return failed() && future_internal::isException(failure_); }

  // The value. On failure: throws the exception, or a StatusError with the status.
  Stored& value() & { return check(), value_; }
  const Stored& value() const& { return check(), value_; }
  Stored&& value() && { return check(), std::move(value_); }
  // The value. Undefined on failure.
  Stored& operator*() & noexcept { return value_; }
  const Stored& operator*() const& noexcept { return value_; }
  [[gnu::always_inline]] Stored&& operator*() && noexcept { return std::move(value_); }
  Stored* operator->() noexcept { return __builtin_addressof(value_); }
  const Stored* operator->() const noexcept { return __builtin_addressof(value_); }

  // OK for a value. A StatusError has its Status, std::bad_alloc is ResourceExhausted, any other exception becomes
  // Unknown with its message.
  // FailedPrecondition when there is no result yet.
  template <class S = absl::Status>
  S status() const {
    S status;
    if (!hasValue()) {
      future_internal::assignStatus(failure(), &status);
    }
    return status;
  }
  // The exception that was thrown, or a StatusError with the status; null for a value.
  std::exception_ptr exception() const {
    return hasValue() ? std::exception_ptr() : future_internal::exceptionOf(failure());
  }
  void throwIfFailed() const { check(); }
  // StatusOr<T>, or Status for void.
  template <class S = std::conditional_t<std::is_void_v<T>, absl::Status, absl::StatusOr<Stored>>>
  S toStatusOr() && {
    if constexpr (std::is_void_v<T>) {
      return status<S>();
    } else {
      return hasValue() ? S(std::move(value_)) : S(status());
    }
  }

  [[gnu::always_inline]] void reset() noexcept {
    if (outcome_ == Outcome::Value) {
      value_.~Stored();
    } else if (outcome_ == Outcome::Failure) [[unlikely]] {
      future_internal::releaseFailure(failure_);
    }
    outcome_ = Outcome::None;
  }

  // For the machinery of futures: a Try of a failure, whose reference it takes; and the reference from it.
  static Try fromFailure(Failure* failure) noexcept { return Try(FromFailure(), failure); }
  [[gnu::always_inline]] Failure* takeFailure() noexcept {
    if (!failed()) {
      return nullptr;
    }
    outcome_ = Outcome::None;
    return failure_;
  }
  // The failure of `other`, which is of another type, and failed.
  template <class U>
  static Try failureOf(Try<U>&& other) noexcept {
    return fromFailure(other.takeFailure());
  }
  // Null when it is none.
  const Failure* failure() const noexcept { return failed() ? failure_ : nullptr; }

private:
  struct FromFailure {};
  [[gnu::always_inline]] Try(FromFailure, Failure* failure) noexcept : failure_(failure), outcome_(Outcome::Failure) {}

  // Of the value: T may have an operator& of its own.
  [[gnu::always_inline]] void* memory() noexcept { return __builtin_addressof(value_); }

  void setStatus(const absl::Status& status) {
    if constexpr (std::is_void_v<T>) {
      if (future_internal::isOk(status)) {
        ::new (memory()) Unit();
        outcome_ = Outcome::Value;
        return;
      }
    }
    failure_ = future_internal::makeFailure(status);
    outcome_ = Outcome::Failure;
  }
  template <class StatusOr>
  void setStatusOr(StatusOr&& result) {
    if (result.ok()) {
      ::new (memory()) Stored(*std::forward<StatusOr>(result));
      outcome_ = Outcome::Value;
    } else {
      setStatus(result.status());
    }
  }

  [[gnu::always_inline]] void take(Try& other) noexcept {
    if (other.outcome_ == Outcome::Value) {
      ::new (memory()) Stored(std::move(other.value_));
      other.value_.~Stored();
    } else if (other.outcome_ == Outcome::Failure) [[unlikely]] {
      failure_ = other.failure_;
    }
    outcome_ = std::exchange(other.outcome_, Outcome::None);
  }
  void copy(const Try& other) {
    if (other.outcome_ == Outcome::Value) {
      ::new (memory()) Stored(other.value_);
    } else if (other.outcome_ == Outcome::Failure) {
      failure_ = future_internal::shareFailure(other.failure_);
    }
    outcome_ = other.outcome_;
  }
  void check() const {
    if (outcome_ != Outcome::Value) [[unlikely]] {
      future_internal::raise(failure());
    }
  }

  union {
    Stored value_;
    Failure* failure_;
  };
  Outcome outcome_ = Outcome::None;
};

}  // namespace nuncio
