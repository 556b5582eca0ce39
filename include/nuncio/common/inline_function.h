#pragma once

#include <cstddef>
#include <cstring>
#include <functional>
#include <new>
#include <type_traits>
#include <typeinfo>
#include <utility>

namespace nuncio {

template <class Signature, std::size_t kCapacity>
class InlineFunction;

namespace inline_function_internal {
template <class T>
inline constexpr bool kMayBeNull = std::is_pointer_v<T> || std::is_member_pointer_v<T>;
template <class S>
inline constexpr bool kMayBeNull<std::function<S>> = true;
template <class S, std::size_t kOther>
inline constexpr bool kMayBeNull<InlineFunction<S, kOther>> = true;

// Whether moving a T to another place and destroying what was moved from comes to a copy of its bytes. Known of what is
// trivially copyable; other types can say it of themselves, by `using TriviallyRelocatable = void`.
template <class T>
inline constexpr bool kTriviallyRelocatable =
    std::is_trivially_copyable_v<T> || requires { typename T::TriviallyRelocatable; };

// By which type a callable goes: its own, or that of the function of a user's that it calls, which it names by `using
// CallsFunction = F`.
template <class T>
struct NamedBy {
  using Type = T;
};
template <class T>
  requires requires { typename T::CallsFunction; }
struct NamedBy<T> {
  using Type = typename T::CallsFunction;
};
#ifdef __cpp_rtti
template <class T>
inline constexpr const std::type_info* kTypeOf = &typeid(typename NamedBy<T>::Type);
#else
template <class T>
inline constexpr const std::type_info* kTypeOf = nullptr;
#endif
}  // namespace inline_function_internal

// CallableType: which type of callable an InlineFunction holds, whatever its signature; one constant for each.
struct CallableType {
  const std::type_info* type;  // null in a program that is compiled without run-time type information
};

// InlineFunction: a move-only, type-erased callable that keeps captures of up to `kCapacity` bytes within itself.
//
//   InlineFunction<void(), 48> close = [connection = std::move(connection)] { connection->close(); };
//   close();
//
// A capture that is larger, over-aligned, or whose move may throw, is put on the heap: one allocation, freed with the
// function. absl::AnyInvocable does the same with a fixed capacity of 16 bytes, which is why it does not serve here.
//
// Empty after default construction, from nullptr, from a null pointer or an empty std::function, and once moved from.
// Calling an empty one is undefined. Threads: those of the callable.
template <class R, class... Args, std::size_t kCapacity>
class InlineFunction<R(Args...), kCapacity> {
public:
  // What is known of the callable's type; one constant for each type.
  struct Operations : CallableType {
    R (*invoke)(void* storage, Args... args);
    // Moves to raw memory, and destroys what was moved from: it may run functions of users. Null where a copy of the
    // bytes will do.
    void (*relocate)(void* to, void* from) noexcept;
    void (*destroy)(void* storage) noexcept;  // null where there is nothing to do
    std::size_t size;                         // bytes in use, a multiple of the alignment
  };
  static constexpr std::size_t kAlignment = alignof(void*);

  InlineFunction() noexcept = default;
  InlineFunction(std::nullptr_t) noexcept {}  // NOLINT(google-explicit-constructor): as with std::function

  template <class F, class D = std::decay_t<F>,
            class = std::enable_if_t<!std::is_same_v<D, InlineFunction> && std::is_invocable_r_v<R, D&, Args...>>>
  InlineFunction(F&& f) {  // NOLINT(google-explicit-constructor): as with std::function
    if constexpr (inline_function_internal::kMayBeNull<D>) {
      if (f == nullptr) {
        return;
      }
    }
    if constexpr (kFitsInline<D>) {
      ::new (static_cast<void*>(storage_)) D(std::forward<F>(f));
      operations_ = &kInlineOperations<D>;
    } else {
      ::new (static_cast<void*>(storage_)) D*(new D(std::forward<F>(f)));
      operations_ = &kHeapOperations<D>;
    }
  }

  InlineFunction(InlineFunction&& other) noexcept { take(other); }
  InlineFunction& operator=(InlineFunction&& other) noexcept {
    if (this != &other) {
      reset();
      take(other);
    }
    return *this;
  }
  InlineFunction& operator=(std::nullptr_t) noexcept {
    reset();
    return *this;
  }
  InlineFunction(const InlineFunction&) = delete;
  InlineFunction& operator=(const InlineFunction&) = delete;
  ~InlineFunction() { reset(); }

  R operator()(Args... args) { return operations_->invoke(storage_, std::forward<Args>(args)...); }

  explicit operator bool() const noexcept { return operations_ != nullptr; }
  friend bool operator==(const InlineFunction& f, std::nullptr_t) noexcept { return f.operations_ == nullptr; }

  // For containers that store callables back to back: null when empty.
  const Operations* operations() const noexcept { return operations_; }
  // Moves the bare callable to `to`, which has room for `operations()->size` bytes at `kAlignment`; leaves this empty.
  // Not to be called when empty.
  void relocateTo(void* to) noexcept {
    if (operations_->relocate == nullptr) {
      relocateBytesTo(to);
    } else {
      std::exchange(operations_, nullptr)->relocate(to, storage_);
    }
  }
  // The same for a callable of which a copy of the bytes will do: one without `relocate`.
  void relocateBytesTo(void* to) noexcept {
    const std::size_t size = std::exchange(operations_, nullptr)->size;
    for (std::size_t i = 0; i < size; i += sizeof(void*)) {  // mostly one or two: no call of memcpy
      std::memcpy(static_cast<std::byte*>(to) + i, storage_ + i, sizeof(void*));
    }
  }

private:
  static_assert(kCapacity >= sizeof(void*) && kCapacity % kAlignment == 0);

  template <class D>
  static constexpr bool kFitsInline =
      sizeof(D) <= kCapacity && alignof(D) <= kAlignment && std::is_nothrow_move_constructible_v<D>;
  static constexpr std::size_t roundUp(std::size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }
  template <class T>
  static T* stored(void* storage) noexcept {
    return std::launder(static_cast<T*>(storage));
  }

  template <class D>
  static R call(D& callable, Args... args) {
    if constexpr (std::is_void_v<R>) {
      std::invoke(callable, std::forward<Args>(args)...);
    } else {
      return std::invoke(callable, std::forward<Args>(args)...);
    }
  }

  template <class D>
  static constexpr Operations kInlineOperations{
      {inline_function_internal::kTypeOf<D>},
      [](void* storage, Args... args) -> R { return call<D>(*stored<D>(storage), std::forward<Args>(args)...); },
      inline_function_internal::kTriviallyRelocatable<D> ? nullptr : +[](void* to, void* from) noexcept {
        D* source = stored<D>(from);
        ::new (to) D(std::move(*source));
        source->~D();
      },
      std::is_trivially_destructible_v<D> ? nullptr : +[](void* storage) noexcept { stored<D>(storage)->~D(); },
      roundUp(sizeof(D))};

  template <class D>
  static constexpr Operations kHeapOperations{
      {inline_function_internal::kTypeOf<D>},
      [](void* storage, Args... args) -> R { return call<D>(**stored<D*>(storage), std::forward<Args>(args)...); },
      nullptr,
      [](void* storage) noexcept { delete *stored<D*>(storage); },
      sizeof(D*)};

  void take(InlineFunction& other) noexcept {
    if (other.operations_ != nullptr) {
      operations_ = other.operations_;
      other.relocateTo(storage_);
    }
  }

  void reset() noexcept {
    if (operations_ != nullptr) {
      const Operations* operations = std::exchange(operations_, nullptr);
      if (operations->destroy != nullptr) {
        operations->destroy(storage_);
      }
    }
  }

  const Operations* operations_ = nullptr;
  alignas(kAlignment) std::byte storage_[kCapacity];
};

}  // namespace nuncio
