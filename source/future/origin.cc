#include "nuncio/future/internal/origin.h"

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
void callHandler(OriginBase::CancelHandler& handler, const Failure* reason) noexcept {
  try {
    handler.cancelled(reason, nullptr);
  } catch (const std::exception& e) {
    NUNCIO_LOG(Future, err, "a promise's onCancel threw: {}; it is ignored", e.what());
  } catch (...) {
    NUNCIO_LOG(Future, err, "a promise's onCancel threw; it is ignored");
  }
}

}  // namespace

OriginBase::Settled OriginBase::settle(bool stays) noexcept {
  const uint32_t before = state_.fetch_or(kSet, std::memory_order_acq_rel);
  if ((before & (kStopped | kLinked)) == kStopped) {
    return Settled::Late;
  }
  if (on_cancel_.load(std::memory_order_relaxed) != nullptr) {
    forgetCancelHandler();
  }
  if ((before & kWaiting) != 0) {
    wakeThreads(&state_);
  }
  if ((before & (kConsumerGone | kMuted | kStopped)) == kConsumerGone) {
    reportDropped(node().failure(), node().place_);
  }
  if ((before & kBound) != 0) {
    if (!node().loop_->onLoopThread()) {
      node().loop_->deliver(node());
      return Settled::Done;
    }
    if (!node().has(kDone)) {  // else it has been abandoned
      if ((before & kStopped) != 0) {
        node().set(kNoResult);
      }
      unlist();
      complete(node());
    }
  }
  return !stays && producerGone() ? Settled::DoneAndFree : Settled::Done;
}

void OriginBase::onCancel(CancelHandler* handler) noexcept {
  // Sequentially consistent, as in takeCancelHandler(): one of the two sees what the other did.
  delete on_cancel_.exchange(handler, std::memory_order_seq_cst);
  if ((state_.load(std::memory_order_seq_cst) & kStopped) != 0) {
    if (const std::unique_ptr<CancelHandler> own(takeCancelHandler()); own != nullptr) {
      callHandler(*own, nullptr);
    }
  }
}

void OriginBase::forgetCancelHandler() noexcept { delete on_cancel_.exchange(nullptr, std::memory_order_acq_rel); }

OriginBase::CancelHandler* OriginBase::takeCancelHandler() noexcept {
  return on_cancel_.exchange(nullptr, std::memory_order_seq_cst);
}

// Linked: what is to stop may be of this loop.
Node* OriginBase::askProducer(const Failure* reason) noexcept {
  const std::unique_ptr<CancelHandler> handler(takeCancelHandler());
  return handler != nullptr ? handler->cancelled(reason, node().loop_) : nullptr;
}

bool OriginBase::producerGone() noexcept {
  if ((state_.load(std::memory_order_acquire) & kConsumerGone) != 0) {
    return true;
  }
  return (state_.fetch_or(kProducerGone, std::memory_order_acq_rel) & kConsumerGone) != 0;
}

bool OriginBase::bindElsewhere(LoopCore& loop) noexcept {
  Task* const task = newHandedOver(loop, [this](bool refused) { finishBinding(refused); });
  if (task == nullptr) {
    return false;
  }
  giveLoop(node(), loop);
  binding_ = true;
  set_before_ = (state_.fetch_or(kBound, std::memory_order_acq_rel) & kSet) != 0;
  loop.deliver(*task);
  return true;
}

void OriginBase::finishBinding(bool refused) noexcept {
  binding_ = false;
  if (blockOf(node()).nodes == 0) {  // the consumer has left
    if (consumerGone()) {
      freeOrigin(node());
    }
  } else if (!node().has(kDone)) {
    if (set_before_) {
      if (refused || stopped()) {
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

bool OriginBase::wait(int64_t timeout_nanoseconds) noexcept {
  return waitOnState(state_, kWaiting, timeout_nanoseconds, isDone);
}

bool OriginBase::stop() noexcept {
  uint32_t state = state_.load(std::memory_order_acquire);
  while ((state & (kSet | kLinked)) == 0) {
    if (state_.compare_exchange_weak(state, state | kStopped, std::memory_order_seq_cst)) {
      return true;
    }
  }
  return false;
}

void OriginBase::stopUnbound(const Failure* reason) noexcept {
  if (stop()) {
    if (const std::unique_ptr<CancelHandler> handler(takeCancelHandler()); handler != nullptr) {
      callHandler(*handler, reason);
    }
    return;
  }
  uint32_t state = state_.load(std::memory_order_acquire);
  while ((state & (kSet | kStopped)) == 0) {
    if (state_.compare_exchange_weak(state, state | kStopped, std::memory_order_seq_cst)) {
      askProducer(reason);
      return;
    }
  }
}

bool OriginBase::dropUnbound(bool quiet) noexcept {
  uint32_t state = state_.load(std::memory_order_acquire);
  do {
    // A failure is read before this leaves, since the producer may free it then; one that comes later the producer
    // reports.
    if (!quiet && (state & (kSet | kStopped)) == kSet) {
      reportDropped(node().failure(), node().place_);
      quiet = true;
    }
  } while (!state_.compare_exchange_weak(state, state | (quiet ? kConsumerGone | kMuted : uint32_t{kConsumerGone}),
                                         std::memory_order_acq_rel, std::memory_order_acquire));
  return (state & kProducerGone) != 0;
}

Node* OriginBase::stopBound(const Failure* reason) noexcept {
  if (binding_) {
    return nullptr;
  }
  if (stop()) {
    unlist();
    stopping_ = takeCancelHandler();
    if (stopping_ != nullptr) {  // runs functions of users
      stopping_->reason_ = reason != nullptr ? shareFailure(reason) : nullptr;
      node().phase_ = kStopping;
      node().loop_->addEnding(node());
      return nullptr;
    }
  } else if ((state_.load(std::memory_order_acquire) & kLinked) != 0) {
    const uint32_t before = state_.fetch_or(kStopped, std::memory_order_seq_cst);
    if ((before & kSet) == 0) {
      return (before & kStopped) == 0 ? askProducer(reason) : nullptr;
    }
  }
  // Or its result is on its way from another thread, and not wanted any more.
  state_.fetch_or(kStopped, std::memory_order_relaxed);
  unlist();
  node().set(kNoResult);
  complete(node());
  return nullptr;
}

void OriginBase::runStopping() noexcept {
  node().phase_ = kPending;
  const std::unique_ptr<CancelHandler> handler(std::exchange(stopping_, nullptr));
  callHandler(*handler, handler->reason_);
  node().set(kNoResult);
  complete(node());
}

void OriginBase::abandonOperation() noexcept {
  const uint32_t before = state_.fetch_or(kStopped, std::memory_order_seq_cst);
  if ((before & (kLinked | kSet)) == kLinked) {
    node().loop_->addUnanswered(*this);  // until it answers, which may be at once
    if ((before & kStopped) == 0) {
      if (Node* const next = askProducer(nullptr); next != nullptr) {
        cancelNode(next);
      }
    }
    return;
  }
  node().set(kCancelled);  // whoever is asked by what runs here asks no further
  if ((before & kSet) == 0) {
    if (const std::unique_ptr<CancelHandler> handler(takeCancelHandler()); handler != nullptr) {
      callHandler(*handler, nullptr);
    }
  }
  node().set(kNoResult);
  complete(node());
}

// What waits for itself through a promise, perhaps by way of other loops: those that have ended can be looked at.
bool OriginBase::endFutileWait() noexcept {
  return leadsTo(node(), node(), /*hops=*/0, [this] {
    reportCircle(node());
    unlist();
    state_.fetch_and(~uint32_t{kLinked}, std::memory_order_relaxed);  // an answer comes too late
    node().set(kNoResult);
    complete(node());
  });
}

void OriginBase::delivered() noexcept {
  if (node().has(kDone)) {
    if (producerGone()) {
      freeOrigin(node());
    }
    return;
  }
  // The producer has left, and the consumer is on this thread.
  const uint32_t state = state_.load(std::memory_order_relaxed);
  state_.store(state | kProducerGone, std::memory_order_relaxed);
  if ((state & kStopped) != 0) {
    node().set(kNoResult);
  }
  unlist();
  complete(node());
}

void OriginBase::refused() noexcept {
  if (!node().has(kDone)) {
    node().set(kNoResult);
  }
  delivered();
}

void assignReason(const Failure* reason, absl::Status* status) {
  if (reason != nullptr) {
    assignStatus(reason, status);
  } else {
    *status = failed<void>(Reason::Cancelled).status();
  }
}

// Counted: by the link, the handler, and each task on its way.
struct CancelLink::Shared {
  Shared(LoopCore& queue, void* what, Stop how) : loop(queue), target(what), stop(how) { loop.retain(); }
  ~Shared() { loop.release(); }
  Shared* share() {
    references.fetch_add(1, std::memory_order_relaxed);
    return this;
  }
  void release() {
    if (references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      delete this;
    }
  }
  Node* stopTarget(const Failure* reason) const { return target != nullptr ? stop(target, reason) : nullptr; }

  class Handler;

  LoopCore& loop;
  void* target;  // the loop's thread; null when it is gone
  const Stop stop;
  std::atomic<int> references{1};  // released and acquired, as counts of owners are
};

class CancelLink::Shared::Handler final : public OriginBase::CancelHandler {
public:
  explicit Handler(Shared* shared) : shared_(shared->share()) {}
  ~Handler() override { shared_->release(); }
  Node* cancelled(const Failure* reason, LoopCore* here) override {
    Shared* const shared = shared_;
    if (&shared->loop == here) {
      return shared->stopTarget(reason);
    }
    Failure* const why = reason != nullptr ? shareFailure(reason) : nullptr;
    shared->share();
    const auto ask = [shared, why](bool) {
      {
        const EndingScope scope(shared->loop);
        askToStop(shared->stopTarget(why), why);
      }
      finish(shared, why);
    };
    if (!handOver(shared->loop, ask)) {  // without memory it is not asked, and ends when it ends
      finish(shared, why);
    }
    return nullptr;
  }

private:
  static void finish(Shared* shared, Failure* why) {
    if (why != nullptr) {
      releaseFailure(why);
    }
    shared->release();
  }

  Shared* const shared_;
};

OriginBase::CancelHandler* CancelLink::connect(LoopCore& loop, void* target, Stop stop) noexcept {
  cut();
  shared_ = new (std::nothrow) Shared(loop, target, stop);
  return shared_ != nullptr ? new (std::nothrow) Shared::Handler(shared_) : nullptr;
}

void CancelLink::cut() noexcept {
  if (shared_ != nullptr) {
    shared_->target = nullptr;
    std::exchange(shared_, nullptr)->release();
  }
}

}  // namespace nuncio::future_internal
