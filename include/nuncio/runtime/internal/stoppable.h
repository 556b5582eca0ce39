#pragma once

#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "nuncio/future/future.h"

// For sharded.h and worker_pool.h.
namespace nuncio::runtime_internal {

// Stoppable: what WorkerPool::drain() is to stop before the workers end. Shared by its owner, the pool, and what is
// under way of it.
class Stoppable {
public:
  Stoppable() = default;
  Stoppable(const Stoppable&) = delete;
  Stoppable& operator=(const Stoppable&) = delete;
  virtual ~Stoppable() = default;

  // Done when it has stopped. On the thread that drains; again, or when its owner has called it: the same future.
  virtual Future<void> stop(std::source_location place) = 0;
  // Destroys what is left of workers whose loops have ended. On the thread that drains, when stop() is done.
  virtual void destroyRest() = 0;
  // For the report.
  virtual std::string name() const = 0;
  // It has not stopped in time, and may never: it asks no more workers to stop, and its owner may go without that.
  virtual void abandon() = 0;
};

// Stoppables: those of a pool, in the order in which they were started. Threads: any. Lifetime: shared by the pool and
// those in it.
class Stoppables {
public:
  static std::shared_ptr<Stoppables> make();
  Stoppables() = default;
  Stoppables(const Stoppables&) = delete;
  Stoppables& operator=(const Stoppables&) = delete;
  virtual ~Stoppables() = default;

  // False when the pool is being drained. May throw std::bad_alloc.
  virtual bool add(std::shared_ptr<Stoppable> stoppable) = 0;
  // Does nothing for one that is not among them.
  virtual void remove(const Stoppable& stoppable) = 0;
  // From now on none is added.
  virtual void close() = 0;
  // All of them, in their order. May throw std::bad_alloc.
  virtual std::vector<std::shared_ptr<Stoppable>> all() = 0;
  // The last one; null when there is none.
  virtual std::shared_ptr<Stoppable> last() = 0;
};

// "Sharded<Cache>": what `function`, the name of a function of a template (__PRETTY_FUNCTION__) whose first parameter
// is T, says of that.
std::string nameOfTemplate(const char* name, const char* function);

}  // namespace nuncio::runtime_internal
