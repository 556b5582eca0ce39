#include "nuncio/runtime/worker_pool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <exception>
#include <latch>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <sched.h>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/caught_exception.h"
#include "nuncio/common/logging.h"
#include "nuncio/event/internal/loop_core.h"
#include "nuncio/future/promise.h"
#include "nuncio/future/shared_future.h"
#include "source/common/errno_status.h"
#include "source/runtime/drain.h"
#include "source/runtime/workers.h"

namespace nuncio {
namespace {

using runtime_internal::DrainedGate;
using runtime_internal::Worker;
using runtime_internal::Workers;

constexpr std::size_t kMaxThreads = 4096;

std::vector<int> allowedCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cpus;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &set)) {
        cpus.push_back(cpu);
      }
    }
  }
  if (cpus.empty()) {
    cpus.push_back(0);
  }
  return cpus;
}

class WorkerPoolImpl final : public WorkerPool {
public:
  ~WorkerPoolImpl() override { stop(); }
  // In the child of a fork the threads are not there, and cannot be joined: the pool stays as it is. So it does when a
  // worker is stalled, since that may use all of this when it goes on.
  static void operator delete(WorkerPoolImpl* pool, std::destroying_delete_t) {
    if (pool->workers_->leftBehind() || pool->leaveStalledBehind()) {
      return;
    }
    pool->~WorkerPoolImpl();
    ::operator delete(pool);
  }

  // See WorkerPool::create. On error, the destructor stops what was started.
  absl::Status start(const WorkerPoolOptions& options) {
    const std::vector<int> allowed = allowedCpus();
    for (const int cpu : options.cpus) {
      if (std::find(allowed.begin(), allowed.end(), cpu) == allowed.end()) {
        return absl::InvalidArgumentError(
            absl::StrCat("CPU ", cpu, " is none that the process may use; see taskset(1), sched_setaffinity(2)"));
      }
    }
    const std::size_t threads = options.threads != 0 ? options.threads : allowed.size();
    if (threads > kMaxThreads) {
      return absl::InvalidArgumentError(absl::StrCat(threads, " worker threads; at most ", kMaxThreads));
    }
    for (std::size_t i = 0; i < threads; ++i) {
      DispatcherOptions dispatcher_options = options.dispatcher;
      dispatcher_options.name = absl::StrCat(options.name_prefix, i);
      absl::StatusOr<DispatcherPtr> dispatcher = tryCreateDispatcher(dispatcher_options);
      if (!dispatcher.ok()) {
        return dispatcher.status();
      }
      workers_->add(*std::move(dispatcher));
    }
    const std::vector<int>& cpus = options.cpus.empty() ? allowed : options.cpus;
    for (std::size_t i = 0; i < threads; ++i) {
      const int cpu = options.pin_to_cpus || !options.cpus.empty() ? cpus[i % cpus.size()] : -1;
      if (absl::Status status = all_[i].start(cpu); !status.ok()) {
        return status;
      }
    }
    // A pool that is handed out is at work: nobody meets a dispatcher that is about to be bound to its thread.
    std::latch running(static_cast<std::ptrdiff_t>(threads));
    bool all_run = true;
    for (const Worker& worker : all_) {
      if (!worker.dispatcher().post([&running] { running.count_down(); })) {
        all_run = false;
        running.count_down();
      }
    }
    running.wait();
    return all_run ? absl::OkStatus() : noMemoryStatus("the first post to a worker");
  }

  // WorkerPool
  std::size_t size() const override { return all_.size(); }
  Dispatcher& dispatcher(std::size_t index) override { return worker(index).dispatcher(); }
  int cpu(std::size_t index) const override { return worker(index).cpu(); }
  Dispatcher& next() override {
    // Relaxed: a count that orders nothing.
    return all_[next_.fetch_add(1, std::memory_order_relaxed) % all_.size()].dispatcher();
  }
  bool runOnAll(WorkerCb f) override { return runOnAll(std::move(f), nullptr); }
  bool runOnAll(WorkerCb f, PostCb done) override;
  void addGate(Gate& gate, absl::string_view name) override;
  Future<DrainReport> drain(std::chrono::milliseconds deadline, std::source_location place) override;
  void stop() override;
  std::shared_ptr<runtime_internal::Stoppables> stoppables() override { return workers_->stoppables(); }

private:
  Future<DrainReport> tryDrain(std::chrono::milliseconds deadline, const std::source_location& place);
  Worker& worker(std::size_t index) const {
    NUNCIO_RELEASE_ASSERT(index < all_.size(), absl::StrCat("worker ", index, " of ", all_.size()));
    return all_[index];
  }
  bool leaveStalledBehind();

  const std::shared_ptr<Workers> workers_ = std::make_shared<Workers>();  // shared with a drain() that is under way
  std::deque<Worker>& all_ = workers_->all();
  std::atomic<std::size_t> next_{0};
  std::mutex drain_lock_;
  SharedFuture<DrainReport> drained_;  // under drain_lock_
  WorkerPoolImpl* next_left_behind_ = nullptr;
};

// Pools that were left behind: so that checkers of leaks see that they may be in use.
constinit std::atomic<WorkerPoolImpl*> left_behind{nullptr};

bool WorkerPoolImpl::runOnAll(WorkerCb f, PostCb done) {
  if (!NUNCIO_CONTRACT(f != nullptr, "-", "WorkerPool::runOnAll", "null callback")) {
    return false;
  }
  struct Shared {
    WorkerCb f;
    PostCb done;
    std::atomic<std::size_t> left;
  };
  std::shared_ptr<Shared> shared;
  try {
    shared = std::make_shared<Shared>(std::move(f), std::move(done), all_.size());
  } catch (const std::bad_alloc&) {
    return false;
  }
  bool posted = true;
  for (Worker& worker : all_) {
    posted &= worker.dispatcher().post([shared, dispatcher = &worker.dispatcher()] {
      std::exception_ptr error;
      try {
        shared->f(*dispatcher);
      } catch (...) {
        error = caughtException();
      }
      // Release/acquire: `done` comes after all that the others did.
      if (shared->left.fetch_sub(1, std::memory_order_acq_rel) == 1 && shared->done != nullptr) {
        shared->done();
      }
      if (error != nullptr) {
        std::rethrow_exception(error);  // for the dispatcher to log and count
      }
    });
  }
  return posted;
}

void WorkerPoolImpl::addGate(Gate& gate, absl::string_view name) {
  Worker* const worker = Worker::current();
  const bool is_here = workers_->onWorker() && &future_internal::GateAccess::loop(gate) == &worker->dispatcher().loop();
  if (!NUNCIO_CONTRACT(
          is_here, worker != nullptr ? worker->name() : "-", "WorkerPool::addGate",
          "called on another thread than the worker's of whose dispatcher the gate is; post() it to that one")) {
    return;
  }
  auto drained = std::make_unique<DrainedGate>(gate, name, worker->nextGateNumber());
  worker->add(*drained);
  future_internal::GateAccess::attach(gate, std::move(drained));
}

Future<DrainReport> WorkerPoolImpl::drain(std::chrono::milliseconds deadline, std::source_location place) {
  try {
    return tryDrain(deadline, place);
  } catch (const std::bad_alloc&) {
    return makeFailedFuture<DrainReport>(noMemoryStatus("WorkerPool::drain"), place);
  }
}

Future<DrainReport> WorkerPoolImpl::tryDrain(std::chrono::milliseconds deadline, const std::source_location& place) {
  LoopCore* const home = LoopCore::current();
  if (workers_->leftBehind()) {
    return makeFailedFuture<DrainReport>(
        absl::FailedPreconditionError("WorkerPool::drain: the workers are in the parent of this process"), place);
  }
  if (home == nullptr || home->dispatcher() == nullptr || workers_->onWorker()) {
    return makeFailedFuture<DrainReport>(
        absl::FailedPreconditionError("WorkerPool::drain: to be called on the loop of a thread that is none of the "
                                      "pool's: post() it there; a thread without a loop calls stop()"),
        place);
  }
  if (deadline.count() < 0) {
    return makeFailedFuture<DrainReport>(
        absl::InvalidArgumentError(absl::StrCat("WorkerPool::drain: a deadline of ", deadline.count(), " ms")), place);
  }
  std::optional<Promise<DrainReport>> promise;
  SharedFuture<DrainReport> drained;
  {
    const std::lock_guard<std::mutex> lock(drain_lock_);
    if (!drained_.valid() || (drained_.isReady() && drained_.result().failed())) {
      // First there is room for the result, so that never a second one is under way.
      auto [ours, future] = makePromise<DrainReport>(*home->dispatcher(), place);
      const SharedFuture<DrainReport> result = share(std::move(future), place);
      if (!result.valid() || result.isReady()) {
        return result.via(*home->dispatcher(), place);
      }
      drained_ = result;
      promise = std::move(ours);
    }
    drained = drained_;
  }
  if (promise.has_value()) {
    runtime_internal::drainWorkers(workers_, *home->dispatcher(), deadline, place).forwardTo(*std::move(promise));
  }
  return drained.via(*home->dispatcher(), place);
}

bool WorkerPoolImpl::leaveStalledBehind() {
  bool any = false;
  for (Worker& worker : all_) {
    if (worker.stalled()) {
      any = true;
      const std::string callback = worker.callbackName();
      NUNCIO_LOG(Runtime, err, "{} is stalled{}{}: it is left behind, with all that it may use", worker.name(),
                 callback.empty() ? "" : " in ", callback);
      worker.leaveBehind();
    }
  }
  if (any) {
    // Release: for who reads the list, which is nobody but a checker.
    next_left_behind_ = left_behind.load(std::memory_order_relaxed);
    while (!left_behind.compare_exchange_weak(next_left_behind_, this, std::memory_order_release,
                                              std::memory_order_relaxed)) {
    }
  }
  return any;
}

void WorkerPoolImpl::stop() {
  if (workers_->leftBehind()) {
    return;
  }
  if (!NUNCIO_CONTRACT(!workers_->onWorker(), Worker::current()->name(), "WorkerPool::stop",
                       "called on a worker's thread, which cannot join itself; post() it to the dispatcher of the "
                       "thread that made the pool")) {
    return;
  }
  for (Worker& worker : all_) {
    worker.exit();
  }
  for (Worker& worker : all_) {
    worker.join();
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerPool>> WorkerPool::create(const WorkerPoolOptions& options) {
  try {
    auto pool = std::make_unique<WorkerPoolImpl>();
    if (absl::Status status = pool->start(options); !status.ok()) {
      return status;
    }
    return pool;
  } catch (const std::bad_alloc&) {
    return noMemoryStatus("a worker pool");
  }
}

}  // namespace nuncio
