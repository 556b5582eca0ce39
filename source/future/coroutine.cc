#include "nuncio/future/coroutine.h"

#include <utility>

namespace nuncio::future_internal {

// Cancelling does not touch the frame. What the coroutine waits for is asked to stop; when that has ended, the task of
// the co_await runs, finds `cancelled`, and destroys the frame there. A coroutine that runs at this moment, since it
// cancels itself, goes on to its next co_await, which waits only for the end of what it would have waited for.
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

// While a coroutine runs it may end, which destroys its frame and this state in it, or leave for another thread, which
// may run and destroy it before resume() returns here. So what is left to do stands in a CoroutineRun on this stack, to
// which the coroutine writes on its way out, and nothing of the frame is touched unless that says that it waits again.
[[gnu::always_inline]] inline void CoroutineState::resume() {  // into its one caller
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

// Tells who waits for the coroutine that it has ended: now, when all of its frame is gone, and not from the destructor
// of the promise, after which parameters are still to be destroyed, which may be what the waiter destroys.
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

// It was cancelled while it ran, and now waits. A co_await that has nothing to wait for (a ready future, at which a
// cancelled coroutine does not look) is run as a task, in order to destroy the frame.
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

// This node is in the frame: after resume() or destroyFrame() it is gone.
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
  loop_->nameCallback(CallbackId::ofPlace(place_));
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
