#include "nuncio/future/collect.h"

#include <cstdint>
#include <cstdlib>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/future/internal/join.h"

namespace nuncio::future_internal {
namespace {

// How deep joins that wait for joins are stopped in each other; what is deeper stops as a task.
constexpr int kMaxStopDepth = 32;
thread_local int stop_depth = 0;

}  // namespace

void* Join::allocateSlots(std::size_t count) noexcept {
  return count <= SIZE_MAX / sizeof(Slot) ? std::malloc(count * sizeof(Slot)) : nullptr;
}

void Join::freeSlots(void* slots) noexcept { std::free(slots); }

bool Join::launch() noexcept {
  if (here_) {
    node_.phase_ = kWaiting;
    return true;
  }
  if (startNode(node_)) {
    return true;
  }
  for (std::size_t i = 0; i < count_; ++i) {
    if (Node* const upstream = std::exchange(slots_[i].upstream_, nullptr); upstream != nullptr) {
      cancelFromHandle(*upstream);
      dropFromHandle(*upstream, true);
    }
  }
  return false;
}

void Join::runStep() noexcept {
  if (node_.phase_ == kStopping) {
    stopInputs();
    return;
  }
  for (std::size_t i = 0; i < count_; ++i) {
    if (slots_[i].upstream_ != nullptr) {
      attachHere(*slots_[i].upstream_, slots_[i]);
    }
  }
  node_.phase_ = kWaiting;
  if (node_.has(kCancelled)) {
    stop();
  }
}

// Before it waits, the start sees to it; when it is finished, or about to be, there is nothing to do.
void Join::stop() noexcept {
  if (node_.phase_ == kWaiting) {
    node_.set(kNoResult);
    finish();
  }
}

void Join::finish() noexcept {
  if (waiting_ == 0) {
    node_.phase_ = kFinished;
    complete(node_);
    return;
  }
  node_.phase_ = kStopping;
  if (stop_depth == kMaxStopDepth) {
    node_.loop_->add(node_);
    return;
  }
  ++stop_depth;
  stopInputs();
  --stop_depth;
}

// Runs functions of users, which may complete other inputs, and cancel or drop this.
void Join::stopInputs() noexcept {
  for (std::size_t i = 0; i < count_; ++i) {
    Slot& slot = slots_[i];
    if (slot.upstream_ == nullptr) {
      continue;
    }
    if (slot.upstream_->has(kDone)) {
      ++stragglers_;
    } else {
      abandonUpstream(slot);
    }
  }
  node_.phase_ = kFinished;
  complete(node_);
}

// A result that nobody wants any more.
void Join::discard(Slot& slot) noexcept {
  const uint8_t phase = node_.phase_;
  Node& upstream = *std::exchange(slot.upstream_, nullptr);
  upstream.leave();
  switch (phase) {
    case kWaiting:  // the loop shuts down
      stop();
      break;
    case kFinished:
      if (--stragglers_ == 0 && left_) {
        node_.free();
      }
      break;
    default:  // it is about to stop, and finds this one gone
      break;
  }
}

void Join::left() noexcept {
  left_ = true;
  if (stragglers_ == 0) {
    node_.free();
  }
}

Node* Join::input(std::size_t index) const noexcept {
  for (std::size_t i = 0; i < count_; ++i) {
    if (slots_[i].upstream_ != nullptr && index-- == 0) {
      return slots_[i].upstream_;
    }
  }
  return nullptr;
}

Failure* noInput() noexcept { return makeFailure(absl::InvalidArgumentError("no futures were given to collectAny")); }

Failure* outOfReach(std::size_t wanted, std::size_t given) noexcept {
  return makeFailure(
      absl::InvalidArgumentError(absl::StrCat("collectN was asked for ", wanted, " values of ", given, " futures")));
}

}  // namespace nuncio::future_internal
