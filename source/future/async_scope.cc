#include "nuncio/future/async_scope.h"

#include <new>
#include <utility>

#include "nuncio/future/internal/children.h"

namespace nuncio {

using future_internal::checkThread;
using future_internal::failed;
using future_internal::Reason;

class AsyncScope::State final : public future_internal::Children {
public:
  State(Dispatcher& dispatcher, const AsyncScopeOptions& options)
      : Children(dispatcher), options_(options), joins_(loop(), "scope") {}
  ~State() override {
    if (!failure_seen_) {
      future_internal::reportDropped(failure_.failure(), failed_at_);
    }
  }

  bool closed() const { return closed_; }

  absl::Status mayTake() const {
    if (closed_) {
      return absl::FailedPreconditionError("the scope is closed: it was cancelled, or is joined");
    }
    return loop().closing() ? failed<void>(Reason::LoopGone).status() : absl::OkStatus();
  }

  absl::Status spawn(Future<void>&& future, const std::source_location& place) {
    absl::Status status = mayTake();
    if (!status.ok()) {
      future_internal::letGo(future);
      return status;
    }
    const Busy busy(*this);
    if (future.isReady()) {
      note(std::move(future).get(), place);
    } else if (auto* const child = new (std::nothrow) Spawned(*this, place); child != nullptr) {
      start(std::move(future), *child, place);
    } else {
      future_internal::letGo(future);
      note(failed<void>(Reason::NoMemory), place);
    }
    return status;
  }

  void cancel() {
    closed_ = true;
    cancelAll();
  }

  Future<void> join(const std::source_location& place) {
    closed_ = true;
    if (running() != 0) {
      return joins_.wait(Unit(), place);
    }
    return future_internal::readyOn(loop(), outcome(), place);
  }

private:
  class Spawned final : public future_internal::Child {
  public:
    Spawned(State& state, const std::source_location& place) : state_(state), place_(place) {}

    void ended(Try<void>* result) {
      State& state = state_;
      const Busy busy(state);
      const std::source_location place = place_;
      Try<void> how = asked() ? Try<void>() : result != nullptr ? std::move(*result) : failed<void>(Reason::LoopGone);
      state.remove(*this);
      delete this;
      state.note(std::move(how), place);
      state.removed();
    }

  private:
    State& state_;
    const std::source_location place_;
  };

  void note(Try<void>&& result, const std::source_location& place) {
    if (!result.failed()) {
      return;
    }
    if (failure_.failed()) {
      future_internal::reportDropped(result.failure(), place);
      return;
    }
    failure_ = std::move(result);
    failed_at_ = place;
    if (options_.cancel_on_failure) {
      cancel();
    }
  }

  // For a join.
  Try<void> outcome() {
    failure_seen_ = true;
    return failure_.failed() ? Try<void>(failure_) : Try<void>(Unit());
  }

  void allEnded() noexcept override {
    if (joins_.empty()) {
      return;
    }
    const Try<void> result = owned() ? outcome() : Try<void>::fromFailure(future_internal::destroyedFailure("scope"));
    if (result.failed()) {
      joins_.failAll(result);
    } else {
      joins_.finishAll();
    }
  }

  const AsyncScopeOptions options_;
  bool closed_ = false;
  Try<void> failure_;  // the first
  std::source_location failed_at_;
  bool failure_seen_ = false;
  future_internal::WaitList<void> joins_;
};

AsyncScope::AsyncScope(Dispatcher& dispatcher, AsyncScopeOptions options) : state_(new State(dispatcher, options)) {}

AsyncScope::~AsyncScope() {
  checkThread(loop(), "AsyncScope::~AsyncScope");
  state_->removeOwner();
}

absl::Status AsyncScope::spawn(Future<void> child, std::source_location place) {
  checkThread(loop(), "AsyncScope::spawn");
  return state_->spawn(std::move(child), place);
}

void AsyncScope::cancel() {
  checkThread(loop(), "AsyncScope::cancel");
  state_->cancel();
}

Future<void> AsyncScope::join(std::source_location place) {
  checkThread(loop(), "AsyncScope::join");
  return state_->join(place);
}

bool AsyncScope::closed() const { return state_->closed(); }
std::size_t AsyncScope::size() const { return state_->running(); }

absl::Status AsyncScope::mayTake() const {
  checkThread(loop(), "AsyncScope::spawn");
  return state_->mayTake();
}
LoopCore& AsyncScope::loop() const { return state_->loop(); }

}  // namespace nuncio
