#include "nuncio/future/any_of.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/future/async_mutex.h"
#include "nuncio/future/async_var.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/read_write_lock.h"
#include "nuncio/future/semaphore.h"
#include "nuncio/future/time.h"
#include "test/future/loop_fixture.h"

namespace nuncio {
namespace {

using namespace std::chrono_literals;
using test::codeOf;

class AnyOfTest : public test::LoopFixture {};

TEST_F(AnyOfTest, AnyOfGivesTheFirstValueAtItsIndexAndCancelsTheLosers) {
  Promise<int> number;
  Promise<std::unique_ptr<int>> pointer;
  int cancelled = 0;
  number.onCancel([&] { ++cancelled; });
  Future<std::variant<int, std::unique_ptr<int>>> any =
      anyOf(number.future(*dispatcher_), pointer.future(*dispatcher_));
  turn();
  EXPECT_FALSE(any.isReady());
  pointer.setValue(std::make_unique<int>(7));
  turn();
  ASSERT_TRUE(any.isReady());
  ASSERT_EQ((*any.result()).index(), 1U);
  EXPECT_EQ(*std::get<1>(*any.result()), 7);
  EXPECT_EQ(cancelled, 1);
}

TEST_F(AnyOfTest, FuturesOfOneTypeAreToldApartByTheIndex) {
  Promise<int> first;
  Promise<int> second;
  Future<std::variant<int, int>> any = anyOf(first.future(*dispatcher_), second.future(*dispatcher_));
  second.setValue(2);
  turn();
  ASSERT_TRUE(any.isReady());
  ASSERT_EQ((*any.result()).index(), 1U);
  EXPECT_EQ(std::get<1>(*any.result()), 2);
}

TEST_F(AnyOfTest, AVoidFutureGivesAUnit) {
  Promise<int> number;
  Future<std::variant<int, Unit>> any = anyOf(number.future(*dispatcher_), sleepFor(*dispatcher_, 5ms));
  advance(5ms);
  ASSERT_TRUE(any.isReady());
  EXPECT_TRUE(std::holds_alternative<Unit>(*any.result()));
  EXPECT_TRUE(number.done());
}

TEST_F(AnyOfTest, AFailureOfTheFirstIsTheResult) {
  Promise<int> number;
  Promise<void> nothing;
  Future<std::variant<int, Unit>> any = anyOf(number.future(*dispatcher_), nothing.future(*dispatcher_));
  nothing.setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(codeOf(any), absl::StatusCode::kNotFound);
  EXPECT_TRUE(number.done());
}

TEST_F(AnyOfTest, OfReadyFuturesTheFirstArgumentWins) {
  Promise<int> number;
  Future<std::variant<int, int, std::string>> any =
      anyOf(number.future(*dispatcher_), makeReadyFuture(2), makeReadyFuture(std::string("3")));
  ASSERT_TRUE(any.isReady());
  EXPECT_EQ((*any.result()).index(), 1U);
  EXPECT_TRUE(number.done());
}

TEST_F(AnyOfTest, CancellingAnyOfReachesAll) {
  Promise<int> number;
  Promise<void> nothing;
  auto any = anyOf(number.future(*dispatcher_), nothing.future(*dispatcher_));
  any.cancel();
  EXPECT_TRUE(number.done());
  EXPECT_TRUE(nothing.done());
  EXPECT_EQ(codeOf(any), absl::StatusCode::kCancelled);
}

TEST_F(AnyOfTest, LosersThatCameInTheSameIterationAreFreed) {
  auto value = std::make_shared<int>(1);
  Promise<std::shared_ptr<int>> first;
  Promise<std::shared_ptr<int>> second;
  {
    auto any = anyOf(first.future(*dispatcher_), second.future(*dispatcher_));
    first.setValue(value);
    second.setValue(value);
    turn();
    ASSERT_TRUE(any.isReady());
    EXPECT_EQ(value.use_count(), 2);
  }
  EXPECT_EQ(value.use_count(), 1);
}

Future<std::string> choose(Dispatcher& dispatcher, Future<int> number) {
  std::variant<int, Unit> first = co_await anyOf(std::move(number), sleepFor(dispatcher, 5ms));
  if (first.index() == 1) {
    co_return "timeout";
  }
  co_return std::to_string(std::get<0>(first));
}

TEST_F(AnyOfTest, ACoroutineChooses) {
  Promise<int> in_time;
  Promise<int> late;
  Future<std::string> value = choose(*dispatcher_, in_time.future(*dispatcher_));
  Future<std::string> timeout = choose(*dispatcher_, late.future(*dispatcher_));
  in_time.setValue(7);
  turn();
  ASSERT_TRUE(value.isReady());
  EXPECT_EQ(*value.result(), "7");
  advance(5ms);
  ASSERT_TRUE(timeout.isReady());
  EXPECT_EQ(*timeout.result(), "timeout");
  EXPECT_TRUE(late.done());
}

TEST_F(AnyOfTest, AFailureIsThrownInTheCoroutine) {
  Promise<int> number;
  Future<std::string> chosen = choose(*dispatcher_, number.future(*dispatcher_));
  number.setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(codeOf(chosen), absl::StatusCode::kNotFound);
}

TEST_F(AnyOfTest, CancellingTheCoroutineCancelsWhatItChoosesFrom) {
  Promise<int> number;
  Future<std::string> chosen = choose(*dispatcher_, number.future(*dispatcher_));
  chosen.cancel();
  EXPECT_TRUE(number.done());
  EXPECT_EQ(codeOf(chosen), absl::StatusCode::kCancelled);
}

Future<int> both(Dispatcher& /*dispatcher*/, Future<int> one, Future<void> two) {
  std::tuple<int, Unit> values = co_await allOf(std::move(one), std::move(two));
  co_return std::get<0>(values);
}

TEST_F(AnyOfTest, ACoroutineWaitsForAll) {
  Promise<int> one;
  Promise<void> two;
  Future<int> all = both(*dispatcher_, one.future(*dispatcher_), two.future(*dispatcher_));
  one.setValue(1);
  turn();
  EXPECT_FALSE(all.isReady());
  two.setValue();
  turn();
  ASSERT_TRUE(all.isReady());
  EXPECT_EQ(*all.result(), 1);
}

TEST_F(AnyOfTest, AFailureOfOneOfAllCancelsTheOthers) {
  Promise<int> one;
  Promise<void> two;
  Future<int> all = both(*dispatcher_, one.future(*dispatcher_), two.future(*dispatcher_));
  two.setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kNotFound);
  EXPECT_TRUE(one.done());
}

// What the others get when a wait at a primitive loses, whatever came first in the iteration.
class AnyOfPrimitivesTest : public AnyOfTest {
protected:
  enum class Order { Before, After, Never };

  // Has `wait` lose against a promise, while `bring` gives it its turn before or after the promise is set, or not.
  template <class T, class Bring>
  void lose(Future<T> wait, Order order, Bring bring) {
    Promise<void> stop;
    auto any = anyOf(stop.future(*dispatcher_), std::move(wait));
    if (order == Order::Before) {
      // It would win, but that nobody has looked yet, and the whole is cancelled.
      bring();
      any.cancel();
      return;
    }
    stop.setValue();
    if (order == Order::After) {
      bring();
    }
    turn();
    ASSERT_TRUE(any.isReady());
    ASSERT_EQ((*any.result()).index(), 0U);
  }

  static constexpr std::array<Order, 3> kOrders = {Order::Before, Order::After, Order::Never};
};

TEST_F(AnyOfPrimitivesTest, UnitsOfASemaphoreGoToTheNextInLine) {
  for (const Order order : kOrders) {
    Semaphore semaphore(*dispatcher_, 0);
    Future<Semaphore::Units> loser = semaphore.acquire(2);
    Future<Semaphore::Units> next = semaphore.acquire(2);
    lose(std::move(loser), order, [&] { semaphore.release(2); });
    if (order == Order::Never) {
      EXPECT_EQ(semaphore.waiters(), 1U);
      semaphore.release(2);
    }
    turn();
    ASSERT_TRUE(next.isReady());
    EXPECT_EQ((*next.result()).count(), 2U);
    EXPECT_EQ(semaphore.available(), 0U);
    next = Future<Semaphore::Units>();
    EXPECT_EQ(semaphore.available(), 2U);
  }
}

TEST_F(AnyOfPrimitivesTest, AMutexIsLockedByTheNextInLine) {
  for (const Order order : kOrders) {
    AsyncMutex mutex(*dispatcher_);
    std::optional<AsyncMutex::Guard> guard = mutex.tryLock();
    Future<AsyncMutex::Guard> loser = mutex.lock();
    Future<AsyncMutex::Guard> next = mutex.lock();
    lose(std::move(loser), order, [&] { guard.reset(); });
    guard.reset();
    turn();
    ASSERT_TRUE(next.isReady());
    EXPECT_TRUE(mutex.locked());
    EXPECT_EQ(mutex.waiters(), 0U);
    next = Future<AsyncMutex::Guard>();
    EXPECT_FALSE(mutex.locked());
  }
}

TEST_F(AnyOfPrimitivesTest, AMutexThatWasFreeIsUnlockedAgain) {
  AsyncMutex mutex(*dispatcher_);
  {
    auto any = anyOf(makeReadyFuture(), mutex.lock());
    EXPECT_EQ((*any.result()).index(), 0U);
  }
  EXPECT_FALSE(mutex.locked());
}

TEST_F(AnyOfPrimitivesTest, AReadWriteLockIsTakenByTheNextInLine) {
  for (const Order order : kOrders) {
    ReadWriteLock lock(*dispatcher_);
    std::optional<ReadWriteLock::Guard> reader = lock.tryReadLock();
    Future<ReadWriteLock::Guard> loser = lock.writeLock();
    Future<ReadWriteLock::Guard> next = lock.readLock();
    lose(std::move(loser), order, [&] { reader.reset(); });
    turn();
    ASSERT_TRUE(next.isReady());
    EXPECT_FALSE(lock.writing());
  }
}

TEST_F(AnyOfPrimitivesTest, AVariableWakesTheOthersThatWait) {
  for (const Order order : kOrders) {
    AsyncVar<int> variable(*dispatcher_, 0);
    Future<void> loser = variable.onChange();
    Future<void> other = variable.onChange();
    lose(std::move(loser), order, [&] { variable.set(1); });
    variable.set(2);
    EXPECT_TRUE(other.isReady());
    Future<void> again = variable.onChange();
    EXPECT_FALSE(again.isReady());
    variable.set(3);
    EXPECT_TRUE(again.isReady());
  }
}

Future<void> takeTurns(Dispatcher& dispatcher, Semaphore& semaphore, Promise<void>& tick, int& held, int& turns) {
  for (;;) {
    tick = Promise<void>();
    Future<void> ticked = tick.future(dispatcher);
    Future<Semaphore::Units> units = semaphore.acquire();
    auto either = anyOf(std::move(ticked), std::move(units));
    const std::variant<Unit, Semaphore::Units> first = co_await std::move(either);
    if (first.index() == 1) {
      EXPECT_EQ(++held, 1);
      ++turns;
      co_await yield();
      --held;
    }
  }
}

TEST_F(AnyOfPrimitivesTest, TheOnlyUnitOfASemaphoreIsNeverLostNorHeldTwice) {
  Semaphore semaphore(*dispatcher_, 1);
  std::array<Promise<void>, 3> ticks;
  std::array<int, 3> turns = {};
  int held = 0;
  std::vector<Future<void>> takers;
  for (std::size_t i = 0; i < ticks.size(); ++i) {
    takers.push_back(takeTurns(*dispatcher_, semaphore, ticks[i], held, turns[i]));
  }
  for (int round = 0; round < 150; ++round) {
    dispatcher_->post([&, round] { ticks[static_cast<std::size_t>(round % 3)].setValue(); });
    turn();
  }
  for (Future<void>& taker : takers) {
    taker.cancel();
  }
  for (const int taken : turns) {
    EXPECT_GT(taken, 10);
  }
  EXPECT_EQ(semaphore.available(), 1U);
}

}  // namespace
}  // namespace nuncio
