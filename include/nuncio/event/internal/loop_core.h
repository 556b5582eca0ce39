#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "nuncio/common/linked_list.h"
#include "nuncio/event/callback.h"
#include "nuncio/event/internal/block_pool.h"
#include "nuncio/event/internal/callback_id.h"
#include "nuncio/event/internal/counter.h"

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

// LoopCore: what futures need of a loop: a queue of tasks that costs a few nanoseconds and no allocation, a list of
// what is pending, so that nothing is left waiting for a loop that is gone, and which thread it is that may touch them.
// An iteration runs tasks in the order in which they were added, those added meanwhile included, within the limits of
// DispatcherOptions.
//
// A loop's life: Open; Closing, while it shuts down; Ended. When it has ended, what waits for an answer from another
// thread is still there (see deliver()). From then on the threads that have to do with it visit the loop one at a time,
// and "the loop's thread" is the one that does.
//
// Threads: the loop's, unless said otherwise. Lifetime: counted; the dispatcher, its handles and what is pending on it
// share it.
class LoopCore {
public:
  // By the last reference, and nobody else.
  virtual ~LoopCore();
  LoopCore(const LoopCore&) = delete;
  LoopCore& operator=(const LoopCore&) = delete;

  // Whether the calling thread is the loop's. Any thread; false before the loop first ran, and when it has ended, but
  // for who visits it then.
  bool onLoopThread() const { return owner_.load(std::memory_order_relaxed) == thread_; }

  // The loop that runs on this thread, of nested runs the innermost; null when none does. Any thread.
  static LoopCore* current() { return current_; }

  // Continuations that run in place do so while the stack is above this address. 0 where no loop runs.
  static uintptr_t stackFloor() { return stack_floor_; }

  // Null once the dispatcher is gone, and before it is there.
  Dispatcher* dispatcher() const { return dispatcher_; }

  // --- Tasks.

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

  // A task that runs when all else is done; see Background. It is refused when the loop shuts down.
  void addBackground(Task& task) { background_.add(task); }
  bool hasBackground() const { return !background_.empty(); }
  // Not when there is none.
  void runFirstBackground() { background_.takeFirst().runTask(); }

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

  void addPending(PendingOperation& operation) { pending_.add(operation); }
  // One that has been abandoned, and is done only when it is answered.
  void addUnanswered(PendingOperation& operation) { unanswered_.add(operation); }

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

  // For what belongs to the loop's futures.
  BlockPool& blocks() { return blocks_; }

  // --- From other threads.

  // Runs `task` on the loop's thread, or refuses it there while it shuts down. False when the loop is gone for good:
  // then it does neither. Any thread.
  bool postTask(Task& task);
  // The same, but when the loop is gone for good `task` is refused here and now, or by the thread that visits the loop
  // at the moment. Any thread.
  void deliver(Task& task) noexcept;

  // Posts `cb`, as a PostHandle does; false, and it is left as it is, where that is refused. Any thread.
  bool tryPost(PostCb& cb);
  // False once it refuses all. Any thread.
  bool takesPosts() const;
  // Whether that is what `handle` posts to. Any thread.
  bool isOf(const PostHandle& handle) const;

  // Calls to other loops, of which the answer is not wanted any more, and has not come yet. The former on the loop's
  // thread, the latter on any.
  void countStoppedCall(int32_t more) {
    stopped_calls_.fetch_add(static_cast<uint32_t>(more), std::memory_order_release);
  }
  bool hasStoppedCalls() const { return stopped_calls_.load(std::memory_order_acquire) != 0; }

  // Whether the calling thread may touch what is of `loop`, for as long as this lives: the loop's own thread may, and
  // once the loop has ended any other, one at a time. `loop` may be null: then every thread may. Any thread.
  class Visit {
  public:
    explicit Visit(LoopCore* loop) : loop_(loop) {
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
    LoopCore* const loop_;
    bool admitted_ = true;
    bool entered_ = false;
  };

  // Memory for a task that is to be delivered, and may not fail for want of it: of a small reserve. Null when that is
  // used up. Any thread.
  static constexpr std::size_t kReservedBytes = 64;
  void* takeReserved() noexcept;
  // False when it is not of the reserve.
  bool giveReserved(void* memory) noexcept;

  // --- What it runs, for those who watch it. Two stores a callback.

  void beginCallback(CallbackId id) {
    nameCallback(id);
    callbacks_.add(1);
  }
  // The same callback, by a name that says more.
  void nameCallback(CallbackId id) { callback_.store(id.word(), std::memory_order_relaxed); }
  // It looks for something to do, sleeps, or does not run.
  void noCallback() { nameCallback(CallbackId()); }
  // The callback that it is in; none: it is in none. Of nested ones, as of a loop that one of its callbacks runs on the
  // same thread, that which began last. Any thread.
  CallbackId callback() const { return CallbackId::fromWord(callback_.load(std::memory_order_relaxed)); }
  std::string callbackName() const { return callback().text(); }
  // The same for one that was posted: a store and a number that is counted anyway.
  void beginPosted(CallbackId id) {
    nameCallback(id);
    posts_run_.add(1);
  }
  // How many have begun, and those of them that were posted. Any thread.
  uint64_t callbacks() const { return callbacks_.get() + posts_run_.get(); }
  uint64_t postsRun() const { return posts_run_.get(); }
  // The kernel's number of the thread that runs it, or else ran or made it last; 0: not known. Any thread.
  int kernelThread() const { return kernel_thread_.load(std::memory_order_relaxed); }

  // --- Life.

  // Shutting down, or gone: continuations do not run any more.
  bool closing() const { return life_.load(std::memory_order_relaxed) != Life::Open; }

  // The loop is gone for good: what was pending has been abandoned, but for what waits for the answer of another
  // thread; and postTask() returns false. Any thread.
  bool ended() const { return life_.load(std::memory_order_acquire) == Life::Ended; }

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
  // The same, on the loop's thread, or before it first ran on the one that is to run it.
  void retainHere() {
    if (!closing()) [[likely]] {
      ++local_references_;
    } else {
      references_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  void releaseHere() {
    if (!closing()) [[likely]] {
      --local_references_;
    } else {
      releaseShared();
    }
  }

  // Whether the thread that ran or shut down the loop last is the calling one, or none has yet. Any thread.
  bool boundHere() const {
    const uint64_t bound = bound_.load(std::memory_order_relaxed);  // a thread always sees its own store
    return bound == kNoThread || bound == thread_;
  }

  // A loop without a dispatcher of ours, for a mock of one: its tasks are run by the mock's owner. Bound to the thread
  // that makes it; when this is destroyed, it is shut down. Threads: that one.
  class Detached;

  // Makes a loop the one that runs on this thread. For the dispatcher; and for tests, which are a part of its run then.
  class RunScope {
  public:
    explicit RunScope(LoopCore* loop) : outer_(current_), outer_floor_(stack_floor_) {
      current_ = loop;
      stack_floor_ = reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) - kStackBytes;
    }
    ~RunScope() {
      current_ = outer_;
      stack_floor_ = outer_floor_;
    }
    RunScope(const RunScope&) = delete;
    RunScope& operator=(const RunScope&) = delete;

  private:
    LoopCore* const outer_;
    const uintptr_t outer_floor_;
  };

protected:
  // The dispatcher has a share in it, until dispatcherGone(). `posts` may be no dispatcher's, as those of a mock.
  // `time_passes`: the dispatcher's time does so by itself.
  LoopCore(const PostHandle& posts, bool time_passes);
  void setDispatcher(Dispatcher* dispatcher) { dispatcher_ = dispatcher; }
  bool timePasses() const { return time_passes_; }
  void setKernelThread(int number) { kernel_thread_.store(number, std::memory_order_relaxed); }
  static void setCurrent(LoopCore* loop) { current_ = loop; }

  // A run: bindToThread(), then beginIteration() in each iteration, and runLate() when it was woken. A shutdown:
  // beginShutdown(), shutdownRound() until that is false, endShutdown(). And last dispatcherGone().
  void bindToThread();
  void beginIteration() {
    in_place_left_ = in_place_batch_;
    in_place_until_ = 0;
  }
  // The loop was woken: runs what came when there was no memory for a post.
  void runLate();
  void beginShutdown() {
    if (!closing()) {
      bindToThread();
      life_.store(Life::Closing, std::memory_order_relaxed);
    }
  }
  // Abandons what is pending, and runs all tasks; true when there were any.
  bool shutdownRound();
  // From now on postTask() returns false. Does nothing and returns false when another round is needed, unless `force`.
  bool endShutdown(bool force);
  // The dispatcher is gone, and does not refer to this any more. May free this.
  void dispatcherGone();

  void releaseShared();

private:
  friend class EndingScope;
  struct Remote;
  enum class Life : uint8_t { Open, Closing, Ended };

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
  static inline thread_local constinit LoopCore* current_ = nullptr;
  static inline thread_local constinit uintptr_t stack_floor_ = 0;

  // References are biased (Choi, Shull and Torrellas, "Biased Reference Counting", PACT 2018): the loop's thread counts
  // its own without atomics, in local_references_, which is added when the loop ends. Until the dispatcher is gone
  // references_ is higher by this, much more than there can be references, so that it is never taken for the last one.
  static constexpr int64_t kOpen = int64_t{1} << 40;

  // What other threads read, apart from what the loop's writes at each task.
  alignas(64) std::atomic<uint64_t> owner_{kNoThread};  // relaxed: a thread always sees its own store
  std::atomic<uint64_t> bound_{kNoThread};              // the same
  std::atomic<Life> life_{Life::Open};                  // Ended is released, after the last of what was pending
  std::atomic<uint32_t> stopped_calls_{0};
  std::atomic<int> kernel_thread_{0};
  Dispatcher* dispatcher_ = nullptr;
  Remote* const remote_;  // owned

  // What they write. Released and acquired, as counts of owners are.
  alignas(64) std::atomic<int64_t> references_{kOpen};

  // What the loop's thread alone has to do with, but for who looks at the first two now and then.
  alignas(64) std::atomic<uintptr_t> callback_{0};  // relaxed, as the counter
  Counter callbacks_;                               // but for posts
  Counter posts_run_;
  LinkedList<Task> tasks_;
  LinkedList<Task> background_;
  LinkedList<Task> ending_;
  LinkedList<Task> waiting_;
  LinkedList<PendingOperation> pending_;
  LinkedList<PendingOperation> unanswered_;
  uint32_t ending_scopes_ = 0;  // that are open, nested
  const bool time_passes_;
  const uint32_t in_place_batch_;
  uint32_t in_place_left_;        // before the next look at the clock; 0: no more in this iteration
  int64_t in_place_until_ = 0;    // steady_clock's nanoseconds; 0: not looked at yet
  int64_t local_references_ = 0;  // what references_ lacks
  BlockPool blocks_;
};

class LoopCore::Detached {
public:
  explicit Detached(Dispatcher& mock);
  ~Detached();
  Detached(const Detached&) = delete;
  Detached& operator=(const Detached&) = delete;

  LoopCore& operator*() const { return loop_; }
  LoopCore* operator->() const { return &loop_; }

private:
  LoopCore& loop_;
};

// LoopRef: a share of a loop. Threads: any, one at a time.
class LoopRef {
public:
  explicit LoopRef(Dispatcher& dispatcher);
  explicit LoopRef(LoopCore& loop) : loop_(loop) { loop_.retain(); }
  LoopRef(const LoopRef&) = delete;
  LoopRef& operator=(const LoopRef&) = delete;
  ~LoopRef() { loop_.release(); }

  LoopCore& operator*() const { return loop_; }
  LoopCore* operator->() const { return &loop_; }

private:
  LoopCore& loop_;
};

}  // namespace nuncio
