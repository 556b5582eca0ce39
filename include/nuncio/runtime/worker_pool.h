#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

#include "nuncio/common/inline_function.h"
#include "nuncio/event/dispatcher.h"

namespace nuncio {

struct WorkerPoolOptions {
  std::size_t threads = 0;              // 0: one for each CPU that the process may use
  std::string name_prefix = "worker_";  // threads and dispatchers are named worker_0, worker_1, ...
  bool pin_to_cpus = false;             // worker i runs on the i-th of the process' CPUs only, round and round
  // Where not empty: on the i-th of these, round and round. What a worker's dispatcher allocates is memory near that
  // CPU, since it is first touched there.
  std::vector<int> cpus = {};
  DispatcherOptions dispatcher = {};  // for each worker's dispatcher; its name is replaced
};

// WorkerPool: threads that each run a dispatcher.
//
//   auto workers = WorkerPool::create({.threads = 4});
//   if (!workers.ok()) return workers.status();
//   (*workers)->next().post([] { ... });                    // round-robin
//   (*workers)->runOnAll([](Dispatcher& worker) { ... });   // on each of them
//   (*workers)->stop();                                     // drains, then joins
//
// Threads: everything but create and stop from any thread. Lifetime: the destructor calls stop(); dispatchers live as
// long as the pool, so that references from next() stay valid until then. Fork: a child has no workers but the one
// that forked, if one did, whose dispatcher goes on until its exit(); the pool may be destroyed there.
class WorkerPool {
public:
  using WorkerCb = InlineFunction<void(Dispatcher& worker), kPostCaptureBytes>;

  // ResourceExhausted when the process lacks descriptors or threads; all that was started is stopped again.
  // InvalidArgument for more than 4,096 threads, and for a CPU that the process may not use, and what
  // tryCreateDispatcher says of the options.
  static absl::StatusOr<std::unique_ptr<WorkerPool>> create(const WorkerPoolOptions& options);
  virtual ~WorkerPool() = default;

  virtual std::size_t size() const = 0;

  // The dispatcher of worker `index`, below size().
  virtual Dispatcher& dispatcher(std::size_t index) = 0;

  // The CPU on which worker `index`, below size(), is to run; -1: any.
  virtual int cpu(std::size_t index) const = 0;

  // Round-robin: each call the next worker's dispatcher.
  virtual Dispatcher& next() = 0;

  // Runs `f` once on each worker, concurrently: it is shared by them, and destroyed by the last, or on the caller's
  // thread. Does not wait. False, without a call for the workers concerned, when the pool is stopped.
  virtual bool runOnAll(WorkerCb f) = 0;

  // As above; `done` runs once, on the worker that ends last, after all the others. It is not run when a worker
  // stops before it gets to it.
  virtual bool runOnAll(WorkerCb f, PostCb done) = 0;

  // Runs what was posted before this call, shuts each dispatcher down on its own thread, and joins. Posts are refused
  // from then on. Idempotent. Not from a worker's thread, which could never join itself: fatal in debug, refused in
  // release.
  virtual void stop() = 0;
};

}  // namespace nuncio
