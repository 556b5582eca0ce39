// Promises about allocations: what need not wait costs none, and a LifetimeGuard one for all its callbacks. This
// program counts the calls to malloc and its kin, as test/event/allocation_test.cc does.

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
#include "test/test_support/sanitizers.h"

namespace {
std::atomic<int64_t> allocations{0};
void* volatile sink = nullptr;  // keeps an allocation from being optimised away

void count() { allocations.fetch_add(1, std::memory_order_relaxed); }
}  // namespace

#ifdef NUNCIO_TEST_SANITIZER
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*, std::size_t),
                                                         void (*on_free)(const volatile void*));
namespace {
[[maybe_unused]] const int hooks = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t) { count(); }, [](const volatile void*) {});
}  // namespace
#else
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t number, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

void* malloc(std::size_t size) {
  count();
  return __libc_malloc(size);
}
void* calloc(std::size_t number, std::size_t size) {
  count();
  return __libc_calloc(number, size);
}
void* realloc(void* memory, std::size_t size) {
  count();
  return __libc_realloc(memory, size);
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  count();
  return __libc_memalign(alignment, size);
}
}
#endif

namespace nuncio::test {
namespace {

// Allocations of `work`, once the memory has grown to its size in the rounds before.
template <class F>
int64_t allocationsOf(F work, int rounds_before = 3) {
  for (int i = 0; i < rounds_before; ++i) {
    work();
  }
  const int64_t before = allocations;
  work();
  return allocations - before;
}

class PrimitiveAllocationTest : public PrimitiveTest {
protected:
  int done_ = 0;
};

TEST_F(PrimitiveAllocationTest, AreCounted) {
  EXPECT_EQ(1, allocationsOf([] {
              const auto memory = std::make_unique<int64_t>(1);
              sink = memory.get();
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
