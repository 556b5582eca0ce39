#include "nuncio/future/gate.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

#include "nuncio/future/debug.h"
#include "source/common/place_text.h"
#include "source/future/failure.h"

namespace nuncio {

using future_internal::checkThread;

namespace {

constexpr std::size_t kMaxNamed = 1000;

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
  Holder* newest = nullptr;  // of those inside, each of which knows the one before it
  bool closed = false;
  bool owned = true;
  const LoopRef loop;
  future_internal::WaitList<void> closers;
};

Gate::Gate(Dispatcher& dispatcher) : state_(new State(dispatcher)) {}

Gate::Holder::Holder(State& state, const std::source_location& place) noexcept : state_(&state), place_(place) {
  ++state.inside;
  link(state.newest, state.newest);
}

Gate::~Gate() {
  checkThread(loop(), "Gate::~Gate");
  attachment_.reset();
  if (!state_->closers.empty()) {
    state_->closers.failAll(Try<void>::fromFailure(future_internal::destroyedFailure("gate")));
  }
  state_->owned = false;
  state_->freeIfUnused();
}

absl::StatusOr<Gate::Holder> Gate::enter(std::source_location place) {
  checkThread(loop(), "Gate::enter");
  if (state_->closed) {
    return closedStatus();
  }
  return Holder(*state_, place);
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

std::vector<std::string> Gate::whoIsInside() const {
  checkThread(loop(), "Gate::whoIsInside");
  std::vector<const Holder*> holders;
  for (const Holder* holder = state_->newest; holder != nullptr; holder = holder->next_) {
    holders.push_back(holder);
  }
  std::reverse(holders.begin(), holders.end());
  std::vector<std::string> lines;
  for (const Holder* const holder : holders) {
    if (lines.size() == kMaxNamed) {
      lines.push_back(absl::StrCat("... and ", holders.size() - kMaxNamed, " more"));
      break;
    }
    std::string line = absl::StrCat("entered at ", placeText(holder->place_));
    if (holder->node_ != nullptr) {
      std::string trace = absl::StrCat("\n", future_internal::traceNode(holder->node_->upstream_));
      trace.pop_back();  // the end of its last line, or the beginning of none
      absl::StrAppend(&line, absl::StrReplaceAll(trace, {{"\n", "\n  "}}));
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

void Gate::leaveGate(Holder& holder) noexcept {
  State& state = *std::exchange(holder.state_, nullptr);
  checkThread(*state.loop, "Gate::Holder::leave");
  *holder.link_ = holder.next_;
  if (holder.next_ != nullptr) {
    holder.next_->link_ = holder.link_;
  }
  if (--state.inside == 0) {
    state.closers.finishAll();
    state.freeIfUnused();
  }
}

}  // namespace nuncio
