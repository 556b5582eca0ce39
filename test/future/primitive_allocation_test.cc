// Promises about allocations: what need not wait costs none, and a LifetimeGuard one for all its callbacks.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "nuncio/event/lifetime_guard.h"
#include "nuncio/future/async_mutex.h"
#include "nuncio/future/gate.h"
#include "nuncio/future/latch.h"
#include "nuncio/future/queue.h"
#include "nuncio/future/rate_limiter.h"
#include "nuncio/future/semaphore.h"
#include "nuncio/future/sequence.h"
#include "nuncio/future/stream.h"
#include "test/future/primitive_fixture.h"
#include "test/test_support/count_allocations.h"

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
  RateLimiter limiter(*dispatcher_, 1'000, 1'000);
  EXPECT_EQ(0, allocationsOf([&] {
              semaphore.acquire(3).then([this](const Semaphore::Units&) { ++done_; }).detach();
              mutex.lock().then([this](const AsyncMutex::Guard&) { ++done_; }).detach();
              limiter.acquire().then([this] { ++done_; }).detach();
            }));
  EXPECT_EQ(12, done_);
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

}  // namespace
}  // namespace nuncio::test
