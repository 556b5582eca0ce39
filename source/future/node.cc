#include "nuncio/future/internal/node.h"

#include <bit>
#include <chrono>
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/internal/origin.h"
#include "source/future/failure.h"
#include "source/future/hand_over.h"

namespace nuncio::future_internal {
namespace {

constexpr std::chrono::microseconds kMaxInPlace{500};

void freeBlock(Block* block) noexcept {
  TaskQueue* const loop = block->loop;
  if (loop != nullptr && loop->onLoopThread() && !loop->closing()) {
    if (block->size == TaskQueue::kSmallBytes) {
      loop->freeSmall(block);
    } else if (block->size == TaskQueue::kLargeBytes) {
      loop->freeLarge(block);
    } else {
      std::free(block);
    }
  } else {
    std::free(block);
  }
  if (loop != nullptr) {
    loop->release();
  }
}

void dropHere(Node& node, bool quiet) noexcept {
  node.set(quiet ? kDropped | kQuiet : kDropped);
  if (node.has(kDone)) {
    completeDropped(node);
  }
}

}  // namespace

void Node::free() noexcept {
  Block& block = blockOf(*this);
  if (offset_ != kBlockHeader || block.origin == nullptr) {
    destroy();
  }
  if (--block.nodes != 0) {
    return;
  }
  if (block.origin == nullptr) {
    freeBlock(&block);
  } else if (block.origin->consumerGone()) {
    freeOrigin(block.origin->node());
  }
}

void freeOrigin(Node& node) noexcept {
  Block& block = blockOf(node);
  node.destroy();
  freeBlock(&block);
}

void* allocateNode(Node* neighbour, TaskQueue* loop, uint32_t size, uint16_t* offset) noexcept {
  const bool here = loop != nullptr && loop->onLoopThread() && !loop->closing();
  uint32_t block_size = TaskQueue::kSmallBytes;
  if (neighbour != nullptr && here) {
    Block& block = blockOf(*neighbour);
    if (block.size - block.used >= size) {
      *offset = static_cast<uint16_t>(block.used);
      block.used += size;
      ++block.nodes;
      return reinterpret_cast<std::byte*>(&block) + *offset;
    }
    block_size = TaskQueue::kLargeBytes;
  }
  if (size > block_size - kBlockHeader) {
    block_size = size <= TaskQueue::kLargeBytes - kBlockHeader ? uint32_t{TaskQueue::kLargeBytes} : kBlockHeader + size;
  }
  // What belongs to no loop yet comes from the one that runs here: it will mostly go back there.
  TaskQueue* const pool = here ? loop : loop == nullptr ? TaskQueue::current() : nullptr;
  void* memory;
  if (pool == nullptr || block_size > TaskQueue::kLargeBytes) {
    memory = std::malloc(block_size);
  } else {
    memory = block_size == TaskQueue::kSmallBytes ? pool->allocateSmall() : pool->allocateLarge();
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

void giveBackNode(void* memory, uint16_t offset) noexcept {
  Block* const block = reinterpret_cast<Block*>(static_cast<std::byte*>(memory) - offset);
  if (--block->nodes == 0) {
    freeBlock(block);
  }
}

Failure* failureFor(Reason reason) noexcept {
  union Failures {
    ~Failures() {}  // never: futures may outlive main()
    Failure of_reason[7];
  };
  static Failures failures{{
      Failure(absl::CancelledError("the future was cancelled")),
      Failure(absl::CancelledError("the future's dispatcher has been shut down")),
      Failure(absl::ResourceExhaustedError("no memory for a stage of a future")),
      Failure(absl::FailedPreconditionError("the future was moved from, or never made")),
      Failure(absl::FailedPreconditionError(
          "waiting for a future on a dispatcher's thread would block it; use then() or co_await")),
      Failure(absl::FailedPreconditionError("the promise's future was taken before")),
      Failure(absl::FailedPreconditionError("no dispatcher: start the coroutine on a dispatcher's thread, or give it a "
                                            "Dispatcher& as a parameter")),
  }};
  return shareFailure(&failures.of_reason[static_cast<int>(reason)]);
}

Failure* brokenPromise(const std::source_location& place) noexcept {
  return makeFailure(
      absl::AbortedError(absl::StrCat("broken promise: the one made at ", place.file_name(), ":", place.line(), " in ",
                                      place.function_name(), " was destroyed without a result")));
}

void completeDropped(Node& node) noexcept {
  if (!node.has(kQuiet)) {
    reportDropped(node.failure(), node.place_);
  }
  node.leave();
}

bool attachElsewhere(Node& upstream, Node& node) noexcept {
  return handOver(*node.loop_, [&upstream, &node](bool refused) {
    if (refused) {
      node.set(kCancelled);
    }
    attachHere(upstream, node);
    if (node.has(kCancelled)) {
      cancelNode(&upstream);
    }
  });
}

void cancelNode(Node* node) noexcept {
  while (!node->has(kDone)) {
    node->set(kCancelled);
    if (node->upstream_ == nullptr) {
      node->cancelHere();
      return;
    }
    node = node->upstream_;
  }
}

Node& detachUpstream(Node& waiting) noexcept {
  Node& upstream = *std::exchange(waiting.upstream_, nullptr);
  upstream.downstream_ = nullptr;
  upstream.set(kDropped | kQuiet);
  return upstream;
}

bool touchable(const TaskQueue* loop) noexcept { return loop == nullptr || loop->onLoopThread() || loop->ended(); }

void dropFromHandle(Node& node, bool quiet) noexcept {
  if (touchable(node.loop_) ||
      (!handOver(*node.loop_, [&node, quiet](bool) { dropHere(node, quiet); }) && node.loop_->ended())) {
    dropHere(node, quiet);
  }  // else there is no memory to tell the loop: when it is done, it stays
}

void cancelFromHandle(Node& node) noexcept {
  if (touchable(node.loop_)) {
    cancelNode(&node);
  } else {
    handOver(*node.loop_, [&node](bool) { cancelNode(&node); });
  }
}

void dropParts(Failure* failure, void* node_or_place, TaskQueue* loop, bool quiet) noexcept {
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

bool InPlace::inTime(const TaskQueue& loop) {
  // Of one thread's loops, which take turns.
  static thread_local const TaskQueue* last_loop = nullptr;
  static thread_local uint64_t iteration = 0;
  static thread_local std::chrono::steady_clock::time_point until;
  const auto now = std::chrono::steady_clock::now();
  if (last_loop != &loop || iteration != loop.iteration()) {
    last_loop = &loop;
    iteration = loop.iteration();
    until = now + kMaxInPlace;
  }
  return now < until;
}

TaskQueue& taskQueueOf(Dispatcher& dispatcher) { return dispatcher.taskQueue(); }

void assignWaitStatus(WaitResult result, absl::Status* status) {
  switch (result) {
    case WaitResult::Ready:
      *status = absl::OkStatus();
      break;
    case WaitResult::Timeout:
      *status = absl::DeadlineExceededError("the future is not ready yet");
      break;
    case WaitResult::OnLoop:
      *status = failed<void>(Reason::OnLoop).status();
      break;
    case WaitResult::Invalid:
      *status = failed<void>(Reason::Invalid).status();
      break;
  }
}

}  // namespace nuncio::future_internal
