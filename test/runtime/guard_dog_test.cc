// A guard dog tells of dispatchers that are in one callback for too long.

#include "nuncio/runtime/guard_dog.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/internal/loop_core.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/child_process.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/notification.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = StallReport::Kind;

// The dog's time is simulated, so that it sees exactly as much as a test says; the loops that it watches are real.
class GuardDogTest : public ::testing::Test {
protected:
  void start(GuardDogOptions options) {
    options.on_event = [this](const StallReport& report) {
      const std::lock_guard<std::mutex> lock(mutex_);
      reports_.push_back(report);
    };
    absl::StatusOr<std::unique_ptr<GuardDog>> dog = GuardDog::create(std::move(options), &time_);
    ASSERT_TRUE(dog.ok()) << dog.status();
    dog_ = *std::move(dog);
    watch_ = dog_->watch(*dispatcher_);
  }
  // Only stalls.
  static GuardDogOptions stallsOf(std::chrono::milliseconds stall) {
    return {.stall = stall, .miss = 0ms, .megamiss = 0ms};
  }

  // Has the dispatcher be in one callback for `duration` of the dog's time.
  void block(std::chrono::microseconds duration) {
    Notification begun;
    Notification end;
    Notification ended;
    dispatcher_->post([&] {
      begun.notify();
      EXPECT_TRUE(end.wait());
    });
    dispatcher_->post([&] { ended.notify(); });
    ASSERT_TRUE(begun.wait());
    time_.advanceTimeAndRun(duration);
    end.notify();
    ASSERT_TRUE(ended.wait());
    waitUntilIdle();
    time_.advanceTimeAndRun(10ms);  // it is seen to be idle
  }
  void waitUntilIdle() {
    while (!dispatcher_->loop().callback().none()) {
      std::this_thread::yield();
    }
  }

  std::size_t count(Kind kind) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return static_cast<std::size_t>(
        std::count_if(reports_.begin(), reports_.end(), [kind](const StallReport& r) { return r.kind == kind; }));
  }
  StallReport last() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return reports_.empty() ? StallReport{} : reports_.back();
  }

  const LogCapture log_{LogLayer::Runtime};
  SimulatedTimeSystem time_;
  const DispatcherPtr dispatcher_ = createDispatcher({.name = "watched"});
  DispatcherThread thread_{*dispatcher_};
  std::mutex mutex_;
  std::vector<StallReport> reports_;
  std::unique_ptr<GuardDog> dog_;
  GuardDog::Watch watch_;
};

TEST_F(GuardDogTest, ReportsAStallAtOnceTwiceFourAndEightTimesItsLength) {
  start(stallsOf(25ms));
  block(20ms);
  EXPECT_EQ(0U, count(Kind::Stall));
  block(30ms);
  EXPECT_EQ(1U, count(Kind::Stall));
  block(220ms);
  EXPECT_EQ(1U + 4U, count(Kind::Stall));
}

TEST_F(GuardDogTest, DoesNotTakeManyShortCallbacksForALongOne) {
  start(stallsOf(25ms));
  std::atomic<bool> stop{false};
  std::function<void()> busy = [&] {
    if (!stop) {
      dispatcher_->post([&] { busy(); });
    }
  };
  dispatcher_->post([&] { busy(); });
  uint64_t seen = dispatcher_->loop().callbacks();
  for (int i = 0; i < 500; ++i) {
    while (dispatcher_->loop().callbacks() == seen) {
      std::this_thread::yield();
    }
    seen = dispatcher_->loop().callbacks();
    time_.advanceTimeAndRun(2ms);
  }
  stop = true;
  thread_.stop();
  EXPECT_EQ(0U, count(Kind::Stall));
}

TEST_F(GuardDogTest, LimitsReportsToSoManyAMinuteAndCountsTheRest) {
  start(stallsOf(50ms));
  for (int i = 0; i < 10; ++i) {
    block(60ms);
  }
  EXPECT_EQ(5U, count(Kind::Stall));
  EXPECT_EQ(5U, dog_->stats().stalls);
  EXPECT_EQ(5U, dog_->stats().suppressed);
  time_.advanceTimeAndRun(60s);
  block(60ms);
  EXPECT_EQ(6U, count(Kind::Stall));
  EXPECT_EQ(5U, last().suppressed);
  EXPECT_THAT(last().toString(), HasSubstr("5 more stalls"));
}

TEST_F(GuardDogTest, SaysNothingOfALoopThatSleeps) {
  start(stallsOf(8s));
  waitUntilIdle();
  time_.advanceTimeAndRun(1h);
  EXPECT_EQ(0U, count(Kind::Stall));
}

TEST_F(GuardDogTest, CountsAMissAndAMegaMissOnceEach) {
  start({.stall = 10s, .miss = 500ms, .megamiss = 1000ms});
  block(499ms);
  EXPECT_EQ(0U, count(Kind::Miss));
  block(1900ms);
  EXPECT_EQ(1U, count(Kind::Miss));
  EXPECT_EQ(1U, count(Kind::MegaMiss));
  EXPECT_EQ(1U, dog_->stats().misses);
  EXPECT_EQ(1U, dog_->stats().megamisses);
}

TEST_F(GuardDogTest, MissesAreSeenToTheMillisecond) {
  start({.stall = 25ms, .miss = 500ms, .megamiss = 0ms});
  Notification begun;
  Notification again;
  Notification begun_again;
  Notification end;
  dispatcher_->post([&] {
    begun.notify();
    EXPECT_TRUE(again.wait());
  });
  dispatcher_->post([&] {
    begun_again.notify();
    EXPECT_TRUE(end.wait());
  });
  ASSERT_TRUE(begun.wait());
  time_.advanceTimeAndRun(499ms);
  EXPECT_EQ(0U, dog_->stats().misses);
  time_.advanceTimeAndRun(2ms);
  EXPECT_EQ(1U, dog_->stats().misses);
  time_.advanceTimeAndRun(399ms);
  EXPECT_EQ(1U, dog_->stats().misses);
  again.notify();
  ASSERT_TRUE(begun_again.wait());
  time_.advanceTimeAndRun(501ms);
  EXPECT_EQ(2U, dog_->stats().misses);
  end.notify();
  thread_.call([] {});  // it is done with what is here
}

// Which keeps signals back until a system call.
#ifdef NUNCIO_TEST_THREAD_SANITIZER
constexpr bool kThreadSanitizer = true;
#else
constexpr bool kThreadSanitizer = false;
#endif

[[gnu::noinline]] void spinUntil(const std::atomic<bool>& stop) {
  while (!stop) {
  }
}

TEST_F(GuardDogTest, NamesTheCallbackAndShowsWhereItIs) {
  start(stallsOf(25ms));
  std::atomic<bool> stop{false};
  Notification begun;
  dispatcher_->post([&] {
    begun.notify();
    spinUntil(stop);
  });
  ASSERT_TRUE(begun.wait());
  time_.advanceTimeAndRun(30ms);
  // On a loaded machine the thread may not get to answer in time.
  for (auto length = 30ms; last().stack.empty() && length < 1h && !kThreadSanitizer; length *= 2) {
    time_.advanceTimeAndRun(length);
  }
  stop = true;
  thread_.stop();
  const StallReport report = last();
  EXPECT_EQ("watched", report.dispatcher);
  EXPECT_THAT(report.callback, HasSubstr("NamesTheCallbackAndShowsWhereItIs"));
  EXPECT_THAT(log_.text(), HasSubstr("dispatcher watched has been in one callback for"));
  EXPECT_THAT(log_.text(), HasSubstr(report.callback));
  if (!kThreadSanitizer) {
    EXPECT_THAT(report.toString(), HasSubstr("spinUntil"));
  }
}

// In real time, since it is about what the kernel counts.
TEST(GuardDogCpuTest, TellsWhatComputesFromWhatIsBlocked) {
  const LogCapture log(LogLayer::Runtime);
  const DispatcherPtr dispatcher = createDispatcher({.name = "watched"});
  DispatcherThread thread(*dispatcher);
  std::atomic<std::chrono::nanoseconds> cpu{0ns};  // of the last report
  Countdown reports(2);
  GuardDogOptions options{.stall = 20ms, .miss = 0ms, .megamiss = 0ms, .reports_per_minute = 1000};
  options.on_event = [&](const StallReport& report) {
    cpu = report.cpu;
    reports.countDown();
  };
  absl::StatusOr<std::unique_ptr<GuardDog>> dog = GuardDog::create(std::move(options));
  ASSERT_TRUE(dog.ok()) << dog.status();
  const GuardDog::Watch watch = (*dog)->watch(*dispatcher);
  thread.call([&] { EXPECT_TRUE(reports.wait()); });
  EXPECT_LT(cpu.load(), 5ms);
  thread.call([&] {
    while (cpu.load() < 15ms) {
    }
  });
}

[[gnu::noinline]] void throwFrom(int depth) {
  if (depth == 0) {
    throw std::runtime_error("deep");
  }
  throwFrom(depth - 1);
  asm volatile("");  // no tail call
}

TEST_F(GuardDogTest, TakesTheStackOfAThreadThatThrows) {
  start({.stall = 1ms, .miss = 0ms, .megamiss = 0ms, .reports_per_minute = 1'000'000});
  constexpr int kThrows = kSanitizer ? 2'000 : 100'000;
  Notification begun;
  std::atomic<bool> done{false};
  dispatcher_->post([&] {
    begun.notify();
    for (int i = 0; i < kThrows; ++i) {
      try {
        throwFrom(20);
      } catch (const std::runtime_error& e) {
        EXPECT_STREQ("deep", e.what());
      }
    }
    done = true;
  });
  ASSERT_TRUE(begun.wait());
  // Each millisecond beyond the last power of two.
  for (auto length = 1ms; !done; length *= 2) {
    time_.advanceTimeAndRun(std::min<std::chrono::milliseconds>(length, 1h));
  }
  thread_.stop();
  EXPECT_GE(count(Kind::Stall), 1U);
}

TEST_F(GuardDogTest, ADispatcherMayGoWhileItIsWatched) {
  start(stallsOf(25ms));
  {
    const DispatcherPtr other = createDispatcher();
    const GuardDog::Watch watch = dog_->watch(*other);
    DispatcherThread thread(*other);
    thread.call([] {});
  }
  DispatcherPtr gone = createDispatcher();
  const GuardDog::Watch of_gone = dog_->watch(*gone);
  gone.reset();
  time_.advanceTimeAndRun(1s);
  EXPECT_EQ(0U, count(Kind::Stall));
}

TEST_F(GuardDogTest, AWatchMayOutliveItsDogAndBeMoved) {
  start(stallsOf(25ms));
  GuardDog::Watch moved = std::move(watch_);
  watch_ = std::move(moved);
  block(30ms);
  EXPECT_EQ(1U, count(Kind::Stall));
  watch_.stop();
  watch_.stop();
  block(30ms);
  EXPECT_EQ(1U, count(Kind::Stall));
  watch_ = dog_->watch(*dispatcher_);
  dog_.reset();
}

// A thread that blocks the signal gets it when the dog has long gone.
TEST_F(GuardDogTest, MayGoWhileItsSignalIsUnderWay) {
  start(stallsOf(25ms));
  Notification begun;
  Notification end;
  dispatcher_->post([&] {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    begun.notify();
    EXPECT_TRUE(end.wait());
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  });
  ASSERT_TRUE(begun.wait());
  time_.advanceTimeAndRun(30ms);
  EXPECT_EQ(1U, count(Kind::Stall));
  EXPECT_THAT(last().stack, IsEmpty());
  dog_.reset();
  end.notify();
  thread_.call([] {});
}

TEST_F(GuardDogTest, GoesOnWhenOnEventThrows) {
  const LogCapture log(LogLayer::Event);
  GuardDogOptions options = stallsOf(25ms);
  int reports = 0;
  options.on_event = [&](const StallReport&) {
    ++reports;
    throw std::runtime_error("of a report");
  };
  absl::StatusOr<std::unique_ptr<GuardDog>> dog = GuardDog::create(std::move(options), &time_);
  ASSERT_TRUE(dog.ok()) << dog.status();
  watch_ = (*dog)->watch(*dispatcher_);
  block(30ms);
  block(30ms);
  EXPECT_EQ(2, reports);
  watch_.stop();
}

TEST_F(GuardDogTest, TakesTheGreatestDurationForNever) {
  start({.stall = std::chrono::milliseconds::max(), .miss = std::chrono::milliseconds::max(), .megamiss = 0ms});
  EXPECT_EQ(0U, count(Kind::Miss));
}

TEST_F(GuardDogTest, SaysWhichSignalItTakes) {
  start(stallsOf(25ms));
  EXPECT_GE(GuardDog::stackSignal(), SIGRTMIN);
  EXPECT_LE(GuardDog::stackSignal(), SIGRTMAX);
}

TEST_F(GuardDogTest, KillsOnlyWhenItIsToldTo) {
  start({.stall = 10s, .miss = 10s, .megamiss = 10s});
  block(1h);
  EXPECT_EQ(0U, count(Kind::Kill));
  EXPECT_EQ(0U, count(Kind::MultiKill));
}

// Watches `loops` dispatchers, of which the first `stuck` are in a callback for 3 s, and the last `ended` have ended.
void runStuck(std::size_t loops, std::size_t stuck, GuardDogOptions options, std::size_t ended = 0) {
  SimulatedTimeSystem time;
  std::vector<DispatcherPtr> dispatchers;
  std::vector<std::unique_ptr<DispatcherThread>> threads;
  std::vector<GuardDog::Watch> watches;
  absl::StatusOr<std::unique_ptr<GuardDog>> dog = GuardDog::create(std::move(options), &time);
  ASSERT_TRUE(dog.ok()) << dog.status();
  for (std::size_t i = 0; i < loops; ++i) {
    dispatchers.push_back(createDispatcher({.name = "stuck"}));
    threads.push_back(std::make_unique<DispatcherThread>(*dispatchers.back()));
    watches.push_back((*dog)->watch(*dispatchers.back(), "workers"));
  }
  Countdown begun(static_cast<int>(stuck));
  Notification end;
  for (std::size_t i = 0; i < stuck; ++i) {
    dispatchers[i]->post([&] {
      begun.countDown();
      EXPECT_TRUE(end.wait());
    });
  }
  ASSERT_TRUE(begun.wait());
  for (std::size_t i = loops - ended; i < loops; ++i) {
    threads[i]->stop();
    dispatchers[i]->shutdown();
  }
  time.advanceTimeAndRun(3s);
  end.notify();
  threads.clear();
}
GuardDogOptions multiKill(double share) {
  return {.stall = 10s, .miss = 0ms, .megamiss = 0ms, .multikill = 2s, .multikill_share = share};
}

TEST(GuardDogDeathTest, EndsTheProcessByAnAbortOfTheThreadThatDoesNotComeBack) {
  EXPECT_EXIT(runStuck(/*loops=*/1, /*stuck=*/1, {.stall = 10s, .miss = 0ms, .megamiss = 0ms, .kill = 2s}),
              ::testing::KilledBySignal(SIGABRT), "kill: dispatcher stuck has been in one callback for 2000 ms");
}
// It has ended by the time that the others are stuck.
TEST(GuardDogDeathTest, ADispatcherThatHasEndedIsNotOfItsGroup) {
  EXPECT_EXIT(runStuck(/*loops=*/4, /*stuck=*/2, multiKill(1), /*ended=*/2), ::testing::KilledBySignal(SIGABRT),
              "multikill: dispatcher stuck");
}
TEST(GuardDogDeathTest, OneAloneIsNoMultiKill) { runStuck(/*loops=*/1, /*stuck=*/1, multiKill(0)); }
TEST(GuardDogDeathTest, LessThanTheShareIsNoMultiKill) { runStuck(/*loops=*/5, /*stuck=*/2, multiKill(0.5)); }
TEST(GuardDogDeathTest, TwoAreAMultiKillWithoutAShare) {
  EXPECT_EXIT(runStuck(/*loops=*/5, /*stuck=*/2, multiKill(0)), ::testing::KilledBySignal(SIGABRT),
              "multikill: dispatcher stuck");
}
TEST(GuardDogDeathTest, TheShareIsRoundedUp) {
  EXPECT_EXIT(runStuck(/*loops=*/5, /*stuck=*/3, multiKill(0.5)), ::testing::KilledBySignal(SIGABRT),
              "multikill: dispatcher stuck");
}

TEST_F(GuardDogTest, RefusesOptionsThatAreOutOfRange) {
  const auto refused = [](GuardDogOptions options) {
    return absl::IsInvalidArgument(GuardDog::create(std::move(options)).status());
  };
  EXPECT_TRUE(refused({.stall = 0ms}));
  EXPECT_TRUE(refused({.stall = -1ms}));
  EXPECT_TRUE(refused({.miss = -1ms}));
  EXPECT_TRUE(refused({.megamiss = -1ms}));
  EXPECT_TRUE(refused({.kill = -1ms}));
  EXPECT_TRUE(refused({.multikill = -1ms}));
  EXPECT_TRUE(refused({.multikill_share = 1.1}));
  EXPECT_TRUE(refused({.multikill_share = std::numeric_limits<double>::quiet_NaN()}));
  EXPECT_TRUE(refused({.reports_per_minute = -1}));
}

TEST_F(GuardDogTest, MayBeDestroyedInTheChildOfAFork) {
  start(stallsOf(25ms));
  EXPECT_EQ("", runInChild([this] {
              dog_.reset();
              watch_.stop();
            }));
}

TEST(StallReportTest, SaysWhetherTheThreadComputesAndForHowLong) {
  StallReport report{.kind = Kind::Stall,
                     .dispatcher = "worker_1",
                     .callback = "Lookup::all()",
                     .running = 100ms,
                     .cpu = 90ms,
                     .stack = {"0x1 in walk()"},
                     .suppressed = 0};
  EXPECT_EQ(
      "stall: dispatcher worker_1 has been in one callback for 100 ms (computes: 90 ms of CPU): Lookup::all()\n"
      "  0x1 in walk()",
      report.toString());
  report.cpu = 4ms;
  EXPECT_THAT(report.toString(), HasSubstr("(blocked: 4 ms of CPU)"));
}

}  // namespace
}  // namespace nuncio::test
