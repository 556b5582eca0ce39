#include "nuncio/future/coroutine.h"

#include <utility>

namespace nuncio::future_internal {

void CoroutineState::cancel() noexcept {
  // Coroutines may await each other to any depth: they are all taken away from what they wait for, and then destroyed,
  // the innermost first.
  CoroutineState* innermost = nullptr;
  for (CoroutineState* state = this; state != nullptr;) {
    state->cancelled = true;
    if (state->awaiting == nullptr || state->awaiting->has(kQueued)) {
      break;  // it ends at its next co_await, or when its task comes
    }
    if (state->awaiting->upstream_ == nullptr) {
      state->awaiting->set(kCancelled);  // on its way to its loop
      break;
    }
    Node& upstream = detachUpstream(*std::exchange(state->awaiting, nullptr));
    state->outer = std::exchange(innermost, state);
    state = upstream.has(kDone) ? nullptr : upstream.coroutine();
    if (state == nullptr) {
      cancelNode(&upstream);
    } else {
      upstream.set(kCancelled);
    }
  }
  while (innermost != nullptr) {
    CoroutineState* const next = innermost->outer;
    innermost->frame.destroy();
    innermost = next;
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
  if (coroutine.cancelled) {
    discard();
    coroutine.frame.destroy();
  } else {
    coroutine.frame.resume();
  }
}

bool TaskAwaiter::await_suspend(std::coroutine_handle<> frame) noexcept {
  if (coroutine_.cancelled) {
    frame.destroy();
    return true;
  }
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
  if (loop_->postTask(*this)) {
    return true;  // it may have gone on already, on another thread
  }
  coroutine_.awaiting = nullptr;
  failure_ = failed<void>(Reason::LoopGone);
  return false;
}

Node* awaitedBy(const CoroutineState* state) noexcept { return state != nullptr ? state->awaiting : nullptr; }

}  // namespace nuncio::future_internal
