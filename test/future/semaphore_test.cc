#include "nuncio/future/semaphore.h"

#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "nuncio/future/coroutine.h"
#include "test/future/primitive_fixture.h"
#include "test/test_support/contract.h"

namespace nuncio::test {
namespace {

using testing::ContainsRegex;
using testing::HasSubstr;
using Units = Semaphore::Units;

class SemaphoreTest : public PrimitiveTest {
protected:
  // Takes them, and adds `name` to the order.
  Future<Units> acquire(Semaphore& semaphore, uint64_t n, char name) {
    return semaphore.acquire(n).then([this, name](Units units) {
      order_ += name;
      return units;
    });
  }

  std::string order_;
};

TEST_F(SemaphoreTest, AcquireOfWhatIsFreeIsReady) {
  Semaphore semaphore(*dispatcher_, 3);
  Future<Units> two = semaphore.acquire(2);
  ASSERT_TRUE(two.isReady());
  EXPECT_EQ(2u, two.result()->count());
  EXPECT_EQ(1u, semaphore.available());
}

TEST_F(SemaphoreTest, UnitsComeBackWhenTheyAreDestroyed) {
  Semaphore semaphore(*dispatcher_, 3);
  {
    const Future<Units> two = semaphore.acquire(2);
  }
  EXPECT_EQ(3u, semaphore.available());
}

TEST_F(SemaphoreTest, UnitsComeBackOnceWhenTheyWereMoved) {
  Semaphore semaphore(*dispatcher_, 3);
  std::optional<Units> first = semaphore.tryAcquire(2);
  std::optional<Units> second = semaphore.tryAcquire(1);
  *second = std::move(*first);
  EXPECT_EQ(1u, semaphore.available());
  EXPECT_EQ(2u, second->count());
  second->release();
  second->release();
  first.reset();
  EXPECT_EQ(3u, semaphore.available());
}

TEST_F(SemaphoreTest, AcquireWaitsUntilUnitsComeBack) {
  Semaphore semaphore(*dispatcher_, 1);
  std::optional<Units> held = semaphore.tryAcquire();
  Future<Units> waiting = semaphore.acquire();
  drain();
  EXPECT_FALSE(waiting.isReady());
  EXPECT_EQ(1u, semaphore.waiters());
  held.reset();
  ASSERT_TRUE(waiting.isReady());
  EXPECT_EQ(0u, semaphore.waiters());
  EXPECT_EQ(0u, semaphore.available());
}

TEST_F(SemaphoreTest, ReleaseUpToTheMaximumIsAllowed) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  Semaphore semaphore(*dispatcher_, 3);
  const std::optional<Units> out = semaphore.tryAcquire();
  semaphore.release(kMax - 3);
  EXPECT_EQ(kMax - 1, semaphore.available());
}

TEST_F(SemaphoreTest, ReleasePastTheMaximumIsRefused) {
  Semaphore semaphore(*dispatcher_, std::numeric_limits<uint64_t>::max());
  EXPECT_CONTRACT_VIOLATION(semaphore.release(2), ContainsRegex("Semaphore::release.*2 are released.*room for 0"));
  EXPECT_EQ(std::numeric_limits<uint64_t>::max(), semaphore.available());
}

TEST_F(SemaphoreTest, UnitsThatAreOutCountForTheMaximumAndForgottenOnesDoNot) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  Semaphore semaphore(*dispatcher_, kMax);
  std::optional<Units> out = semaphore.tryAcquire(5);
  EXPECT_CONTRACT_VIOLATION(semaphore.release(1), HasSubstr("Semaphore::release"));
  semaphore.release(out->forget());
  EXPECT_EQ(kMax, semaphore.available());
  out = semaphore.tryAcquire(5);
  out.reset();
  EXPECT_EQ(kMax, semaphore.available());
}

TEST_F(SemaphoreTest, WaitersAreServedFirstInFirstOut) {
  Semaphore semaphore(*dispatcher_, 0);
  std::vector<Future<Units>> futures;
  for (const char name : {'a', 'b', 'c', 'd'}) {
    futures.push_back(acquire(semaphore, 1, name));
  }
  semaphore.release(2);
  drain();
  EXPECT_EQ("ab", order_);
  semaphore.release(2);
  drain();
  EXPECT_EQ("abcd", order_);
}

TEST_F(SemaphoreTest, LargeRequestIsNotOvertakenBySmallOnes) {
  Semaphore semaphore(*dispatcher_, 2);
  std::optional<Units> held = semaphore.tryAcquire(1);
  Future<Units> large = acquire(semaphore, 2, 'L');
  Future<Units> small = acquire(semaphore, 1, 's');
  EXPECT_FALSE(semaphore.tryAcquire(1).has_value());
  drain();
  EXPECT_EQ("", order_);
  held.reset();
  drain();
  EXPECT_EQ("L", order_);
  large = Future<Units>();
  drain();
  EXPECT_EQ("Ls", order_);
}

TEST_F(SemaphoreTest, CancelledHeadLetsThoseBehindItThrough) {
  Semaphore semaphore(*dispatcher_, 2);
  Future<Units> large = acquire(semaphore, 5, 'L');
  Future<Units> small = acquire(semaphore, 1, 's');
  large.cancel();
  drain();
  EXPECT_EQ("s", order_);
  EXPECT_TRUE(failedWith(large, absl::StatusCode::kCancelled, "cancelled"));
  EXPECT_EQ(1u, semaphore.available());
}

TEST_F(SemaphoreTest, CancelledInTheMiddleAndAtTheEndAreSkipped) {
  Semaphore semaphore(*dispatcher_, 0);
  Future<Units> first = acquire(semaphore, 1, 'a');
  Future<Units> middle = acquire(semaphore, 1, 'b');
  Future<Units> third = acquire(semaphore, 1, 'c');
  Future<Units> last = acquire(semaphore, 1, 'd');
  middle.cancel();
  last.cancel();
  EXPECT_EQ(2u, semaphore.waiters());
  Future<Units> later = acquire(semaphore, 1, 'e');
  semaphore.release(10);
  drain();
  EXPECT_EQ("ace", order_);
  EXPECT_EQ(7u, semaphore.available());
}

TEST_F(SemaphoreTest, UnitsThatWereHandedOutComeBackWhenTheFutureIsCancelled) {
  Semaphore semaphore(*dispatcher_, 0);
  Future<Units> future = acquire(semaphore, 1, 'a');
  semaphore.release(1);
  EXPECT_EQ(0u, semaphore.available());
  future.cancel();  // its continuation has not run yet
  drain();
  EXPECT_EQ("", order_);
  EXPECT_EQ(1u, semaphore.available());
}

TEST_F(SemaphoreTest, ForgottenUnitsComeBackByRelease) {
  Semaphore semaphore(*dispatcher_, 5);
  std::optional<Units> units = semaphore.tryAcquire(5);
  EXPECT_EQ(5u, units->forget());
  EXPECT_EQ(0u, units->forget());
  units.reset();
  EXPECT_EQ(0u, semaphore.available());
  semaphore.release(7);
  EXPECT_EQ(7u, semaphore.available());
}

TEST_F(SemaphoreTest, CloseFailsThoseThatWaitAndThoseThatCome) {
  Semaphore semaphore(*dispatcher_, 1);
  std::optional<Units> held = semaphore.tryAcquire();
  Future<Units> waiting = semaphore.acquire();
  semaphore.close(absl::UnavailableError("going down"));
  held.reset();
  Future<Units> late = semaphore.acquire();
  EXPECT_TRUE(failedWith(waiting, absl::StatusCode::kUnavailable, "going down"));
  EXPECT_TRUE(failedWith(late, absl::StatusCode::kUnavailable, "going down"));
  EXPECT_FALSE(semaphore.tryAcquire().has_value());
}

TEST_F(SemaphoreTest, DestructionFailsThoseThatWait) {
  auto semaphore = std::make_unique<Semaphore>(*dispatcher_, 0);
  Future<Units> waiting = semaphore->acquire();
  Future<void> chained = semaphore->acquire().then([](Units) { ADD_FAILURE(); });
  semaphore.reset();
  drain();
  EXPECT_TRUE(failedWith(waiting, absl::StatusCode::kCancelled, "the semaphore was destroyed"));
  EXPECT_TRUE(failedWith(chained, absl::StatusCode::kCancelled, "the semaphore was destroyed"));
}

TEST_F(SemaphoreTest, UnitsMayOutliveTheSemaphore) {
  auto semaphore = std::make_unique<Semaphore>(*dispatcher_, 2);
  std::optional<Units> units = semaphore->tryAcquire();
  Future<Units> future = semaphore->acquire();
  Future<Units> delivered = semaphore->acquire().then([](Units more) { return more; });
  semaphore->release(1);
  semaphore.reset();
  drain();
  EXPECT_EQ(1u, units->count());
  EXPECT_TRUE(delivered.isReady());
  units.reset();
}

TEST_F(SemaphoreTest, ShutdownOfTheDispatcherFailsThoseThatWait) {
  Semaphore semaphore(*dispatcher_, 1);
  std::optional<Units> held = semaphore.tryAcquire();
  bool ensured = false;
  Future<void> waiting = semaphore.acquire().then([](Units) { ADD_FAILURE(); }).ensure([&ensured] { ensured = true; });
  dispatcher_->shutdown();
  EXPECT_TRUE(ensured);
  EXPECT_TRUE(failedWith(waiting, absl::StatusCode::kCancelled, "shut down"));
  held.reset();
  EXPECT_EQ(1u, semaphore.available());
}

TEST_F(SemaphoreTest, AfterShutdownAnAcquireThatWouldWaitFails) {
  Semaphore semaphore(*dispatcher_, 0);
  dispatcher_->shutdown();
  Future<Units> late = semaphore.acquire();
  EXPECT_TRUE(failedWith(late, absl::StatusCode::kCancelled, "shut down"));
}

TEST_F(SemaphoreTest, MayOutliveTheDispatcher) {
  Semaphore semaphore(*dispatcher_, 1);
  std::optional<Units> held = semaphore.tryAcquire();
  Future<Units> waiting = semaphore.acquire();
  dispatcher_.reset();
  held.reset();
  EXPECT_EQ(1u, semaphore.available());
  EXPECT_TRUE(failedWith(waiting, absl::StatusCode::kCancelled, "shut down"));
}

TEST_F(SemaphoreTest, MayBeUsedBeforeTheDispatcherFirstRuns) {
  DispatcherPtr fresh = createDispatcher({.name = "fresh", .time_system = &time_});
  Semaphore semaphore(*fresh, 1);
  int ran = 0;
  Future<void> first = semaphore.acquire().then([&ran](Units) { ++ran; });
  Future<void> second = semaphore.acquire().then([&ran](Units) { ++ran; });
  fresh->run(RunType::Block);
  EXPECT_EQ(2, ran);
}

TEST_F(SemaphoreTest, ContinuationMayUseTheSameSemaphore) {
  Semaphore semaphore(*dispatcher_, 0);
  int taken = 0;
  Future<void> done = semaphore.acquire().then([&](Units units) {
    units.release();
    return semaphore.acquire(1).then([&](Units) {
      ++taken;
      return semaphore.acquire(2).then([&](Units) { ++taken; });
    });
  });
  semaphore.release(1);
  drain();
  EXPECT_EQ(1, taken);
  EXPECT_EQ(1u, semaphore.waiters());
  semaphore.release(1);
  drain();
  EXPECT_EQ(2, taken);
  EXPECT_EQ(2u, semaphore.available());
}

TEST_F(SemaphoreTest, ContinuationMayDestroyTheSemaphore) {
  auto semaphore = std::make_unique<Semaphore>(*dispatcher_, 0);
  Future<void> first = semaphore->acquire().then([&](Units) { semaphore.reset(); });
  Future<Units> second = semaphore->acquire();
  semaphore->release(1);
  drain();
  EXPECT_EQ(nullptr, semaphore);
  EXPECT_TRUE(failedWith(second, absl::StatusCode::kCancelled, "the semaphore was destroyed"));
}

TEST_F(SemaphoreTest, ServesManyWaitersWithBoundedStack) {
  Semaphore semaphore(*dispatcher_, 0);
  int served = 0;
  for (int i = 0; i < kMany; ++i) {
    semaphore.acquire().then([&served](Units) { ++served; }).detach();
  }
  EXPECT_EQ(static_cast<std::size_t>(kMany), semaphore.waiters());
  semaphore.release(1);
  drain();
  EXPECT_EQ(kMany, served);
  EXPECT_EQ(1u, semaphore.available());
}

TEST_F(SemaphoreTest, UnitsThatNobodyTakesPassThroughManyWaitersWithBoundedStack) {
  Semaphore semaphore(*dispatcher_, 0);
  for (int i = 0; i < kMany; ++i) {
    semaphore.acquire().detach();
  }
  semaphore.release(1);
  EXPECT_EQ(0u, semaphore.waiters());
  EXPECT_EQ(1u, semaphore.available());
}

TEST_F(SemaphoreTest, IsDestroyedWithManyWaiters) {
  int failed = 0;
  {
    Semaphore semaphore(*dispatcher_, 0);
    for (int i = 0; i < kMany; ++i) {
      semaphore.acquire().then([&failed](Try<Units> units) { failed += units.failed() ? 1 : 0; }).detach();
    }
  }
  drain();
  EXPECT_EQ(kMany, failed);
}

Future<void> useExclusively(Dispatcher&, Semaphore& semaphore, int& inside, int& most, int& rounds) {
  for (int i = 0; i < 10; ++i) {
    Units units = co_await semaphore.acquire();
    ++inside;
    most = std::max(most, inside);
    co_await yield();
    --inside;
    ++rounds;
  }
}

TEST_F(SemaphoreTest, BoundsHowManyCoroutinesAreAtWork) {
  Semaphore semaphore(*dispatcher_, 3);
  int inside = 0;
  int most = 0;
  int rounds = 0;
  std::vector<Future<void>> users;
  for (int i = 0; i < 20; ++i) {
    users.push_back(useExclusively(*dispatcher_, semaphore, inside, most, rounds));
  }
  drain();
  EXPECT_EQ(200, rounds);
  EXPECT_EQ(3, most);
  EXPECT_EQ(3u, semaphore.available());
}

#ifndef NDEBUG  // undefined in a release build
TEST_F(SemaphoreTest, UseOnAnotherThreadIsCaughtInDebugBuilds) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        Semaphore semaphore(*dispatcher_, 1);
        std::thread([&semaphore] { semaphore.acquire().detach(); }).join();
      },
      "Semaphore::acquire");
}
#endif

// What a semaphore is to do, in the simplest words.
struct Model {
  struct Request {
    int id;
    uint64_t n;
  };
  uint64_t available;
  std::deque<Request> line;

  // Who is served now, in order.
  std::vector<int> serve() {
    std::vector<int> served;
    while (!line.empty() && line.front().n <= available) {
      available -= line.front().n;
      served.push_back(line.front().id);
      line.pop_front();
    }
    return served;
  }
};

TEST_F(SemaphoreTest, DoesWhatTheModelDoes) {
  const uint64_t seed = testSeed();
  SCOPED_TRACE(testing::Message() << "NUNCIO_TEST_SEED=" << seed);
  std::mt19937_64 random(seed);
  const auto below = [&random](uint64_t limit) { return random() % limit; };
  for (int round = 0; round < 50; ++round) {
    Semaphore semaphore(*dispatcher_, 4);
    Model model{4, {}};
    std::vector<int> expected;
    std::vector<int> served;
    std::vector<Future<void>> futures;  // by id
    std::vector<Units> held;
    const auto serve_model = [&] {
      for (const int id : model.serve()) {
        expected.push_back(id);
      }
    };
    for (int step = 0; step < 200; ++step) {
      switch (below(6)) {
        case 0:
        case 1:
        case 2: {
          const int id = static_cast<int>(futures.size());
          const uint64_t n = below(6);
          model.line.push_back({id, n});
          serve_model();
          futures.push_back(semaphore.acquire(n).then([&served, &held, id](Units units) {
            served.push_back(id);
            held.push_back(std::move(units));
          }));
          break;
        }
        case 3:
          if (!held.empty()) {
            const std::size_t which = below(held.size());
            model.available += held[which].count();
            serve_model();
            std::swap(held[which], held.back());
            held.pop_back();
          }
          break;
        case 4:
          if (!model.line.empty()) {
            const auto which = model.line.begin() + static_cast<std::ptrdiff_t>(below(model.line.size()));
            futures[which->id].cancel();
            model.line.erase(which);
            serve_model();
          }
          break;
        default:
          if (below(4) == 0) {
            ++model.available;
            serve_model();
            semaphore.release(1);
          }
          break;
      }
      drain();
      ASSERT_EQ(expected, served) << "in step " << step;
      ASSERT_EQ(model.available, semaphore.available()) << "in step " << step;
      ASSERT_EQ(model.line.size(), semaphore.waiters()) << "in step " << step;
    }
    futures.clear();
    semaphore.close(absl::CancelledError("the round is over"));
    drain();
  }
}

}  // namespace
}  // namespace nuncio::test
