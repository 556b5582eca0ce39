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

[[gnu::always_inline]] inline void CoroutineState::resume() {
  CoroutineRun this_run;
  run = &this_run;
  const std::coroutine_handle<> resumed = frame;
  try {
    resumed.resume();
  } catch (...) {  // the thread ends in it; it has left its body
    resumed.destroy();
    this_run.finish();
    throw;
  }
  // Now the frame may be gone, with this, or run on another thread.
  switch (this_run.outcome) {
    case CoroutineRun::Outcome::Waits:
      if (cancelled) [[unlikely]] {  // while it ran: what it waits for now is not wanted
        stopWaiting();
      }
      return;
    default:
      this_run.finish();
  }
}

void CoroutineRun::finish() const noexcept {
  if (outcome == Outcome::Ended) {
    complete(*completed);
  } else if (outcome == Outcome::Answered) {
    answer(away);
  }
}

void CoroutineState::destroyFrame() noexcept {
  CoroutineRun this_run;
  run = &this_run;
  frame.destroy();  // with this
  this_run.finish();
}

void CoroutineState::stopWaiting() const noexcept {
  const EndingScope scope(*loop);
  AwaitNode& waiting = *awaiting;
  if (waiting.upstream_ == nullptr && !waiting.has(kQueued)) {
    waiting.set(kEnding);
    queueTask(waiting);
  } else {
    askToStop(&waiting, reason);
  }
}

void AwaitNode::runTask() {
  CoroutineState& coroutine = coroutine_;
  coroutine.awaiting = nullptr;
  if (coroutine.arrive != nullptr) {
    std::exchange(coroutine.arrive, nullptr)(coroutine);
  }
  if (has(kCancelled) || coroutine.cancelled || loop_->closing()) [[unlikely]] {
    if (upstream_ != nullptr) {
      discardInput(*this);
    }
    coroutine.destroyFrame();
    return;
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
    loop_->addNew(*this);
    return true;
  }
  if (coroutine_.run != nullptr) {
    coroutine_.run->outcome = CoroutineRun::Outcome::Left;
  }
  set(kDelivered);
  loop_->deliver(*this);  // it may have gone on already, on another thread
  return true;
}

}  // namespace nuncio::future_internal
