#include "nuncio/event/periodic_timer.h"

#include <chrono>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/contract.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

class PeriodicTimerTest : public testing::Test {
protected:
  void beat(uint64_t missed) {
    times_.push_back(time_.monotonicTime().time_since_epoch());
    missed_.push_back(missed);
  }

  SimulatedTimeSystem time_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "periodic", .time_system = &time_});
  std::vector<std::chrono::nanoseconds> times_;
  std::vector<uint64_t> missed_;
};

TEST_F(PeriodicTimerTest, BeatsOncePerPeriodFromOnePeriodAfterItsStart) {
  PeriodicTimer timer(*dispatcher_, [this](uint64_t missed) { beat(missed); });
  EXPECT_FALSE(timer.running());
  timer.start(10ms);
  EXPECT_TRUE(timer.running());
  time_.advanceTimeAndRun(35ms);
  EXPECT_THAT(times_, ElementsAre(10ms, 20ms, 30ms));
  EXPECT_THAT(missed_, Each(0));
}

TEST_F(PeriodicTimerTest, DoesNotDriftWhenItsCallsAreLate) {
  PeriodicTimer timer(*dispatcher_, [this](uint64_t missed) {
    beat(missed);
    time_.advanceTimeAsync(7ms);  // a callback that takes most of the period
  });
  timer.start(10ms);
  time_.advanceTimeAsync(14ms);
  for (int i = 0; i < 4; ++i) {
    dispatcher_->run(RunType::NonBlock);
    time_.advanceTimeAsync(3ms);
  }
  EXPECT_THAT(times_, ElementsAre(14ms, 24ms, 34ms, 44ms));
  EXPECT_THAT(missed_, Each(0));
}

TEST_F(PeriodicTimerTest, ALateLoopGetsOneCallThatIsToldOfTheBeatsItMissed) {
  PeriodicTimer timer(*dispatcher_, [this](uint64_t missed) { beat(missed); });
  timer.start(10ms);
  time_.advanceTimeAsync(57ms);
  dispatcher_->run(RunType::NonBlock);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(missed_, ElementsAre(4));
  time_.advanceTimeAndRun(10ms);
  EXPECT_THAT(times_, ElementsAre(57ms, 60ms));
  EXPECT_THAT(missed_, ElementsAre(4, 0));
}

TEST_F(PeriodicTimerTest, CallsAndMissedBeatsTogetherAreTheTimeThatHasPassed) {
  uint64_t periods = 0;
  // [periodic]
  PeriodicTimer report(*dispatcher_, [&](uint64_t missed) { periods += 1 + missed; });
  report.start(10s);
  // [periodic]
  time_.advanceTimeAndRun(30s);
  time_.advanceTimeAsync(50s);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(periods, 8);
}

TEST_F(PeriodicTimerTest, StoppedInItsCallbackBeatsNoMore) {
  std::optional<PeriodicTimer> timer;
  timer.emplace(*dispatcher_, [&](uint64_t missed) {
    beat(missed);
    EXPECT_TRUE(timer->running());
    timer->stop();
  });
  timer->start(1ms);
  time_.advanceTimeAndRun(10ms);
  EXPECT_THAT(times_, SizeIs(1));
  EXPECT_FALSE(timer->running());
}

TEST_F(PeriodicTimerTest, StartedAnewInItsCallbackTakesTheNewPeriod) {
  std::optional<PeriodicTimer> timer;
  timer.emplace(*dispatcher_, [&](uint64_t missed) {
    beat(missed);
    timer->start(5ms);
  });
  timer->start(1ms);
  time_.advanceTimeAndRun(12ms);
  EXPECT_THAT(times_, ElementsAre(1ms, 6ms, 11ms));
}

TEST_F(PeriodicTimerTest, MayBeDestroyedInItsCallbackWhoseCapturesLiveUntilItReturns) {
  auto owned = std::make_shared<int>(7);
  const std::weak_ptr<int> observed = owned;
  std::optional<PeriodicTimer> timer;
  int value = 0;
  auto context = std::make_unique<std::pair<std::optional<PeriodicTimer>*, int*>>(&timer, &value);
  timer.emplace(*dispatcher_, [context = context.get(), owned = std::move(owned)](uint64_t) {
    context->first->reset();
    *context->second = *owned;
  });
  timer->start(1ms);
  time_.advanceTimeAndRun(10ms);
  EXPECT_EQ(value, 7);
  EXPECT_TRUE(observed.expired());
}

TEST_F(PeriodicTimerTest, MayOutliveItsDispatcherAndThenDoesNothing) {
  PeriodicTimer timer(*dispatcher_, [this](uint64_t missed) { beat(missed); });
  timer.start(1ms);
  dispatcher_.reset();
  timer.start(1ms);
  EXPECT_FALSE(timer.running());
  timer.stop();
}

TEST_F(PeriodicTimerTest, APeriodIsClampedTo68Years) {
  PeriodicTimer timer(*dispatcher_, [this](uint64_t missed) { beat(missed); });
  timer.start(std::chrono::microseconds::max());
  time_.advanceTimeAndRun(std::chrono::microseconds::max());
  EXPECT_THAT(times_, SizeIs(4));  // 68 years each, of 292
}

TEST_F(PeriodicTimerTest, APeriodThatIsNotPositiveIsRefusedWithTheValueInTheMessage) {
  PeriodicTimer timer(*dispatcher_, [this](uint64_t missed) { beat(missed); });
  EXPECT_CONTRACT_VIOLATION(timer.start(0us), HasSubstr("period of 0 us"));
  EXPECT_CONTRACT_VIOLATION(timer.start(-77us), HasSubstr("-77"));
  EXPECT_FALSE(timer.running());
}

}  // namespace
}  // namespace nuncio::test
