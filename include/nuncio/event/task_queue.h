#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#include "nuncio/common/linked_list.h"

namespace nuncio {

class Dispatcher;
class EndingScope;
class PostHandle;

// Task: something for a loop to run once. It is linked into the queue itself, so that queueing allocates nothing.
class Task : public ListLink {
public:
  // Throws nothing, but for what unwinds a thread that ends in a function of users.
  virtual void runTask() = 0;
  // Instead of runTask(), for what was handed over by postTask() or deliver(): the loop shuts down, or is gone. On the
  // thread that shuts it down, or on the one that delivers.
  virtual void refuseTask() noexcept = 0;
  // The loop shuts down, and has nothing left to do: when some of `waiting`, of which this is the first, wait for each
  // other, has one of them go without what it waits for, and returns true.
  virtual bool endFutileWaits(LinkedList<Task>& /*waiting*/) noexcept { return false; }

protected:
  ~Task() = default;
};

// PendingOperation: something on a loop that waits for the outside world, and wants to know when the loop shuts down.
class PendingOperation : public ListLink {
public:
  // The loop shuts down: whatever it waits for will not come any more. It is not listed any more.
  virtual void abandonOperation() noexcept = 0;
  // The loop has nothing left to do, and this is among those that wait for an answer: when it waits for itself, in a
  // circle, it goes without, and returns true.
  virtual bool endFutileWait() noexcept { return false; }

  // Takes it out of the list, if it is in one. By a name of its own, since what is a Task as well has two links.
  void unlist() { unlink(); }

protected:
  ~PendingOperation() { unlink(); }
};

// TaskQueue: what futures need of a loop: a queue of tasks that costs a few nanoseconds and no allocation, and a list
// of what is pending, so that nothing is left waiting for a loop that is gone. An iteration runs tasks in the order in
// which they were added, those added meanwhile included, within the limits of DispatcherOptions.
//
// When the loop has ended, what waits for an answer from another thread is still there (see deliver()). From then on
// the threads that have to do with it visit the loop one at a time, and "the loop's thread" is the one that does.
//
// Threads: the loop's, unless said otherwise. Lifetime: counted; the dispatcher and what is pending on it share it.
class TaskQueue {
public:
  // `posts` and `dispatcher` may be those of a mock. `simulated`: the dispatcher's time does not pass by itself.
  static TaskQueue* create(const PostHandle& posts, Dispatcher& dispatcher, bool simulated = false);

  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;

  // Whether the calling thread is the loop's. Any thread; false before the loop first ran, and when it has ended, but
  // for who visits it then.
  bool onLoopThread() const { return owner_.load(std::memory_order_relaxed) == thread_; }

  // The queue of the loop that runs on this thread; null when none does. Any thread.
  static TaskQueue* current() { return current_; }

  // Continuations that run in place do so while the stack is above this address. 0 where no loop runs.
  static uintptr_t stackFloor() { return stack_floor_; }

  // Queues `task`, which may be waiting (see addWaiting), or queued already.
  void add(Task& task) {
    task.unlink();
    tasks_.add(task);
  }
  // The same for one that is in no list.
  void addNew(Task& task) { tasks_.add(task); }
  bool empty() const { return tasks_.empty(); }
  // Not when empty.
  void runFirst() { tasks_.takeFirst().runTask(); }

  // Tasks of operations that have been asked to stop do not wait for their turn: they run before whoever asked goes on.
  // An EndingScope is open then.
  void addEnding(Task& task) {
    task.unlink();
    ending_.add(task);
  }
  bool endingScopeOpen() const { return ending_scopes_ != 0; }

  // A task that waits, or that stands for a coroutine which does. It is listed only so that shutdown finds those that
  // wait for each other, in a circle.
  void addWaiting(Task& task) { waiting_.add(task); }

  // Runs `task` on the loop's thread, or refuses it there while it shuts down. False when the loop is gone for good:
  // then it does neither. Any thread.
  bool postTask(Task& task);
  // The same, but when the loop is gone for good `task` is refused here and now, or by the thread that visits the loop
  // at the moment. Any thread.
  void deliver(Task& task) noexcept;

  // Whether the calling thread may touch what is of `loop`, for as long as this lives: the loop's own thread may, and
  // once the loop has ended any other, one at a time. `loop` may be null: then every thread may. Any thread.
  class Visit {
  public:
    explicit Visit(TaskQueue* loop) : loop_(loop) {
      if (loop != nullptr && !loop->onLoopThread()) [[unlikely]] {
        admitted_ = loop->ended() && loop->enter(nullptr);
        entered_ = admitted_;
      }
    }
    ~Visit() {
      if (entered_) {
        loop_->leave();
      }
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

    bool admitted() const { return admitted_; }

  private:
    TaskQueue* const loop_;
    bool admitted_ = true;
    bool entered_ = false;
  };

  // Memory for a task that is to be delivered, and may not fail for want of it: of a small reserve. Null when that is
  // used up. Any thread.
  static constexpr std::size_t kReservedBytes = 64;
  void* takeReserved() noexcept;
  // False when it is not of the reserve.
  bool giveReserved(void* memory) noexcept;

  void addPending(PendingOperation& operation) { pending_.add(operation); }
  // One that has been abandoned, and is done only when it is answered.
  void addUnanswered(PendingOperation& operation) { unanswered_.add(operation); }

  // Shutting down, or gone: continuations do not run any more.
  bool closing() const { return closing_; }

  // The loop is gone for good: what was pending has been abandoned, but for what waits for the answer of another
  // thread; and postTask() returns false. Any thread.
  bool ended() const { return ended_.load(std::memory_order_acquire); }

  // Null once the dispatcher is gone.
  Dispatcher* dispatcher() const { return dispatcher_; }

  // Whether one more continuation of a ready future may run in place: for no longer than half a millisecond an
  // iteration in all (looking at the clock for every 256th), or in simulated time, where a run is to be the same each
  // time, so many of them.
  bool spendInPlace() {
    if (in_place_left_ > 1) [[likely]] {
      --in_place_left_;
      return true;
    }
    return in_place_left_ == 1 && renewInPlace();
  }

  // Counted references; the loop's own thread counts without atomics. Any thread.
  void retain() {
    if (onLoopThread()) {
      retainHere();
    } else {
      references_.fetch_add(1, std::memory_order_relaxed);  // the caller has one
    }
  }
  void release() {
    if (onLoopThread()) {
      releaseHere();
    } else {
      releaseShared();
    }
  }
  // The same, on the loop's thread.
  void retainHere() {
    if (!closing_) [[likely]] {
      ++local_references_;
    } else {
      references_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  void releaseHere() {
    if (!closing_) [[likely]] {
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
  void beginIteration() {
    in_place_left_ = in_place_batch_;
    in_place_until_ = 0;
  }
  // The loop was woken: runs what came when there was no memory for a post.
  void runLate();
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
  friend class EndingScope;
  struct Remote;

  TaskQueue(const PostHandle& posts, Dispatcher& dispatcher, bool simulated);
  ~TaskQueue();
  void releaseShared();
  // Begins a visit. False when another thread is on one: it sees to `brought`, which may be null.
  bool enter(Task* brought);
  // Does what has come of the visit, and what others have brought meanwhile, and ends it. May free this.
  void leave();
  // Whether there is time for more continuations in place, when those until the next look at the clock are used up.
  bool renewInPlace();
  // Of the calling thread.
  static uint64_t threadNumber();

  static constexpr uintptr_t kStackBytes = 64 * 1024;  // in place, below run()
  static constexpr uint32_t kInPlacePerLook = 256;
  static constexpr uint32_t kMaxInPlaceSimulated = 10'000;

  // Counts threads that ran a loop, since addresses and ids of threads are used again; 0: it never did.
  static constexpr uint64_t kNoThread = ~uint64_t{0};
  static inline thread_local constinit uint64_t thread_ = 0;
  static inline thread_local constinit TaskQueue* current_ = nullptr;
  static inline thread_local constinit uintptr_t stack_floor_ = 0;

  // While the dispatcher lives; much more than there can be references.
  static constexpr int64_t kOpen = int64_t{1} << 40;

  LinkedList<Task> tasks_;
  LinkedList<Task> ending_;
  LinkedList<Task> waiting_;
  LinkedList<PendingOperation> pending_;
  LinkedList<PendingOperation> unanswered_;
  uint32_t ending_scopes_ = 0;  // that are open, nested
  const uint32_t in_place_batch_;
  uint32_t in_place_left_;      // before the next look at the clock; 0: no more in this iteration
  int64_t in_place_until_ = 0;  // steady_clock's nanoseconds; 0: not looked at yet
  bool closing_ = false;
  int64_t local_references_ = 0;  // what references_ lacks
  FreeList small_;
  FreeList large_;

  // What other threads read, apart from what this one writes at each task.
  alignas(64) std::atomic<uint64_t> owner_{kNoThread};  // relaxed: a thread always sees its own store
  std::atomic<bool> ended_{false};                      // released after the last of what was pending
  Dispatcher* dispatcher_;
  Remote* const remote_;  // owned

  // What they write. Released and acquired, as counts of owners are.
  alignas(64) std::atomic<int64_t> references_{kOpen};
};

}  // namespace nuncio
