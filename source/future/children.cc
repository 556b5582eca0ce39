#include "nuncio/future/internal/children.h"

#include <utility>

namespace nuncio::future_internal {

void Children::addStarting(Child& child, bool& ended) noexcept {
  child.ended_ = &ended;
  ++running_;
}

void Children::list(Child& child, Future<void>&& end) noexcept {
  child.ended_ = nullptr;
  child.end_ = std::move(end);
  listed_.add(child);
}

void Children::remove(Child& child) noexcept {
  if (child.starting()) {
    *std::exchange(child.ended_, nullptr) = true;
    return;
  }
  if (!child.asked_) {
    child.unlink();
    std::move(child.end_).detach();
  }
}

void Children::cancelAll() noexcept {
  if (cancelling_) {
    return;  // by a function that this runs: it goes on with the others
  }
  const Busy busy(*this);
  cancelling_ = true;
  while (!listed_.empty()) {
    Child& child = listed_.first();
    Future<void> end = std::move(child.end_);
    remove(child);
    child.asked_ = true;
    end.cancel();
    std::move(end).detach();
  }
  cancelling_ = false;
}

void Children::removeOwner() noexcept {
  const Busy busy(*this);
  owned_ = false;
  cancelAll();
  if (running_ == 0) {
    allEnded();
  }
}

void Children::freeIfUnused() noexcept {
  if (!owned_ && running_ == 0 && busy_ == 0) {
    delete this;
  }
}

}  // namespace nuncio::future_internal
