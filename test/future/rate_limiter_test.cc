#include "nuncio/future/rate_limiter.h"

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "test/future/primitive_fixture.h"
#include "test/test_support/contract.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

class RateLimiterTest : public PrimitiveTest {
protected:
  // Microseconds since the start.
  int64_t now() const { return time_.monotonicTime().time_since_epoch() / 1us; }
  // Notes when it is done.
  Future<void> acquire(RateLimiter& limiter, uint64_t n = 1) {
    return limiter.acquire(n).then([this] { done_.push_back(now()); });
  }

  std::vector<int64_t> done_;
};

TEST_F(RateLimiterTest, BurstIsReadyAtOnce) {
  RateLimiter limiter(*dispatcher_, 10, 3);
  for (int i = 0; i < 3; ++i) {
    EXPECT_TRUE(limiter.acquire().isReady());
  }
  EXPECT_FALSE(limiter.tryAcquire());
  EXPECT_EQ(0u, limiter.available());
}

TEST_F(RateLimiterTest, OthersFollowAtTheRateExactly) {
  RateLimiter limiter(*dispatcher_, 10, 1);
  std::vector<Future<void>> futures;
  for (int i = 0; i < 5; ++i) {
    futures.push_back(acquire(limiter));
  }
  time_.advanceTimeAndRun(99'999us);
  EXPECT_EQ((std::vector<int64_t>{0}), done_);
  time_.advanceTimeAndRun(1s);
  EXPECT_EQ((std::vector<int64_t>{0, 100'000, 200'000, 300'000, 400'000}), done_);
}

TEST_F(RateLimiterTest, NothingIsLostInRounding) {
  RateLimiter limiter(*dispatcher_, 3, 1);
  std::vector<Future<void>> futures;
  for (int i = 0; i < 7; ++i) {
    futures.push_back(acquire(limiter));
  }
  time_.advanceTimeAndRun(2s);
  EXPECT_EQ((std::vector<int64_t>{0, 333'334, 666'667, 1'000'000, 1'333'334, 1'666'667, 2'000'000}), done_);
}

TEST_F(RateLimiterTest, TokensAreSavedUpToTheBurst) {
  RateLimiter limiter(*dispatcher_, 10, 4);
  EXPECT_TRUE(limiter.tryAcquire(4));
  time_.advanceTimeAndRun(250ms);
  EXPECT_EQ(2u, limiter.available());
  time_.advanceTimeAndRun(24h);
  EXPECT_EQ(4u, limiter.available());
  EXPECT_TRUE(limiter.tryAcquire(4));
  EXPECT_FALSE(limiter.tryAcquire());
}

TEST_F(RateLimiterTest, PeriodMayBeLongAndManyTokensMayComeInOne) {
  RateLimiter slow(*dispatcher_, 1, 1, 1h);
  RateLimiter fast(*dispatcher_, 5'000'000'000, 1000);
  EXPECT_TRUE(slow.tryAcquire());
  EXPECT_TRUE(fast.tryAcquire(1000));
  time_.advanceTimeAndRun(1us);
  EXPECT_EQ(1000u, fast.available());
  time_.advanceTimeAndRun(1h - 2us);
  EXPECT_FALSE(slow.tryAcquire());
  time_.advanceTimeAndRun(1us);
  EXPECT_TRUE(slow.tryAcquire());
}

TEST_F(RateLimiterTest, LargeRequestIsNotOvertakenBySmallOnes) {
  RateLimiter limiter(*dispatcher_, 10, 5);
  EXPECT_TRUE(limiter.tryAcquire(4));
  Future<void> large = acquire(limiter, 5);
  Future<void> small = acquire(limiter, 1);
  EXPECT_FALSE(limiter.tryAcquire(1));
  time_.advanceTimeAndRun(1s);
  EXPECT_EQ((std::vector<int64_t>{400'000, 500'000}), done_);
}

TEST_F(RateLimiterTest, CancelledHeadLetsTheNextOneThroughEarlier) {
  RateLimiter limiter(*dispatcher_, 10, 5);
  EXPECT_TRUE(limiter.tryAcquire(5));
  Future<void> large = acquire(limiter, 5);
  Future<void> small = acquire(limiter, 1);
  time_.advanceTimeAndRun(50ms);
  large.cancel();
  time_.advanceTimeAndRun(1s);
  EXPECT_EQ((std::vector<int64_t>{100'000}), done_);
}

TEST_F(RateLimiterTest, CancelledInTheMiddleAndAtTheEndAreSkipped) {
  RateLimiter limiter(*dispatcher_, 10, 1);
  EXPECT_TRUE(limiter.tryAcquire());
  Future<void> first = acquire(limiter);
  Future<void> middle = acquire(limiter);
  Future<void> third = acquire(limiter);
  Future<void> last = acquire(limiter);
  middle.cancel();
  last.cancel();
  EXPECT_EQ(2u, limiter.waiters());
  time_.advanceTimeAndRun(1s);
  EXPECT_EQ((std::vector<int64_t>{100'000, 200'000}), done_);
}

TEST_F(RateLimiterTest, NobodyWaitingLeavesNoTimerArmed) {
  RateLimiter limiter(*dispatcher_, 1, 1);
  EXPECT_TRUE(limiter.tryAcquire());
  Future<void> waiting = acquire(limiter);
  waiting.cancel();
  drain();  // would wait for the timer
  EXPECT_EQ(0, now());
}

TEST_F(RateLimiterTest, MoreThanTheBurstIsAnError) {
  RateLimiter limiter(*dispatcher_, 10, 5);
  Future<void> future = limiter.acquire(6);
  EXPECT_TRUE(failedWith(future, absl::StatusCode::kInvalidArgument, "6 tokens of a rate limiter with a burst of 5"));
  std::move(future).detach();
  EXPECT_FALSE(limiter.tryAcquire(6));
}

TEST_F(RateLimiterTest, ImpossibleRatesAreRefused) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto make = [this](uint64_t tokens, uint64_t burst, std::chrono::nanoseconds period) {
    RateLimiter limiter(*dispatcher_, tokens, burst, period);
    EXPECT_EQ(0u, limiter.available());
    EXPECT_FALSE(limiter.tryAcquire());
    Future<void> future = limiter.acquire();
    EXPECT_TRUE(failedWith(future, absl::StatusCode::kInvalidArgument, ""));
    std::move(future).detach();
  };
  EXPECT_CONTRACT_VIOLATION(make(0, 1, 1s), testing::HasSubstr("a rate of 0"));
  EXPECT_CONTRACT_VIOLATION(make(1, 0, 1s), testing::HasSubstr("a burst of 0"));
  EXPECT_CONTRACT_VIOLATION(make(1, 1, 0s), testing::HasSubstr("in 0 ns"));
  EXPECT_CONTRACT_VIOLATION(make(1, 1, -1s), testing::HasSubstr("in -1000000000 ns"));
  EXPECT_CONTRACT_VIOLATION(make(1, uint64_t{1} << 34, 1s), testing::HasSubstr("not possible"));
}

TEST_F(RateLimiterTest, ContinuationMayAcquireAgain) {
  RateLimiter limiter(*dispatcher_, 10, 1);
  EXPECT_TRUE(limiter.tryAcquire());
  Future<void> done = acquire(limiter).then([&] { return acquire(limiter); });
  time_.advanceTimeAndRun(1s);
  EXPECT_EQ((std::vector<int64_t>{100'000, 200'000}), done_);
}

TEST_F(RateLimiterTest, DestructionFailsThoseThatWait) {
  std::optional<RateLimiter> limiter(std::in_place, *dispatcher_, 1, 1);
  EXPECT_TRUE(limiter->tryAcquire());
  Future<void> waiting = limiter->acquire();
  limiter.reset();
  EXPECT_TRUE(failedWith(waiting, absl::StatusCode::kCancelled, "the rate limiter was destroyed"));
}

TEST_F(RateLimiterTest, ShutdownOfTheDispatcherFailsThoseThatWait) {
  RateLimiter limiter(*dispatcher_, 1, 1);
  EXPECT_TRUE(limiter.tryAcquire());
  Future<void> first = limiter.acquire();
  Future<void> second = limiter.acquire();
  dispatcher_->shutdown();
  EXPECT_TRUE(failedWith(first, absl::StatusCode::kCancelled, "shut down"));
  EXPECT_TRUE(failedWith(second, absl::StatusCode::kCancelled, "shut down"));
  dispatcher_.reset();
  EXPECT_EQ(0u, limiter.available());
}

TEST_F(RateLimiterTest, ServesManyWaiters) {
  RateLimiter limiter(*dispatcher_, 1'000'000, 1'000'000);
  EXPECT_TRUE(limiter.tryAcquire(1'000'000));
  int served = 0;
  for (int i = 0; i < kMany; ++i) {
    limiter.acquire().then([&served] { ++served; }).detach();
  }
  time_.advanceTimeAsync(1s);  // one wake-up for all
  drain();
  EXPECT_EQ(kMany, served);
}

}  // namespace
}  // namespace nuncio::test
