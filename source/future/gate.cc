#include "nuncio/future/gate.h"

#include "absl/status/status.h"

#include "source/future/failure.h"

namespace nuncio {

using future_internal::checkThread;

namespace {
absl::Status closedStatus() { return absl::FailedPreconditionError("the gate is closed"); }
}  // namespace

struct Gate::State {
  explicit State(Dispatcher& dispatcher) : loop(dispatcher), closers(*loop, "gate") {}

  void freeIfUnused() {
    if (!owned && inside == 0) {
      delete this;
    }
  }

  uint64_t inside = 0;
  bool closed = false;
  bool owned = true;
  const LoopRef loop;
  future_internal::WaitList<void> closers;
};

Gate::Gate(Dispatcher& dispatcher) : state_(new State(dispatcher)) {}

Gate::~Gate() {
  checkThread(loop(), "Gate::~Gate");
  if (!state_->closers.empty()) {
    state_->closers.failAll(Try<void>::fromFailure(future_internal::destroyedFailure("gate")));
  }
  state_->owned = false;
  state_->freeIfUnused();
}

absl::StatusOr<Gate::Holder> Gate::enter() {
  checkThread(loop(), "Gate::enter");
  if (state_->closed) {
    return closedStatus();
  }
  ++state_->inside;
  return Holder(*state_);
}

Future<void> Gate::close(std::source_location place) {
  checkThread(loop(), "Gate::close");
  state_->closed = true;
  if (state_->inside == 0) {
    return future_internal::readyOn(loop(), Try<void>(Unit()), place);
  }
  return state_->closers.wait(Unit(), place);
}

bool Gate::closed() const { return state_->closed; }
uint64_t Gate::inside() const { return state_->inside; }
LoopCore& Gate::loop() const { return *state_->loop; }

future_internal::Failure* Gate::closedFailure() noexcept { return future_internal::makeFailureOf(closedStatus); }

void Gate::leaveGate(State& state) noexcept {
  checkThread(*state.loop, "Gate::Holder::leave");
  if (--state.inside == 0) {
    state.closers.finishAll();
    state.freeIfUnused();
  }
}

}  // namespace nuncio
