// For which callbacks an iteration looks at the clock, and when it has done enough.

#include "source/event/callback_budget.h"

#include <chrono>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

// Time passes by what callbacks are said to take.
class Clock {
public:
  explicit Clock(bool passes = true) : passes_(passes) {}
  bool timePasses() const { return passes_; }
  uint64_t deadlineClock() {
    looks.push_back(callbacks);
    return now;
  }

  uint64_t now = 1'000'000'000;
  uint64_t callbacks = 0;
  std::vector<uint64_t> looks;  // after how many callbacks it was looked at

private:
  const bool passes_;
};

class CallbackBudgetTest : public testing::Test {
protected:
  // So many callbacks, of so many nanoseconds each, or until the time is over.
  void run(uint64_t count, uint64_t nanoseconds) {
    for (uint64_t i = 0; i < count && !budget_.spent(); ++i) {
      ++clock_.callbacks;
      clock_.now += nanoseconds;
      budget_.countCallback();
    }
  }

  Clock clock_;
  CallbackBudget<Clock> budget_{500us, clock_};
};

using Looks = std::vector<uint64_t>;

TEST_F(CallbackBudgetTest, AShortIterationNeverLooksAtTheClock) {
  run(7, 100'000);
  EXPECT_EQ(Looks(), clock_.looks);
}

TEST_F(CallbackBudgetTest, TheFirstLookStartsTheTime) {
  run(1'000, 100'000);
  EXPECT_EQ(16, clock_.callbacks);  // not 8, though these took longer than all may
  EXPECT_EQ((Looks{8, 16}), clock_.looks);
}

TEST_F(CallbackBudgetTest, WhereCallbacksTakeAMicrosecondItLooksForEvery8th) {
  run(48, 1'000);
  EXPECT_EQ((Looks{8, 16, 24, 32, 40, 48}), clock_.looks);
}

TEST_F(CallbackBudgetTest, WhereTheyTakeLessItLooksForEvery32nd) {
  run(120, 999);
  EXPECT_EQ((Looks{8, 16, 48, 80, 112}), clock_.looks);
}

TEST_F(CallbackBudgetTest, ItIsTheirSumThatCounts) {
  run(8, 10);
  run(1, 7'900);  // and 7 of 10
  run(39, 10);
  EXPECT_EQ((Looks{8, 16, 48}), clock_.looks);
  run(1, 40'000);
  run(31, 10);
  EXPECT_EQ((Looks{8, 16, 48, 80}), clock_.looks);
  run(8, 10);
  EXPECT_EQ((Looks{8, 16, 48, 80, 88}), clock_.looks);
}

TEST_F(CallbackBudgetTest, SlowOnesAfterShortOnesAreSeenAtTheNextLookAndThenForEvery8th) {
  run(16, 10);
  run(1'000, 15'000);  // the 32nd at 480 us
  EXPECT_EQ(16 + 32 + 8, clock_.callbacks);
  EXPECT_EQ((Looks{8, 16, 48, 56}), clock_.looks);
}

TEST_F(CallbackBudgetTest, ShortOnesEndNoLaterThan32AfterTheTimeIsOver) {
  run(10'000, 100);
  EXPECT_EQ(16 + 32 * 156, clock_.callbacks);  // 8 before the first look, and then 5,000 take 500 us
  EXPECT_TRUE(budget_.spent());
}

TEST_F(CallbackBudgetTest, ShortOnesAfterSlowOnesAreLookedAtForEvery32ndAgain) {
  run(24, 2'000);
  run(8 + 64, 10);
  EXPECT_EQ((Looks{8, 16, 24, 32, 64, 96}), clock_.looks);
}

TEST_F(CallbackBudgetTest, AClockThatGoesBackIsLookedAtForEvery8th) {
  run(8, 10);
  clock_.now -= 1'000'000;
  run(8 + 8 + 32, 10);
  EXPECT_EQ((Looks{8, 16, 24, 56}), clock_.looks);
}

TEST(CallbackBudgetSimulatedTest, WhereNoTimePassesItCountsCallbacksAndNeverLooks) {
  Clock clock(/*passes=*/false);
  CallbackBudget<Clock> budget(500us, clock);
  uint64_t ran = 0;
  while (!budget.spent() && ran < 20'000) {
    ++ran;
    budget.countCallback();
  }
  EXPECT_EQ(10'000, ran);
  EXPECT_EQ(Looks(), clock.looks);
}

}  // namespace
}  // namespace nuncio::test
