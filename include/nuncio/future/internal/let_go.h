#pragma once

#include <cstdint>
#include <source_location>
#include <utility>

#include "nuncio/event/internal/loop_core.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/combine.h"

// What abandon() and uncancellable() make; for cancellation.h.
namespace nuncio::future_internal {

// Gives the result of another future; asked to stop, it is done at once, and lets that go.
template <class T>
class LetGoNode final : public ResultNode<T>, public PendingOperation {
public:
  // `ask`: asks it to stop. Else it goes on, and its failure is logged.
  LetGoNode(ResultNode<T>& inner, bool ask) : inner_(&inner), ask_(ask) {}

  void runTask() noexcept override {
    if (this->phase_ == kStarting) {
      start();
      return;
    }
    unlist();
    this->upstream_ = std::exchange(inner_, nullptr);
    if (this->upstream_ == nullptr) {
      this->set(kNoResult);
    } else {
      this->set(kPasses);
    }
    complete(*this);
  }
  Node* stopHere(const Failure* /*reason*/) noexcept override {
    if (this->phase_ == kStarting) {
      return nullptr;
    }
    unlist();
    static_cast<Task&>(*this).unlink();
    Node* const inner = std::exchange(inner_, nullptr);
    inner->downstream_ = nullptr;
    inner->set(ask_ ? kDropped | kQuiet : kDropped);
    this->set(kNoResult);
    const bool ask = ask_;
    complete(*this);  // frees it when its future was dropped
    return ask ? inner : nullptr;
  }
  const char* kind() const noexcept override { return ask_ ? "abandon" : "uncancellable"; }
  Node* waitsFor(std::size_t index) const noexcept override { return index == 0 ? inner_ : nullptr; }

private:
  enum Phase : uint8_t { kStarting, kWaiting };

  void destroy() noexcept override { this->~LetGoNode(); }
  void abandonOperation() noexcept override { cancelNode(this); }

  void start() noexcept {
    this->phase_ = kWaiting;
    this->unset(kQueued | kDelivered);
    attachHere(*inner_, *this);
    this->upstream_ = nullptr;  // so that whoever asks this to stop asks no further
    if (this->has(kQueued)) {
      return;
    }
    this->loop_->addPending(*this);
    if (this->has(kCancelled)) {
      this->unset(kCancelled);
      cancelNode(this);
    }
  }

  ResultNode<T>* inner_;
  const bool ask_;
};

// Done when another future is, however that ended, and also when its loop is gone.
template <class T>
class EndNode final : public ResultNode<void> {
public:
  void runTask() noexcept override {
    if (this->upstream_ != nullptr) {  // else a circle, of which this was taken out
      discardInput(*this);
    }
    this->result_ = Try<void>(Unit());
    complete(*this);
  }
  const char* kind() const noexcept override { return "cancelAndWait"; }

private:
  void destroy() noexcept override { this->~EndNode(); }
};

// `future` has been asked to stop: done when it has ended.
template <class T>
Future<void> endOf(Future<T>&& future, const std::source_location& place) {
  Access::takeIfDone(future);
  ResultNode<T>* const upstream = Access::node(future);
  if (upstream == nullptr) {
    LoopCore* const loop = Access::loop(future);
    Future<void> ended = readyOn(loop, Try<void>(Unit()), place);
    std::move(future).detach();
    return ended;
  }
  EndNode<T>* const end = makeNode<EndNode<T>>(nullptr, upstream->loop_, place);
  if (end == nullptr || !attach(*upstream, *end)) {
    if (end != nullptr) {
      end->free();
    }
    std::move(future).detach();
    return Future<void>(failed<void>(Reason::NoMemory), place);
  }
  Access::takeNode(future);
  return Access::future<void>(end);
}

template <class T>
Future<T> mayLetGo(Future<T>&& future, bool ask, const std::source_location& place) {
  if (!future.valid() || future.isReady()) {
    return std::move(future);
  }
  ResultNode<T>& inner = *Access::node(future);
  LetGoNode<T>* const node = makeNode<LetGoNode<T>>(&inner, inner.loop_, place, inner, ask);
  if (node == nullptr) {
    letGo(future);
    return Future<T>(failed<T>(Reason::NoMemory), place);
  }
  Access::takeNode(future);
  startNode(*node);
  return Access::future<T>(node);
}

}  // namespace nuncio::future_internal
