#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <type_traits>
#include <vector>

#include "nuncio/common/assert.h"
#include "nuncio/future/future.h"
#include "nuncio/future/gate.h"
#include "nuncio/future/shared_future.h"
#include "nuncio/runtime/internal/local_slot.h"
#include "nuncio/runtime/internal/stoppable.h"
#include "nuncio/runtime/worker_pool.h"

namespace nuncio {

// Sharded: an object of type T on each worker of a pool, which lives and is used on that worker's thread alone.
//
//   Sharded<Cache> caches;
//   co_await caches.start(pool, [](Dispatcher& worker, size_t index) { return std::make_unique<Cache>(worker); });
//   caches.local().put(key, value);                                              // on a worker: its own
//   co_await caches.call(hash(key) % caches.size(), [key](Cache& c) { return c.get(key); });
//   const size_t all = co_await caches.mapReduce([](Cache& c) { return c.size(); }, size_t{0}, std::plus<>());
//   co_await caches.stop();
//
// It takes the place of thread-local slots (Envoy), of an owner object for each worker, and of Seastar's sharded<>.
//
// Life: start() makes the objects, each on its worker; stop() ends and destroys them there, from the last worker to the
// first, and is to be called before the pool is stopped and before this is destroyed: without it the destructor breaks
// the contract, fatally in a debug build; in release what is left of the objects is leaked, unless a drain() of the
// pool comes to stop them after all. WorkerPool::drain() calls it, for all that are started, in reverse order of
// start(); one that has not stopped by its deadline may be destroyed all the same; the objects stay with the pool where
// a worker stalls, and go with it, where it is destroyed, after their owner. Without memory a future fails with
// ResourceExhausted, or std::bad_alloc is thrown, or is what it fails with.
//
// Threads: start() and stop() by one at a time, of which drain() is one until it is done; local() on a worker's; the
// rest on any, between the two. A thread that runs a dispatcher gets its answers there; for one that runs none, as
// main() may be, worker 0 sees to it: the futures are on that one's dispatcher, and can be waited for with get(). Cost:
// local() is a thread-local read and an index; for call(), see nuncio/future/call.h.
template <class T>
class Sharded {
  template <class F>
  using ResultOf = future_internal::ResultOf<std::invoke_result_t<F&, T&>>;

public:
  Sharded() : core_(std::make_shared<Core>()), slot_(core_->slot) {}
  Sharded(const Sharded&) = delete;
  Sharded& operator=(const Sharded&) = delete;
  ~Sharded() {
    // Where it is refused, core and pool keep each other until a drain(), and so the objects.
    static_cast<void>(
        NUNCIO_CONTRACT(!core_->started || core_->abandoned, "-", "Sharded::~Sharded",
                        std::string("destroyed before stop() was done; wait for the future of stop(), or of "
                                    "WorkerPool::drain(), first: ") +
                            __PRETTY_FUNCTION__));
  }

  // Calls `make(dispatcher, index)` on each worker, at the same time, and keeps what it returns: a std::unique_ptr<T>,
  // or a StatusOr or Future of one. `pool` has to live until stop() is done. When one of them fails, is null, or
  // throws, those that came to be are stopped as by stop(), and the future fails with the failure of the first such
  // worker; then start() may be called anew. FailedPrecondition when it has been started already, and when the pool is
  // being drained. Where the future is cancelled, some may be there: stop() them. Where stop() is called before it is
  // done, it fails with Cancelled.
  template <class Make>
  Future<void> start(WorkerPool& pool, Make make, std::source_location place = std::source_location::current());

  // Of the worker whose thread calls. On any other thread, before start() and after stop() it breaks the contract, and
  // ends the program.
  T& local() const {
    T* const object = localIfAny();
    NUNCIO_RELEASE_ASSERT(object != nullptr,
                          std::string("for workers, between start() and stop(): ") + __PRETTY_FUNCTION__);
    return *object;
  }
  // The same, or null.
  T* localIfAny() const { return static_cast<T*>(slot_.get()); }

  // How many there are; 0 before start() is done, and from stop() on.
  std::size_t size() const { return core_->open.load(std::memory_order_acquire) ? core_->shards.size() : 0; }

  // Calls `f(T&)` on worker `index`, and brings the result here; `f` returns what Future::then() allows. On that worker
  // itself f runs at once, as a continuation of a ready future does. Cancelled before start(), after stop(), and where
  // the worker is gone; OutOfRange for an index that is none.
  template <class F>
  Future<ResultOf<F>> call(std::size_t index, F f, std::source_location place = std::source_location::current());

  // Calls `f(T&)`, which is shared by all and called by them at the same time, on each worker, also when some fail;
  // done when all are, with the first failure in the order of the workers, if any.
  template <class F>
  Future<void> callAll(F f, std::source_location place = std::source_location::current());

  // The same, and op(op(op(init, result of worker 0), result of worker 1), ...), which runs here.
  template <class F, class R, class Op>
  Future<R> mapReduce(F f, R init, Op op, std::source_location place = std::source_location::current());

  // From the last worker to the first: calls are refused; `T::stop()`, where there is one, is called, and a future that
  // it returns awaited; then the calls whose futures are not done; then the object is destroyed. What fails on the way
  // is the result, and stops nothing; objects of workers that have gone are destroyed here. Again, or before start():
  // done at once, or with the first one. Not to be awaited in a call of its own, which it waits for. Where there was no
  // memory to ask a worker, or the loop that called was shut down meanwhile, it has not stopped: to be called again.
  Future<void> stop(std::source_location place = std::source_location::current()) { return core_->stop(place); }

private:
  // Of one worker. All but the dispatcher is its thread's alone, while that is there.
  struct Shard {
    explicit Shard(Dispatcher& worker) : dispatcher(worker), loop(worker) {}

    Dispatcher& dispatcher;
    const LoopRef loop;
    std::unique_ptr<T> object;
    std::optional<Gate> gate;  // of the calls whose futures are not done
    bool stopped = false;      // what is being made yet goes
  };
  using Shards = std::vector<std::unique_ptr<Shard>>;
  struct Core;
  template <class F>
  class OnShard;

  template <class F>
  auto callEach(F f, const std::source_location& place);

  const std::shared_ptr<Core> core_;  // shared with what is under way, and with the pool while it is started
  const runtime_internal::LocalSlotNumber slot_;
};

}  // namespace nuncio

#include "nuncio/runtime/internal/sharded_impl.h"
