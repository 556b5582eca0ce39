#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

namespace nuncio {

class Dispatcher;
class PostHandle;

// Task: something for a loop to run once. It is linked into the queue itself, so that queueing allocates nothing.
class Task {
public:
  Task() = default;
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;

  virtual void runTask() noexcept = 0;
  // Instead of runTask(), for what was handed over by postTask(): the loop shuts down. On the thread that shuts it
  // down.
  virtual void refuseTask() noexcept = 0;

  Task* next_task_ = nullptr;  // the queue's

protected:
  ~Task() = default;
};

// PendingOperation: something on a loop that waits for the outside world, and wants to know when the loop shuts down.
class PendingOperation {
public:
  PendingOperation() = default;
  PendingOperation(const PendingOperation&) = delete;
  PendingOperation& operator=(const PendingOperation&) = delete;

  // The loop shuts down: whatever it waits for will not come any more. It is not listed any more.
  virtual void abandonOperation() noexcept = 0;

  // Takes it out of the list, if it is in one.
  void unlist() {
    if (next_ != nullptr) {
      previous_->next_ = next_;
      next_->previous_ = previous_;
      previous_ = next_ = nullptr;
    }
  }

  PendingOperation* previous_ = nullptr;  // the list's
  PendingOperation* next_ = nullptr;

protected:
  ~PendingOperation() { unlist(); }
};

// TaskQueue: what futures need of a loop: a queue of tasks that costs a few nanoseconds and no allocation, and a list
// of what is pending, so that nothing is left waiting for a loop that is gone. An iteration runs tasks in the order in
// which they were added, those added meanwhile included, within the limits of DispatcherOptions.
//
// Threads: the loop's, unless said otherwise. Lifetime: counted; the dispatcher and what is pending on it share it.
class TaskQueue {
public:
  // `posts` and `dispatcher` may be those of a mock.
  static TaskQueue* create(const PostHandle& posts, Dispatcher& dispatcher);

  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;

  // Whether the calling thread is the loop's. Any thread; false before the loop first ran and when it is shut down.
  bool onLoopThread() const { return owner_.load(std::memory_order_relaxed) == thread_; }

  // The queue of the loop that runs on this thread; null when none does. Any thread.
  static TaskQueue* current() { return current_; }

  // Continuations that run in place do so while the stack is above this address. 0 where no loop runs.
  static uintptr_t stackFloor() { return stack_floor_; }

  void add(Task& task) {
    task.next_task_ = nullptr;
    *end_ = &task;
    end_ = &task.next_task_;
  }
  bool empty() const { return first_ == nullptr; }
  // Not when empty.
  void runFirst() {
    Task& task = *first_;
    first_ = task.next_task_;
    if (first_ == nullptr) {
      end_ = &first_;
    }
    task.runTask();
  }

  // Runs `task` on the loop's thread, or refuses it there while it shuts down. False when the loop is gone for good:
  // then it does neither. Any thread.
  bool postTask(Task& task);

  void addPending(PendingOperation& operation) {
    operation.previous_ = pending_end_.previous_;
    operation.next_ = &pending_end_;
    operation.previous_->next_ = &operation;
    pending_end_.previous_ = &operation;
  }

  // Shutting down, or gone: continuations do not run any more.
  bool closing() const { return closing_; }

  // The loop is gone for good: what was pending has been abandoned, and postTask() returns false. Any thread.
  bool ended() const { return ended_.load(std::memory_order_acquire); }

  // Null once the dispatcher is gone.
  Dispatcher* dispatcher() const { return dispatcher_; }

  // Counts the loop's iterations.
  uint64_t iteration() const { return iteration_; }

  // Counted references; the loop's own thread counts without atomics. Any thread.
  void retain() {
    if (onLoopThread() && !closing_) {
      ++local_references_;
    } else {
      references_.fetch_add(1, std::memory_order_relaxed);  // the caller has one
    }
  }
  void release() {
    if (onLoopThread() && !closing_) {
      --local_references_;
    } else {
      releaseShared();
    }
  }

  // Memory in two sizes, from malloc and kept for reuse; null without memory.
  static constexpr std::size_t kSmallBytes = 256;
  static constexpr std::size_t kLargeBytes = 1024;
  void* allocateSmall() { return small_.take(kSmallBytes); }
  void* allocateLarge() { return large_.take(kLargeBytes); }
  void freeSmall(void* memory) { small_.give(memory); }
  void freeLarge(void* memory) { large_.give(memory); }

  // For the dispatcher, in this order.
  void bindToThread();
  void countIteration() { ++iteration_; }
  class Running {
  public:
    explicit Running(TaskQueue* queue) : outer_(current_), outer_floor_(stack_floor_) {
      current_ = queue;
      stack_floor_ = reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) - kStackBytes;
    }
    ~Running() {
      current_ = outer_;
      stack_floor_ = outer_floor_;
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

  private:
    TaskQueue* const outer_;
    const uintptr_t outer_floor_;
  };
  void beginShutdown() {
    if (!closing_) {
      bindToThread();
      closing_ = true;
    }
  }
  // Abandons what is pending, and runs all tasks; true when there were any.
  bool shutdownRound();
  // From now on postTask() returns false. Does nothing and returns false when another round is needed, unless `force`.
  bool endShutdown(bool force);
  // The dispatcher is gone, and does not refer to this any more.
  void dispatcherGone();

private:
  class FreeList {
  public:
    void* take(std::size_t bytes) {
      if (first_ == nullptr) {
        return std::malloc(bytes);
      }
      --count_;
      return std::exchange(first_, first_->next);
    }
    void give(void* memory) {
      if (count_ == kLimit) {
        std::free(memory);
        return;
      }
      ++count_;
      first_ = ::new (memory) Free{first_};
    }
    void clear() {
      while (first_ != nullptr) {
        std::free(std::exchange(first_, first_->next));
      }
    }

  private:
    struct Free {
      Free* next;
    };
    static constexpr std::size_t kLimit = 1024;
    Free* first_ = nullptr;
    std::size_t count_ = 0;
  };
  class End final : public PendingOperation {
    void abandonOperation() noexcept override {}
  };
  struct Remote;

  TaskQueue(const PostHandle& posts, Dispatcher& dispatcher);
  ~TaskQueue();
  void releaseShared();

  static constexpr uintptr_t kStackBytes = 64 * 1024;  // in place, below run()

  // Counts threads that ran a loop, since addresses and ids of threads are used again; 0: it never did.
  static constexpr uint64_t kNoThread = ~uint64_t{0};
  static inline thread_local constinit uint64_t thread_ = 0;
  static inline thread_local constinit TaskQueue* current_ = nullptr;
  static inline thread_local constinit uintptr_t stack_floor_ = 0;

  // While the dispatcher lives; much more than there can be references.
  static constexpr int64_t kOpen = int64_t{1} << 40;

  Task* first_ = nullptr;
  Task** end_ = &first_;
  bool closing_ = false;
  std::atomic<bool> ended_{false};          // released after the last of what was pending
  std::atomic<uint64_t> owner_{kNoThread};  // relaxed: a thread always sees its own store
  int64_t local_references_ = 0;            // what references_ lacks
  uint64_t iteration_ = 0;
  FreeList small_;
  FreeList large_;
  End pending_end_;
  Dispatcher* dispatcher_;
  Remote* const remote_;                    // owned
  std::atomic<int64_t> references_{kOpen};  // released and acquired, as counts of owners are
};

}  // namespace nuncio
