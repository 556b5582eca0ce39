#include "nuncio/future/internal/node.h"

#include <bit>
#include <cstdlib>

#include "absl/status/status.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/internal/promise_core.h"
#include "source/future/hand_over.h"

namespace nuncio::future_internal {
namespace {

void dropHere(Node& node, bool quiet) noexcept {
  node.set(quiet ? kDropped | kQuiet : kDropped);
  if (node.has(kDone)) {
    completeDropped(node);
  } else {
    node.handleDropped();
  }
}

// A node of the circle into which the way from `start` to its consumer, to that one's, and so on leads; null when it
// comes to an end, or to a node that is marked as seen.
Node* circleFrom(Node& start) noexcept {
  // Floyd's tortoise and hare (Knuth, The Art of Computer Programming, vol. 2, 3.1, exercise 6).
  Node* hare = &start;
  for (Node* tortoise = &start; hare != nullptr && !hare->has(kSeen); tortoise = tortoise->consumer()) {
    hare = hare->consumer();
    hare = hare != nullptr && !hare->has(kSeen) ? hare->consumer() : hare;
    if (hare != nullptr && !hare->has(kSeen) && hare == tortoise->consumer()) {
      return hare;
    }
  }
  return nullptr;
}

// A node of a circle, if there is one among those that wait. Each node has one consumer, so that the way from it leads
// to an end, or into a circle. What leads to an end is marked, so that all ways together are gone once.
Node* findCircle(LinkedList<Task>& waiting) noexcept {
  Node* in_circle = nullptr;
  for (Task* task = &waiting.first(); task != nullptr; task = waiting.after(*task)) {
    Node& start = *static_cast<Node*>(task);
    in_circle = circleFrom(start);
    if (in_circle != nullptr) {
      break;
    }
    for (Node* node = &start; node != nullptr && !node->has(kSeen); node = node->consumer()) {
      node->set(kSeen);
    }
  }
  for (Task* task = &waiting.first(); task != nullptr; task = waiting.after(*task)) {
    for (Node* node = static_cast<Node*>(task); node != nullptr && node->has(kSeen); node = node->consumer()) {
      node->unset(kSeen);
    }
  }
  return in_circle;
}

// Begins a small block, of which `size` bytes are the first node's.
void* nodeMemory(void* memory, LoopCore* loop, uint32_t size) noexcept {
  ::new (memory) Block{loop, nullptr, BlockPool::kSmallBytes, kBlockHeader + size, 1};
  return static_cast<std::byte*>(memory) + kBlockHeader;
}

// A function of its own, so that who takes a block from the pool saves no registers for it.
[[gnu::noinline]] void* allocateFirstFromSystem(LoopCore* loop, uint32_t size) noexcept {
  void* const memory = std::malloc(BlockPool::kSmallBytes);
  if (memory == nullptr) {
    return nullptr;
  }
  if (loop != nullptr) {
    loop->retain();
  }
  return nodeMemory(memory, loop, size);
}

}  // namespace

void Node::free() noexcept {
  Block& block = blockOf(*this);
  const bool core = block.core != nullptr && offset_ == kBlockHeader;
  if (!core) {
    destroy();
  }
  if (--block.nodes == 0 && (block.core == nullptr || block.core->consumerLeaves())) {
    freeBlock(block);
  }
}

// Back to the pool of its loop where this thread is the loop's, and to the allocator elsewhere. Last, since the block
// may have the last share of the loop.
void freeBlock(Block& block) noexcept {
  if (block.core != nullptr) {
    // The first node; not core->node(), which would have to be looked for.
    reinterpret_cast<Node*>(reinterpret_cast<std::byte*>(&block) + kBlockHeader)->destroy();
  }
  LoopCore* const loop = block.loop;
  if (loop == nullptr || !loop->onLoopThread()) {
    std::free(&block);
    if (loop != nullptr) {
      loop->release();
    }
    return;
  }
  if (!loop->closing()) [[likely]] {
    recycleBlock(block, block.size);
  } else {
    std::free(&block);
    loop->releaseHere();
  }
}

// A block holds what a chain adds to it, one node after the other, as long as there is room and the loop's own thread
// is at work: another one would have to lock it. A first node gets a small block, since most chains are short; what
// comes after it opens a large one. A node is never moved, and its memory is not used again before the block goes: a
// chain of a million continuations frees as it runs, block by block.
void* allocateNode(Node* neighbour, LoopCore* loop, uint32_t size, uint16_t* offset) noexcept {
  const bool here = loop != nullptr && loop->onLoopThread() && !loop->closing();
  uint32_t block_size = BlockPool::kSmallBytes;
  if (neighbour != nullptr && here) {
    Block& block = blockOf(*neighbour);
    if (block.size - block.used >= size) {
      *offset = static_cast<uint16_t>(block.used);
      block.used += size;
      ++block.nodes;
      return reinterpret_cast<std::byte*>(&block) + *offset;
    }
    block_size = BlockPool::kLargeBytes;
  }
  if (size > block_size - kBlockHeader) {
    block_size = size <= BlockPool::kLargeBytes - kBlockHeader ? uint32_t{BlockPool::kLargeBytes} : kBlockHeader + size;
  }
  // What belongs to no loop yet comes from the one that runs here: it will mostly go back there.
  LoopCore* const pool = here ? loop : loop == nullptr ? LoopCore::current() : nullptr;
  void* memory;
  if (pool == nullptr || block_size > BlockPool::kLargeBytes) {
    memory = std::malloc(block_size);
  } else {
    memory = block_size == BlockPool::kSmallBytes ? pool->blocks().allocateSmall() : pool->blocks().allocateLarge();
  }
  if (memory == nullptr) {
    return nullptr;
  }
  if (loop != nullptr) {
    loop->retain();
  }
  *offset = kBlockHeader;
  ::new (memory) Block{loop, nullptr, block_size, kBlockHeader + size, 1};
  return static_cast<std::byte*>(memory) + kBlockHeader;
}

void* allocateFirst(LoopCore* loop, uint32_t size) noexcept {
  LoopCore* const pool = loop == nullptr ? LoopCore::current() : loop;
  if (pool == nullptr || (loop != nullptr && (!loop->onLoopThread() || loop->closing()))) [[unlikely]] {
    return allocateFirstFromSystem(loop, size);
  }
  void* const memory = pool->blocks().reuseSmall();
  if (memory == nullptr) [[unlikely]] {
    return allocateFirstFromSystem(loop, size);
  }
  if (loop != nullptr) {
    loop->retainHere();
  }
  return nodeMemory(memory, loop, size);
}

void giveBackNode(void* memory, uint16_t offset) noexcept {
  Block* const block = reinterpret_cast<Block*>(static_cast<std::byte*>(memory) - offset);
  if (--block->nodes == 0) {
    freeBlock(*block);
  }
}

void queueEnding(Node& node) noexcept {
  LoopCore& loop = *node.loop_;
  if (loop.endingScopeOpen()) {
    loop.addEnding(node);
  } else {
    loop.add(node);
  }
}

void completeDropped(Node& node) noexcept {
  if (!node.has(kQuiet)) {
    reportDropped(node.failure(), node.place_);
  }
  discardResult(node);
}

// A node that passes on a result keeps the node that has it: they leave one after the other, in a loop, not
// recursively.
void discardResult(Node& node) noexcept {
  for (Node* done = &node; done != nullptr;) {
    Node* const source = done->has(kPasses) ? std::exchange(done->upstream_, nullptr) : nullptr;
    done->leave();
    done = source;
  }
}

// A handle is used on another thread than its loop's: both nodes are the loop's alone, so that they are connected
// there. Until then `node` waits for nothing; a cancel that comes first leaves kCancelled, and is made up for here.
bool attachElsewhere(Node& upstream, Node& node) noexcept {
  return handOver(*node.loop_, [&upstream, &node](bool refused) {
    if (!refused && !node.has(kCancelled)) {
      attachHere(upstream, node);
      return;
    }
    const EndingScope scope(*node.loop_);
    node.set(kCancelled | kEnding);
    attachHere(upstream, node);
    askToStop(&upstream, node.failure());
  });
}

// Walks from the future that is cancelled up to the operation at the top of its chain, in a loop: chains may have a
// million nodes. What is done already, or has been asked, ends the walk. A node whose task is queued has nothing to
// wait for any more, and ends as soon as it runs; it is moved to the list that is run at once, unless another thread is
// bringing it. stopHere() may name another node to go on with, as a coroutine names what it awaits.
void askToStop(Node* node, const Failure* reason) noexcept {
  while (node != nullptr && !node->has(kDone | kCancelled)) {
    node->set(kCancelled | kEnding);
    if (node->has(kQueued)) {
      // What it waited for is done, so that only its own end is left; at once, unless it is still on its way here.
      if (!node->has(kDelivered) && node->listed()) {
        node->loop_->addEnding(*node);
      }
      return;
    }
    Node* const upstream = node->upstream_;
    node = upstream != nullptr && !upstream->has(kDone) ? upstream : node->stopHere(reason);
  }
}

void cancelNode(Node* node, const Failure* reason) noexcept {
  if (node->loop_ == nullptr) {  // a coroutine that runs for the first time, and has no loop yet
    node->stopHere(reason);
    return;
  }
  const EndingScope scope(*node->loop_);
  askToStop(node, reason);
}

Node& detachUpstream(Node& waiting, bool quiet) noexcept {
  waiting.unlink();
  Node& upstream = *std::exchange(waiting.upstream_, nullptr);
  upstream.downstream_ = nullptr;
  upstream.set(quiet ? kDropped | kQuiet : kDropped);
  return upstream;
}

bool Node::endFutileWaits(LinkedList<Task>& waiting) noexcept {
  Node* waits = findCircle(waiting);
  if (waits == nullptr) {
    return false;
  }
  for (const Node* const first = waits; !waits->mayGoWithout();) {
    waits = waits->consumer();
    if (waits == first) {
      return false;  // it goes through a promise, which ends it: see PromiseCoreBase::endFutileWait()
    }
  }
  reportCircle(*waits);
  detachUpstream(*waits, /*quiet=*/true);
  waits->set(kCancelled);
  queueTask(*waits);
  return true;
}

void dropFromHandle(Node& node, bool quiet) noexcept {
  {
    const LoopCore::Visit visit(node.loop_);
    if (visit.admitted()) {
      dropHere(node, quiet);
      return;
    }
  }
  // Where even the reserve is used up, the node stays when it is done.
  handOverSurely(*node.loop_, [&node, quiet](bool) { dropHere(node, quiet); });
}

void cancelFromHandle(Node& node) noexcept {
  {
    const LoopCore::Visit visit(node.loop_);
    if (visit.admitted()) {
      cancelNode(&node);
      return;
    }
  }
  handOver(*node.loop_, [&node](bool) { cancelNode(&node); });
}

void dropParts(Failure* failure, void* node_or_place, LoopCore* loop, bool quiet) noexcept {
  if (failure != nullptr) {
    if (!quiet) {
      reportDropped(failure, std::bit_cast<std::source_location>(node_or_place));
    }
    releaseFailure(failure);
  } else if (node_or_place != nullptr) {
    dropFromHandle(*static_cast<Node*>(node_or_place), quiet);
  }
  if (loop != nullptr) {
    loop->release();
  }
}

namespace {
// Made when the program starts: wait() is called again and again, also where there is no memory.
const absl::Status& notReadyYet() {
  static const absl::Status& status = *new absl::Status(absl::DeadlineExceededError("the future is not ready yet"));
  return status;
}
[[maybe_unused]] const absl::Status& made_at_start = notReadyYet();
}  // namespace

LoopCore& loopOf(Dispatcher& dispatcher) { return dispatcher.loop(); }

void assignWaitStatus(WaitResult result, absl::Status* status) {
  switch (result) {
    case WaitResult::Ready:
      *status = absl::OkStatus();
      break;
    case WaitResult::Timeout:
      *status = notReadyYet();
      break;
    case WaitResult::OnLoop:
      *status = failed<void>(Reason::OnLoop).status();
      break;
    case WaitResult::Invalid:
      *status = failed<void>(Reason::Invalid).status();
      break;
    case WaitResult::NoMemory:
      *status = failed<void>(Reason::NoMemory).status();
      break;
  }
}

}  // namespace nuncio::future_internal
