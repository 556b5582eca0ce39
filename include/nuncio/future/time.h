#pragma once

#include <chrono>
#include <cstdint>
#include <source_location>
#include <utility>

#include "nuncio/event/timer.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/combine.h"
#include "nuncio/future/internal/duration.h"

// Futures and time: sleepFor(), within(), delayed().
//
//   sleepFor(dispatcher, 100ms).then([] { ... });
//   within(connection.read(), 5s).thenError([](absl::Status status) { ... });  // DeadlineExceeded after 5 s
//   delayed(fetch(), 1s).then([](Page page) { ... });                          // not before 1 s from now
//
// Durations are std::chrono's, of any kind. A negative one: the future fails with InvalidArgument. One beyond 68 years
// is 68 years. Time is the dispatcher's, so that simulated time drives all of these. A timer fires on time or up to
// 33 us later (Timer::enableHRTimer).
//
// Cancelling any of them frees the timer, and what it waits for, at once; so does a dispatcher that shuts down.
//
// Threads: as Future's methods. Called on another thread than the dispatcher's, the time counts from when that thread
// gets to it. Cost: a stage and a timer.
namespace nuncio {
namespace future_internal {

// A running timer of `node`'s loop that calls `expired(node)`. On the loop's thread.
TimerPtr startTimer(Node& node, std::chrono::nanoseconds delay, void (*expired)(Node& node));
Failure* deadlineFailure(std::chrono::nanoseconds limit) noexcept;
Failure* negativeDuration(std::chrono::nanoseconds duration) noexcept;

// Both wait for an upstream and a timer.
template <class T>
class TimedNode : public ResultNode<T> {
public:
  TimedNode(ResultNode<T>& upstream, std::chrono::nanoseconds duration) : duration_(duration) {
    this->upstream_ = &upstream;
  }

protected:
  enum Phase : uint8_t { kStarting, kWaiting, kHolding, kFinished };

  ~TimedNode() = default;

  void start(void (*expired)(Node& node)) noexcept {
    this->phase_ = kWaiting;
    timer_ = startTimer(*this, duration_, expired);
    attachHere(*this->upstream_, *this);
    if (this->has(kCancelled)) {
      cancelNode(this->upstream_);
    }
  }
  // The upstream is done: takes its result, unless this has been cancelled.
  void takeResultHere() noexcept {
    this->result_ = takeInput<T>(*this);
    if (this->has(kCancelled) || this->loop_->closing()) {
      this->set(kNoResult);
      this->result_.reset();
    }
  }
  void finish() noexcept {
    this->phase_ = kFinished;
    timer_.reset();
    complete(*this);
  }

  const std::chrono::nanoseconds duration_;
  TimerPtr timer_;
};

template <class T>
class WithinNode final : public TimedNode<T> {
  using Base = TimedNode<T>;

public:
  using Base::Base;

  void runTask() noexcept override {
    if (this->phase_ == Base::kStarting) {
      this->start([](Node& node) { static_cast<WithinNode&>(node).strike(); });
    } else {
      this->takeResultHere();
      this->finish();
    }
  }
  const char* kind() const noexcept override { return "within"; }

private:
  void destroy() noexcept override { this->~WithinNode(); }

  void strike() noexcept {
    if (this->upstream_->has(kDone)) {
      return;  // the task for it is on its way
    }
    this->result_ = Try<T>::fromFailure(deadlineFailure(this->duration_));
    abandonUpstream(*this);  // may run functions of users, which may do anything to this one's future
    this->finish();
  }
};

template <class T>
class DelayedNode final : public TimedNode<T>, public PendingOperation {
  using Base = TimedNode<T>;

public:
  using Base::Base;

  void runTask() noexcept override {
    if (this->phase_ == Base::kStarting) {
      this->start([](Node& node) { static_cast<DelayedNode&>(node).expire(); });
      return;
    }
    this->takeResultHere();
    if (this->timer_ == nullptr || this->has(kNoResult)) {
      this->finish();
    } else {
      this->phase_ = Base::kHolding;
      this->loop_->addPending(*this);
    }
  }
  void cancelHere() noexcept override {
    if (this->phase_ == Base::kHolding) {
      unlist();
      abandonOperation();
    }
  }
  const char* kind() const noexcept override { return "delayed"; }

private:
  void destroy() noexcept override { this->~DelayedNode(); }
  void abandonOperation() noexcept override {
    this->phase_ = Base::kFinished;  // the result's destructor may cancel this
    this->result_.reset();
    this->set(kNoResult);
    this->finish();
  }
  void expire() noexcept {
    if (this->phase_ == Base::kHolding) {
      unlist();
      this->finish();
    } else {
      this->timer_.reset();
    }
  }
};

// Makes `future`, which is pending, wait for a timer too.
template <template <class> class N, class T>
Future<T> timed(Future<T>&& future, std::chrono::nanoseconds duration, const std::source_location& place) {
  ResultNode<T>& upstream = *Access::node(future);
  TaskQueue* const loop = upstream.loop_;
  N<T>* const node = loop->ended() ? nullptr : makeNode<N<T>>(&upstream, loop, place, upstream, duration);
  if (node == nullptr) {
    const Reason reason = loop->ended() ? Reason::LoopGone : Reason::NoMemory;
    abandon(future);
    return Future<T>(failed<T>(reason), place);
  }
  if (!startNode(*node)) {
    node->free();
    abandon(future);
    return Future<T>(failed<T>(Reason::LoopGone), place);
  }
  Access::takeNode(future);
  return Access::future<T>(node);
}

template <class T>
Future<T> refuseNegative(Future<T>&& future, std::chrono::nanoseconds duration, const std::source_location& place) {
  abandon(future);
  return Future<T>(Try<T>::fromFailure(negativeDuration(duration)), place);
}

}  // namespace future_internal

// Done after `delay`. 0: in the next iteration. Any thread.
template <class Rep, class Period>
Future<void> sleepFor(Dispatcher& dispatcher, std::chrono::duration<Rep, Period> delay,
                      std::source_location place = std::source_location::current()) {
  return future_internal::sleepOn(&future_internal::taskQueueOf(dispatcher), future_internal::inNanoseconds(delay),
                                  place);
}

// The result of `future`, when it comes within `limit` from now; otherwise DeadlineExceeded, and `future` is cancelled.
// A result that is there when the deadline strikes wins: `future` was ready, though what waits for it has not run yet;
// a value that another thread has set and that has not reached the dispatcher's thread is not there. Timers with equal
// deadlines fire in the order of arming: within(sleepFor(d, 5ms), 5ms) succeeds. A ready future is passed on as it is.
template <class T, class Rep, class Period>
Future<T> within(Future<T>&& future, std::chrono::duration<Rep, Period> limit,
                 std::source_location place = std::source_location::current()) {
  const std::chrono::nanoseconds nanoseconds = future_internal::inNanoseconds(limit);
  if (nanoseconds.count() < 0) {
    return future_internal::refuseNegative(std::move(future), nanoseconds, place);
  }
  future_internal::Access::settle(future);
  if (future_internal::Access::node(future) == nullptr) {
    return std::move(future);
  }
  return future_internal::timed<future_internal::WithinNode>(std::move(future), nanoseconds, place);
}

// The result of `future`, value or failure, but not before `delay` from now. A ready future that has no dispatcher
// waits on the one of this thread; where there is none: FailedPrecondition.
template <class T, class Rep, class Period>
Future<T> delayed(Future<T>&& future, std::chrono::duration<Rep, Period> delay,
                  std::source_location place = std::source_location::current()) {
  const std::chrono::nanoseconds nanoseconds = future_internal::inNanoseconds(delay);
  if (nanoseconds.count() < 0) {
    return future_internal::refuseNegative(std::move(future), nanoseconds, place);
  }
  future_internal::Access::settle(future);
  if (!future.valid()) {
    return std::move(future);
  }
  if (future_internal::Access::node(future) != nullptr) {
    return future_internal::timed<future_internal::DelayedNode>(std::move(future), nanoseconds, place);
  }
  TaskQueue* loop = future_internal::Access::loop(future);
  loop = loop != nullptr ? loop : TaskQueue::current();
  return future_internal::sleepOn(loop, nanoseconds, place)
      .then([result = future_internal::Access::takeResult(future)]() mutable { return std::move(result); }, place);
}

}  // namespace nuncio
