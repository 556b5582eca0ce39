#include "nuncio/future/internal/promise_core.h"

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <utility>

#include "nuncio/common/logging.h"
#include "source/future/futex.h"
#include "source/future/hand_over.h"

namespace nuncio::future_internal {
namespace {

// Whether those who wait for `from` one after the other come to `to`. If so, calls `found`, while the loops on the way
// are visited: what the end of a visit runs may have to do with any of them.
template <class Found>
bool leadsTo(const Node& from, const Node& to, int hops, Found found) noexcept {
  constexpr int kMaxHops = 100;
  const Node* slow = &from;  // when the others meet it again, they go round without `to`
  bool step = false;
  for (const Node* node = &from;; step = !step) {
    if (LoopCore* const other = node->consumersLoop(); other != nullptr && !other->onLoopThread()) {
      const LoopCore::Visit visit(other);
      const Node* const next = hops < kMaxHops && visit.admitted() ? node->consumer() : nullptr;
      if (next == &to) {
        found();
        return true;
      }
      return next != nullptr && leadsTo(*next, to, hops + 1, found);
    }
    node = node->consumer();
    if (node == &to) {
      found();
      return true;
    }
    slow = step ? slow->consumer() : slow;
    if (node == nullptr || node == slow) {
      return false;
    }
  }
}

// Runs a handler that users gave.
void callHandler(PromiseCoreBase::CancelHandler& handler, const Failure* reason) noexcept {
  try {
    handler.cancelled(reason, nullptr);
  } catch (const std::exception& e) {
    NUNCIO_LOG(Future, err, "a promise's onCancel threw: {}; it is ignored", e.what());
  } catch (...) {
    NUNCIO_LOG(Future, err, "a promise's onCancel threw; it is ignored");
  }
}

}  // namespace

void PromiseCoreBase::leaveTogetherSlow() noexcept {
  const std::unique_ptr<CancelHandler> handler(takeCancelHandler());  // destroyed last, as in settleHere()
  Block& block = blockOf(node());
  recycleBlock(block, block.size);
}

bool PromiseCoreBase::settle() noexcept {
  const PromiseState::Seen before = state_.settle();
  if (before.late()) {
    return false;
  }
  if (on_cancel_.load(std::memory_order_relaxed) != nullptr) {
    forgetCancelHandler();
  }
  if (before.waited()) {
    state_.wake();
  }
  if (before.dropped()) {
    reportDropped(node().failure(), node().place_);
  }
  if (before.bound()) {
    if (!node().loop_->onLoopThread()) {
      node().loop_->deliver(node());  // and the producer's share with it: see arrived()
      return true;
    }
    if (!node().has(kDone)) {  // else it has been abandoned
      if (before.stopped()) {
        node().set(kNoResult);
      }
      unlist();
      complete(node());
    }
  }
  producerLeaves();
  return true;
}

void PromiseCoreBase::onCancel(CancelHandler* handler) noexcept {
  // Sequentially consistent, as in takeCancelHandler(), and as the state's stopped(): one of the two sees what the
  // other did.
  delete on_cancel_.exchange(handler, std::memory_order_seq_cst);
  if (state_.stopped()) {
    if (const std::unique_ptr<CancelHandler> own(takeCancelHandler()); own != nullptr) {
      callHandler(*own, nullptr);
    }
  }
}

void PromiseCoreBase::forgetCancelHandler() noexcept { delete on_cancel_.exchange(nullptr, std::memory_order_acq_rel); }

PromiseCoreBase::CancelHandler* PromiseCoreBase::takeCancelHandler() noexcept {
  return on_cancel_.exchange(nullptr, std::memory_order_seq_cst);
}

// Linked: what is to stop may be of this loop.
Node* PromiseCoreBase::askProducer(const Failure* reason) noexcept {
  const std::unique_ptr<CancelHandler> handler(takeCancelHandler());
  return handler != nullptr ? handler->cancelled(reason, node().loop_) : nullptr;
}

void PromiseCoreBase::producerLeaves() noexcept {
  if (state_.producerLeaves()) {
    freeBlock(blockOf(node()));
  }
}

bool PromiseCoreBase::bindElsewhere(LoopCore& loop) noexcept {
  Task* const task = newHandedOver(loop, [this](bool refused) { finishBinding(refused); });
  if (task == nullptr) {
    return false;
  }
  giveLoop(node(), loop);
  binding_ = true;
  set_before_ = state_.bind().set();
  loop.deliver(*task);
  return true;
}

void PromiseCoreBase::finishBinding(bool refused) noexcept {
  binding_ = false;
  if (blockOf(node()).nodes == 0) {  // the consumer has left
    if (consumerLeaves()) {
      freeBlock(blockOf(node()));
    }
  } else if (!node().has(kDone)) {
    if (set_before_) {
      if (refused || seen().stopped()) {
        node().set(kNoResult);
      }
      complete(node());
    } else if (refused) {
      abandonOperation();
    } else {
      node().loop_->addPending(*this);
      if (node().has(kCancelled)) {
        node().unset(kCancelled);
        cancelNode(&node());
      }
    }
  }
}

void PromiseCoreBase::stopUnbound(const Failure* reason) noexcept {
  if (state_.tryStop()) {
    if (const std::unique_ptr<CancelHandler> handler(takeCancelHandler()); handler != nullptr) {
      callHandler(*handler, reason);
    }
  } else if (state_.tryAsk()) {
    askProducer(reason);
  }
}

void PromiseCoreBase::dropUnbound(bool quiet) noexcept {
  PromiseState::Seen seen = state_.seen();
  do {
    // A failure is read before this leaves, since the producer may free it then; one that comes later the producer
    // reports.
    if (!quiet && seen.set() && !seen.stopped()) {
      reportDropped(node().failure(), node().place_);
      quiet = true;
    }
  } while (!state_.tryConsumerLeaves(seen, /*quiet=*/quiet));
  if (seen.producerGone()) {
    freeBlock(blockOf(node()));
  }
}

void PromiseCoreBase::completeWithoutResult() noexcept {
  node().set(kNoResult);
  complete(node());
}

Node* PromiseCoreBase::stopBound(const Failure* reason) noexcept {
  if (binding_) {
    return nullptr;
  }
  if (state_.tryStop()) {
    unlist();
    stopping_ = takeCancelHandler();
    if (stopping_ != nullptr) {  // runs functions of users
      stopping_->reason_ = reason != nullptr ? shareFailure(reason) : nullptr;
      node().phase_ = kStopping;
      node().loop_->addEnding(node());
      return nullptr;
    }
  } else if (seen().linked()) {
    const PromiseState::Seen before = state_.stop();
    if (!before.set()) {
      return !before.stopped() ? askProducer(reason) : nullptr;
    }
  }
  // Or its result is on its way from another thread, and not wanted any more.
  state_.stop();
  unlist();
  completeWithoutResult();
  return nullptr;
}

void PromiseCoreBase::runStopping() noexcept {
  node().phase_ = kPending;
  const std::unique_ptr<CancelHandler> handler(std::exchange(stopping_, nullptr));
  callHandler(*handler, handler->reason_);
  completeWithoutResult();
}

void PromiseCoreBase::abandonOperation() noexcept {
  const PromiseState::Seen before = state_.stop();
  if (before.linked() && !before.set()) {
    node().loop_->addUnanswered(*this);  // until it answers, which may be at once
    if (!before.stopped()) {
      if (Node* const next = askProducer(nullptr); next != nullptr) {
        cancelNode(next);
      }
    }
    return;
  }
  node().set(kCancelled);  // whoever is asked by what runs here asks no further
  if (!before.set()) {
    if (const std::unique_ptr<CancelHandler> handler(takeCancelHandler()); handler != nullptr) {
      callHandler(*handler, nullptr);
    }
  }
  completeWithoutResult();
}

// What waits for itself through a promise, perhaps by way of other loops: those that have ended can be looked at.
bool PromiseCoreBase::endFutileWait() noexcept {
  return leadsTo(node(), node(), /*hops=*/0, [this] {
    reportCircle(node());
    unlist();
    state_.takeOffLink();
    completeWithoutResult();
  });
}

void PromiseCoreBase::arrived() noexcept {
  if (node().has(kDone)) {  // nothing is left of what was posted but the producer's share
    producerLeaves();
    return;
  }
  // The consumer is on this thread.
  const PromiseState::Seen before = state_.producerLeavesHere();
  if (before.stopped()) {
    node().set(kNoResult);
  }
  unlist();
  complete(node());
}

// The loop is gone: who waits there has ended, or ends now.
void PromiseCoreBase::refused() noexcept {
  if (!node().has(kDone)) {
    node().set(kNoResult);
  }
  arrived();
}

void assignReason(const Failure* reason, absl::Status* status) {
  if (reason != nullptr) {
    assignStatus(reason, status);
  } else {
    *status = failed<void>(Reason::Cancelled).status();
  }
}

}  // namespace nuncio::future_internal
