#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/event/internal/ending_scope.h"
#include "nuncio/event/internal/loop_core.h"
#include "nuncio/future/try.h"

// The machinery of futures, for the headers above this folder; not for users.
//
// A pending future is a node. A chain of thens is a chain of nodes, each with the function, the place where it was
// made, and room for its result; nodes of a chain share blocks of memory, as in KJ's promise arena. A node that belongs
// to a loop is touched on the loop's thread only: no locks, no atomics. When its result is there, the node after it
// becomes a task of the loop: completion never recurses, and neither does destruction, since a node is freed when the
// next one has taken its result. A handle that is used on another thread sends a task to the loop. (A value that moves
// trivially may be taken before that task, from the hand of the promise, whose node then goes at once: takeAtOnce().)
//
// The one thing that threads share is the node between a Promise and its future: see PromiseCoreBase.
//
// Cancelling asks from the outside in, and ends from the inside out. askToStop() walks up from a node to the operation
// at the top of the chain, and marks what it passes; it runs no function of users. The operation completes, now or, if
// it is elsewhere, when it answers; then the tasks of the nodes below it run, one after the other as always, but
// instead of going on each destroys its function or frame. So a frame goes only after everything that it waits for has
// gone. These tasks do not wait for their turn in the loop: an EndingScope runs them before cancel() returns.
// docs/futures.md has the table of what is destroyed when.
namespace nuncio::future_internal {

class Failure;
class PromiseCoreBase;
class ThreadWait;
struct Access;

// Memory of nodes: a few of one chain in each. A block goes when all who have a share in it have left: its nodes, which
// are counted in `nodes` as the one thing that the consumer's side of the chain has; and where the first of them is the
// core of a promise, the producer's side, which may be another thread. The core is destroyed by who leaves last of
// these two, any other node when it is freed.
struct Block {
  LoopCore* loop;         // shared; null while it belongs to none
  PromiseCoreBase* core;  // a part of the first node; null when that is none of a promise
  uint32_t size;
  uint32_t used;
  uint32_t nodes;
};

enum NodeFlags : uint16_t {
  kDone = 1,            // its result is there
  kNoResult = 2,        // done, without one: cancelled
  kCancelled = 4,       // asked to stop: its result is not wanted
  kDropped = 8,         // nobody has, or will have, its future
  kQuiet = 16,          // its failure is not to be logged
  kQueued = 32,         // its task is on its way
  kEnding = 64,         // what it waits for has been asked to stop: its task does not wait for its turn
  kPasses = 128,        // done, and its result is that of upstream_, still there
  kSeen = 256,          // for the search of circles
  kCleansUp = 512,      // what it started is not to be asked to stop: it was cancelled before
  kGivesBack = 1024,    // what of its result nobody has taken goes back to where it came from
  kDelivered = 2048,    // queued, by another thread: it may be in a list that is not the loop thread's
  kTakesAtOnce = 4096,  // may be given a value before its task runs: see takeAtOnce()
};

// Node: what a pending future is: a continuation, a timer, the core of a promise, a place in a line. As a task: what it
// waits for is done. On the loop's thread.
class Node : public Task {
public:
  bool has(uint16_t flags) const { return (flags_ & flags) != 0; }
  void set(uint16_t flags) { flags_ = static_cast<uint16_t>(flags_ | flags); }
  void unset(uint16_t flags) { flags_ = static_cast<uint16_t>(flags_ & ~flags); }
  // While it waits, and has not been asked to stop.
  bool takesAtOnce() const { return (flags_ & (kTakesAtOnce | kQueued | kCancelled | kEnding)) == kTakesAtOnce; }

  // Unless it is overridden, a task that is refused runs, cancelled.
  void refuseTask() noexcept override {
    set(kCancelled);
    runTask();
  }
  bool endFutileWaits(LinkedList<Task>& waiting) noexcept override;
  // In a circle: whether what it waits for can be taken away from it.
  virtual bool mayGoWithout() const noexcept { return listed() && upstream_ != nullptr; }

  // Asked to stop, with no upstream that could be asked: ends what there is to end, without running a function of
  // users, and completes, now or later; returns the node to ask next, if that is another one. `reason`: for promises'
  // onCancel; null: Cancelled. An EndingScope is open.
  virtual Node* stopHere(const Failure* /*reason*/) noexcept { return nullptr; }
  // One of the inputs of a join is done, or is to be asked to stop.
  virtual void inputDone(Node& /*input*/) noexcept {}
  // Its future has been dropped, before it was done.
  virtual void handleDropped() noexcept {}
  // The consumer has what it wants of it; what is left of its result nobody has looked at. Frees it. Not called where
  // the result has been taken, but for those that give back.
  virtual void leave() noexcept { free(); }
  // kTakesAtOnce: what upstream_ would have had is `value`, a Stored<T> that kMovesTrivially. Takes it, and is queued,
  // or what it belongs to is, without running a function of users; upstream_ is null then, and may go. False when it
  // does not.
  virtual bool takeAtOnce(void* /*value*/) noexcept { return false; }
  // kGivesBack: its result is to be taken now, and is to be where other nodes have it.
  virtual void fetchResult() noexcept {}
  // What it is called in a trace, and the nodes that it waits for besides upstream_; null beyond the last.
  virtual const char* kind() const noexcept { return "then"; }
  virtual Node* waitsFor(std::size_t /*index*/) const noexcept { return nullptr; }
  // The node that waits for this, or whose input this is; of this loop, or of one that the thread visits.
  virtual Node* consumer() const noexcept { return downstream_; }
  // When that is of another loop: that loop.
  virtual LoopCore* consumersLoop() const noexcept { return nullptr; }
  // When a thread waits for it: what it waits on.
  virtual ThreadWait* threadWait() noexcept { return nullptr; }
  // Its failure, if it failed by itself.
  virtual const Failure* failure() const noexcept { return nullptr; }

  // Its consumer's side does not touch it any more. Destroys it, but for a promise's core, whose producer may be there
  // still; and with the last of its block's nodes frees the block.
  void free() noexcept;

  Node* upstream_ = nullptr;    // what it waits for; null for a first node, and when that is done
  Node* downstream_ = nullptr;  // what waits for it
  LoopCore* loop_ = nullptr;    // null before it belongs to one; what keeps the loop is the block
  std::source_location place_;
  uint16_t offset_ = 0;  // from the start of its block
  uint16_t flags_ = 0;
  uint8_t phase_ = 0;  // of the derived class

  // Destroys the object, not its memory; for free() and freeBlock().
  virtual void destroy() noexcept = 0;

protected:
  ~Node() = default;
};

inline constexpr uint32_t kBlockHeader = (sizeof(Block) + 15) / 16 * 16;
// Where the result of `node`, which is done, is: there, or at the node whose result it passes on.
inline const Node& sourceOf(const Node& node) noexcept {
  const Node* source = &node;
  while (source->has(kPasses)) {
    source = source->upstream_;
  }
  return *source;
}

// Whether the result of `node`, which is done, is a value that goes back when nobody looks at it.
inline bool givesBack(const Node& node) noexcept {
  const Node& source = sourceOf(node);
  return source.has(kGivesBack) && !source.has(kNoResult);
}

inline Block& blockOf(Node& node) noexcept {
  return *reinterpret_cast<Block*>(reinterpret_cast<std::byte*>(&node) - node.offset_);
}

template <class T>
class ResultNode : public Node {
public:
  const Failure* failure() const noexcept override {
    const auto& source = static_cast<const ResultNode&>(sourceOf(*this));
    return source.has(kNoResult) ? nullptr : source.result_.failure();
  }

  Try<T> result_;

protected:
  ~ResultNode() = default;
};

// A result that was there from the start, for what has to wait its turn.
template <class T>
class ReadyNode final : public ResultNode<T> {
public:
  explicit ReadyNode(Try<T>&& result) {
    this->result_ = std::move(result);
    this->set(kDone);
  }
  void runTask() noexcept override {}
  const char* kind() const noexcept override { return "ready"; }

private:
  void destroy() noexcept override { this->~ReadyNode(); }
};

// Why a future failed without its own doing. The failures are made when the program starts, since there may be no
// memory when they are needed.
enum class Reason : uint8_t {
  Cancelled,
  LoopGone,
  NoMemory,  // for a continuation
  Invalid,
  OnLoop,
  Retrieved,
  NoDispatcher,
  NoMemoryForFailure,
  OkStatus,
  NullException,
  NoResult,  // the last: failure.cc counts up to it
};
// A reference to it.
Failure* failureFor(Reason reason) noexcept;
template <class T>
Try<T> failed(Reason reason) noexcept {
  return Try<T>::fromFailure(failureFor(reason));
}

// What follows is used on the loop's thread, unless it says otherwise.

void completeDropped(Node& node) noexcept;
// What `node` waited for is there, or it goes without: its task is to run.
void queueEnding(Node& node) noexcept;
[[gnu::always_inline]] inline void queueTask(Node& node) noexcept {
  node.set(kQueued);
  if (node.has(kEnding)) [[unlikely]] {
    queueEnding(node);
  } else {
    node.loop_->add(node);
  }
}
// `node` has its result, or kNoResult, or kPasses.
[[gnu::always_inline]] inline void complete(Node& node) noexcept {  // of all completions: a call is a tenth of one
  node.set(kDone);
  if (node.downstream_ != nullptr) {
    queueTask(*node.downstream_);
  } else if (node.has(kDropped)) {
    completeDropped(node);
  }
}
// Makes `node` wait for `upstream`, which is of its loop, and whose future the caller consumes.
[[gnu::always_inline]] inline void attachHere(Node& upstream, Node& node) noexcept {  // as complete()
  upstream.downstream_ = &node;
  node.upstream_ = &upstream;
  if (upstream.has(kDone)) {
    queueTask(node);
  }
}
// The same on any thread. False without memory: nothing has happened then.
bool attachElsewhere(Node& upstream, Node& node) noexcept;
inline bool attach(Node& upstream, Node& node) noexcept {
  if (node.loop_->onLoopThread()) {
    attachHere(upstream, node);
    return true;
  }
  return attachElsewhere(upstream, node);
}
// Asks `node`, and what it waits for, to stop. An EndingScope is open. `reason`: see stopHere().
void askToStop(Node* node, const Failure* reason = nullptr) noexcept;
// The same, and runs what ends by that before it returns.
void cancelNode(Node* node, const Failure* reason = nullptr) noexcept;
// Takes what `waiting` waits for away from it: nobody will have it. A failure is then logged, unless `quiet`.
Node& detachUpstream(Node& waiting, bool quiet) noexcept;
// Nobody takes the result of `node`, which is done.
void discardResult(Node& node) noexcept;
inline void discardInput(Node& node) noexcept { discardResult(*std::exchange(node.upstream_, nullptr)); }

// `node`, which has none, belongs to `loop` from now on. Any thread.
inline void giveLoop(Node& node, LoopCore& loop) noexcept {
  node.loop_ = blockOf(node).loop = &loop;
  loop.retain();
}
// The same, on the thread of `loop`.
inline void giveLoopHere(Node& node, LoopCore& loop) noexcept {
  node.loop_ = blockOf(node).loop = &loop;
  loop.retainHere();
}

// By whom has the future of `node`, on any thread: it is gone.
void dropFromHandle(Node& node, bool quiet) noexcept;
// Asks `node` to stop; any thread, for one whose future is dropped right after on the same thread, and so cannot be
// gone when the loop learns of it.
void cancelFromHandle(Node& node) noexcept;
// In a debug build: names the futures that wait for each other, of which `node` is one.
void reportCircle(const Node& node) noexcept;
// A failed future was dropped. Any thread.
void reportDropped(const Failure* failure, const std::source_location& place) noexcept;
// What a handle had when it was dropped: a failure, whose reference is given up, and where it was made; or else the
// node, or nothing; and the loop, if any, which is released. Any thread.
void dropParts(Failure* failure, void* node_or_place, LoopCore* loop, bool quiet) noexcept;

// The result of `node`, which is done, and has none of its own.
template <class T>
Try<T> takeOtherResult(ResultNode<T>& node) noexcept {
  ResultNode<T>* source = &node;
  while (source->has(kPasses)) {
    ResultNode<T>* const next = static_cast<ResultNode<T>*>(std::exchange(source->upstream_, nullptr));
    source->leave();
    source = next;
  }
  if (source->has(kGivesBack) && !source->has(kNoResult)) {
    source->fetchResult();
  }
  // Without a result: what there is is the producer's still.
  Try<T> result = !source->has(kNoResult)                                ? std::move(source->result_)
                  : source->loop_ != nullptr && source->loop_->closing() ? failed<T>(Reason::LoopGone)
                                                                         : failed<T>(Reason::Cancelled);
  source->leave();
  return result;
}
// The result of `node`, which is done.
template <class T>
Try<T> takeResult(ResultNode<T>& node) noexcept {
  if (node.has(kPasses | kNoResult | kGivesBack)) [[unlikely]] {
    return takeOtherResult(node);
  }
  Try<T> result = std::move(node.result_);
  node.free();  // not virtual: a twentieth of an await
  return result;
}
// The result of what `node` waited for.
template <class T>
Try<T> takeInput(Node& node) noexcept {
  return takeResult(*static_cast<ResultNode<T>*>(std::exchange(node.upstream_, nullptr)));
}

// What waits for something else, and gives its result as it is: the result stays where it is until it is looked at.
// With a failure given to it: fails with that when what it waits for has ended without a value, or, `always`, with any.
template <class T>
class PassNode final : public ResultNode<T> {
public:
  PassNode() = default;
  PassNode(const Failure* failure, bool always) noexcept : always_(always) {
    this->result_ = Try<T>::fromFailure(shareFailure(failure));
  }

  void runTask() noexcept override {
    if (this->upstream_ == nullptr) {  // a circle, of which this was taken out
      this->set(kNoResult);
    } else if (!this->result_.failed() || (!always_ && inputHasValue())) {
      this->result_.reset();
      this->set(kPasses);
    } else {
      discardInput(*this);
    }
    complete(*this);
  }
  const char* kind() const noexcept override { return "cancel"; }

private:
  bool inputHasValue() const noexcept {
    const auto& source = static_cast<const ResultNode<T>&>(sourceOf(*this->upstream_));
    return !source.has(kNoResult) && (source.has(kGivesBack) || source.result_.hasValue());
  }
  void destroy() noexcept override { this->~PassNode(); }

  bool always_ = false;
};

// Memory for a node of `loop`: beside `neighbour` where there is room. Null without memory. Any thread; `loop` and
// `neighbour` may be null. The loop is kept.
void* allocateNode(Node* neighbour, LoopCore* loop, uint32_t size, uint16_t* offset) noexcept;
// The same for one without a neighbour, of at most kMaxInSmallBlock bytes: at kBlockHeader of its block.
void* allocateFirst(LoopCore* loop, uint32_t size) noexcept;
inline constexpr uint32_t kMaxInSmallBlock = BlockPool::kSmallBytes - kBlockHeader;
// Frees it where no node came of it.
void giveBackNode(void* memory, uint16_t offset) noexcept;
// Nobody has a share in `block` any more: destroys the core of a promise that is in it. Any thread.
void freeBlock(Block& block) noexcept;
// The same for one of which nothing is left to destroy, on the thread of its loop, which is open.
inline void recycleBlock(Block& block, uint32_t size) noexcept {
  LoopCore& loop = *block.loop;
  if (size == BlockPool::kSmallBytes) [[likely]] {
    loop.blocks().freeSmall(&block);
  } else if (size == BlockPool::kLargeBytes) {
    loop.blocks().freeLarge(&block);
  } else {
    std::free(&block);
  }
  loop.releaseHere();
}

// Makes a node; null without memory. Throws what its constructor throws.
template <class N, class... Args>
N* makeNode(Node* neighbour, LoopCore* loop, const std::source_location& place, Args&&... args) {
  static_assert(alignof(N) <= 16, "over-aligned captures and results are not supported");
  constexpr uint32_t kSize = (sizeof(N) + 15) / 16 * 16;
  uint16_t offset = kBlockHeader;
  void* const memory = kSize <= kMaxInSmallBlock && neighbour == nullptr
                           ? allocateFirst(loop, kSize)
                           : allocateNode(neighbour, loop, kSize, &offset);
  if (memory == nullptr) {
    return nullptr;
  }
  N* node;
  if constexpr (std::is_nothrow_constructible_v<N, Args&&...>) {
    node = ::new (memory) N(std::forward<Args>(args)...);
  } else {
    try {
      node = ::new (memory) N(std::forward<Args>(args)...);
    } catch (...) {
      giveBackNode(memory, offset);
      throw;
    }
  }
  node->loop_ = loop;
  node->place_ = place;
  node->offset_ = offset;
  if constexpr (std::is_base_of_v<PromiseCoreBase, N>) {
    blockOf(*node).core = node;
  }
  return node;
}

// Whether a continuation of a ready future may run in place: on the loop's thread, while no other continuation waits
// its turn, not too deep in the stack, and not for too long. A future without a loop, which is a value that never
// waited: anywhere, but on a loop not too deep either.
class InPlace {
public:
  [[gnu::always_inline]] static bool allowed(LoopCore* loop) {
    if (reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) < LoopCore::stackFloor()) [[unlikely]] {
      return false;
    }
    if (loop == nullptr) [[likely]] {
      return true;
    }
    return loop->onLoopThread() && loop->empty() && !loop->closing() && loop->spendInPlace();
  }
};

LoopCore& loopOf(Dispatcher& dispatcher);
enum class WaitResult : uint8_t { Ready, Timeout, OnLoop, Invalid, NoMemory };
void assignWaitStatus(WaitResult result, absl::Status* status);
// A promise that was made at `place` was destroyed without a result.
Failure* brokenPromise(const std::source_location& place) noexcept;

}  // namespace nuncio::future_internal
