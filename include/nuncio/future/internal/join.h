#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <source_location>
#include <utility>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/combine.h"

// A node that waits for many; for collect.h. An array of slots, one an input, is all that it allocates beside itself.
namespace nuncio::future_internal {

// What waits for one input; its downstream_ is the join. As a task: the input is done, or is to be asked to stop. As
// large as a cache line, which is worth a twentieth of a collect.
class Slot final : public Node {
public:
  explicit Slot(Node& join) { downstream_ = &join; }
  void runTask() noexcept override { downstream_->inputDone(*this); }
  const char* kind() const noexcept override { return "input"; }

private:
  void destroy() noexcept override {}
};
static_assert(sizeof(Slot) <= 64);

// What joins of all types have in common. It takes the results of inputs as they come, until they decide its own
// result. Then it asks the other inputs to stop, and is done when they have ended. Each slot asks as a task of its own,
// so that joins of joins need no deeper stack; only a result that stays where it is (see keep()) is fetched through as
// many calls as its type has joins. On the loop's thread, but for add() and launch().
class Join {
public:
  // Memory for slots; null without memory.
  static void* allocateSlots(std::size_t count) noexcept;
  static void freeSlots(void* slots) noexcept;

  static constexpr std::size_t kNone = SIZE_MAX;

  // Each index once: that of an input, or null for one that has been taken already. All before launch().
  void add(std::size_t index, Node* upstream) noexcept {
    Slot* const slot = ::new (&slots_[index]) Slot(node_);
    slot->loop_ = node_.loop_;
    slot->place_ = node_.place_;
    if (upstream != nullptr) {
      ++waiting_;
      if (here_) {
        attachHere(*upstream, *slot);
      } else {
        slot->upstream_ = upstream;
      }
    }
  }
  // The same for one that is done, and decides: see keep().
  void addKept(std::size_t index, Node* upstream) noexcept {
    add(index, nullptr);
    slots_[index].upstream_ = upstream;
    upstream->downstream_ = &slots_[index];
    keep(slots_[index]);
  }
  void addInput(std::size_t index, Node* upstream, std::size_t kept) noexcept {
    if (index == kept) {
      addKept(index, upstream);
    } else {
      add(index, upstream);
    }
  }
  // Starts to wait; or when its result is `decided` already, to stop.
  void launch(bool decided) noexcept;

  Node& node() const { return node_; }
  // `take(index)` takes the result of `slot`; true when that decides the result of the node, which it has then.
  template <class Take>
  void slotDone(Slot& slot, Take take) noexcept {
    if (node_.phase_ != kWaiting || node_.loop_->closing()) [[unlikely]] {
      endSlot(slot);
      return;
    }
    --waiting_;
    node_.phase_ = kTaking;  // moving results may run functions of users, which may cancel this
    const bool decided = take(indexOf(slot));
    node_.phase_ = kWaiting;
    if (node_.has(kCancelled)) [[unlikely]] {
      node_.set(kNoResult);
      finish();
    } else if (decided) {
      finish();
    }
  }

protected:
  enum Phase : uint8_t { kStarting, kWaiting, kTaking, kStopping, kFinished };

  Join(Node& node, std::size_t count, bool here) : node_(node), count_(count), here_(here) {}
  ~Join() {
    if (reason_ != nullptr) {
      releaseFailure(reason_);
    }
  }

  // Room for all of them.
  void useSlots(void* memory) { slots_ = static_cast<Slot*>(memory); }
  void start() noexcept;
  void stop(const Failure* reason) noexcept;
  Node* input(std::size_t index) const noexcept;

  // The result of the node is that of `slot`, which goes back to where it came from when nobody looks at it: it stays
  // where it is until the result of the node is taken.
  void keep(Slot& slot) noexcept {
    kept_ = &slot;
    node_.set(kGivesBack);
  }
  Slot* kept() const { return kept_; }
  std::size_t indexOf(const Slot& slot) const { return static_cast<std::size_t>(&slot - slots_); }

private:
  void finish() noexcept;
  void askInputs() noexcept;
  void endSlot(Slot& slot) noexcept;

  Node& node_;
  Slot* slots_ = nullptr;
  const std::size_t count_;
  std::size_t waiting_ = 0;    // inputs that have not been taken
  Failure* reason_ = nullptr;  // why it was cancelled, if somebody said: a reference
  const bool here_;            // made on the loop's thread
  bool decided_ = false;       // before it started
  Slot* kept_ = nullptr;
};

// The result of `policy`, which is done.
template <class Policy>
Try<typename Policy::Result> resultOf(Policy& policy) noexcept {
  try {
    return policy.result();
  } catch (const std::bad_alloc&) {
    return failed<typename Policy::Result>(Reason::NoMemory);
  } catch (...) {
    return Try<typename Policy::Result>(std::current_exception());
  }
}

// A policy says what comes of the inputs:
//
//   Result                       the type of the result
//   kKind                        for traces
//   kFirstDecides                the first input that is done is the result, so that it may stay where it is
//   bool done() const            the result is decided
//   void take(Slot&, index)      takes an input's result, while it is not done
//   Try<Result> result()         once it is done
//
// kSlots: how many slots it brings with it; 0: they come from allocateSlots().
template <class Policy, std::size_t kSlots = 0>
class JoinNode final : public ResultNode<typename Policy::Result>, public Join {
public:
  JoinNode(void* slots, std::size_t count, bool here, Policy&& policy)
      : Join(*this, count, here), separate_(slots), policy_(std::move(policy)) {
    useSlots(kSlots != 0 ? memory_.data() : slots);
  }
  ~JoinNode() { freeSlots(separate_); }

  void runTask() noexcept override { start(); }
  void inputDone(Node& which) noexcept override {
    Slot& slot = static_cast<Slot&>(which);
    slotDone(slot, [this, &slot](std::size_t index) {
      if constexpr (Policy::kFirstDecides) {
        if (givesBack(*slot.upstream_)) {
          this->keep(slot);
          return true;
        }
      }
      policy_.take(slot, index);
      return decide();
    });
  }
  void fetchResult() noexcept override {
    if constexpr (Policy::kFirstDecides) {
      policy_.take(*this->kept(), this->indexOf(*this->kept()));
      this->result_ = resultOf(policy_);
    }
  }
  void leave() noexcept override {
    if constexpr (Policy::kFirstDecides) {
      if (this->kept() != nullptr && this->kept()->upstream_ != nullptr) {
        discardInput(*this->kept());
      }
    }
    this->free();
  }
  Node* stopHere(const Failure* reason) noexcept override {
    stop(reason);
    return nullptr;
  }
  const char* kind() const noexcept override { return Policy::kKind; }
  Node* waitsFor(std::size_t index) const noexcept override { return input(index); }

  // Its result, when the policy is done.
  bool decide() noexcept {
    if (this->kept() != nullptr) {
      return true;
    }
    if (!policy_.done()) {
      return false;
    }
    this->result_ = resultOf(policy_);
    return true;
  }

private:
  void destroy() noexcept override { this->~JoinNode(); }

  alignas(Slot) std::array<std::byte, kSlots * sizeof(Slot)> memory_;
  void* const separate_;  // owned; null when memory_ is used
  Policy policy_;
};

// Makes the node; `fill(node)` adds the inputs. Without memory: a future that failed, and nothing has happened to the
// inputs.
template <std::size_t kSlots, class Policy, class Fill>
Future<typename Policy::Result> join(LoopCore& loop, std::size_t count, Policy&& policy, Fill fill,
                                     const std::source_location& place) {
  using Joined = JoinNode<Policy, kSlots>;
  using R = typename Policy::Result;
  void* const slots = kSlots != 0 ? nullptr : Join::allocateSlots(count);
  Joined* const node =
      kSlots == 0 && slots == nullptr
          ? nullptr
          : makeNode<Joined>(nullptr, &loop, place, slots, count, loop.onLoopThread(), std::forward<Policy>(policy));
  if (node == nullptr) {
    Join::freeSlots(slots);
    return Future<R>(failed<R>(Reason::NoMemory), place);
  }
  fill(*node);
  node->launch(node->decide());
  return Access::future<R>(node);
}

// Takes an input as far as that can be done without a node: brings it to `loop`; true when it is still pending.
template <class T>
bool prepareInput(Future<T>& future, LoopCore* loop) {
  Access::takeIfDone(future);
  if (Access::node(future) == nullptr) {
    return false;
  }
  if (Access::loop(future) == loop) {
    return true;
  }
  future = Access::viaLoop(std::move(future), *loop);
  Access::takeIfDone(future);
  return Access::node(future) != nullptr;
}

// When the result is decided without it: whether the end of an input, which then is on `loop`, has to be waited for.
template <class T>
bool hasToEnd(Future<T>& future, LoopCore* loop) {
  if (Access::node(future) == nullptr) {
    return false;
  }
  if (future.isReady()) {
    std::move(future).detach();
    return false;
  }
  if (Access::loop(future) != loop) {
    future = Access::viaLoop(std::move(future), *loop);
  }
  return Access::node(future) != nullptr;
}

}  // namespace nuncio::future_internal
