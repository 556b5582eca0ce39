#pragma once

#include <cstdint>
#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/future/internal/node.h"
#include "nuncio/future/internal/traits.h"

// The stages of a chain: what then(), thenError() and ensure() make; for future.h.
namespace nuncio::future_internal {

// An operation takes the Try of what came before to a result. One whose function returns no future has
//   Try<Result> apply(Try<T>&& input)
// and one whose function does has
//   void applyTo(Try<T>&& input, Out& out)    which gives a Try or a future to `out`, once
// and both have
//   Result                 the type of the result
//   kReturnsFuture
//   kRunsWhenCancelled     also where the future was cancelled, or its loop shuts down
//   kKind                  for traces

template <class F, class... Args>
inline constexpr bool kFutureFrom = Flatten<std::remove_cvref_t<std::invoke_result_t<F&, Args...>>>::kIsFuture;

// Calls `f`, which does not return a future.
template <class U, class F, class... Args>
[[gnu::always_inline]] inline Try<U> callInto(F& f, Args&&... args) noexcept {
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
    return Try<U>(std::current_exception());
  }
}

// Calls `f`, which does.
template <class U, class Out, class F, class... Args>
void callForFuture(Out& out, F& f, Args&&... args) noexcept {
  static_assert(std::is_same_v<U, ResultOf<std::invoke_result_t<F&, Args...>>>,
                "the function returns a future of another type than that of the future that it is given to");
  try {
    out.future(f(std::forward<Args>(args)...));
  } catch (...) {
    out.result(Try<U>(std::current_exception()));
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

  [[gnu::always_inline]] Try<Result> apply(Try<T>&& input) noexcept {
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
  void applyTo(Try<T>&& input, Out& out) noexcept {
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

  Try<Result> apply(Try<T>&& input) noexcept { return callInto<Result>(f, std::move(input)); }
  template <class Out>
  void applyTo(Try<T>&& input, Out& out) noexcept {
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

  Try<void> apply(Try<T>&&) noexcept { return {}; }

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

  Try<T> apply(Try<T>&& input) noexcept { return input.failed() ? callInto<T>(f, input.status()) : std::move(input); }
  template <class Out>
  void applyTo(Try<T>&& input, Out& out) noexcept {
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

  Try<T> apply(Try<T>&& input) noexcept {
    Try<T> result;
    const bool handled = handle(input, [&](E& e) { result = callInto<T>(f, e); });
    return handled ? std::move(result) : std::move(input);
  }
  template <class Out>
  void applyTo(Try<T>&& input, Out& out) noexcept {
    if (!handle(input, [&](E& e) { callForFuture<T>(out, f, e); })) {
      out.result(std::move(input));
    }
  }

  F f;

private:
  // False when it is no E. A Status that was never thrown is a StatusError, and nothing else.
  template <class Call>
  static bool handle(const Try<T>& input, Call call) noexcept {
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
    } catch (...) {  // NOLINT(bugprone-empty-catch): passed on
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

  Try<T> apply(Try<T>&& input) noexcept { return choose(callInto<void>(f), std::move(input)); }
  template <class Out>
  void applyTo(Try<T>&& input, Out& out) noexcept {
    try {
      auto done = out.onLoop(f());
      if (done.isReady()) {  // at once, also where a continuation would have to wait for its turn
        out.result(choose(std::move(done).get(), std::move(input)));
        return;
      }
      out.future(std::move(done).then(
          [input = std::move(input)](Try<void>&& late) mutable { return choose(std::move(late), std::move(input)); }));
    } catch (...) {
      out.result(choose(Try<void>(std::current_exception()), std::move(input)));
    }
  }
  static Try<T> choose(Try<void>&& done, Try<T>&& input) {
    return done.failed() && !input.failed() ? Try<T>::failureOf(std::move(done)) : std::move(input);
  }

  F f;
};

// Makes a stage from an operation.
template <class T, class Op>
class Stage final : public ResultNode<typename Op::Result> {
public:
  using U = typename Op::Result;

  explicit Stage(Op&& op) noexcept(std::is_nothrow_move_constructible_v<Op>) : op_(std::move(op)) {}
  ~Stage() {
    if (this->phase_ == kWaiting) {
      op_.~Op();
    }
  }

  const char* kind() const noexcept override { return this->phase_ == kForwarding ? "returned future" : Op::kKind; }

  void runTask() noexcept override {
    if (this->phase_ == kForwarding) {
      takeForwarded();
      complete(*this);
      return;
    }
    if (this->loop_->closing()) {
      this->set(kCancelled);
    }
    Try<T> input;
    if (this->has(kCancelled)) {
      if constexpr (!Op::kRunsWhenCancelled) {
        if (this->upstream_ != nullptr) {
          discardInput(*this);
        }
        endOp();
        this->set(kNoResult);
        complete(*this);
        return;
      }
      // That was for what came before; what this starts stops when it is asked again.
      this->unset(kCancelled | kEnding);
      input = this->upstream_ != nullptr ? takeInput<T>(*this) : Try<T>();
      if (!input.failed()) {
        input = failed<T>(this->loop_->closing() ? Reason::LoopGone : Reason::Cancelled);
      }
    } else {
      input = takeInput<T>(*this);
    }
    if constexpr (Op::kReturnsFuture) {
      op_.applyTo(std::move(input), *this);
    } else {
      this->result_ = op_.apply(std::move(input));
    }
    endOp();
    if (this->phase_ == kForwarding) {
      forward();
    } else {
      complete(*this);
    }
  }

  Op& op() { return op_; }

  // For the operation.
  void result(Try<U>&& result) noexcept { this->result_ = std::move(result); }
  template <class AnyFuture>
  void future(AnyFuture&& inner) noexcept;
  template <class AnyFuture>
  auto onLoop(AnyFuture&& inner) noexcept;

private:
  enum Phase : uint8_t { kWaiting, kFinished, kForwarding };

  void destroy() noexcept override { this->~Stage(); }

  void endOp() noexcept {
    op_.~Op();
    this->phase_ = inner_ != nullptr ? kForwarding : kFinished;
  }

  void takeForwarded() noexcept {
    if (this->upstream_ == nullptr) {  // a circle, of which this was taken out
      this->set(kNoResult);
    } else if (this->has(kCancelled)) {
      discardInput(*this);
      this->set(kNoResult);
    } else {
      this->result_ = takeInput<U>(*this);
    }
  }

  // The function's own future takes the place of this stage, where somebody waits for this already; so that a function
  // that returns futures for ever does not pile up stages.
  void forward() noexcept {
    ResultNode<U>& inner = *std::exchange(inner_, nullptr);
    if (this->has(kCancelled)) {
      cancelNode(&inner);
    }
    Node* consumer = this->downstream_;
    if (consumer == nullptr && this->has(kDropped)) {
      dropFromHandle(inner, this->has(kQuiet));
      this->leave();
      return;
    }
    if (consumer == nullptr) {
      this->unset(kQueued);
      consumer = this;
    }
    attachHere(inner, *consumer);
    if (!inner.has(kDone) && !consumer->linked()) {
      this->loop_->addWaiting(*consumer);
    }
    if (consumer != this) {
      this->leave();
    }
  }

  union {
    Op op_;
  };
  ResultNode<U>* inner_ = nullptr;
};

// A stage with a large function, which has an allocation of its own that is freed when the function ran, while the
// stage and its neighbours may last.
template <class Op>
struct BoxedOp {
  using Result = typename Op::Result;
  static constexpr bool kReturnsFuture = Op::kReturnsFuture;
  static constexpr bool kRunsWhenCancelled = Op::kRunsWhenCancelled;
  static constexpr const char* kKind = Op::kKind;

  explicit BoxedOp(Op* boxed) noexcept : op(boxed) {}
  BoxedOp(BoxedOp&& other) noexcept : op(std::exchange(other.op, nullptr)) {}
  BoxedOp& operator=(BoxedOp&&) = delete;
  ~BoxedOp() { delete op; }

  template <class T>
  auto apply(Try<T>&& input) noexcept {
    return op->apply(std::move(input));
  }
  template <class T, class Out>
  void applyTo(Try<T>&& input, Out& out) noexcept {
    op->applyTo(std::move(input), out);
  }

  Op* op;  // owned
};
inline constexpr std::size_t kMaxOpInStage = 1024;

// Null without memory: then `op` is as it was. Throws what moving it throws.
template <class T, class Op>
ResultNode<typename Op::Result>* makeStage(Node& upstream, const std::source_location& place, Op&& op) {
  if constexpr (sizeof(Op) <= kMaxOpInStage) {
    return makeNode<Stage<T, Op>>(&upstream, upstream.loop_, place, std::move(op));
  } else {
    Op* const boxed = new (std::nothrow) Op(std::move(op));
    if (boxed == nullptr) {
      return nullptr;
    }
    return makeNode<Stage<T, BoxedOp<Op>>>(&upstream, upstream.loop_, place, BoxedOp<Op>(boxed));
  }
}

// For an operation that returns a future, and runs without a stage.
// `loop` is kept, and goes to the future.
template <class U>
class InPlaceOut {
public:
  InPlaceOut(TaskQueue* loop, const std::source_location& place) : loop_(loop), place_(place) {}
  void result(Try<U>&& result) noexcept;
  template <class AnyFuture>
  void future(AnyFuture&& inner) noexcept;
  template <class AnyFuture>
  auto onLoop(AnyFuture&& inner) noexcept;
  Future<U> take() && { return std::move(future_); }

private:
  TaskQueue* loop_;
  const std::source_location place_;
  Future<U> future_;
};

}  // namespace nuncio::future_internal
