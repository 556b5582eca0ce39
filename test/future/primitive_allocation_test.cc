// Promises about allocations: what need not wait costs none, and a LifetimeGuard one for all its callbacks. And what
// becomes of what waits when there is no memory.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "nuncio/event/lifetime_guard.h"
#include "nuncio/future/async_mutex.h"
#include "nuncio/future/async_scope.h"
#include "nuncio/future/debouncer.h"
#include "nuncio/future/gate.h"
#include "nuncio/future/latch.h"
#include "nuncio/future/queue.h"
#include "nuncio/future/race.h"
#include "nuncio/future/rate_limiter.h"
#include "nuncio/future/read_write_lock.h"
#include "nuncio/future/semaphore.h"
#include "nuncio/future/sequence.h"
#include "nuncio/future/shared_future.h"
#include "nuncio/future/stream.h"
#include "test/future/no_memory_fixture.h"
#include "test/future/primitive_fixture.h"
#include "test/test_support/count_allocations.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

class PrimitiveAllocationTest : public PrimitiveTest {
protected:
  int done_ = 0;
};

TEST_F(PrimitiveAllocationTest, AreCounted) {
  EXPECT_EQ(1, allocationsOf([] {
              const auto memory = std::make_unique<int64_t>(1);
              allocation_sink = memory.get();
            }));
}

TEST_F(PrimitiveAllocationTest, NoneForAcquiringWhatIsFree) {
  Semaphore semaphore(*dispatcher_, 10);
  AsyncMutex mutex(*dispatcher_);
  ReadWriteLock read_write_lock(*dispatcher_);
  RateLimiter limiter(*dispatcher_, 1'000, 1'000);
  EXPECT_EQ(0, allocationsOf([&] {
              semaphore.acquire(3).then([this](const Semaphore::Units&) { ++done_; }).detach();
              mutex.lock().then([this](const AsyncMutex::Guard&) { ++done_; }).detach();
              read_write_lock.readLock().then([this](const ReadWriteLock::Guard&) { ++done_; }).detach();
              read_write_lock.writeLock().then([this](const ReadWriteLock::Guard&) { ++done_; }).detach();
              limiter.acquire().then([this] { ++done_; }).detach();
            }));
  EXPECT_EQ(20, done_);
}

TEST_F(PrimitiveAllocationTest, NoneForAGateASequenceAndALatchThatNeedNotWait) {
  Gate gate(*dispatcher_);
  Sequence sequence(*dispatcher_);
  Latch open(*dispatcher_, 0);
  EXPECT_EQ(0, allocationsOf([&] {
              gate.with([this] { ++done_; }).detach();
              sequence.run([this] { ++done_; }).detach();
              open.wait().then([this] { ++done_; }).detach();
            }));
  EXPECT_EQ(12, done_);
}

TEST_F(PrimitiveAllocationTest, NoneForAQueueAndAStreamOnceTheirMemoryHasGrown) {
  Queue<int> queue(*dispatcher_, 100);
  PromiseStream<int> promise(*dispatcher_);
  FutureStream<int> stream = promise.stream();
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 50; ++i) {
                queue.push(i).detach();
                promise.send(i);
              }
              for (int i = 0; i < 50; ++i) {
                queue.pop().then([this](int) { ++done_; }).detach();
                stream.next().then([this](std::optional<int>) { ++done_; }).detach();
              }
            }));
  EXPECT_EQ(400, done_);
  promise.close();
}

TEST_F(PrimitiveAllocationTest, AtMostOneForAWaitWhoseMemoryIsReused) {
  Semaphore semaphore(*dispatcher_, 0);
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 50; ++i) {
                semaphore.acquire()
                    .then([this](Semaphore::Units units) { done_ += static_cast<int>(units.forget()); })
                    .detach();
              }
              semaphore.release(50);
              drain();
            }));
  EXPECT_EQ(200, done_);
}

#ifndef NUNCIO_TEST_SANITIZER  // whose hooks do not count what is freed

class SharedFutureMemoryTest : public PrimitiveAllocationTest {
protected:
  // Allocations that 10,000 consumers, each taken by `consume`, have left.
  template <class F>
  int64_t leftBy(F consume) {
    const auto many = [&] {
      for (int i = 0; i < 10'000; ++i) {
        consume();
      }
      drain();
    };
    many();
    const int64_t before = allocations - frees;
    many();
    return allocations - frees - before;
  }

  Promise<int> promise_;
  SharedFuture<int> shared_ = share(promise_.future(*dispatcher_));
  Future<int> kept_ = shared_.future();
};

TEST_F(SharedFutureMemoryTest, IsBoundedWhateverBecomesOfItsConsumers) {
  constexpr int64_t kFew = 40;  // the last ones stay until they are swept
  EXPECT_LE(leftBy([this] { const Future<int> dropped = shared_.future(); }), kFew);
  EXPECT_LE(leftBy([this] { shared_.future().detach(); }), kFew);
  EXPECT_LE(leftBy([this] { shared_.future().cancel(); }), kFew);
  EXPECT_LE(leftBy([this] { shared_.future().then([](int) {}).cancel(); }), kFew);
  EXPECT_LE(leftBy([this] { const SemiFuture<int> dropped = shared_.semiFuture(); }), kFew);
  EXPECT_LE(leftBy([this] { shared_.semiFuture().detach(); }), kFew);
  EXPECT_LE(leftBy([this] { shared_.semiFuture().cancel(); }), kFew);
  EXPECT_LE(leftBy([this] { shared_.via(*dispatcher_).detach(); }), kFew);
  promise_.setValue(1);
  drain();
  EXPECT_EQ(*kept_.result(), 1);
}

#endif

TEST_F(PrimitiveAllocationTest, OneForALifetimeGuardAndNoneForItsCallbacks) {
  EXPECT_EQ(1, allocationsOf([] { const LifetimeGuard guard; }));
  const LifetimeGuard guard;
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 100; ++i) {
                TimerCb callback = guard.wrap([this] { ++done_; });
                callback();
                dispatcher_->post(guard.wrap([this] { ++done_; }));
                makeReadyFuture(1).then(guard.wrap([this](int) { ++done_; })).detach();
              }
              drain();
            }));
  EXPECT_EQ(1200, done_);
}

TEST_F(PrimitiveAllocationTest, NoneForReadyChildrenOfAScope) {
  AsyncScope scope(*dispatcher_);
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 100; ++i) {
                scope.spawn(makeReadyFuture()).IgnoreError();
                scope.spawn([this] { ++done_; }).IgnoreError();
              }
            }));
  EXPECT_EQ(400, done_);
}

TEST_F(PrimitiveAllocationTest, OneForAPendingChildOfAScopeOrARaceWhoseOtherMemoryIsUsedAgain) {
  AsyncScope scope(*dispatcher_);
  Race<int> all(*dispatcher_);
  Semaphore semaphore(*dispatcher_, 0);
  constexpr int kChildren = 50;
  EXPECT_EQ(
      2 * kChildren, allocationsOf([&] {
        for (int i = 0; i < kChildren; ++i) {
          scope.spawn(semaphore.acquire().then([](Semaphore::Units units) { units.forget(); })).IgnoreError();
          all.add(semaphore.acquire().then([](Semaphore::Units units) { return static_cast<int>(units.forget()); }));
        }
        semaphore.release(2 * kChildren);
        drain();
        while (all.tryNext().has_value()) {
          ++done_;
        }
      }));
  EXPECT_EQ(200, done_);
}

TEST_F(PrimitiveAllocationTest, NoneForRequestsOfADebouncer) {
  Debouncer debouncer(*dispatcher_, std::chrono::milliseconds(1), [this] { ++done_; },
                      {.max_delay = std::chrono::milliseconds(5)});
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 100; ++i) {
                debouncer.request();
              }
            }));
  time_.advanceTimeAndRun(std::chrono::milliseconds(1));
  EXPECT_EQ(1, done_);
}

#ifndef NUNCIO_TEST_SANITIZER

TEST_F(PrimitiveAllocationTest, EndedChildrenLeaveNoMemoryBehind) {
  AsyncScope scope(*dispatcher_);
  const auto round = [&](std::size_t children) {
    std::vector<Promise<void>> promises(children);
    for (Promise<void>& promise : promises) {
      scope.spawn(promise.future(*dispatcher_)).IgnoreError();
      promise.setValue();
    }
    drain();
  };
  round(5'000);  // what the loop keeps for reuse
  const int64_t before = allocations - frees;
  for (int i = 0; i < 10; ++i) {
    round(1'000);
  }
  EXPECT_EQ(allocations - frees, before);
  EXPECT_EQ(scope.size(), 0u);
}

// Runs the loop until nothing is left to do at once.
void runAll(Dispatcher& dispatcher) {
  for (int i = 0; i < 3; ++i) {
    dispatcher.run(RunType::NonBlock);
  }
}

TEST_F(NoMemoryTest, AScopesChildFailsWithResourceExhaustedAndTheJoinEnds) {
  failEachAllocation([&](Dispatcher& dispatcher) {
    std::vector<Promise<void>> promises(3);
    AsyncScope scope(dispatcher);
    bool taken = true;
    for (Promise<void>& promise : promises) {
      Future<void> work = promise.future(dispatcher).ensure([capture = Capture(living_)] {});
      taken = taken && scope.spawn(std::move(work)).ok();
    }
    taken = taken && scope.spawn([&]() -> Future<void> { return promises[0].future(dispatcher); }).ok();
    Future<void> joined = scope.join();
    for (Promise<void>& promise : promises) {
      promise.setValue();
    }
    runAll(dispatcher);
    const absl::Status status = joined.isReady() ? joined.result().status() : absl::UnimplementedError("pending");
    return taken && scope.size() == 0 &&
           (status.ok() || absl::IsResourceExhausted(status) || absl::IsUnknown(status) ||
            absl::IsFailedPrecondition(status));  // the last: of the promise whose future was taken before
  });
}

TEST_F(NoMemoryTest, ARaceGivesEachFutureThatItTookOnce) {
  failEachAllocation([&](Dispatcher& dispatcher) {
    std::vector<Promise<int>> promises(4);
    Race<int> all(dispatcher);
    std::size_t taken = 0;
    for (Promise<int>& promise : promises) {
      Future<int> work = promise.future(dispatcher).then([capture = Capture(living_)](int value) { return value; });
      taken += all.add(std::move(work)) ? 1 : 0;
    }
    for (Promise<int>& promise : promises) {
      promise.setValue(1);
    }
    runAll(dispatcher);
    std::size_t seen = 0;
    std::array<bool, 4> came{};
    bool good = true;
    while (std::optional<Race<int>::Item> item = all.tryNext()) {
      good = good && item->first < taken && !std::exchange(came[item->first], true) && expected(item->second);
      ++seen;
    }
    return good && seen == taken && all.pending() == 0;
  });
}

TEST_F(NoMemoryTest, ARaceOfManyThrowsOrTakesThemAll) {
  failEachAllocation([&](Dispatcher& dispatcher) {
    std::vector<Promise<int>> promises(4);
    std::vector<Future<int>> futures;
    futures.reserve(promises.size());
    for (Promise<int>& promise : promises) {
      futures.push_back(promise.future(dispatcher));
    }
    try {
      const Race<int> all = race(dispatcher, std::move(futures));
      return all.pending() + all.buffered() == promises.size();
    } catch (const std::bad_alloc&) {
      runAll(dispatcher);
      return std::ranges::all_of(promises, [](const Promise<int>& promise) { return promise.done(); });
    }
  });
}

#endif

}  // namespace
}  // namespace nuncio::test
