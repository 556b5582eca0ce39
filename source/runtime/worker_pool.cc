#include "nuncio/runtime/worker_pool.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <deque>
#include <exception>
#include <latch>
#include <new>
#include <pthread.h>
#include <sched.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/caught_exception.h"
#include "nuncio/common/logging.h"
#include "source/common/errno_status.h"
#include "source/common/fork.h"

namespace nuncio {
namespace {

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
  // In the child of a fork the threads are not there, and cannot be joined: the pool stays as it is.
  static void operator delete(WorkerPoolImpl* pool, std::destroying_delete_t) {
    if (pool->leftBehind()) {
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
      workers_.emplace_back(*std::move(dispatcher));
    }
    const std::vector<int>& cpus = options.cpus.empty() ? allowed : options.cpus;
    for (std::size_t i = 0; i < threads; ++i) {
      workers_[i].cpu = options.pin_to_cpus || !options.cpus.empty() ? cpus[i % cpus.size()] : -1;
      try {
        workers_[i].thread = std::thread([worker = &workers_[i]] { work(*worker); });
      } catch (const std::system_error& e) {
        return absl::ResourceExhaustedError(
            absl::StrCat("cannot start ", workers_[i].dispatcher->name(), ": ", e.what()));
      }
    }
    // A pool that is handed out is at work: nobody meets a dispatcher that is about to be bound to its thread.
    std::latch running(static_cast<std::ptrdiff_t>(threads));
    bool all_run = true;
    for (const Worker& worker : workers_) {
      if (!worker.dispatcher->post([&running] { running.count_down(); })) {
        all_run = false;
        running.count_down();
      }
    }
    running.wait();
    return all_run ? absl::OkStatus() : noMemoryStatus("the first post to a worker");
  }

  // WorkerPool
  std::size_t size() const override { return workers_.size(); }
  Dispatcher& dispatcher(std::size_t index) override {
    NUNCIO_RELEASE_ASSERT(index < workers_.size(), absl::StrCat("worker ", index, " of ", workers_.size()));
    return *workers_[index].dispatcher;
  }
  int cpu(std::size_t index) const override {
    NUNCIO_RELEASE_ASSERT(index < workers_.size(), absl::StrCat("worker ", index, " of ", workers_.size()));
    return workers_[index].cpu;
  }
  Dispatcher& next() override {
    // Relaxed: a count that orders nothing.
    return *workers_[next_.fetch_add(1, std::memory_order_relaxed) % workers_.size()].dispatcher;
  }
  bool runOnAll(WorkerCb f) override { return runOnAll(std::move(f), nullptr); }
  bool runOnAll(WorkerCb f, PostCb done) override;
  void stop() override;

private:
  struct Worker {
    explicit Worker(DispatcherPtr made) : dispatcher(std::move(made)) {}

    const DispatcherPtr dispatcher;
    int cpu = -1;
    std::thread thread;
    // Set when there was no memory to post the end. Release/acquire: what was posted comes before.
    std::atomic<bool> ends_unposted{false};
  };

  static void work(Worker& worker) {
    Dispatcher& dispatcher = *worker.dispatcher;
    const std::string name(dispatcher.name().substr(0, 15));  // the longest that Linux takes
    pthread_setname_np(pthread_self(), name.c_str());
    if (worker.cpu >= 0) {
      cpu_set_t set;
      CPU_ZERO(&set);
      CPU_SET(worker.cpu, &set);
      if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0) {
        NUNCIO_LOG(Runtime, warn, "cannot pin {} to CPU {}; it runs on any", name, worker.cpu);
      }
    }
    dispatcher.run(RunType::RunUntilExit);
    if (worker.ends_unposted.load(std::memory_order_acquire)) {
      runPosted(dispatcher);
    }
    dispatcher.shutdown();
  }

  // Runs what is posted, and what that posts; at some point that is taken for a loop.
  static void runPosted(Dispatcher& dispatcher) {
    constexpr int kMaxRounds = 1000;
    bool any = true;
    for (int round = 0; any && round < kMaxRounds; ++round) {
      const uint64_t run_before = dispatcher.stats().posts_run;
      dispatcher.run(RunType::NonBlock);
      any = dispatcher.stats().posts_run != run_before;
    }
  }

  bool leftBehind() const { return fork_generation_ != forkGeneration(); }

  const uint32_t fork_generation_ = forkGeneration();
  std::deque<Worker> workers_;  // whose addresses the threads know
  std::atomic<std::size_t> next_{0};
};

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
    shared = std::make_shared<Shared>(std::move(f), std::move(done), workers_.size());
  } catch (const std::bad_alloc&) {
    return false;
  }
  bool posted = true;
  for (Worker& worker : workers_) {
    posted &= worker.dispatcher->post([shared, dispatcher = worker.dispatcher.get()] {
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

void WorkerPoolImpl::stop() {
  if (leftBehind()) {
    return;
  }
  for (const Worker& worker : workers_) {
    if (!NUNCIO_CONTRACT(worker.thread.get_id() != std::this_thread::get_id(), worker.dispatcher->name(),
                         "WorkerPool::stop",
                         "called on a worker's thread, which cannot join itself; post() it to the "
                         "dispatcher of the thread that made the pool")) {
      return;
    }
  }
  for (Worker& worker : workers_) {
    if (worker.thread.joinable()) {
      // After what was posted before.
      if (!worker.dispatcher->post([dispatcher = worker.dispatcher.get()] { dispatcher->exit(); })) {
        worker.ends_unposted.store(true, std::memory_order_release);
        worker.dispatcher->exit();
      }
    }
  }
  for (Worker& worker : workers_) {
    if (worker.thread.joinable()) {
      worker.thread.join();
    } else {
      worker.dispatcher->shutdown();  // never started
    }
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
