#pragma once

#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <new>
#include <type_traits>
#include <utility>

// What the traps share: coroutines of the standard library alone that start at once, return a Future and await others,
// as nuncio's do; and objects that notice when a compiler destroys them twice, not at all, or moves their bytes.
//
//   Future<void> form() {                                    // the code that some compiler gets wrong
//     const Counted counted(7);
//     const int seven = co_await callLater([counted] { return counted.value(); });
//     expect(seven == 7);
//   }
//   int main() { return runWholly(form); }                   // 0: the compiler is right, 1: it is wrong
//
// A program that crashes was compiled wrong, too. One thread.
namespace trap {

enum class Run {
  Waiting,    // each future has to be waited for
  Ready,      // no future has to be
  Destroyed,  // one wait ends with the destruction of the frames, as when nuncio cancels a coroutine
  Failing,    // one wait ends with an exception
};

inline Run run;
inline int strike;                                     // which wait ends so
inline int waits;                                      // that could have been struck
inline std::array<std::coroutine_handle<>, 64> queue;  // of what goes on next; a ring
inline std::size_t queued;
inline std::size_t resumed;
inline int living;  // objects of Counted
inline int frames;  // that exist
inline int mistakes;

inline void mistake(const char* what) {
  if (mistakes++ == 0) {
    std::printf("run %d, wait %d: %s\n", static_cast<int>(run), strike, what);
  }
}
// A condition of the form's own, for the runs that reach its end.
inline void expect(bool condition) {
  if (!condition && (run == Run::Waiting || run == Run::Ready)) {
    mistake("a wrong value");
  }
}

// Knows where it was constructed. A bitwise copy, which only a compiler makes, does not, and neither does one that has
// been destroyed.
class Counted {
public:
  explicit Counted(int value) : value_(value) { ++living; }
  Counted(const Counted& other) : value_(other.value()) { ++living; }
  Counted(Counted&& other) noexcept : value_(other.value()) {
    ++living;
    other.value_ = -1;
  }
  Counted& operator=(const Counted&) = delete;
  ~Counted() {
    check();
    self_ = nullptr;
    --living;
  }

  int value() const {
    check();
    return value_;
  }

private:
  void check() const {
    if (self_ != this) {
      mistake("an object is not where it was constructed, or has been destroyed");
    }
  }

  const Counted* self_ = this;
  int value_;
};

template <class T>
struct Result {
  ~Result() {
    if (ready) {
      value.~T();
    }
  }
  void drop() {
    if (--owners == 0) {
      delete this;
    }
  }

  int owners = 2;  // the future and the coroutine
  bool done = false;
  bool ready = false;  // `value` is there
  std::exception_ptr failure;
  std::coroutine_handle<> waiter;
  union {
    T value;
  };

  Result() {}  // NOLINT(modernize-use-equals-default): of a union without a value
};
struct Unit {};

template <class T>
class [[nodiscard]] Future {
public:
  using Value = std::conditional_t<std::is_void_v<T>, Unit, T>;

  explicit Future(Result<Value>& result) : result_(&result) {}
  Future(Future&& other) noexcept : result_(std::exchange(other.result_, nullptr)) {}
  Future& operator=(Future&&) = delete;
  ~Future() {
    if (result_ != nullptr) {
      result_->drop();
    }
  }

  Result<Value>& result() const { return *result_; }

private:
  Result<Value>* result_;
};

template <class T>
class Awaiter {
public:
  explicit Awaiter(Future<T>&& future) : future_(std::move(future)) {}
  Awaiter(const Awaiter&) = delete;
  Awaiter& operator=(const Awaiter&) = delete;

  bool await_ready() const { return future_.result().done; }
  void await_suspend(std::coroutine_handle<> frame) const { future_.result().waiter = frame; }
  T await_resume() {
    if (future_.result().failure != nullptr) {
      std::rethrow_exception(future_.result().failure);
    }
    if constexpr (!std::is_void_v<T>) {
      return std::move(future_.result().value);
    }
  }

private:
  Future<T> future_;
};

struct Yield {};
struct YieldAwaiter {
  bool await_ready() const { return run == Run::Ready; }
  void await_suspend(std::coroutine_handle<> frame) const { queue[queued++ % queue.size()] = frame; }
  void await_resume() const {
    if (run == Run::Failing && waits++ == strike) {
      throw std::bad_alloc();
    }
  }
};

template <class T>
class PromiseBase {
public:
  PromiseBase() { ++frames; }
  PromiseBase(const PromiseBase&) = delete;
  PromiseBase& operator=(const PromiseBase&) = delete;
  ~PromiseBase() {
    --frames;
    const std::coroutine_handle<> waiter = std::exchange(result_.waiter, nullptr);
    const bool destroyed = !result_.done;
    if (destroyed) {
      result_.failure = std::make_exception_ptr(std::bad_alloc());
      result_.done = true;
    }
    result_.drop();
    if (waiter && destroyed) {
      waiter.destroy();
    } else if (waiter) {
      queue[queued++ % queue.size()] = waiter;
    }
  }

  Future<T> get_return_object() { return Future<T>(result_); }
  std::suspend_never initial_suspend() const noexcept { return {}; }
  std::suspend_never final_suspend() const noexcept { return {}; }
  void unhandled_exception() {
    result_.failure = std::current_exception();
    result_.done = true;
  }
  template <class U>
  Awaiter<U> await_transform(Future<U>&& future) {
    return Awaiter<U>(std::move(future));
  }
  YieldAwaiter await_transform(Yield /*yield*/) { return {}; }

protected:
  Result<typename Future<T>::Value>& result_ = *new Result<typename Future<T>::Value>();
};
template <class T>
class Promise : public PromiseBase<T> {
public:
  template <class U>
  void return_value(U&& value) {
    new (&this->result_.value) T(std::forward<U>(value));
    this->result_.ready = true;
    this->result_.done = true;
  }
};
template <>
class Promise<void> : public PromiseBase<void> {
public:
  void return_void() { result_.done = true; }
};

}  // namespace trap

template <class T, class... Args>
struct std::coroutine_traits<trap::Future<T>, Args...> {
  using promise_type = trap::Promise<T>;
};

namespace trap {

// `value`, after a wait.
template <class T>
Future<T> later(T value) {
  co_await Yield();
  co_return std::move(value);
}
// What `f` gives, after a wait.
template <class F>
Future<std::invoke_result_t<F&>> callLater(F f) {
  co_await Yield();
  co_return f();
}

using Form = Future<void> (*)();

inline void runOnce(Form form, Run how, int which = 0) {
  run = how;
  strike = which;
  waits = 0;
  queued = 0;
  resumed = 0;
  const int before = living;
  {
    const Future<void> future = form();
    while (resumed != queued) {
      const std::coroutine_handle<> frame = queue[resumed++ % queue.size()];
      if (run == Run::Destroyed && waits++ == strike) {
        frame.destroy();
      } else {
        frame.resume();
      }
    }
    if (!future.result().done || (how <= Run::Ready && future.result().failure != nullptr)) {
      mistake("the end was not reached");
    }
  }
  if (living != before || frames != 0) {
    mistake(living < before ? "destroyed twice" : "never destroyed");
  }
  living = before;
  frames = 0;
}
// To its end.
[[nodiscard]] inline int runWholly(Form form) {
  runOnce(form, Run::Waiting);
  runOnce(form, Run::Ready);
  return mistakes == 0 ? 0 : 1;
}
// Each of its waits is the last one once.
[[nodiscard]] inline int runCutShort(Form form) {
  runOnce(form, Run::Waiting);
  const int count = static_cast<int>(resumed);
  for (int which = 0; which < count; ++which) {
    runOnce(form, Run::Destroyed, which);
    runOnce(form, Run::Failing, which);
  }
  return mistakes == 0 ? 0 : 1;
}

}  // namespace trap
