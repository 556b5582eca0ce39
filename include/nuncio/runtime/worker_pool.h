#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

#include "nuncio/common/inline_function.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/future/gate.h"
#include "nuncio/runtime/drain_report.h"
#include "nuncio/runtime/internal/stoppable.h"

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
//   (*workers)->stop();                                     // runs what was posted, then joins
//
// Where workers use each other's objects, or serve somebody, the pool is drained first, by a loop of another thread:
//
//   pool.addGate(connections_, "connections");                   // on a worker: a gate
//   DrainReport report = co_await pool.drain(5s);                // on the main loop
//   if (!report.ok()) NUNCIO_LOG(..., warn, "{}", report.toString());
//
// Threads: everything but create, addGate, drain and stop from any thread. Lifetime: the destructor calls stop(), but
// does not wait for workers that drain() has found stalled: it logs an error with what each of them is in, and leaves
// them behind, and with them the pool and its dispatchers, which are never freed; so has the pool's time system to last
// then. Dispatchers live as long as the pool, so that references from next() stay valid until then. Fork: a child has
// no workers but the one that forked, if one did, whose dispatcher goes on until its exit(); the pool may be destroyed
// there.
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

  // Has drain() close `gate`, which is of a worker's dispatcher, and wait until all have left it; `name` is for the
  // report. On that worker's thread; anywhere else, and for a gate of another dispatcher, it breaks the contract: fatal
  // in debug, refused in release. Ends with the gate; again: under the new name. While the pool is being drained the
  // gate is closed at once. Costs an allocation; throws std::bad_alloc, and then nothing has happened.
  virtual void addGate(Gate& gate, absl::string_view name) = 0;

  // Ends the pool in phases, each of which begins when the one before has ended on all workers:
  //
  // 1. The gates that were given to addGate() are closed, each on its worker's thread: new work is refused.
  // 2. All who are inside leave them.
  // 3. Each Sharded that is started is stopped, in reverse order of start(), and destroys its objects on their threads.
  // 4. Each worker runs what was posted to it before, shuts its dispatcher down, and ends; its posts are refused now.
  // 5. The threads are joined. Their loops have ended: what that waits for, and blocks the calling loop for, are the
  //    destructors of their thread-local objects.
  //
  // So nobody who works meets what is gone. The future is done when that is, on the dispatcher that calls. At
  // `deadline` (from now; 0 closes all, and waits for nobody) the report names what is not in time, and it goes on with
  // 4 and 5: futures that are pending are cancelled as their worker shuts down, and only then what was not stopped is
  // destroyed, here, still in reverse order, and without T::stop() where that has not begun. A worker that does not say
  // within a second who is inside, or has not ended within another one, is stalled: its thread is not joined, and ends
  // when it gets to it; what was not stopped stays until the pool is destroyed then. The gates of a stalled worker are
  // closed when it goes on. Posts are run or refused, as ever. So the report comes mostly right after the deadline;
  // where a worker stalls, one or two seconds after it; at most three, of which the third is for what is left to be
  // destroyed.
  //
  // Errors: FailedPrecondition on a thread that runs no dispatcher, and on a worker's: call stop() there, or post() it
  // to a loop of another thread; in the child of a fork also where the parent has called it. InvalidArgument for a
  // negative deadline. ResourceExhausted, or std::bad_alloc as its failure, without memory; nothing is thrown. Then,
  // and where the caller's loop was shut down meanwhile, which is Cancelled, workers may run on; drain() again, or
  // stop(), end them.
  //
  // Once: who calls it again, or meanwhile, on any such thread, gets the same report. Dropping or cancelling the future
  // does not stop it. stop(), also meanwhile on another thread, and the destructor, are as ever: they wait for the
  // threads, stop() also for those that are stalled; what drain() waited for is gone then, and it ends.
  virtual Future<DrainReport> drain(std::chrono::milliseconds deadline,
                                    std::source_location place = std::source_location::current()) = 0;

  // Runs what was posted before this call, shuts each dispatcher down on its own thread, and joins. Posts are refused
  // from then on. Idempotent. Not from a worker's thread, which could never join itself: fatal in debug, refused in
  // release.
  virtual void stop() = 0;

  // For Sharded.
  virtual std::shared_ptr<runtime_internal::Stoppables> stoppables() = 0;
};

}  // namespace nuncio
