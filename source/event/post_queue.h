#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "nuncio/common/file_descriptor.h"
#include "nuncio/common/mutex.h"
#include "nuncio/event/callback.h"

namespace nuncio {

// PostQueue: what other threads hand to a loop, and the eventfd that wakes it.
//
// Callbacks stand back to back in chunks of memory: a word that tells the type, then the capture, so that a small post
// moves 16 bytes from core to core and allocates nothing. The loop takes all of them under one lock and runs them where
// they stand, unlocked. Chunks are used again; memory beyond a few of them is freed after a burst.
//
// A post writes to the eventfd only when the loop sleeps, or is about to: the loop says so under the lock, after it
// found nothing to do. The eventfd is registered edge-triggered, where each write is an event of its own, so that
// nobody ever has to read it.
//
// Threads: post, wake, closed, name from any; the rest from the loop's. Lifetime: shared by the dispatcher and its
// PostHandles; it works without the dispatcher once closed.
class PostQueue {
public:
  // Before each capture: a pointer to its type's operations.
  static constexpr std::size_t kHeaderBytes = sizeof(void*);

  struct Chunk {
    static constexpr std::size_t kBytes = 16 * 1024 - 2 * sizeof(void*);

    Chunk* next;
    std::size_t end;  // of what is written in `data`
    alignas(PostCb::kAlignment) std::byte data[kBytes];
  };

  // What was posted, in order, taken from the queue: the callbacks that have not run yet.
  class Batch {
  public:
    Batch() = default;
    ~Batch() { destroyAll(); }
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;

    bool empty() const { return first_ == nullptr; }
    // Whether any of them did not come by postFromLoop().
    bool fromOtherThreads() const { return from_other_threads_; }
    // Calls `invoke` with a function that runs the first callback; then destroys that callback. Not when empty.
    template <class Invoke>
    void runFirst(Invoke invoke) {
      std::byte* const record = first_->data + read_;
      const PostCb::Operations* const operations = *reinterpret_cast<const PostCb::Operations**>(record);
      std::byte* const capture = record + kHeaderBytes;
      read_ += kHeaderBytes + operations->size;
      invoke([operations, capture] { operations->invoke(capture); });
      if (operations->destroy != nullptr) {
        operations->destroy(capture);
      }
      if (read_ == first_->end) {
        nextChunk();
      }
    }
    // Destroys the callbacks, in order, without running them.
    void destroyAll();
    // Leaves them and their memory to nobody.
    void abandon() { first_ = used_ = nullptr; }

  private:
    friend class PostQueue;
    void nextChunk();

    Chunk* first_ = nullptr;
    std::size_t read_ = 0;   // offset in first_
    Chunk* used_ = nullptr;  // chunks that were run, for the queue to use again
    bool from_other_threads_ = false;
  };

  static absl::StatusOr<std::shared_ptr<PostQueue>> create(std::string name);
  ~PostQueue();
  PostQueue(const PostQueue&) = delete;
  PostQueue& operator=(const PostQueue&) = delete;

  // False when closed, or without memory; `cb` is then left to the caller.
  bool post(PostCb&& cb);

  // The same on the loop's thread while the loop runs, without the lock. Order is kept: what goes this way was posted
  // before all that is pending, or else it goes the other way.
  bool postFromLoop(PostCb&& cb);

  // Makes the loop's poll return, now or the next time. Safe in a signal handler.
  void wake();

  // Takes all that is posted into `batch`, which is empty. When there is nothing: false, and with `will_sleep` the next
  // post wakes the loop, until awake() is called. Takes the lock only where it has to.
  bool take(Batch& batch, bool will_sleep);

  // The loop does not sleep any more.
  void awake() {
    if (sleeping_.load(std::memory_order_relaxed)) {  // looked at first: the producers' cores share the line
      sleeping_.store(false, std::memory_order_relaxed);
    }
  }

  // Whether something is posted, without the lock: for spinning.
  bool pending() const { return pending_.load(std::memory_order_acquire); }

  // Whether something came by postFromLoop(). The loop's thread.
  bool pendingFromLoop() const { return from_loop_.first != nullptr; }

  // Refuses posts from now on. What was posted before can still be taken.
  void close();
  bool closed() const { return closed_hint_.load(std::memory_order_acquire); }

  // In the child of a fork: an eventfd of its own instead of the parent's.
  absl::Status reopen();

  const std::string& name() const { return name_; }
  int wakeFd() const { return wake_fd_.get(); }
  uint64_t wakeups() const { return wakeups_.load(std::memory_order_relaxed); }

private:
  friend class ForkGuard;
  PostQueue(std::string name, FileDescriptor wake_fd);

  // Posted callbacks, and chunks to put more in.
  struct Chain {
    Chunk* first = nullptr;
    Chunk* last = nullptr;
    Chunk* spare = nullptr;
    std::size_t spares = 0;

    bool append(PostCb& cb);  // false without memory
    bool keepSpare(Chunk* chunk, std::size_t limit);
  };

  const std::string name_;
  FileDescriptor wake_fd_;
  Chain from_loop_;  // the loop's thread alone

  // What producers touch, on cache lines of its own.
  alignas(64) Mutex lock_;
  Chain posted_ ABSL_GUARDED_BY(lock_);
  bool closed_ ABSL_GUARDED_BY(lock_) = false;

  // Set under the lock; cleared under it by the post that wakes, or without it by the loop, which looks at the queue
  // under the lock before it sleeps again. Hence relaxed.
  std::atomic<bool> sleeping_{false};
  // Whether posted_ has any. Release/acquire, so that a spinning loop sees what it will find under the lock.
  std::atomic<bool> pending_{false};
  std::atomic<bool> closed_hint_{false};
  std::atomic<uint64_t> wakeups_{0};

  PostQueue* registry_prev_ = nullptr;  // of all queues, for fork
  PostQueue* registry_next_ = nullptr;
};

}  // namespace nuncio
