#include "nuncio/future/async_mutex.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nuncio/future/coroutine.h"
#include "test/future/primitive_fixture.h"

namespace nuncio::test {
namespace {

using Guard = AsyncMutex::Guard;

class AsyncMutexTest : public PrimitiveTest {
protected:
  // Writes `name` in two steps, between which others may run.
  Future<void> write(Dispatcher&, AsyncMutex& mutex, char name) {
    const Guard guard = co_await mutex.lock();
    text_ += name;
    co_await yield();
    text_ += name;
  }

  std::string text_;
};

TEST_F(AsyncMutexTest, LockOfAFreeMutexIsReady) {
  AsyncMutex mutex(*dispatcher_);
  Future<Guard> guard = mutex.lock();
  EXPECT_TRUE(guard.isReady());
  EXPECT_TRUE(mutex.locked());
  guard = Future<Guard>();
  EXPECT_FALSE(mutex.locked());
}

TEST_F(AsyncMutexTest, TryLockGivesNothingWhileItIsLocked) {
  AsyncMutex mutex(*dispatcher_);
  std::optional<Guard> first = mutex.tryLock();
  EXPECT_TRUE(first.has_value());
  EXPECT_FALSE(mutex.tryLock().has_value());
  first->release();
  EXPECT_TRUE(mutex.tryLock().has_value());
}

TEST_F(AsyncMutexTest, CoroutinesHoldItAcrossTheirWaitsInTheOrderInWhichTheyCame) {
  AsyncMutex mutex(*dispatcher_);
  std::vector<Future<void>> writers;
  for (const char name : {'a', 'b', 'c'}) {
    writers.push_back(write(*dispatcher_, mutex, name));
  }
  EXPECT_EQ(2u, mutex.waiters());
  drain();
  EXPECT_EQ("aabbcc", text_);
}

TEST_F(AsyncMutexTest, CancelledCoroutineInLineIsSkipped) {
  AsyncMutex mutex(*dispatcher_);
  Future<void> first = write(*dispatcher_, mutex, 'a');
  Future<void> second = write(*dispatcher_, mutex, 'b');
  Future<void> third = write(*dispatcher_, mutex, 'c');
  second.cancel();
  drain();
  EXPECT_EQ("aacc", text_);
}

TEST_F(AsyncMutexTest, CancelledHolderUnlocks) {
  AsyncMutex mutex(*dispatcher_);
  Promise<void> never;
  Future<void> holder =
      mutex.lock().then([&](Guard guard) { return never.future(*dispatcher_).ensure([guard = std::move(guard)] {}); });
  Future<void> next = write(*dispatcher_, mutex, 'n');
  drain();
  EXPECT_EQ("", text_);
  holder.cancel();
  drain();
  EXPECT_EQ("nn", text_);
}

TEST_F(AsyncMutexTest, DestructionFailsThoseThatWaitWhileItIsHeld) {
  auto mutex = std::make_unique<AsyncMutex>(*dispatcher_);
  std::optional<Guard> guard = mutex->tryLock();
  Future<Guard> waiting = mutex->lock();
  mutex.reset();
  EXPECT_TRUE(failedWith(waiting, absl::StatusCode::kCancelled, "the mutex was destroyed"));
  guard.reset();
}

TEST_F(AsyncMutexTest, ShutdownOfTheDispatcherDestroysTheCoroutinesThatWait) {
  AsyncMutex mutex(*dispatcher_);
  Future<void> first = write(*dispatcher_, mutex, 'a');
  Future<void> second = write(*dispatcher_, mutex, 'b');
  dispatcher_->shutdown();
  EXPECT_TRUE(failedWith(first, absl::StatusCode::kCancelled, ""));
  EXPECT_TRUE(failedWith(second, absl::StatusCode::kCancelled, ""));
  EXPECT_EQ("a", text_);
  EXPECT_FALSE(mutex.locked());
}

}  // namespace
}  // namespace nuncio::test
