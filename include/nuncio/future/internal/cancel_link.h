#pragma once

#include <utility>

#include "nuncio/future/internal/promise_core.h"

namespace nuncio::future_internal {

// CancelLink: leads from a linked promise's onCancel, on whatever thread, to something on a loop that is to stop then,
// and that may be gone by then.
class CancelLink {
public:
  // Has `target` stop, and returns the node to ask next, or null; on the thread of its loop, where an EndingScope is
  // open.
  using Stop = Node* (*)(void* target, const Failure* reason);

  CancelLink() = default;
  CancelLink(CancelLink&& other) noexcept : shared_(std::exchange(other.shared_, nullptr)) {}
  CancelLink& operator=(CancelLink&&) = delete;
  ~CancelLink() { cut(); }

  // A handler for the promise that calls `stop(target, reason)` on the thread of `loop`. Replaces an earlier target.
  // Null without memory: then nothing is called.
  PromiseCoreBase::CancelHandler* connect(LoopCore& loop, void* target, Stop stop) noexcept;
  // The target is gone. On the thread of its loop.
  void cut() noexcept;

private:
  struct Shared;
  Shared* shared_ = nullptr;
};

}  // namespace nuncio::future_internal
