#pragma once

#include <chrono>
#include <cstdint>
#include <source_location>
#include <utility>

#include "nuncio/event/internal/loop_core.h"
#include "nuncio/event/timer.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/combine.h"

// What within() and delayed() make; for time.h.
namespace nuncio::future_internal {

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
    this->unset(kQueued | kDelivered);
    attachHere(*this->upstream_, *this);
    if (this->has(kCancelled) || this->loop_->ended()) {  // then there are no timers any more
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
  LoopCore* const loop = upstream.loop_;
  N<T>* const node = makeNode<N<T>>(&upstream, loop, place, upstream, duration);
  if (node == nullptr) {
    letGo(future);
    return Future<T>(failed<T>(Reason::NoMemory), place);
  }
  Access::takeNode(future);
  startNode(*node);
  return Access::future<T>(node);
}

}  // namespace nuncio::future_internal
