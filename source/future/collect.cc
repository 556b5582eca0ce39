#include "nuncio/future/collect.h"

#include <cstdint>
#include <cstdlib>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/future/internal/join.h"
#include "source/future/failure.h"

namespace nuncio::future_internal {

void* Join::allocateInputs(std::size_t count) noexcept {
  return count <= SIZE_MAX / sizeof(Input) ? std::malloc(count * sizeof(Input)) : nullptr;
}

void Join::freeInputs(void* inputs) noexcept { std::free(inputs); }

// Everything but making the node happens on the loop's thread: elsewhere the node is delivered there as a task of its
// own (its runTask() is start()), and only then do the inputs begin to wait.
void Join::launch(bool decided) noexcept {
  decided_ = decided;
  if (here_) {
    start();
  } else {
    startNode(node_);
  }
}

void Join::start() noexcept {
  if (!here_) {
    node_.unset(kQueued | kDelivered);
    for (std::size_t i = 0; i < count_; ++i) {
      if (at(i).upstream_ != nullptr) {
        attachHere(*at(i).upstream_, at(i));
      }
    }
  }
  node_.phase_ = kWaiting;
  if (node_.has(kCancelled)) {
    node_.set(kNoResult);
    finish();
  } else if (decided_) {
    finish();
  }
}

// The node has its result, or kNoResult. It completes when no input is under way any more, since an input may use what
// the consumer of this is about to destroy. Those that are still there are asked to stop; endInput() counts them down.
void Join::finish() noexcept {
  if (waiting_ == 0) {
    node_.phase_ = kFinished;
    complete(node_);
    return;
  }
  const EndingScope scope(*node_.loop_);
  askInputs();
}

// Each input is asked in a task of its own, which the open EndingScope runs: askToStop() within this loop would
// recurse, a join into the joins that it waits for, and could destroy inputs_ below it.
void Join::askInputs() noexcept {
  node_.phase_ = kStopping;
  for (std::size_t i = 0; i < count_; ++i) {
    if (at(i).upstream_ != nullptr && &at(i) != kept_) {
      at(i).set(kEnding);
      node_.loop_->addEnding(at(i));
    }
  }
}

// An EndingScope is open. Where the join has not started, start() finds kCancelled; while it takes an input's result,
// which may run functions of users, takeWhenDone() finds it afterwards. In both cases nothing is to be done here.
void Join::stop(const Failure* reason) noexcept {
  if (reason != nullptr && reason_ == nullptr) {
    reason_ = shareFailure(reason);
  }
  if (node_.phase_ == kWaiting) {
    node_.set(kNoResult);
    askInputs();
  } else if (node_.phase_ == kStopping) {
    node_.set(kNoResult);
  }
}

// The task of an input that is not to be taken: its join is stopping, or the loop shuts down. It runs twice for one
// that was under way: first it asks what it waits for to stop, then, when that has ended, it discards what has come of
// it.
void Join::endInput(Input& input) noexcept {
  const bool has_input = input.upstream_ != nullptr;  // else it was taken out of a circle
  if (node_.phase_ == kWaiting) {                     // the loop shuts down
    node_.set(kNoResult);
    waiting_ -= has_input ? 0 : 1;
    finish();
    return;
  }
  if (has_input && !input.upstream_->has(kDone)) {
    node_.loop_->addWaiting(input);  // perhaps for itself
    askToStop(input.upstream_, reason_);
    return;
  }
  if (has_input) {
    discardInput(input);
  }
  if (--waiting_ == 0) {
    node_.phase_ = kFinished;
    complete(node_);
  }
}

Node* Join::input(std::size_t index) const noexcept {
  for (std::size_t i = 0; i < count_; ++i) {
    if (at(i).upstream_ != nullptr && &at(i) != kept_ && index-- == 0) {
      return at(i).upstream_;
    }
  }
  return nullptr;
}

Failure* noInput() noexcept {
  return makeFailureOf([] { return absl::InvalidArgumentError("no futures were given to collectAny"); });
}

Failure* outOfReach(std::size_t wanted, std::size_t given) noexcept {
  return makeFailureOf([&] {
    return absl::InvalidArgumentError(
        absl::StrCat("collectN was asked for ", wanted, " values of ", given, " futures"));
  });
}

}  // namespace nuncio::future_internal
