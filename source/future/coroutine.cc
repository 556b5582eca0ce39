#include "nuncio/future/coroutine.h"

#include <utility>

namespace nuncio::future_internal {

Node* CoroutineState::stop(const Failure* why) noexcept {
  if (cancelled) {
    return nullptr;
  }
  cancelled = true;
  if (awaiting == nullptr && why != nullptr) {
    reason = shareFailure(why);
  }
  return awaiting;
}

void CoroutineState::resume() noexcept {
  CoroutineRun this_run;
  run = &this_run;
  if (cancelled) {
    frame.destroy();
  } else {
    frame.resume();
  }
  // Now the frame may be gone, with this, or run on another thread.
  if (this_run.answer != nullptr) {
    this_run.answer(this_run.away);
  }
  if (this_run.completed != nullptr) {
    complete(*this_run.completed);
  } else if (this_run.answer == nullptr && !this_run.left) {
    run = nullptr;
    if (cancelled) {  // while it ran: what it waits for now is not wanted
      const EndingScope scope(*loop);
      AwaitNode& waiting = *awaiting;
      if (waiting.upstream_ == nullptr && !waiting.has(kQueued)) {
        waiting.set(kEnding);
        queueTask(waiting);
      } else {
        askToStop(&waiting, reason);
      }
    }
  }
}

void AwaitNode::runTask() noexcept {
  CoroutineState& coroutine = coroutine_;
  coroutine.awaiting = nullptr;
  if (coroutine.arrive != nullptr) {
    std::exchange(coroutine.arrive, nullptr)(coroutine);
  }
  if (has(kCancelled) || loop_->closing()) {
    coroutine.cancelled = true;
  }
  if (coroutine.cancelled && upstream_ != nullptr) {
    discardInput(*this);
  }
  coroutine.resume();
}

bool TaskAwaiter::await_suspend(std::coroutine_handle<> /*frame*/) noexcept {
  loop_ = coroutine_.loop;
  if (loop_ == nullptr) {
    failure_ = failed<void>(Reason::NoDispatcher);
    return false;
  }
  coroutine_.awaiting = this;
  set(kQueued);
  if (loop_->onLoopThread()) {
    loop_->add(*this);
    return true;
  }
  if (coroutine_.run != nullptr) {
    std::exchange(coroutine_.run, nullptr)->left = true;
  }
  loop_->deliver(*this);  // it may have gone on already, on another thread
  return true;
}

}  // namespace nuncio::future_internal
