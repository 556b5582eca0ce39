#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <type_traits>

#include "absl/base/config.h"

#ifndef __cpp_exceptions
#error "nuncio's futures keep and throw exceptions: compile what includes them without -fno-exceptions"
#endif

// Which types may be values, and what a failure is; for try.h.
namespace absl {
ABSL_NAMESPACE_BEGIN
class Status;
template <class T>
class StatusOr;
ABSL_NAMESPACE_END
}  // namespace absl

namespace nuncio {

class StatusError;
template <class T>
class Try;
template <class T>
class Future;
template <class T>
class SemiFuture;

// The value of a void future where a type is needed.
struct Unit {
  friend constexpr bool operator==(Unit, Unit) { return true; }
};

namespace future_internal {

enum class Outcome : uint8_t { None, Value, Failure };

template <class T, template <class> class Of>
inline constexpr bool kIs = false;
template <class U, template <class> class Of>
inline constexpr bool kIs<Of<U>, Of> = true;

// What is never the value of a T, but a result already, or what it will come from.
template <class D>
inline constexpr bool kIsResult = std::is_same_v<D, absl::Status> || std::is_same_v<D, std::exception_ptr> ||
                                  kIs<D, absl::StatusOr> || kIs<D, Try> || kIs<D, Future> || kIs<D, SemiFuture>;
template <class T>
inline constexpr bool kMayBeValue = std::is_void_v<T> ? std::is_same_v<T, void>
                                                      : std::is_object_v<T> && !std::is_array_v<T> &&
                                                            std::is_same_v<T, std::remove_cv_t<T>> && !kIsResult<T>;

template <class T>
using Stored = std::conditional_t<std::is_void_v<T> || !kMayBeValue<T>, Unit, T>;

// Whether moving and destroying a value runs no function of users.
template <class T>
inline constexpr bool kMovesTrivially =
    std::is_trivially_move_constructible_v<Stored<T>> && std::is_trivially_destructible_v<Stored<T>>;

// Fails to compile, with what to use instead, where a Try, a Future or a Promise of T makes no sense.
template <class T>
struct CheckValue {
  static_assert(!std::is_same_v<T, absl::Status>, "a future of absl::Status: use void, which fails with a Status");
  static_assert(!kIs<T, absl::StatusOr>, "a future of absl::StatusOr<U>: use U, which fails with a Status");
  static_assert(!std::is_same_v<T, std::exception_ptr>,
                "a future of std::exception_ptr: use void, or the type of the value; both may fail with an exception");
  static_assert(!kIs<T, Try>, "a future of Try<U>: use U; what a future brings is a Try<U> already");
  static_assert(!kIs<T, Future> && !kIs<T, SemiFuture>,
                "a future of a future of U: use U; a function of then() that returns a future makes a Future<U>");
  static_assert(!std::is_reference_v<T>, "a future of a reference: use a pointer, or a std::reference_wrapper");
  static_assert(std::is_reference_v<T> || std::is_same_v<T, std::remove_cv_t<T>>,
                "a future of a const or volatile type: leave out const and volatile");
  static_assert(!std::is_array_v<T>, "a future of an array: use a std::array, or a std::string");
  static_assert(!std::is_function_v<T>, "a future of a function: use a pointer to it, or a std::function");
  static_assert(alignof(Stored<T>) <= 16, "a future of a type with an alignment above 16: use a std::unique_ptr to it");
  static_assert(std::is_nothrow_move_constructible_v<Stored<T>>,
                "a future of a type whose move may throw, or that does not move: declare its move constructor "
                "noexcept, or use a std::unique_ptr to it");
  static constexpr bool kOk = true;
};

// A failure: an absl::Status or a std::exception_ptr, shared by those who hold a reference.
class Failure;
// Each returns a reference. An OK status is an error, too: Internal. Without memory: ResourceExhausted.
Failure* makeFailure(const absl::Status& status) noexcept;
Failure* makeFailure(std::exception_ptr exception) noexcept;
Failure* shareFailure(const Failure* failure) noexcept;
void releaseFailure(Failure* failure) noexcept;
bool isException(const Failure* failure) noexcept;  // and no StatusError
bool wasThrown(const Failure* failure) noexcept;    // it is an exception, perhaps a StatusError
bool isOk(const absl::Status& status);
// Null: there is no result yet.
void assignStatus(const Failure* failure, absl::Status* status) noexcept;
std::exception_ptr exceptionOf(const Failure* failure);
[[noreturn]] void raise(const Failure* failure);

}  // namespace future_internal

}  // namespace nuncio
