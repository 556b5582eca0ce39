#include "nuncio/future/internal/cancel_link.h"

#include <atomic>
#include <new>
#include <utility>

#include "source/future/hand_over.h"

namespace nuncio::future_internal {

// Counted: by the link, the handler, and each task on its way.
struct CancelLink::Shared {
  Shared(LoopCore& on_loop, void* what, Stop how) : loop(on_loop), target(what), stop(how) { loop.retain(); }
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

class CancelLink::Shared::Handler final : public PromiseCoreBase::CancelHandler {
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

PromiseCoreBase::CancelHandler* CancelLink::connect(LoopCore& loop, void* target, Stop stop) noexcept {
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
