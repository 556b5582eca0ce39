#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/strings/string_view.h"

#include "nuncio/common/mutex.h"
#include "nuncio/event/callback.h"
#include "nuncio/event/internal/callback_id.h"
#include "source/common/fork.h"
#include "source/event/waker.h"

namespace nuncio {

// PostQueue: what other threads hand to a loop, and the Waker that wakes it.
//
// Callbacks stand back to back in chunks of memory: a word that tells the type, then the capture, so that a small post
// moves 16 bytes from core to core and allocates nothing. The loop takes all of them under one lock and runs them where
// they stand, unlocked. Chunks are used again; memory beyond a few of them is freed after a burst.
//
// No function of users runs under the lock. A capture that can be moved by copying its bytes goes to its place under
// it; for any other the place alone is reserved there, and the capture moved to it afterwards, while the record is
// marked as unfinished. The loop does not run past such a record, and does not sleep before it.
//
// A post wakes the loop only when it sleeps, or is about to: the loop says so under the lock, after it found nothing to
// do.
//
// Threads: post, refuse, wake, fail, failed, requestExit, keepRunning, stopKeeping, closed, name from any; the rest
// from the loop's. Lifetime: shared by the dispatcher and its PostHandles; it works without the dispatcher once closed.
// A run and the destructor wait for those who are still on their way out of post() or requestExit(), though what they
// did may have ended the loop.
class PostQueue final : private ForkAware {
public:
  // Before each capture: the address of its type's operations, and how far the record is.
  using Header = std::atomic<uintptr_t>;
  static constexpr uintptr_t kUnfinished = 1;  // its capture is being moved to it
  static constexpr uintptr_t kGivenUp = 2;     // by a thread that did not come along in a fork: there is no capture
  static constexpr uintptr_t kTraced = 4;      // behind the capture is the number of the post, for a picture of it
  static constexpr uintptr_t kFlags = kUnfinished | kGivenUp | kTraced;
  static_assert(alignof(PostCb::Operations) > kTraced, "the flags have to fit beside an address");
  static constexpr std::size_t kHeaderBytes = sizeof(Header);
  using Flow = uint64_t;

  struct Chunk {
    static constexpr std::size_t kBytes = 16 * 1024 - 2 * sizeof(void*);

    Chunk* next;
    std::size_t end;  // of what is written in `data`
    alignas(PostCb::kAlignment) std::byte data[kBytes];
  };

  class Batch;

  // A callback that was taken from a batch, and may be called once. With this it is destroyed.
  class Posted {
  public:
    Posted(const Posted&) = delete;
    Posted& operator=(const Posted&) = delete;
    ~Posted() {
      if (operations_ != nullptr && operations_->destroy != nullptr) {
        operations_->destroy(capture_);
      }
      done();
    }

    void operator()() const {
      if (operations_ != nullptr) [[likely]] {
        operations_->invoke(capture_);
      }
    }

    CallbackId id() const { return operations_ != nullptr ? CallbackId::ofCallable(*operations_) : CallbackId(); }
    // 0: it was not traced.
    Flow flow() const { return flow_; }

  private:
    friend class Batch;
    Posted(Batch& batch, const PostCb::Operations* operations, std::byte* capture, Flow flow)
        : batch_(batch), operations_(operations), capture_(capture), flow_(flow) {}
    void done() const;

    Batch& batch_;
    const PostCb::Operations* const operations_;  // null: it was given up, and there is no capture
    std::byte* const capture_;
    const Flow flow_;
  };

  // What was posted, in order, taken from the queue: the callbacks that have not run yet.
  class Batch {
  public:
    Batch() = default;
    ~Batch() { destroyAll(); }
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;

    bool empty() const { return first_ == nullptr; }
    // How many there are.
    std::size_t size() const { return size_; }
    // Whether the first of them is there already. Not when empty.
    bool firstFinished() const { return (header().load(std::memory_order_acquire) & kUnfinished) == 0; }
    // The CPU of the first post that did not come by postFromLoop(), or that there is none such.
    static constexpr int kOwnPosts = -1;
    int postersCpu() const { return posters_cpu_; }
    // When it came, by steady_clock's nanoseconds; 0: not known.
    uint64_t postedAt() const { return posted_at_; }
    // The first callback, which stays where it stands until it is destroyed with what this returns. Not when empty, nor
    // before the first is finished.
    Posted takeFirst() {
      const uintptr_t header_word = header().load(std::memory_order_relaxed);
      const PostCb::Operations* const operations = operationsOf(header_word);
      std::byte* const capture = first_->data + read_ + kHeaderBytes;
      read_ += kHeaderBytes + operations->size;
      --size_;
      Flow flow = 0;
      if ((header_word & kTraced) != 0) {
        std::memcpy(&flow, first_->data + read_, sizeof(flow));
        read_ += sizeof(flow);
      }
      return Posted(*this, (header_word & kGivenUp) == 0 ? operations : nullptr, capture, flow);
    }
    // The same for one that is finished and has nothing particular about it, as nearly all; then it costs less.
    bool firstIsPlain() const { return (header().load(std::memory_order_acquire) & kFlags) == 0; }
    Posted takePlain() {
      const PostCb::Operations* const operations = operationsOf(header().load(std::memory_order_relaxed));
      std::byte* const capture = first_->data + read_ + kHeaderBytes;
      read_ += kHeaderBytes + operations->size;
      --size_;
      return Posted(*this, operations, capture, /*flow=*/0);
    }
    // Destroys the callbacks, in order, without running them. Waits for those that are not finished.
    void destroyAll();
    // In the child of a fork: nobody will finish what is not.
    void giveUpUnfinished();

  private:
    friend class PostQueue;

    const Header& header() const { return *reinterpret_cast<const Header*>(first_->data + read_); }
    void nextChunk();

    Chunk* first_ = nullptr;
    std::size_t read_ = 0;  // offset in first_
    std::size_t size_ = 0;
    Chunk* used_ = nullptr;  // chunks that were run, for the queue to use again
    int posters_cpu_ = kOwnPosts;
    uint64_t posted_at_ = 0;
  };

  PostQueue(std::string name, std::unique_ptr<Waker> waker);
  ~PostQueue() override;
  PostQueue(const PostQueue&) = delete;
  PostQueue& operator=(const PostQueue&) = delete;

  // Notes from now on when the first post of a batch came, which costs that one a look at the clock. Before any comes.
  void timePosts() { timed_ = true; }

  // Posts get a number each meanwhile, for a picture of what goes on: see tracePost(). Any thread.
  void startTrace() { traced_.store(true, std::memory_order_relaxed); }
  void stopTrace() { traced_.store(false, std::memory_order_relaxed); }

  // Takes `cb`. False when closed, or without memory: then it is left as it is.
  bool post(PostCb& cb);

  // The same on the loop's thread while the loop runs, without the lock; what it cannot take is refused. Order is kept:
  // what goes this way was posted before all that is pending, or else it goes the other way.
  bool postFromLoop(PostCb& cb);

  // Destroys what was refused; returns false. A callback whose destructor posts another one that is refused, and so on,
  // needs no deeper stack: those inside are destroyed after the one outside.
  static bool refuse(PostCb& cb) noexcept;

  // Has the run end. Safe where the waker is: on Linux, in a signal handler.
  void requestExit();
  // Until nobody who may have ended the run is still on the way out of that call.
  void waitForLeaving() const;
  bool exitRequested() const { return exit_requested_.load(std::memory_order_acquire); }
  void forgetExit() { exit_requested_.store(false, std::memory_order_relaxed); }

  // A run that ends when nothing is left to do does not while there are more of the former calls. In the child of a
  // fork there are none, and the parent's are not to be stopped.
  void keepRunning() { keepers_.fetch_add(1, std::memory_order_relaxed); }
  void stopKeeping();
  bool kept() const { return keepers_.load(std::memory_order_acquire) != 0; }

  // Makes the loop's poll return, now or the next time. Safe where the waker is: on Linux, in a signal handler.
  void wake();

  // Says once what went wrong with the kernel's objects of the loop. It can go on no more. Any thread.
  void fail(const char* what) noexcept;
  // The same for a system call that failed, on `fd` (-1: one whose number is not known).
  void fail(const char* call, int fd, int error) noexcept;
  // Whether that was called, or a wake-up failed, of which it then says so. Any thread, not in a signal handler.
  bool failed() noexcept {
    const int failure = failure_.load(std::memory_order_relaxed);
    return failure != kNoFailure && (failure == kFailureReported || reportFailedWake(failure));
  }

  // Takes all that is posted into `batch`, which is empty; false when there is nothing. Takes the lock only where it
  // has to.
  bool take(Batch& batch);

  // From now on the next post wakes the loop, until awake() is called. False, and nothing has happened, when something
  // is posted already: nothing can slip in between.
  bool announceSleep();

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

  // How many wait to be taken. The loop's thread.
  std::size_t size();
  // The same, but for those of the loop's own thread. Any thread.
  std::size_t sizeElsewhere();

  // Refuses posts from now on. What was posted before can still be taken.
  void close();
  bool closed() const { return closed_hint_.load(std::memory_order_acquire); }

  // In the child of a fork, when the waker has been reopened.
  void forgetFailure() { failure_.store(kNoFailure, std::memory_order_relaxed); }
  // In the child of a fork, under the lock: the loop was left in the parent. Closed from now on.
  void lose() ABSL_NO_THREAD_SAFETY_ANALYSIS;

  const std::string& name() const { return name_; }
  uint64_t wakeups() const { return wakeups_.load(std::memory_order_relaxed); }

private:
  // Posted callbacks, and chunks to put more in.
  struct Chunks {
    Chunk* first = nullptr;
    Chunk* last = nullptr;
    Chunk* spare = nullptr;
    std::size_t spares = 0;
    std::size_t size = 0;  // callbacks

    // Adds `cb`, whose capture moves as bytes; a flow that is not 0 is kept with it. False, and it is left as it is,
    // where that takes a spare chunk, and there is none.
    bool append(PostCb& cb, Flow flow);
    // A record of `cb`, whose header says that it is unfinished. Null where append() is false.
    Header* reserve(const PostCb& cb, Flow flow);
    // The same with a spare chunk, unless there is no memory for one.
    bool appendOrAllocate(PostCb& cb, Flow flow) { return append(cb, flow) || (allocateSpare() && append(cb, flow)); }
    Header* reserveOrAllocate(const PostCb& cb, Flow flow) {
      Header* const header = reserve(cb, flow);
      return header != nullptr || !allocateSpare() ? header : reserve(cb, flow);
    }
    std::byte* write(std::size_t bytes);
    bool allocateSpare();
    bool keepSpare(Chunk* chunk, std::size_t limit);
  };

  // Threads that are about to touch this for the last time, after what may end the loop.
  class Leaving {
  public:
    explicit Leaving(PostQueue& queue) : queue_(queue) { queue_.leaving_.fetch_add(1, std::memory_order_relaxed); }
    ~Leaving() { queue_.leaving_.fetch_sub(1, std::memory_order_release); }
    Leaving(const Leaving&) = delete;
    Leaving& operator=(const Leaving&) = delete;

  private:
    PostQueue& queue_;
  };

  static const PostCb::Operations* operationsOf(uintptr_t header_word) {
    // NOLINTNEXTLINE(performance-no-int-to-ptr): an address whose lowest bits are flags has to be a number
    return reinterpret_cast<const PostCb::Operations*>(header_word & ~kFlags);
  }
  static std::size_t recordBytes(const PostCb& cb, Flow flow) {
    return kHeaderBytes + cb.operations()->size + (flow != 0 ? sizeof(flow) : 0);
  }
  // Marks the unfinished records behind `offset` in `chunk`, and those of the chunks after it, as given up.
  static void giveUpUnfinished(Chunk* chunk, std::size_t offset);
  // Moves the capture to its place.
  static void finish(Header& header, PostCb& cb);
  // The number of what is about to be posted; 0: none.
  Flow newFlow() const;
  bool postFromLoopSlowly(PostCb& cb);
  bool reportFailedWake(int error) noexcept;  // true

  // ForkAware, under the lock
  void afterForkInChild() override ABSL_NO_THREAD_SAFETY_ANALYSIS;

  const std::string name_;
  const std::unique_ptr<Waker> waker_;
  Chunks from_loop_;  // the loop's thread alone
  // Release/acquire: what came before the call is seen after run().
  std::atomic<bool> exit_requested_{false};
  std::atomic<uint64_t> keepers_{0};
  // Else an error of wake(), which may be in a signal handler, and cannot log it there. Relaxed: it guards nothing.
  static constexpr int kNoFailure = 0;
  static constexpr int kFailureReported = -1;
  std::atomic<int> failure_{kNoFailure};

  // What producers touch, on cache lines of its own.
  alignas(64) Mutex lock_;
  Chunks posted_ ABSL_GUARDED_BY(lock_);
  bool closed_ ABSL_GUARDED_BY(lock_) = false;
  int posters_cpu_ ABSL_GUARDED_BY(lock_) = 0;  // when the first of posted_ came

  // Set under the lock; cleared under it by the post that wakes, or without it by the loop, which looks at the queue
  // under the lock before it sleeps again. Hence relaxed.
  std::atomic<bool> sleeping_{false};
  // Whether posted_ has any. Release/acquire, so that a spinning loop sees what it will find under the lock.
  std::atomic<bool> pending_{false};
  std::atomic<bool> closed_hint_{false};
  std::atomic<bool> traced_{false};  // relaxed: a few posts more or less are in the picture
  bool timed_ = false;
  std::atomic<uint64_t> wakeups_{0};
  uint64_t posted_at_ ABSL_GUARDED_BY(lock_) = 0;  // the first of posted_, where posts are timed
  std::atomic<int> leaving_{0};  // raised before what may end the loop is done, so that who sees that sees this
};

inline void PostQueue::Posted::done() const {
  if (batch_.read_ == batch_.first_->end) {
    batch_.nextChunk();
  }
}

}  // namespace nuncio
