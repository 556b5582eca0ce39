#include "nuncio/future/collect.h"

#include <cstdint>
#include <cstdlib>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/future/internal/join.h"
#include "source/future/failure.h"

namespace nuncio::future_internal {

void* Join::allocateSlots(std::size_t count) noexcept {
  return count <= SIZE_MAX / sizeof(Slot) ? std::malloc(count * sizeof(Slot)) : nullptr;
}

void Join::freeSlots(void* slots) noexcept { std::free(slots); }

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
      if (slots_[i].upstream_ != nullptr) {
        attachHere(*slots_[i].upstream_, slots_[i]);
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

// Has its result, or kNoResult.
void Join::finish() noexcept {
  if (waiting_ == 0) {
    node_.phase_ = kFinished;
    complete(node_);
    return;
  }
  const EndingScope scope(*node_.loop_);
  askInputs();
}

void Join::askInputs() noexcept {
  node_.phase_ = kStopping;
  for (std::size_t i = 0; i < count_; ++i) {
    if (slots_[i].upstream_ != nullptr && &slots_[i] != kept_) {
      slots_[i].set(kEnding);
      node_.loop_->addEnding(slots_[i]);
    }
  }
}

// An EndingScope is open. Before it waits, the start sees to it, and while it takes a result, what takes it.
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

void Join::endSlot(Slot& slot) noexcept {
  const bool has_input = slot.upstream_ != nullptr;  // else it was taken out of a circle
  if (node_.phase_ == kWaiting) {                    // the loop shuts down
    node_.set(kNoResult);
    waiting_ -= has_input ? 0 : 1;
    finish();
    return;
  }
  if (has_input && !slot.upstream_->has(kDone)) {
    node_.loop_->addWaiting(slot);  // perhaps for itself
    askToStop(slot.upstream_, reason_);
    return;
  }
  if (has_input) {
    discardInput(slot);
  }
  if (--waiting_ == 0) {
    node_.phase_ = kFinished;
    complete(node_);
  }
}

Node* Join::input(std::size_t index) const noexcept {
  for (std::size_t i = 0; i < count_; ++i) {
    if (slots_[i].upstream_ != nullptr && &slots_[i] != kept_ && index-- == 0) {
      return slots_[i].upstream_;
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
