#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"

#include "nuncio/common/linked_list.h"
#include "nuncio/common/mutex.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/future/gate.h"
#include "nuncio/future/promise.h"
#include "nuncio/runtime/internal/stoppable.h"
#include "nuncio/runtime/worker_pool.h"
#include "source/common/fork.h"

namespace nuncio::runtime_internal {

class Workers;

// A gate that a pool drains; owned by the gate, and in the list of its worker.
class DrainedGate final : public future_internal::GateAttachment, public ListLink {
public:
  // `number`: which no other one of the worker has, or had, where an address may come again.
  DrainedGate(Gate& gate, absl::string_view name, uint64_t number) : gate_(gate), name_(name), number_(number) {}
  ~DrainedGate() override { unlink(); }

  Gate& gate() const { return gate_; }
  const std::string& name() const { return name_; }
  uint64_t number() const { return number_; }

private:
  Gate& gate_;
  const std::string name_;
  const uint64_t number_;
};

// Worker: a thread that runs a dispatcher, for WorkerPool.
class Worker {
public:
  Worker(const Workers& owner, DispatcherPtr dispatcher) : owner_(owner), dispatcher_(std::move(dispatcher)) {}
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // The one whose thread calls; null on any other.
  static Worker* current() { return current_; }
  const Workers& owner() const { return owner_; }
  Dispatcher& dispatcher() const { return *dispatcher_; }
  std::string name() const { return std::string(dispatcher_->name()); }
  int cpu() const { return cpu_; }

  // `cpu`: where it is to run; -1: anywhere.
  absl::Status start(int cpu);
  // Ends the run after what was posted before. Any thread; again: nothing more.
  void exit();
  // Waits until the thread has ended; any thread but its own, several at once.
  void join();
  // Nobody will wait for it. As join().
  void leaveBehind();
  // Its loop runs nothing any more. What join() waits for then are the destructors of the thread's thread-local
  // objects. Any thread.
  bool ended() const;
  // Done on `home`, whose thread calls, when that is so. One at a time.
  Future<void> whenEnded(Dispatcher& home);

  // For WorkerPool::drain(), on the worker's thread.
  void add(DrainedGate& gate);
  uint64_t nextGateNumber() { return ++gates_numbered_; }
  // Lets nobody into any gate, from now on.
  void closeGates();
  // After that: done when all have left.
  Future<void> gatesLeft();
  // Who is inside: the name of the gate, and of this, and what the gate says of them.
  std::vector<std::string> stillInside();

  // What was found by drain(): it may be for ever in a callback. Released and acquired with all that drain() did.
  void setStalled() { stalled_.store(true, std::memory_order_release); }
  bool stalled() const { return stalled_.load(std::memory_order_acquire) && !ended(); }
  // The callback that it is in; empty: none, or it cannot tell. Any thread.
  std::string callbackName() const;

private:
  void run();
  void pin() const;
  void runPosted();
  void tellEnded();

  static inline thread_local constinit Worker* current_ = nullptr;

  const Workers& owner_;
  const DispatcherPtr dispatcher_;
  int cpu_ = -1;
  // Set when there was no memory to post the end. Release/acquire: what was posted comes before.
  std::atomic<bool> ends_unposted_{false};
  std::atomic<bool> stalled_{false};

  // Two locks that know nothing of forks: in a child nothing of a pool is touched but by the worker that forked, which
  // does not take them.
  std::mutex join_lock_;
  std::thread thread_;  // under join_lock_, once it runs
  mutable Mutex end_lock_;
  bool ended_ ABSL_GUARDED_BY(end_lock_) = false;
  std::optional<Promise<void>> when_ended_ ABSL_GUARDED_BY(end_lock_);

  // The thread's own.
  LinkedList<DrainedGate> gates_;
  LinkedList<DrainedGate> closed_gates_;  // and all have left
  uint64_t gates_numbered_ = 0;
  bool closes_gates_ = false;
  bool takes_gates_ = true;
};

// Workers: what the parts of a pool share: the pool, and a drain() that is under way, which may outlast it. The pool
// joins the threads before it gives up its share, so that the last one never goes on a worker's thread.
class Workers {
public:
  // Whether this is the child of a fork, where the threads are not there, and nothing of them is to be touched.
  bool leftBehind() const { return fork_generation_ != forkGeneration(); }
  Worker& add(DispatcherPtr dispatcher) { return all_.emplace_back(*this, std::move(dispatcher)); }
  std::deque<Worker>& all() { return all_; }
  // Whether the calling thread is one of theirs.
  bool onWorker() const { return Worker::current() != nullptr && &Worker::current()->owner() == this; }

  const std::shared_ptr<Stoppables>& stoppables() const { return stoppables_; }
  // Of what workers that do not answer may use, until they have ended.
  void keep(std::shared_ptr<Stoppable> stoppable) { kept_.push_back(std::move(stoppable)); }

private:
  const uint32_t fork_generation_ = forkGeneration();
  std::deque<Worker> all_;  // whose addresses the threads know
  const std::shared_ptr<Stoppables> stoppables_ = Stoppables::make();
  std::vector<std::shared_ptr<Stoppable>> kept_;  // of who drains
};

}  // namespace nuncio::runtime_internal
