#include "nuncio/runtime/simulated_time_system.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using std::chrono::microseconds;
using testing::ElementsAre;
using testing::IsEmpty;

class SimulatedTimeSystemTest : public testing::Test {
protected:
  // Since the start.
  microseconds now() const {
    return std::chrono::duration_cast<microseconds>(time_.monotonicTime().time_since_epoch());
  }
  TimerPtr recorder(Dispatcher& dispatcher, std::string name) {
    return dispatcher.createTimer([this, name = std::make_unique<std::string>(std::move(name))] {
      order_.push_back(*name);
      times_.push_back(now().count());
    });
  }

  SimulatedTimeSystem time_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "first", .time_system = &time_});
  DispatcherPtr second_ = createDispatcher({.name = "second", .time_system = &time_});
  std::vector<std::string> order_;
  std::vector<int64_t> times_;
};

TEST_F(SimulatedTimeSystemTest, BothClocksStartAtZero) {
  EXPECT_EQ(MonotonicTime(), time_.monotonicTime());
  EXPECT_EQ(SystemTime(), time_.systemTime());
}

TEST_F(SimulatedTimeSystemTest, TimeStandsStillByItself) {
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(0us, now());
}

TEST_F(SimulatedTimeSystemTest, BothClocksAdvanceTogether) {
  time_.advanceTimeAndRun(1500us);
  time_.advanceTimeAsync(500us);
  EXPECT_EQ(2ms, now());
  EXPECT_EQ(2ms, time_.systemTime().time_since_epoch());
}

TEST_F(SimulatedTimeSystemTest, TimeStopsAtItsEnd) {
  constexpr MonotonicTime kEnd = MonotonicTime::max() - 1ns;
  time_.advanceTimeAndRun(1h);
  time_.advanceTimeAndRun(std::chrono::microseconds::max());
  EXPECT_EQ(kEnd, time_.monotonicTime());
  time_.advanceTimeAsync(std::chrono::microseconds::max());
  time_.setMonotonicTime(MonotonicTime::max());
  time_.advanceTimeAndRun(1us);
  EXPECT_EQ(kEnd, time_.monotonicTime());
  time_.setSystemTime(SystemTime::max());
  EXPECT_EQ(SystemTime::max(), time_.systemTime());
  time_.setSystemTime(SystemTime::min());
  EXPECT_LT(time_.systemTime(), SystemTime());
}

TEST_F(SimulatedTimeSystemTest, SystemTimeStopsAtItsEnd) {
  time_.advanceTimeAsync(1h);
  time_.setSystemTime(SystemTime::max());
  time_.advanceTimeAsync(1h);
  EXPECT_EQ(SystemTime::max(), time_.systemTime());
}

TEST_F(SimulatedTimeSystemTest, TimersOfTwoDispatchersFireInTheOrderOfDeadlines) {
  TimerPtr a = recorder(*dispatcher_, "first 10");
  TimerPtr b = recorder(*second_, "second 5");
  TimerPtr c = recorder(*dispatcher_, "first 2");
  TimerPtr d = recorder(*second_, "second 20");
  a->enableTimer(10ms);
  b->enableTimer(5ms);
  c->enableTimer(2ms);
  d->enableTimer(20ms);
  time_.advanceTimeAndRun(30ms);
  EXPECT_THAT(order_, ElementsAre("first 2", "second 5", "first 10", "second 20"));
  EXPECT_THAT(times_, ElementsAre(2000, 5000, 10000, 20000));
}

TEST_F(SimulatedTimeSystemTest, EqualDeadlinesOfTwoDispatchersFireInTheOrderOfTheirCreation) {
  TimerPtr a = recorder(*second_, "second");
  TimerPtr b = recorder(*dispatcher_, "first");
  a->enableTimer(5ms);
  b->enableTimer(5ms);
  time_.advanceTimeAndRun(5ms);
  EXPECT_THAT(order_, ElementsAre("first", "second"));
}

TEST_F(SimulatedTimeSystemTest, TimeIsAtTheDeadlineWhileATimerFires) {
  TimerPtr a = recorder(*dispatcher_, "a");
  TimerPtr b = recorder(*dispatcher_, "b");
  a->enableHRTimer(123us);
  b->enableHRTimer(456789us);
  time_.advanceTimeAndRun(1s);
  EXPECT_THAT(times_, ElementsAre(123, 456789));
  EXPECT_EQ(1s, now());
}

TEST_F(SimulatedTimeSystemTest, WhatIsNotDueDoesNotFire) {
  TimerPtr timer = recorder(*dispatcher_, "timer");
  timer->enableTimer(10ms);
  time_.advanceTimeAndRun(9999us);
  EXPECT_THAT(order_, IsEmpty());
  time_.advanceTimeAndRun(1us);
  EXPECT_THAT(order_, ElementsAre("timer"));
}

TEST_F(SimulatedTimeSystemTest, TimerArmedByATimerOnTheWayFiresOnTheWay) {
  TimerPtr second = recorder(*dispatcher_, "second");
  TimerPtr first = dispatcher_->createTimer([&] {
    order_.push_back("first");
    second->enableTimer(4ms);
  });
  first->enableTimer(3ms);
  time_.advanceTimeAndRun(10ms);
  EXPECT_THAT(order_, ElementsAre("first", "second"));
  EXPECT_THAT(times_, ElementsAre(7000));
}

TEST_F(SimulatedTimeSystemTest, PeriodicTimerFiresOnceAPeriod) {
  int fired = 0;
  TimerPtr timer;
  timer = dispatcher_->createTimer([&] {
    ++fired;
    timer->enableTimer(10ms);
  });
  timer->enableTimer(10ms);
  time_.advanceTimeAndRun(1s);
  EXPECT_EQ(100, fired);
}

TEST_F(SimulatedTimeSystemTest, TimerOfOneDispatcherMayPostToAnotherThatIsThenRunToo) {
  second_->post([] {});
  TimerPtr timer = dispatcher_->createTimer([&] {
    second_->post([&] {
      order_.push_back("posted");
      times_.push_back(now().count());
    });
  });
  timer->enableTimer(5ms);
  time_.advanceTimeAndRun(10ms);
  EXPECT_THAT(order_, ElementsAre("posted"));
  EXPECT_THAT(times_, ElementsAre(5000));
}

TEST_F(SimulatedTimeSystemTest, TimerOfOneDispatcherMayArmThatOfAnotherForLaterOnTheWay) {
  TimerPtr other = recorder(*second_, "other");
  TimerPtr timer = dispatcher_->createTimer([&] { other->enableTimer(2ms); });
  timer->enableTimer(5ms);
  time_.advanceTimeAndRun(10ms);
  EXPECT_THAT(order_, ElementsAre("other"));
  EXPECT_THAT(times_, ElementsAre(7000));
}

TEST_F(SimulatedTimeSystemTest, WhatWasPostedBeforeRunsBeforeTheFirstStep) {
  dispatcher_->post([&] { times_.push_back(now().count()); });
  time_.advanceTimeAndRun(10ms);
  EXPECT_THAT(times_, ElementsAre(0));
}

TEST_F(SimulatedTimeSystemTest, AdvanceByZeroFiresWhatIsDue) {
  TimerPtr timer = recorder(*dispatcher_, "timer");
  timer->enableTimer(0ms);
  time_.advanceTimeAndRun(0us);
  EXPECT_THAT(order_, ElementsAre("timer"));
  EXPECT_EQ(0us, now());
}

TEST_F(SimulatedTimeSystemTest, DisabledTimerStopsNoStep) {
  TimerPtr timer = recorder(*dispatcher_, "timer");
  timer->enableTimer(5ms);
  timer->disableTimer();
  time_.advanceTimeAndRun(10ms);
  EXPECT_THAT(order_, IsEmpty());
  EXPECT_EQ(10ms, now());
}

TEST_F(SimulatedTimeSystemTest, AdvanceWithoutDispatchersAdvances) {
  dispatcher_.reset();
  second_.reset();
  time_.advanceTimeAndRun(1h);
  EXPECT_EQ(1h, now());
}

TEST_F(SimulatedTimeSystemTest, DispatcherThatWasShutDownIsNoHindrance) {
  TimerPtr timer = recorder(*dispatcher_, "timer");
  TimerPtr other = recorder(*second_, "other");
  timer->enableTimer(5ms);
  other->enableTimer(6ms);
  dispatcher_->shutdown();
  time_.advanceTimeAndRun(10ms);
  EXPECT_THAT(order_, ElementsAre("other"));
  EXPECT_EQ(10ms, now());
}

TEST_F(SimulatedTimeSystemTest, DispatcherThatIsGoneIsNoHindrance) {
  TimerPtr timer = recorder(*dispatcher_, "timer");
  timer->enableTimer(5ms);
  dispatcher_.reset();
  time_.advanceTimeAndRun(10ms);
  EXPECT_THAT(order_, IsEmpty());
  EXPECT_EQ(10ms, now());
}

TEST_F(SimulatedTimeSystemTest, TimerMayDestroyAnotherDispatcherOnTheWay) {
  TimerPtr other = recorder(*second_, "other");
  other->enableTimer(8ms);
  TimerPtr timer = dispatcher_->createTimer([&] {
    order_.push_back("timer");
    second_.reset();
  });
  timer->enableTimer(5ms);
  time_.advanceTimeAndRun(10ms);
  EXPECT_THAT(order_, ElementsAre("timer"));
}

TEST_F(SimulatedTimeSystemTest, TimerMayCreateADispatcherOnTheWay) {
  DispatcherPtr third;
  TimerPtr late;
  TimerPtr timer = dispatcher_->createTimer([&] {
    third = createDispatcher({.name = "third", .time_system = &time_});
    late = recorder(*third, "late");
    late->enableTimer(2ms);
  });
  timer->enableTimer(5ms);
  time_.advanceTimeAndRun(10ms);
  EXPECT_THAT(order_, ElementsAre("late"));
  EXPECT_THAT(times_, ElementsAre(7000));
}

// advanceTimeAsync and setMonotonicTime

TEST_F(SimulatedTimeSystemTest, AsyncAdvanceRunsNothing) {
  TimerPtr timer = recorder(*dispatcher_, "timer");
  timer->enableTimer(5ms);
  time_.advanceTimeAsync(10ms);
  EXPECT_THAT(order_, IsEmpty());
  EXPECT_EQ(10ms, now());
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("timer"));
  EXPECT_THAT(times_, ElementsAre(10000));  // late, as was asked for
}

TEST_F(SimulatedTimeSystemTest, SetMonotonicTimeRunsNothing) {
  TimerPtr timer = recorder(*dispatcher_, "timer");
  timer->enableTimer(5ms);
  time_.setMonotonicTime(MonotonicTime(7ms));
  EXPECT_EQ(7ms, now());
  EXPECT_THAT(order_, IsEmpty());
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("timer"));
}

TEST_F(SimulatedTimeSystemTest, SetMonotonicTimeAdvancesTheCalendarToo) {
  time_.setMonotonicTime(MonotonicTime(7ms));
  EXPECT_EQ(7ms, time_.systemTime().time_since_epoch());
}

TEST_F(SimulatedTimeSystemTest, AsyncAdvanceWakesASleepingLoop) {
  Notification fired;
  TimerPtr timer = dispatcher_->createTimer([&] { fired.notify(); });
  timer->enableTimer(1h);
  DispatcherThread thread(*dispatcher_);
  thread.call([] {});
  time_.advanceTimeAsync(1h);
  EXPECT_TRUE(fired.wait());
}

// The calendar

TEST_F(SimulatedTimeSystemTest, SetSystemTimeMovesTheCalendarAloneAndItStillAdvances) {
  TimerPtr timer = recorder(*dispatcher_, "timer");
  timer->enableTimer(5ms);
  const auto y2k = SystemTime(946'684'800s);
  time_.setSystemTime(y2k);
  EXPECT_EQ(y2k, time_.systemTime());
  EXPECT_EQ(0us, now());
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, IsEmpty());
  time_.advanceTimeAndRun(5ms);
  EXPECT_EQ(y2k + 5ms, time_.systemTime());
  EXPECT_THAT(order_, ElementsAre("timer"));
  time_.setSystemTime(SystemTime());
  EXPECT_EQ(SystemTime(), time_.systemTime());
}

// Dispatchers on other threads

TEST_F(SimulatedTimeSystemTest, DispatcherOnAnotherThreadFiresThereAndIsWaitedFor) {
  bool fired = false;  // not atomic: the return of advanceTimeAndRun is what orders it
  std::thread::id fired_on;
  TimerPtr timer = dispatcher_->createTimer([&] {
    fired = true;
    fired_on = std::this_thread::get_id();
  });
  timer->enableTimer(1h);
  DispatcherThread thread(*dispatcher_);
  time_.advanceTimeAndRun(59min);
  EXPECT_FALSE(fired);
  time_.advanceTimeAndRun(1min);
  EXPECT_TRUE(fired);
  EXPECT_EQ(thread.id(), fired_on);
}

TEST_F(SimulatedTimeSystemTest, TimerArmedOnAnotherThreadJustBeforeFiresAndIsWaitedFor) {
  // The loop may not have gone back to sleep yet when the time is advanced.
  int fired = 0;
  TimerPtr timer = dispatcher_->createTimer([&] { ++fired; });
  DispatcherThread thread(*dispatcher_);
  for (int i = 1; i <= 1000; ++i) {
    thread.call([&] { timer->enableTimer(1h); });
    time_.advanceTimeAndRun(1h);
    ASSERT_EQ(i, fired);
  }
  thread.stop();
}

TEST_F(SimulatedTimeSystemTest, AsyncAdvanceWakesALoopThatIsAboutToSleep) {
  TimerPtr timer;
  DispatcherThread thread(*dispatcher_);
  for (int i = 1; i <= 1000; ++i) {
    Notification fired;
    thread.call([&] {
      timer = dispatcher_->createTimer([&] { fired.notify(); });
      timer->enableTimer(1h);
    });
    time_.advanceTimeAsync(1h);
    ASSERT_TRUE(fired.wait(10s)) << i;
  }
  thread.stop();
}

TEST_F(SimulatedTimeSystemTest, TimersOfTwoThreadsFireInTheOrderOfDeadlines) {
  std::vector<int64_t> times;  // each step waits for the one before: no lock
  std::vector<TimerPtr> timers;
  for (int i = 1; i <= 20; ++i) {
    timers.push_back((i % 2 == 0 ? dispatcher_ : second_)->createTimer([&] { times.push_back(now().count()); }));
    timers.back()->enableTimer(std::chrono::milliseconds(i));
  }
  DispatcherThread first(*dispatcher_);
  DispatcherThread second(*second_);
  time_.advanceTimeAndRun(20ms);
  ASSERT_EQ(20u, times.size());
  for (int i = 1; i <= 20; ++i) {
    EXPECT_EQ(i * 1000, times[i - 1]);
  }
}

TEST_F(SimulatedTimeSystemTest, TimersArmedOnTheWayOnAnotherThreadFireOnTheWay) {
  int fired = 0;
  TimerPtr timer;
  timer = dispatcher_->createTimer([&] {
    ++fired;
    timer->enableTimer(1ms);
  });
  timer->enableTimer(1ms);
  DispatcherThread thread(*dispatcher_);
  time_.advanceTimeAndRun(200ms);
  EXPECT_EQ(200, fired);
  thread.stop();
}

TEST_F(SimulatedTimeSystemTest, TimeNeverChangesInsideACallback) {
  std::atomic<bool> changed{false};
  int fired = 0;
  const auto look = [&] {
    const MonotonicTime before = time_.monotonicTime();
    for (int i = 0; i < 200; ++i) {
      std::this_thread::yield();
      changed = changed || time_.monotonicTime() != before;
    }
  };
  TimerPtr timer;
  timer = dispatcher_->createTimer([&] {
    ++fired;
    timer->enableTimer(1ms);
    look();
  });
  timer->enableTimer(1ms);
  DispatcherThread thread(*dispatcher_);
  for (int i = 0; i < 50; ++i) {
    dispatcher_->post([&] { look(); });  // may run while the time is about to be advanced
    time_.advanceTimeAndRun(2ms);
  }
  EXPECT_EQ(100, fired);
  EXPECT_FALSE(changed.load());
  thread.stop();
}

TEST_F(SimulatedTimeSystemTest, ALoopThatWasFloodedWithPostsSleepsAndWakesWhileTimeStandsStill) {
  DispatcherThread thread(*dispatcher_);
  std::atomic<int> ran{0};
  for (int round = 0; round < 100; ++round) {
    for (int i = 0; i < 100; ++i) {
      dispatcher_->post([&ran] { ++ran; });
    }
    thread.call([] {});
  }
  EXPECT_EQ(10'000, ran.load());
}

TEST_F(SimulatedTimeSystemTest, RunBlockOnAnotherThreadReturnsWhenItsLastTimerHasFired) {
  for (int round = 0; round < 50; ++round) {
    Notification running;
    bool fired = false;
    TimerPtr timer = dispatcher_->createTimer([&] { fired = true; });
    timer->enableTimer(1ms);
    dispatcher_->post([&] { running.notify(); });
    std::thread thread([&] { dispatcher_->run(RunType::Block); });
    ASSERT_TRUE(running.wait());
    time_.advanceTimeAndRun(1ms);  // the loop may end meanwhile
    thread.join();
    EXPECT_TRUE(fired);
    dispatcher_ = createDispatcher({.name = "another", .time_system = &time_});  // not bound to a thread yet
  }
}

TEST_F(SimulatedTimeSystemTest, DispatcherThatAnotherThreadRanLastIsLeftToIt) {
  bool ran = false;
  TimerPtr timer;
  {
    DispatcherThread thread(*dispatcher_);
    thread.call([&] {
      timer = dispatcher_->createTimer([&] { ran = true; });
      timer->enableTimer(1s);
    });
  }
  dispatcher_->post([&] { ran = true; });
  time_.advanceTimeAndRun(2s);
  EXPECT_FALSE(ran);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_TRUE(ran);
}

TEST_F(SimulatedTimeSystemTest, LoopMayEndAndStartWhileTimeIsAdvanced) {
  std::atomic<bool> stop{false};
  std::atomic<int> fired{0};
  TimerPtr timer;
  timer = dispatcher_->createTimer([&] {
    ++fired;
    timer->enableTimer(1ms);
  });
  timer->enableTimer(1ms);
  Notification running;
  dispatcher_->post([&] { running.notify(); });
  std::thread thread([&] {
    while (!stop) {
      dispatcher_->run(RunType::RunUntilExit);
    }
  });
  ASSERT_TRUE(running.wait());
  for (int i = 0; i < 200; ++i) {
    second_->post([] {});
    time_.advanceTimeAndRun(1ms);
  }
  stop = true;
  dispatcher_->exit();
  thread.join();
  EXPECT_EQ(200, fired.load());
}

// Determinism

std::vector<std::string> traceOf(uint64_t seed) {
  std::vector<std::string> trace;
  SimulatedTimeSystem time;
  std::mt19937_64 random(seed);
  struct Actor {
    DispatcherPtr dispatcher;
    std::vector<TimerPtr> timers;
  };
  std::vector<Actor> actors(3);
  for (size_t a = 0; a < actors.size(); ++a) {
    actors[a].dispatcher = createDispatcher({.name = "actor", .time_system = &time});
    for (size_t t = 0; t < 5; ++t) {
      auto fire = std::make_unique<std::function<void()>>();
      *fire = [&, a, t] {
        trace.push_back(std::to_string(a) + "/" + std::to_string(t) + "@" +
                        std::to_string(time.monotonicTime().time_since_epoch().count()));
        actors[a].timers[t]->enableHRTimer(microseconds(1 + random() % 20'000));
        actors[random() % actors.size()].dispatcher->post([&, a] {
          trace.push_back("post of " + std::to_string(a));
          random();
        });
      };
      actors[a].timers.push_back(actors[a].dispatcher->createTimer([fire = std::move(fire)] { (*fire)(); }));
      actors[a].timers[t]->enableHRTimer(microseconds(1 + random() % 20'000));
    }
  }
  for (int i = 0; i < 20; ++i) {
    time.advanceTimeAndRun(microseconds(random() % 50'000));
  }
  return trace;
}

TEST(SimulatedTimeDeterminismTest, OneSeedGivesOneTrace) {
  const std::vector<std::string> trace = traceOf(42);
  EXPECT_GT(trace.size(), 100u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(trace, traceOf(42));
  }
  EXPECT_NE(trace, traceOf(43));
}

}  // namespace
}  // namespace nuncio::test
