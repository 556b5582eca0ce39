#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;
using testing::ElementsAre;
using testing::IsEmpty;

// A dispatcher with a way to let time pass that runs nothing.
class Clock {
public:
  virtual ~Clock() = default;
  virtual Dispatcher& dispatcher() = 0;
  virtual void pass(microseconds duration) = 0;
};

class RealClock : public Clock {
public:
  Dispatcher& dispatcher() override { return *dispatcher_; }
  void pass(microseconds duration) override {
    const MonotonicTime end = std::chrono::steady_clock::now() + duration;
    while (std::chrono::steady_clock::now() <= end) {
    }
  }

private:
  DispatcherPtr dispatcher_ = createDispatcher({.name = "real"});
};

class SimulatedClock : public Clock {
public:
  Dispatcher& dispatcher() override { return *dispatcher_; }
  void pass(microseconds duration) override { time_.advanceTimeAsync(duration); }

private:
  SimulatedTimeSystem time_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "simulated", .time_system = &time_});
};

// With real and with simulated time, each with timers of milliseconds and of microseconds.
class TimerTest : public testing::TestWithParam<std::tuple<const char*, const char*>> {
protected:
  void arm(Timer& timer, std::chrono::milliseconds delay) const {
    if (high_resolution_) {
      timer.enableHRTimer(delay);
    } else {
      timer.enableTimer(delay);
    }
  }
  TimerPtr numbered(int number) {
    return dispatcher_.createTimer([this, number] { fired_.push_back(number); });
  }
  // Enough for a timer of milliseconds to be due: it may be up to about a millisecond late.
  void passAllOf(std::chrono::milliseconds delay) { clock_->pass(delay + 3ms); }
  // Lets all of `delay` pass, and runs an iteration.
  void runAfter(std::chrono::milliseconds delay) {
    passAllOf(delay);
    dispatcher_.run(RunType::NonBlock);
  }

  const bool high_resolution_ = std::string(std::get<1>(GetParam())) == "HighResolution";
  const std::unique_ptr<Clock> clock_ = std::string(std::get<0>(GetParam())) == "Real"
                                            ? std::unique_ptr<Clock>(std::make_unique<RealClock>())
                                            : std::make_unique<SimulatedClock>();
  Dispatcher& dispatcher_ = clock_->dispatcher();
  std::vector<int> fired_;
};

INSTANTIATE_TEST_SUITE_P(Clocks, TimerTest,
                         testing::Combine(testing::Values("Real", "Simulated"),
                                          testing::Values("Milliseconds", "HighResolution")),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param)) + std::get<1>(test.param);
                         });

TEST_P(TimerTest, IsDisabledWhenNewEnabledWhenArmedDisabledWhenItHasFired) {
  TimerPtr timer = numbered(1);
  EXPECT_FALSE(timer->enabled());
  arm(*timer, 0ms);
  EXPECT_TRUE(timer->enabled());
  dispatcher_.run(RunType::NonBlock);
  EXPECT_FALSE(timer->enabled());
  EXPECT_THAT(fired_, ElementsAre(1));
}

TEST_P(TimerTest, IsDisabledWithinItsCallback) {
  bool enabled = true;
  TimerPtr timer;
  timer = dispatcher_.createTimer([&] { enabled = timer->enabled(); });
  arm(*timer, 0ms);
  dispatcher_.run(RunType::NonBlock);
  EXPECT_FALSE(enabled);
}

TEST_P(TimerTest, FiresOnceOnly) {
  TimerPtr timer = numbered(1);
  arm(*timer, 1ms);
  runAfter(1ms);
  runAfter(10ms);
  EXPECT_THAT(fired_, ElementsAre(1));
}

TEST_P(TimerTest, DisabledNeverFires) {
  TimerPtr timer = numbered(1);
  arm(*timer, 0ms);
  timer->disableTimer();
  EXPECT_FALSE(timer->enabled());
  dispatcher_.run(RunType::NonBlock);
  EXPECT_THAT(fired_, IsEmpty());
}

TEST_P(TimerTest, DisableDoesNothingWhenNotArmed) {
  TimerPtr timer = numbered(1);
  timer->disableTimer();
  timer->disableTimer();
  arm(*timer, 0ms);
  dispatcher_.run(RunType::NonBlock);
  timer->disableTimer();
  EXPECT_THAT(fired_, ElementsAre(1));
}

TEST_P(TimerTest, DestroyedNeverFires) {
  TimerPtr timer = numbered(1);
  arm(*timer, 0ms);
  timer.reset();
  dispatcher_.run(RunType::NonBlock);
  EXPECT_THAT(fired_, IsEmpty());
}

TEST_P(TimerTest, NotYetDueDoesNotFire) {
  TimerPtr timer = numbered(1);
  arm(*timer, 1'000'000ms);
  clock_->pass(1ms);
  dispatcher_.run(RunType::NonBlock);
  EXPECT_THAT(fired_, IsEmpty());
  EXPECT_TRUE(timer->enabled());
}

TEST_P(TimerTest, DueTimersFireInTheOrderOfDeadlinesInOneIteration) {
  TimerPtr timer1 = numbered(1);
  TimerPtr timer2 = numbered(2);
  TimerPtr timer3 = numbered(3);
  arm(*timer3, 2ms);
  arm(*timer1, 0ms);
  arm(*timer2, 1ms);
  runAfter(2ms);
  EXPECT_THAT(fired_, ElementsAre(1, 2, 3));
}

TEST_P(TimerTest, MovedTimersFireInTheOrderOfTheirNewDeadlines) {
  TimerPtr timer1 = numbered(1);
  TimerPtr timer2 = numbered(2);
  TimerPtr timer3 = numbered(3);
  arm(*timer1, 0ms);
  arm(*timer2, 1ms);
  arm(*timer3, 2ms);
  arm(*timer2, 3ms);
  arm(*timer1, 4ms);
  runAfter(4ms);
  EXPECT_THAT(fired_, ElementsAre(3, 2, 1));
}

TEST_P(TimerTest, MovedToAnEarlierDeadlineFiresThenAlone) {
  TimerPtr timer1 = numbered(1);
  TimerPtr timer2 = numbered(2);
  arm(*timer1, 2'000'000ms);
  arm(*timer2, 1'000'000ms);
  arm(*timer1, 0ms);
  dispatcher_.run(RunType::NonBlock);
  EXPECT_THAT(fired_, ElementsAre(1));
  EXPECT_FALSE(timer1->enabled());
  EXPECT_TRUE(timer2->enabled());
}

TEST_P(TimerTest, MovedToALaterDeadlineDoesNotFireAtTheFormer) {
  TimerPtr timer = numbered(1);
  arm(*timer, 1ms);
  arm(*timer, 1'000'000ms);
  runAfter(1ms);
  EXPECT_THAT(fired_, IsEmpty());
  EXPECT_TRUE(timer->enabled());
}

TEST_P(TimerTest, DisabledByAnEarlierOneOfTheSameIterationNeverFires) {
  TimerPtr timer2 = numbered(2);
  TimerPtr timer3 = numbered(3);
  TimerPtr timer1 = dispatcher_.createTimer([&] {
    fired_.push_back(1);
    timer2->disableTimer();
  });
  arm(*timer1, 1ms);
  arm(*timer2, 2ms);
  arm(*timer3, 3ms);
  runAfter(3ms);
  EXPECT_THAT(fired_, ElementsAre(1, 3));
}

TEST_P(TimerTest, MovedByAnEarlierOneOfTheSameIterationFiresAtItsNewDeadline) {
  TimerPtr timer2 = numbered(2);
  TimerPtr timer3 = numbered(3);
  TimerPtr timer1 = dispatcher_.createTimer([&] {
    fired_.push_back(1);
    arm(*timer2, 5ms);
  });
  arm(*timer1, 1ms);
  arm(*timer2, 2ms);
  arm(*timer3, 3ms);
  runAfter(3ms);
  EXPECT_THAT(fired_, ElementsAre(1, 3));
  runAfter(5ms);
  EXPECT_THAT(fired_, ElementsAre(1, 3, 2));
}

TEST_P(TimerTest, SharedCallbackThatDisablesAllZeroTimersRunsOnce) {
  std::vector<TimerPtr> timers;
  const auto disable_all = [&] {
    fired_.push_back(1);
    for (const TimerPtr& timer : timers) {
      timer->disableTimer();
    }
  };
  for (int i = 0; i < 3; ++i) {
    timers.push_back(dispatcher_.createTimer([&disable_all] { disable_all(); }));
    arm(*timers.back(), 0ms);
  }
  dispatcher_.run(RunType::Block);
  EXPECT_THAT(fired_, ElementsAre(1));
}

TEST_P(TimerTest, SharedCallbackThatDestroysAllZeroTimersRunsOnce) {
  std::vector<TimerPtr> timers;
  const auto destroy_all = [&] {
    fired_.push_back(1);
    timers.clear();
  };
  for (int i = 0; i < 3; ++i) {
    timers.push_back(dispatcher_.createTimer([&destroy_all] { destroy_all(); }));
    arm(*timers.back(), 0ms);
  }
  dispatcher_.run(RunType::Block);
  EXPECT_THAT(fired_, ElementsAre(1));
}

TEST_P(TimerTest, MayDestroyItselfInItsCallback) {
  TimerPtr timer;
  timer = dispatcher_.createTimer([&] {
    timer.reset();
    fired_.push_back(1);  // the captures live on until the callback returns
  });
  arm(*timer, 0ms);
  dispatcher_.run(RunType::Block);
  EXPECT_THAT(fired_, ElementsAre(1));
}

TEST_P(TimerTest, RearmedWithZeroInItsCallbackFiresInTheNextIteration) {
  TimerPtr timer;
  timer = dispatcher_.createTimer([&] {
    fired_.push_back(1);
    arm(*timer, 0ms);
  });
  arm(*timer, 0ms);
  for (int i = 1; i <= 5; ++i) {
    dispatcher_.run(RunType::NonBlock);
    EXPECT_EQ(static_cast<size_t>(i), fired_.size());
  }
}

TEST_P(TimerTest, AnotherArmedWithZeroInACallbackFiresInTheNextIteration) {
  TimerPtr second = numbered(2);
  TimerPtr first = dispatcher_.createTimer([&] {
    fired_.push_back(1);
    arm(*second, 0ms);
  });
  arm(*first, 0ms);
  dispatcher_.run(RunType::NonBlock);
  EXPECT_THAT(fired_, ElementsAre(1));
  dispatcher_.run(RunType::NonBlock);
  EXPECT_THAT(fired_, ElementsAre(1, 2));
}

TEST_P(TimerTest, ArmedWithZeroByAFileEventFiresInTheNextIteration) {
  Pair pair = makeSocketPair();
  TimerPtr due = numbered(1);  // has the same iteration look at timers
  TimerPtr timer = numbered(2);
  FileEventPtr event;
  event = *dispatcher_.createFileEvent(
      pair.watched.get(),
      [&](uint32_t) {
        event.reset();
        arm(*timer, 0ms);
        clock_->pass(5us);
      },
      FileTriggerType::Level, FileReadyType::Write);
  arm(*due, 0ms);
  dispatcher_.run(RunType::NonBlock);
  EXPECT_THAT(fired_, ElementsAre(1));
  dispatcher_.run(RunType::NonBlock);
  EXPECT_THAT(fired_, ElementsAre(1, 2));
}

TEST_P(TimerTest, ThatAlwaysRearmsItselfWithZeroDoesNotStarveFileEvents) {
  Pair pair = makeSocketPair();
  TimerPtr timer;
  timer = dispatcher_.createTimer([&] { arm(*timer, 0ms); });
  arm(*timer, 0ms);
  int calls = 0;
  auto event = dispatcher_.createFileEvent(
      pair.watched.get(),
      [&](uint32_t) {
        if (++calls == 3) {
          dispatcher_.exit();
        }
      },
      FileTriggerType::Level, FileReadyType::Write);
  ASSERT_TRUE(event.ok());
  dispatcher_.run(RunType::RunUntilExit);
  EXPECT_EQ(3, calls);
}

TEST_P(TimerTest, ThatAlwaysRearmsItselfWithZeroDoesNotStarveOtherTimersOrPosts) {
  TimerPtr timer;
  timer = dispatcher_.createTimer([&] {
    clock_->pass(10us);
    arm(*timer, 0ms);
  });
  arm(*timer, 0ms);
  TimerPtr other = dispatcher_.createTimer([&] { dispatcher_.post([&] { dispatcher_.exit(); }); });
  arm(*other, 1ms);
  dispatcher_.run(RunType::RunUntilExit);
  EXPECT_FALSE(other->enabled());
}

TEST_P(TimerTest, CountsFromArmingAndNotFromTheStartOfTheIteration) {
  // A slow callback: what it arms at its end must not be early by the time it took.
  MonotonicTime armed;
  MonotonicTime fired;
  TimerPtr second = dispatcher_.createTimer([&] { fired = dispatcher_.timeSource().monotonicTime(); });
  TimerPtr first = dispatcher_.createTimer([&] {
    dispatcher_.approximateMonotonicTime();  // caches the time of the iteration
    clock_->pass(20ms);
    armed = dispatcher_.timeSource().monotonicTime();
    arm(*second, 5ms);
  });
  arm(*first, 0ms);
  dispatcher_.run(RunType::NonBlock);
  clock_->pass(4ms);
  dispatcher_.run(RunType::NonBlock);
  clock_->pass(4ms);
  dispatcher_.run(RunType::NonBlock);
  ASSERT_FALSE(second->enabled());
  EXPECT_GE(fired - armed, 5ms);
}

TEST_P(TimerTest, HugeDurationsAreClampedAndDisturbNoOther) {
  TimerPtr huge = numbered(1);
  TimerPtr small = numbered(2);
  huge->enableTimer(std::chrono::milliseconds::max());
  arm(*small, 0ms);
  dispatcher_.run(RunType::NonBlock);
  huge->enableHRTimer(std::chrono::microseconds::max());
  arm(*small, 0ms);
  dispatcher_.run(RunType::NonBlock);
  clock_->pass(1ms);
  dispatcher_.run(RunType::NonBlock);
  EXPECT_THAT(fired_, ElementsAre(2, 2));
  EXPECT_TRUE(huge->enabled());
  huge->disableTimer();
  EXPECT_FALSE(huge->enabled());
}

TEST_P(TimerTest, ThousandsFireInTheOrderOfDeadlinesHoweverTheyWereArmed) {
  std::mt19937 random(1);
  std::vector<TimerPtr> timers;
  std::vector<int> delays;
  for (int i = 0; i < 5000; ++i) {
    delays.push_back(static_cast<int>(random() % 40));
    timers.push_back(numbered(delays.back()));
  }
  // Real time passes while they are armed: deadlines that are a millisecond apart may come out of order by that much.
  const MonotonicTime start = dispatcher_.timeSource().monotonicTime();
  for (size_t i = 0; i < timers.size(); ++i) {
    arm(*timers[i], std::chrono::milliseconds(delays[i]));
  }
  const auto slack =
      std::chrono::duration_cast<std::chrono::milliseconds>(dispatcher_.timeSource().monotonicTime() - start) +
      (clock_->dispatcher().name() == "real" ? 1ms : 0ms);
  passAllOf(40ms + slack);
  while (fired_.size() < timers.size()) {
    dispatcher_.run(RunType::NonBlock);
  }
  int latest = 0;
  for (const int delay : fired_) {
    EXPECT_GE(delay + slack.count(), latest);
    latest = std::max(latest, delay);
  }
}

// Real time

class RealTimerTest : public testing::Test {
protected:
  DispatcherPtr dispatcher_ = createDispatcher({.name = "real"});
};

TEST_F(RealTimerTest, RunBlockWaitsForTheLastOfEitherResolution) {
  int fired = 0;
  TimerPtr earlier = dispatcher_->createTimer([&] { ++fired; });
  TimerPtr later = dispatcher_->createTimer([&] { ++fired; });
  const MonotonicTime start = std::chrono::steady_clock::now();
  later->enableTimer(20ms);
  earlier->enableHRTimer(10ms);
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(2, fired);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 20ms);
  later->enableHRTimer(20ms);
  earlier->enableTimer(10ms);
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(4, fired);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 40ms);
}

TEST_F(RealTimerTest, IsNeverEarlyAgainstSteadyClock) {
  for (int round = 0; round < 10; ++round) {
    for (const auto delay : {0ms, 1ms, 2ms, 3ms, 7ms}) {
      MonotonicTime fired;
      TimerPtr timer = dispatcher_->createTimer([&] { fired = std::chrono::steady_clock::now(); });
      const MonotonicTime armed = std::chrono::steady_clock::now();
      timer->enableTimer(delay);
      dispatcher_->run(RunType::Block);
      EXPECT_GE(fired - armed, delay);
    }
  }
}

TEST_F(RealTimerTest, OfHighResolutionIsNeverEarlyAgainstSteadyClock) {
  for (int round = 0; round < 20; ++round) {
    for (const auto delay : {0us, 1us, 50us, 333us, 999us, 1001us, 2500us}) {
      MonotonicTime fired;
      TimerPtr timer = dispatcher_->createTimer([&] { fired = std::chrono::steady_clock::now(); });
      const MonotonicTime armed = std::chrono::steady_clock::now();
      timer->enableHRTimer(delay);
      dispatcher_->run(RunType::Block);
      EXPECT_GE(fired - armed, delay);
    }
  }
}

TEST_F(RealTimerTest, ThatRearmsItselfIsNeverEarlyAgainstSteadyClock) {
  MonotonicTime armed = std::chrono::steady_clock::now();
  int fired = 0;
  TimerPtr timer;
  timer = dispatcher_->createTimer([&] {
    EXPECT_GE(std::chrono::steady_clock::now() - armed, 300us);
    if (++fired < 50) {
      armed = std::chrono::steady_clock::now();
      timer->enableHRTimer(300us);
    }
  });
  timer->enableHRTimer(300us);
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(50, fired);
}

TEST_F(RealTimerTest, ArmedFromAnFdCallbackWakesTheLoopInTime) {
  Pair pair = makeSocketPair();
  MonotonicTime armed;
  MonotonicTime fired;
  TimerPtr timer = dispatcher_->createTimer([&] { fired = std::chrono::steady_clock::now(); });
  TimerPtr far = dispatcher_->createTimer([] {});
  far->enableTimer(1h);
  FileEventPtr event;
  auto created = dispatcher_->createFileEvent(
      pair.watched.get(),
      [&](uint32_t) {
        event.reset();
        armed = std::chrono::steady_clock::now();
        timer->enableTimer(3ms);
        far->disableTimer();
      },
      FileTriggerType::Level, FileReadyType::Write);
  ASSERT_TRUE(created.ok());
  event = *std::move(created);
  dispatcher_->run(RunType::Block);
  EXPECT_GE(fired - armed, 3ms);
}

// Simulated time

class SimulatedTimerTest : public testing::Test {
protected:
  SimulatedTimeSystem time_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "simulated", .time_system = &time_});
};

TEST_F(SimulatedTimerTest, FiresExactlyToTheMillisecond) {
  for (const auto delay : {0ms, 10ms, 50ms, 1234ms}) {
    bool fired = false;
    TimerPtr timer = dispatcher_->createTimer([&] { fired = true; });
    timer->enableTimer(delay);
    if (delay > 0ms) {
      time_.advanceTimeAndRun(delay - 1ms);
      EXPECT_FALSE(fired) << delay.count();
      time_.advanceTimeAndRun(1ms);
    } else {
      dispatcher_->run(RunType::NonBlock);
    }
    EXPECT_TRUE(fired) << delay.count();
  }
}

TEST_F(SimulatedTimerTest, OfHighResolutionFiresExactlyToTheMicrosecond) {
  for (const auto delay : {1us, 999us, 1000us, 1001us, 1'234'567us}) {
    bool fired = false;
    TimerPtr timer = dispatcher_->createTimer([&] { fired = true; });
    timer->enableHRTimer(delay);
    time_.advanceTimeAndRun(delay - 1us);
    EXPECT_FALSE(fired) << delay.count();
    time_.advanceTimeAndRun(1us);
    EXPECT_TRUE(fired) << delay.count();
  }
}

TEST_F(SimulatedTimerTest, OfMillisecondsArmedBetweenTwoMillisecondsIsNeverEarlyAndAtMostAMillisecondLate) {
  for (const auto offset : {1us, 499us, 500us, 999us}) {
    time_.advanceTimeAndRun(offset);
    MonotonicTime fired;
    TimerPtr timer = dispatcher_->createTimer([&] { fired = time_.monotonicTime(); });
    const MonotonicTime armed = time_.monotonicTime();
    timer->enableTimer(10ms);
    time_.advanceTimeAndRun(20ms);
    EXPECT_GE(fired - armed, 10ms);
    EXPECT_LE(fired - armed, 11ms + 100us);
  }
}

TEST_F(SimulatedTimerTest, EqualDeadlinesFireInTheOrderOfArming) {
  std::vector<int> fired;
  std::vector<int> expected;
  std::vector<TimerPtr> timers;
  for (int i = 0; i < 1000; ++i) {
    timers.push_back(dispatcher_->createTimer([&fired, i] { fired.push_back(i); }));
  }
  for (int i = 999; i >= 0; --i) {
    timers[i]->enableTimer(5ms);
    expected.push_back(i);
  }
  time_.advanceTimeAndRun(5ms);
  EXPECT_EQ(expected, fired);
}

TEST_F(SimulatedTimerTest, EqualDeadlinesReachedFromDifferentTimesFireInTheOrderOfArming) {
  std::vector<int> fired;
  std::vector<TimerPtr> timers;
  for (int i = 0; i < 4; ++i) {
    timers.push_back(dispatcher_->createTimer([&fired, i] { fired.push_back(i); }));
  }
  // All are due at 300 ms; the first ones are armed long before.
  timers[0]->enableTimer(300ms);
  time_.advanceTimeAndRun(200ms);
  timers[1]->enableTimer(100ms);
  time_.advanceTimeAndRun(90ms);
  timers[2]->enableTimer(10ms);
  time_.advanceTimeAndRun(9ms);
  timers[3]->enableTimer(1ms);
  time_.advanceTimeAsync(1ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(fired, ElementsAre(0, 1, 2, 3));
}

TEST_F(SimulatedTimerTest, RearmedToTheSameDeadlineGoesToTheEnd) {
  std::vector<int> fired;
  TimerPtr first = dispatcher_->createTimer([&] { fired.push_back(1); });
  TimerPtr second = dispatcher_->createTimer([&] { fired.push_back(2); });
  first->enableTimer(5ms);
  second->enableTimer(5ms);
  first->enableTimer(5ms);
  time_.advanceTimeAndRun(5ms);
  EXPECT_THAT(fired, ElementsAre(2, 1));
}

TEST_F(SimulatedTimerTest, OfMillisecondsAndMicrosecondsAtOneDeadlineFireInTheOrderOfArming) {
  std::vector<int> fired;
  TimerPtr first = dispatcher_->createTimer([&] { fired.push_back(1); });
  TimerPtr second = dispatcher_->createTimer([&] { fired.push_back(2); });
  TimerPtr third = dispatcher_->createTimer([&] { fired.push_back(3); });
  first->enableHRTimer(5000us);
  second->enableTimer(5ms);
  third->enableHRTimer(5000us);
  time_.advanceTimeAsync(5ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(fired, ElementsAre(1, 2, 3));
}

TEST_F(SimulatedTimerTest, OverdueTimersFireInTheOrderOfDeadlines) {
  std::vector<int> fired;
  std::vector<TimerPtr> timers;
  const std::vector<int> delays = {5000, 1, 100'000, 77, 4096, 4095, 4097, 1 << 20, 63, 64, 65};
  for (const int delay : delays) {
    timers.push_back(dispatcher_->createTimer([&fired, delay] { fired.push_back(delay); }));
    timers.back()->enableTimer(std::chrono::milliseconds(delay));
  }
  time_.advanceTimeAsync(std::chrono::hours(24));
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(fired, ElementsAre(1, 63, 64, 65, 77, 4095, 4096, 4097, 5000, 100'000, 1 << 20));
}

TEST_F(SimulatedTimerTest, OfMonthsAndYearsFiresInTime) {
  const auto year = std::chrono::hours(24 * 365);
  for (const auto delay : {std::chrono::hours(24 * 31), std::chrono::hours(year), std::chrono::hours(40 * year)}) {
    MonotonicTime fired;
    TimerPtr timer = dispatcher_->createTimer([&] { fired = time_.monotonicTime(); });
    const MonotonicTime armed = time_.monotonicTime();
    timer->enableTimer(delay);
    time_.advanceTimeAndRun(delay - 1ms);
    EXPECT_TRUE(timer->enabled());
    time_.advanceTimeAndRun(1ms);
    EXPECT_FALSE(timer->enabled());
    EXPECT_GE(fired - armed, delay);
  }
}

TEST_F(SimulatedTimerTest, AtAPointInTimeFiresThen) {
  MonotonicTime fired;
  TimerPtr timer = dispatcher_->createTimer([&] { fired = time_.monotonicTime(); });
  time_.advanceTimeAndRun(1s);
  const MonotonicTime deadline = time_.monotonicTime() + 1234567ns;
  timer->enableTimerAt(deadline);
  EXPECT_TRUE(timer->enabled());
  time_.advanceTimeAndRun(1s);
  EXPECT_EQ(deadline, fired);
}

TEST_F(SimulatedTimerTest, AtAPointInThePastFiresInTheNextIterationAfterWhatWasDue) {
  std::vector<int> fired;
  TimerPtr due = dispatcher_->createTimer([&] { fired.push_back(1); });
  TimerPtr past = dispatcher_->createTimer([&] { fired.push_back(2); });
  TimerPtr before_time = dispatcher_->createTimer([&] { fired.push_back(3); });
  due->enableTimer(1ms);
  time_.advanceTimeAsync(5ms);
  past->enableTimerAt(MonotonicTime(2ms));
  before_time->enableTimerAt(MonotonicTime::min());
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(fired, ElementsAre(1, 2, 3));
}

TEST_F(SimulatedTimerTest, AtAPointInTimeBeyond68YearsIsClamped) {
  constexpr auto kYear = std::chrono::hours(24 * 365);
  TimerPtr timer = dispatcher_->createTimer([] {});
  timer->enableTimerAt(time_.monotonicTime() + 100 * kYear);
  time_.advanceTimeAndRun(68 * kYear - 1us);
  EXPECT_TRUE(timer->enabled());
  time_.advanceTimeAndRun(1us);
  EXPECT_FALSE(timer->enabled());
}

TEST_F(SimulatedTimerTest, AtTheEndOfTimeStaysArmed) {
  TimerPtr timer = dispatcher_->createTimer([] { FAIL() << "fired"; });
  time_.advanceTimeAndRun(std::chrono::hours(24 * 365 * 290));
  timer->enableTimer(std::chrono::hours(24 * 365 * 10));
  time_.advanceTimeAndRun(std::chrono::microseconds::max());
  EXPECT_TRUE(timer->enabled());
  timer->enableTimerAt(MonotonicTime::max());
  time_.advanceTimeAndRun(std::chrono::microseconds::max());
  EXPECT_TRUE(timer->enabled());
}

// Those of one slot are sorted in pieces, one in each iteration.
TEST_F(SimulatedTimerTest, ManyThatAreDueTogetherFireInOrderWhileOthersGoOn) {
  constexpr int kTimers = 30'000;
  constexpr uint64_t kPieces = 3;
  std::vector<TimerPtr> timers;
  std::vector<int> fired;
  uint64_t first_fired_in = UINT64_MAX;
  for (int i = 0; i < kTimers; ++i) {
    timers.push_back(dispatcher_->createTimer([&fired, &first_fired_in, this, i] {
      fired.push_back(i);
      first_fired_in = std::min(first_fired_in, dispatcher_->stats().iterations);
    }));
    timers.back()->enableTimer(1h);
  }
  int beats = 0;
  TimerPtr beat = dispatcher_->createTimer([&] {
    ++beats;
    beat->enableTimer(1s);
  });
  beat->enableTimer(1s);
  time_.advanceTimeAndRun(1h - 1ms);
  const uint64_t before = dispatcher_->stats().iterations;
  time_.advanceTimeAndRun(1ms);
  EXPECT_GE(first_fired_in - before, kPieces);
  EXPECT_EQ(3600, beats);
  ASSERT_EQ(kTimers, static_cast<int>(fired.size()));
  EXPECT_TRUE(std::is_sorted(fired.begin(), fired.end()));
}

TEST_F(SimulatedTimerTest, DisarmedOnesDoNotWakeTheLoop) {
  std::vector<TimerPtr> timers;
  for (int i = 1; i <= 1000; ++i) {
    timers.push_back(dispatcher_->createTimer([] {}));
    timers.back()->enableTimer(std::chrono::milliseconds(2 * i));
  }
  TimerPtr last = dispatcher_->createTimer([] {});
  last->enableTimer(2500ms);
  for (const TimerPtr& timer : timers) {
    timer->disableTimer();
  }
  dispatcher_->run(RunType::NonBlock);
  const uint64_t before = dispatcher_->stats().iterations;
  time_.advanceTimeAndRun(2400ms);
  EXPECT_LE(dispatcher_->stats().iterations - before, 8);
}

TEST_F(SimulatedTimerTest, HugeDurationsAreClampedTo68Years) {
  const auto year = std::chrono::hours(24 * 365);
  int fired = 0;
  TimerPtr timer = dispatcher_->createTimer([&] { ++fired; });
  TimerPtr fine = dispatcher_->createTimer([&] { ++fired; });
  timer->enableTimer(std::chrono::milliseconds::max());
  fine->enableHRTimer(std::chrono::microseconds::max());
  time_.advanceTimeAndRun(67 * year);
  EXPECT_EQ(0, fired);
  time_.advanceTimeAndRun(2 * year);
  EXPECT_EQ(2, fired);
}

TEST_F(SimulatedTimerTest, AMillionTimersFireInOrderAndNoneIsLost) {
  constexpr int kTimers = kSanitizer ? 100'000 : 1'000'000;
  std::mt19937_64 random(7);
  std::vector<TimerPtr> timers;
  timers.reserve(kTimers);
  int64_t fired = 0;
  int64_t early_or_late = 0;
  struct Shared {
    SimulatedTimeSystem& time;
    int64_t& fired;
    int64_t& early_or_late;
  } shared{time_, fired, early_or_late};
  for (int i = 0; i < kTimers; ++i) {
    const auto delay = std::chrono::milliseconds(1 + random() % 60'000);
    const MonotonicTime deadline = time_.monotonicTime() + delay;
    timers.push_back(dispatcher_->createTimer([&shared, deadline] {
      ++shared.fired;
      shared.early_or_late += shared.time.monotonicTime() == deadline ? 0 : 1;
    }));
    timers.back()->enableTimer(delay);
  }
  // Every tenth is disarmed.
  int64_t disarmed = 0;
  for (int i = 0; i < kTimers; i += 10) {
    timers[i]->disableTimer();
    ++disarmed;
  }
  time_.advanceTimeAndRun(60s);
  EXPECT_EQ(kTimers - disarmed, fired);
  EXPECT_EQ(0, early_or_late);
}

TEST_F(SimulatedTimerTest, ArmingMovingAndDisarmingAtRandomFiresExactlyWhatIsArmed) {
  std::mt19937_64 random(11);
  constexpr int kTimers = 500;
  std::vector<TimerPtr> timers;
  std::vector<MonotonicTime> deadlines(kTimers, MonotonicTime::max());
  int wrong = 0;
  for (int i = 0; i < kTimers; ++i) {
    timers.push_back(dispatcher_->createTimer([&, i] {
      wrong += deadlines[i] == time_.monotonicTime() ? 0 : 1;
      deadlines[i] = MonotonicTime::max();
    }));
  }
  for (int step = 0; step < 20'000; ++step) {
    const size_t i = random() % kTimers;
    const auto delay = std::chrono::milliseconds(random() % (random() % 8 == 0 ? 10'000'000 : 300));
    switch (random() % 4) {
      case 0:
        timers[i]->disableTimer();
        deadlines[i] = MonotonicTime::max();
        break;
      case 1:
        time_.advanceTimeAndRun(std::chrono::milliseconds(random() % 50));
        break;
      default:
        timers[i]->enableTimer(delay);
        deadlines[i] = time_.monotonicTime() + delay;
    }
    if (step % 100 == 0) {
      for (int j = 0; j < kTimers; ++j) {
        ASSERT_EQ(deadlines[j] != MonotonicTime::max(), timers[j]->enabled());
      }
    }
  }
  EXPECT_EQ(0, wrong);
}

// Its alarm never rings: the loop looks at its timers where it knows by itself that there is something to do.
class SilentTimeSystem : public TimeSystem {
public:
  MonotonicTime monotonicTime() const override { return now; }
  SystemTime systemTime() const override { return {}; }
  absl::StatusOr<AlarmPtr> createAlarm(Dispatcher& /*dispatcher*/) override {
    return std::make_unique<SilentAlarm>(*this);
  }
  bool passesByItself() const override { return false; }

  MonotonicTime now{1h};
  MonotonicTime due;  // what the alarm was set to
  MonotonicTime latest;

private:
  class SilentAlarm : public Alarm {
  public:
    explicit SilentAlarm(SilentTimeSystem& time) : time_(time) {}
    void set(MonotonicTime set_due, MonotonicTime set_latest) override {
      time_.due = set_due;
      time_.latest = set_latest;
    }
    void setRunning(bool /*running*/) override {}
    bool rang() override { return false; }

  private:
    SilentTimeSystem& time_;
  };
};

// A clock of a user's own, by which each look takes a millisecond.
class SlowTimeSystem : public SilentTimeSystem {
public:
  explicit SlowTimeSystem(bool passes) : passes_(passes) {}
  MonotonicTime monotonicTime() const override { return MonotonicTime(1h + 1ms * ++looks_); }
  bool passesByItself() const override { return passes_; }

private:
  const bool passes_;
  mutable int looks_ = 0;
};

TEST(TimeSystemTest, LimitsAnIterationByTimeWhereThatPassesByItselfAndElseByCalls) {
  for (const bool passes : {true, false}) {
    SlowTimeSystem time(passes);
    DispatcherPtr dispatcher = createDispatcher({.name = "slow", .time_system = &time});
    int calls = 0;
    SchedulableCallbackPtr again;
    again = dispatcher->createSchedulableCallback([&] {
      ++calls;
      again->scheduleCurrentIteration();
    });
    again->scheduleCurrentIteration();
    dispatcher->run(RunType::NonBlock);
    if (passes) {
      EXPECT_LT(calls, 100);
    } else {
      EXPECT_GT(calls, 1000);
    }
  }
}

TEST(TimeSystemTest, OneThatStandsStillWithoutSayingSoDoesNotKeepTheLoop) {
  class Still : public SilentTimeSystem {
    bool passesByItself() const override { return true; }
  } time;
  DispatcherPtr dispatcher = createDispatcher({.name = "still", .time_system = &time});
  int calls = 0;
  constexpr int kBurst = 100;  // after which the loop looks for more before it goes on
  std::thread([&] {
    for (int i = 0; i < kBurst; ++i) {
      dispatcher->post([&calls] { ++calls; });
    }
  }).join();
  dispatcher->run(RunType::NonBlock);
  EXPECT_EQ(calls, kBurst);
}

// Time that passes as the test says, and how often it was looked at.
class CountedTimeSystem : public SilentTimeSystem {
public:
  MonotonicTime monotonicTime() const override {
    ++looks;
    return now;
  }
  bool passesByItself() const override { return true; }

  mutable int looks = 0;
};

TEST(ShouldYieldTest, IsTrueOnceTheLoopHasNotPolledForTheTimeOfAnIteration) {
  CountedTimeSystem time;
  DispatcherPtr dispatcher = createDispatcher({.time_system = &time});
  EXPECT_FALSE(dispatcher->shouldYield());
  int calls = 0;
  SchedulableCallbackPtr callback;
  callback = dispatcher->createSchedulableCallback([&] {
    ++calls;
    EXPECT_FALSE(dispatcher->shouldYield()) << "in iteration " << calls;
    time.now += 400us;
    EXPECT_FALSE(dispatcher->shouldYield());
    time.now += 200us;
    EXPECT_TRUE(dispatcher->shouldYield());
    EXPECT_TRUE(dispatcher->shouldYield());
    if (calls < 3) {
      callback->scheduleNextIteration();
    } else {
      dispatcher->exit();
    }
  });
  callback->scheduleNextIteration();
  dispatcher->post([&] {  // in the turns before the first iteration
    time.now += 600us;
    EXPECT_TRUE(dispatcher->shouldYield());
  });
  dispatcher->run(RunType::RunUntilExit);
  EXPECT_EQ(3, calls);
  time.now += 1h;
  EXPECT_FALSE(dispatcher->shouldYield()) << "no loop is kept waiting";
}

TEST(ShouldYieldTest, WhereCallsComeQuicklyTheClockIsReadForEverySixteenth) {
  CountedTimeSystem time;
  DispatcherPtr dispatcher = createDispatcher({.time_system = &time});
  dispatcher->post([&] {
    EXPECT_FALSE(dispatcher->shouldYield());
    const int before = time.looks;
    for (int i = 0; i < 1'600; ++i) {
      EXPECT_FALSE(dispatcher->shouldYield());
    }
    EXPECT_NEAR(100, time.looks - before, 2);
    time.now += 1ms;
    int late = 0;
    while (!dispatcher->shouldYield()) {
      ++late;
    }
    EXPECT_LT(late, 16);
  });
  dispatcher->run(RunType::NonBlock);
}

TEST(ShouldYieldTest, CountsCallsInSimulatedTime) {
  constexpr int kCalls = 10'000;
  SimulatedTimeSystem time;
  DispatcherPtr dispatcher = createDispatcher({.time_system = &time});
  dispatcher->post([&] {
    for (int i = 0; i < kCalls; ++i) {
      EXPECT_FALSE(dispatcher->shouldYield());
    }
    EXPECT_TRUE(dispatcher->shouldYield());
  });
  dispatcher->run(RunType::NonBlock);
}

class AlarmTest : public testing::Test {
protected:
  SilentTimeSystem time_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "silent", .time_system = &time_});
};

TEST_F(AlarmTest, IsNotNeededForATimerWithoutDelayNorForWhatAnIterationLeftOver) {
  constexpr int kTimers = 30'000;  // more than one iteration sorts, and more than one fires
  constexpr int kIterations = 20;
  int fired = 0;
  std::vector<TimerPtr> timers;
  for (int i = 0; i < kTimers; ++i) {
    timers.push_back(dispatcher_->createTimer([&] { ++fired; }));
    timers.back()->enableTimer(1s);
  }
  TimerPtr without_delay = dispatcher_->createTimer([&] { ++fired; });
  int iterations = 0;
  SchedulableCallbackPtr each_iteration;
  each_iteration = dispatcher_->createSchedulableCallback([&] {
    if (++iterations == 2) {  // a run begins with a look at the timers
      time_.now += 1h;
      without_delay->enableTimer(0ms);
    }
    if (iterations < kIterations) {
      each_iteration->scheduleNextIteration();
    } else {
      dispatcher_->exit();
    }
  });
  each_iteration->scheduleNextIteration();
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_EQ(kTimers + 1, fired);
}

TEST_F(AlarmTest, ForAPointInTimeIsAsPreciseAsForMicroseconds) {
  constexpr MonotonicTime kWhen{4'000s};
  // How much later than `kWhen` the alarm may ring.
  const auto slack = [&](const std::function<void(Timer&)>& arm) {
    DispatcherPtr dispatcher = createDispatcher({.time_system = &time_});
    TimerPtr timer = dispatcher->createTimer([] {});
    arm(*timer);
    dispatcher->run(RunType::NonBlock);
    EXPECT_EQ(kWhen, time_.due);
    return time_.latest - time_.due;
  };
  const auto delay = kWhen - time_.now;
  const auto at_a_point = slack([&](Timer& timer) { timer.enableTimerAt(kWhen); });
  EXPECT_EQ(at_a_point,
            slack([&](Timer& timer) { timer.enableHRTimer(std::chrono::duration_cast<microseconds>(delay)); }));
  EXPECT_LT(at_a_point, slack([&](Timer& timer) {
              timer.enableTimer(std::chrono::duration_cast<std::chrono::milliseconds>(delay));
            }));
}

}  // namespace
}  // namespace nuncio::test
