#pragma once

#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <exception>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/future/internal/continuation.h"
#include "nuncio/future/internal/node.h"
#include "nuncio/future/internal/traits.h"
#include "nuncio/future/try.h"

// Futures that complete on a dispatcher.
//
//   Promise<int> promise;                                     // for the one who will know the answer, on any thread
//   Future<void> done = promise.semiFuture()                  // for the one who waits
//                           .via(dispatcher)                  // what follows runs on that dispatcher's thread
//                           .then([](int answer) { return fetch(answer); }) // a value, or a future of one
//                           .then([](std::string text) { print(text); })
//                           .thenError([](absl::Status status) { log(status); });
//
// A result is a Try: a value, a Status, or an exception. Failures skip then() and reach thenError(). Continuations of a
// dispatcher run in the order in which their futures became ready; when none waits before it, one that is attached to a
// ready future runs in place. Settling a promise never runs a continuation inside setValue().
//
// cancel() stops what the future waits for: the continuations that have not run never do, except ensure()'s, the
// promise learns of it (onCancel), and the future fails with Cancelled. A dispatcher that shuts down does the same to
// all that is pending on it. A dropped future goes on; when it fails, other than with Cancelled, that is logged with
// the place where it was made, unless it was detached.
//
// Cost: a ready future allocates nothing; a pending continuation takes about 80 bytes of a block that it shares with
// its neighbours. Header cost: this one includes neither abseil nor the dispatcher; include those to use them.
//
// Threads: a Future's methods may be called on any thread, by one at a time; elsewhere than on its dispatcher's thread
// they send it a task. docs/futures.md is a tour.
namespace nuncio {

template <class T>
class Promise;

template <class T>
class [[nodiscard]] Future {
  template <class U>
  friend class Future;
  template <class U>
  friend class SemiFuture;
  friend class Promise<T>;
  template <class U>
  friend class future_internal::InPlaceOut;
  template <class U, class Op>
  friend class future_internal::Continuation;
  friend struct future_internal::Access;

public:
  using ValueType = T;

  // No future: continuations get FailedPrecondition.
  Future() noexcept = default;
  // Ready, and of no dispatcher: its continuations run in place, on any thread.
  [[gnu::always_inline]] explicit Future(Try<T>&& result,
                                         std::source_location place = std::source_location::current()) noexcept
      : result_(std::move(result)), node_or_place_(std::bit_cast<void*>(place)) {}
  [[gnu::always_inline]] Future(Future&& other) noexcept
      : result_(std::move(other.result_)),
        node_or_place_(std::exchange(other.node_or_place_, nullptr)),
        loop_(std::exchange(other.loop_, nullptr)) {}
  Future& operator=(Future&& other) noexcept {
    if (this != &other) {
      drop(false);
      result_ = std::move(other.result_);
      node_or_place_ = std::exchange(other.node_or_place_, nullptr);
      loop_ = std::exchange(other.loop_, nullptr);
    }
    return *this;
  }
  // Does not cancel. See detach().
  [[gnu::always_inline]] ~Future() { drop(false); }

  bool valid() const { return result_.ready() || node_or_place_ != nullptr; }

  // Whether the result is there. On the dispatcher's thread; elsewhere false while the dispatcher would have to be
  // asked.
  bool isReady() const { return result_.ready() || doneHere(); }
  // The result. Only when it is ready.
  const Try<T>& result() & {
    takeIfDone();
    return result_;
  }

  // Runs `f` on the dispatcher's thread when the result is there.
  //
  // Its parameter decides for which results. An f that is declared with a Try<T>, by value or by reference, runs for
  // any; every other f takes the value (nothing, for void), and runs for a value only. So it is behind a std::function,
  // std::ref, bind_front and LifetimeGuard::wrap, too. An f with several signatures, or a generic one, as [](auto x),
  // takes the value if it can. std::bind's result does not compile.
  //
  // It returns a value, void, absl::Status, absl::StatusOr<U>, Try<U>, Future<U> or SemiFuture<U>, which all make a
  // Future<U>; an exception makes it fail. f is destroyed right after it ran. No allocation when it runs in place, at
  // most one otherwise; without memory for it, the result is ResourceExhausted.
  template <class F>
  [[gnu::always_inline]] auto then(F&& f, std::source_location place = std::source_location::current()) && {
    return std::move(*this).template chain<future_internal::Then<T, std::decay_t<F>>>({std::forward<F>(f)}, place);
  }
  // The same with a member function; `object`: a pointer, smart or not, that must be good until then.
  template <class Signature, class C, class Object>
    requires std::is_function_v<Signature>
  auto then(Signature C::* method, Object object, std::source_location place = std::source_location::current()) && {
    static_assert(requires { *object; }, "then(&Class::method, object): object is a pointer, smart or not");
    using Bound = future_internal::BoundMethod<Signature C::*, Object>;
    return std::move(*this).then(Bound{method, std::move(object)}, place);
  }

  // Runs `f` with the failure as an absl::Status; f returns what then() allows, of the same T. With a value the chain
  // has recovered, and goes on as if nothing had failed.
  template <class F>
  Future<T> thenError(F&& f, std::source_location place = std::source_location::current()) && {
    return std::move(*this).template chain<future_internal::ThenStatus<T, std::decay_t<F>>>({std::forward<F>(f)},
                                                                                            place);
  }
  // Runs `f` with an exception of type E or derived from it; leaves other failures alone. For StatusError that is any
  // failure with a Status, thrown or not; for another E, std::exception too, a Status has to have been thrown.
  template <class E, class F>
  Future<T> thenError(F&& f, std::source_location place = std::source_location::current()) && {
    return std::move(*this).template chain<future_internal::ThenException<T, E, std::decay_t<F>>>({std::forward<F>(f)},
                                                                                                  place);
  }

  // Runs `f`, which takes nothing, whatever came of it, also when it was cancelled; passes the result on. A failure of
  // f itself wins over a value, not over a failure. When f returns a Future<void> or SemiFuture<void>, waits for that.
  template <class F>
  Future<T> ensure(F&& f, std::source_location place = std::source_location::current()) && {
    return std::move(*this).template chain<future_internal::Ensure<T, std::decay_t<F>>>({std::forward<F>(f)}, place);
  }

  // Continues on another dispatcher.
  Future<T> via(Dispatcher& dispatcher, std::source_location place = std::source_location::current()) && {
    return std::move(*this).viaLoop(future_internal::loopOf(dispatcher), place);
  }
  // Gives up the dispatcher, for another thread to choose one, or to wait.
  SemiFuture<T> semi(std::source_location place = std::source_location::current()) &&;

  // Settles `promise` with the result, whatever it is; when the promise's future is cancelled, cancels this.
  void forwardTo(Promise<T>&& promise) &&;

  // Asks what it waits for to stop: promises learn of it (onCancel), timers are disarmed, frames of coroutines are
  // destroyed, from the inside out, and functions of ensure() run. On the dispatcher's thread that has happened when
  // this returns, and the result is Cancelled; but for what runs at the moment, ensure() functions that return a
  // future, and what is on other dispatchers: these take their time, the result comes when they have ended, and
  // cancelAndWait() (in nuncio/future/cancellation.h) waits for it. On another thread it is a request that is on its
  // way when this returns; without memory for that it is lost, and the future goes on. A result that is there already
  // stays.
  void cancel() {
    if (pending()) {
      cancelPending(nullptr);
    }
  }
  // The same with the status, not OK, that the promises' onCancel gets, and that the result will be; without memory for
  // it, that is Cancelled.
  void cancel(const absl::Status& reason) {
    if (pending()) {
      future_internal::Failure* const failure = future_internal::makeFailure(reason);
      cancelPending(failure);
      future_internal::releaseFailure(failure);
    }
  }

  // Lets it go on alone: a failure is not logged.
  void detach() && { drop(true); }

  // Waits for the result, on a thread without a loop; on a dispatcher's thread: FailedPrecondition.
  [[gnu::always_inline]] Try<T> get() && {
    if (result_.ready()) [[likely]] {
      releaseLoop();
      return takeReady();
    }
    Future self(std::move(*this));
    return self.getLater();
  }
  // The same with an end: OK when it is ready, DeadlineExceeded, or FailedPrecondition. The future remains.
  // Waiting again and again costs nothing more.
  template <class S = absl::Status>
  S wait(std::chrono::nanoseconds timeout);

private:
  using Node = future_internal::ResultNode<T>;
  using Reason = future_internal::Reason;
  explicit Future(Node* node) noexcept : node_or_place_(node) {}
  // `loop` is kept already.
  [[gnu::always_inline]] Future(Try<T>&& result, LoopCore* loop, std::source_location place) noexcept
      : result_(std::move(result)), node_or_place_(std::bit_cast<void*>(place)), loop_(loop) {}

  [[gnu::always_inline]] bool pending() const { return !result_.ready() && node_or_place_ != nullptr; }
  // While it is pending.
  [[gnu::always_inline]] Node* node() const { return static_cast<Node*>(node_or_place_); }
  [[gnu::always_inline]] Node* takeNode() { return static_cast<Node*>(std::exchange(node_or_place_, nullptr)); }
  // When it is ready.
  [[gnu::always_inline]] Try<T> takeReady() {
    node_or_place_ = nullptr;
    return std::move(result_);
  }
  std::source_location place() const { return std::bit_cast<std::source_location>(node_or_place_); }

  // Elsewhere than on the loop's thread, a node of its own carries the cancel there, and stands for this from then on:
  // the other one may be gone when the loop learns of it. With a reason, too: it brings that as its result.
  void cancelPending(const future_internal::Failure* reason);

  future_internal::WaitResult waitFor(int64_t nanoseconds);

  // takeIfDone() for a function: an item stays where it is when that has to wait its turn: from there it goes back when
  // nobody looks at it.
  void takeForFunction();
  bool doneHere() const;

  // Takes the result from a node that is done.
  void takeIfDone();
  [[gnu::noinline]] void takeElsewhere();
  [[gnu::noinline]] void takeFromNode();

  // What is ready goes on here, and is meant to vanish in the optimizer: nothing in it takes the address of this.
  template <class Op>
  [[gnu::always_inline]] Future<typename Op::Result> chain(Op op, std::source_location place);
  template <class Op>
  [[gnu::always_inline]] Future<typename Op::Result> runInPlace(Op& op, std::source_location place);

  [[gnu::noinline]] Try<T> getLater();

  template <class Op>
  [[gnu::noinline]] Future<typename Op::Result> chainLater(Op op, std::source_location place);

  // A future that failed, in place of one whose result nobody takes now.
  template <class U>
  Future<U> failure(Reason reason, const std::source_location& place);

  // A ready future as a node that waits its turn. False without memory, or when it is no future.
  bool toNode();

  Future<T> viaLoop(LoopCore& loop, const std::source_location& place) &&;

  [[gnu::always_inline]] void releaseLoop() {
    if (loop_ != nullptr) {
      std::exchange(loop_, nullptr)->release();
    }
  }

  [[gnu::always_inline]] void drop(bool quiet);

  Try<T> result_;                  // when it is ready
  void* node_or_place_ = nullptr;  // the node while it is pending; when it is ready, where it was made
  LoopCore* loop_ = nullptr;       // when it is ready: on which it became so, kept; null: none
};

static_assert(sizeof(Future<int>) <= 32);

// `value`: a T makes a Future<T>; an absl::StatusOr<T> or a Try<T> as well, and an absl::Status a Future<void>, failed
// or not.
template <class V, class T = future_internal::ResultOf<std::decay_t<V>>>
[[gnu::always_inline]] inline Future<T> makeReadyFuture(V&& value,
                                                        std::source_location place = std::source_location::current()) {
  static_assert(!future_internal::Flatten<std::decay_t<V>>::kIsFuture, "makeReadyFuture() of what is a future already");
  return Future<T>(Try<T>(std::forward<V>(value)), place);
}
inline Future<void> makeReadyFuture(std::source_location place = std::source_location::current()) {
  return Future<void>(Try<void>(Unit()), place);
}
// `failure`: an absl::Status that is not OK, or a std::exception_ptr.
template <class T, class Failure>
Future<T> makeFailedFuture(Failure&& failure, std::source_location place = std::source_location::current()) {
  using D = std::decay_t<Failure>;
  static_assert(std::is_same_v<D, absl::Status> || std::is_same_v<D, std::exception_ptr>,
                "makeFailedFuture<T>(failure) takes an absl::Status, or a std::exception_ptr: std::make_exception_ptr");
  return Future<T>(Try<T>(std::forward<Failure>(failure)), place);
}

}  // namespace nuncio

#include "nuncio/future/internal/future_impl.h"
