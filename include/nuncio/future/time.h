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
// Cancelling any of them frees the timer at once, and asks what it waits for to stop; so does a dispatcher that shuts
// down. Without memory for the timer they fail with ResourceExhausted.
//
// Threads: as Future's methods. Called on another thread than the dispatcher's, the time counts from when that thread
// gets to it. Cost: a stage and a timer.
namespace nuncio {
namespace future_internal {

// A running timer of `node`'s loop that calls `expired(node)`; null without memory. On the loop's thread.
TimerPtr startTimer(Node& node, std::chrono::nanoseconds delay, void (*expired)(Node& node)) noexcept;
Failure* deadlineFailure(std::chrono::nanoseconds limit) noexcept;
Failure* negativeDuration(std::chrono::nanoseconds duration) noexcept;

// Both wait for an upstream and a timer. Pending as long as they have a timer, which is not to outlive the loop: what
// they wait for may, when it is on another dispatcher.
template <class T>
class TimedNode : public ResultNode<T>, public PendingOperation {
public:
  TimedNode(ResultNode<T>& upstream, std::chrono::nanoseconds duration) : duration_(duration) {
    this->upstream_ = &upstream;
  }

protected:
  // kEndingUpstream: it has a result of its own, and waits for the end of what it asked to stop.
  enum Phase : uint8_t { kStarting, kWaiting, kHolding, kEndingUpstream, kFinished };

  ~TimedNode() = default;

  void start(void (*expired)(Node& node)) noexcept {
    this->phase_ = kWaiting;
    this->unset(kQueued);
    attachHere(*this->upstream_, *this);
    if (this->has(kCancelled)) {
      cancelNode(this->upstream_);
      return;
    }
    timer_ = startTimer(*this, duration_, expired);
    if (timer_ == nullptr) {
      endUpstream(failureFor(Reason::NoMemory));
    } else {
      this->loop_->addPending(*this);
    }
  }
  // Takes the reference to `failure`: that is the result, as soon as the upstream has ended.
  void endUpstream(Failure* failure) noexcept {
    this->result_ = Try<T>::fromFailure(failure);
    this->phase_ = kEndingUpstream;
    dropTimer();
    this->set(kEnding);
    cancelNode(this->upstream_);  // may complete this, and run functions of users that do anything to its future
  }
  // The upstream is done. Its result stays where it is until somebody looks at it.
  void upstreamDone() noexcept {
    if (this->phase_ == kEndingUpstream) {
      if (this->upstream_ != nullptr) {
        discardInput(*this);
      }
    } else if (this->has(kCancelled) || this->loop_->closing()) {
      if (this->upstream_ != nullptr) {
        discardInput(*this);
      }
      this->set(kNoResult);
    } else {
      this->set(kPasses);
    }
  }
  void finish() noexcept {
    this->phase_ = kFinished;
    dropTimer();
    complete(*this);
  }
  void dropTimer() noexcept {
    unlist();
    timer_.reset();
  }
  void abandonOperation() noexcept override {
    timer_.reset();
    cancelNode(this);
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
      this->upstreamDone();
      this->finish();
    }
  }
  const char* kind() const noexcept override { return "within"; }

private:
  void destroy() noexcept override { this->~WithinNode(); }

  void strike() noexcept {
    if (!this->upstream_->has(kDone)) {  // else the task for it is on its way
      this->endUpstream(deadlineFailure(this->duration_));
    }
  }
};

template <class T>
class DelayedNode final : public TimedNode<T> {
  using Base = TimedNode<T>;

public:
  using Base::Base;

  void runTask() noexcept override {
    switch (this->phase_) {
      case Base::kStarting:
        this->start([](Node& node) { static_cast<DelayedNode&>(node).expire(); });
        break;
      case Base::kHolding:  // cancelled
        this->unset(kPasses);
        discardInput(*this);
        this->set(kNoResult);
        this->finish();
        break;
      default:
        this->upstreamDone();
        if (this->timer_ == nullptr || !this->has(kPasses)) {
          this->finish();
        } else {
          this->phase_ = Base::kHolding;
          this->unset(kQueued);
        }
    }
  }
  Node* stopHere(const Failure* /*reason*/) noexcept override {
    if (this->phase_ == Base::kHolding) {
      this->set(kQueued);
      this->loop_->addEnding(*this);
    }
    return nullptr;
  }
  const char* kind() const noexcept override { return "delayed"; }

private:
  void destroy() noexcept override { this->~DelayedNode(); }
  void expire() noexcept {
    if (this->phase_ == Base::kHolding) {
      this->finish();
    } else {
      this->dropTimer();
    }
  }
};

// Makes `future`, which is pending, wait for a timer too.
template <template <class> class N, class T>
Future<T> timed(Future<T>&& future, std::chrono::nanoseconds duration, const std::source_location& place) {
  ResultNode<T>& upstream = *Access::node(future);
  TaskQueue* const loop = upstream.loop_;
  N<T>* const node = makeNode<N<T>>(&upstream, loop, place, upstream, duration);
  if (node == nullptr) {
    letGo(future);
    return Future<T>(failed<T>(Reason::NoMemory), place);
  }
  Access::takeNode(future);
  startNode(*node);
  return Access::future<T>(node);
}

}  // namespace future_internal

// Done after `delay`. 0: in the next iteration. Any thread.
template <class Rep, class Period>
Future<void> sleepFor(Dispatcher& dispatcher, std::chrono::duration<Rep, Period> delay,
                      std::source_location place = std::source_location::current()) {
  return future_internal::sleepOn(&future_internal::taskQueueOf(dispatcher), future_internal::inNanoseconds(delay),
                                  place);
}

// The result of `future`, when it comes within `limit` from now; otherwise DeadlineExceeded, and `future` is cancelled,
// and has ended when the result is given. Mostly that is at once; but where it waits for another dispatcher, as in
// within(submit(worker, blocked), 1ms), it takes until that answers. within(abandon(f), d) is a hard deadline
// (cancellation.h): then f must own what it uses. A result that is there when the deadline strikes wins: `future` was
// ready, though what waits for it has not run yet; a value that another thread has set and that has not reached the
// dispatcher's thread is not there. Timers with equal deadlines fire in the order of arming: within(sleepFor(d, 5ms),
// 5ms) succeeds. A ready future is passed on as it is.
template <class T, class Rep, class Period>
Future<T> within(Future<T>&& future, std::chrono::duration<Rep, Period> limit,
                 std::source_location place = std::source_location::current()) {
  const std::chrono::nanoseconds nanoseconds = future_internal::inNanoseconds(limit);
  if (nanoseconds.count() < 0) {
    return future_internal::endWith(std::move(future), future_internal::negativeDuration(nanoseconds), place);
  }
  if (future.isReady() || !future.valid()) {
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
    return future_internal::endWith(std::move(future), future_internal::negativeDuration(nanoseconds), place);
  }
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
