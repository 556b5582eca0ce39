// What a dispatcher says of itself, to any thread.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/loop_figures.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

uint64_t nanoseconds(std::chrono::nanoseconds duration) { return static_cast<uint64_t>(duration.count()); }

class DispatcherFiguresTest : public ::testing::Test {
protected:
  static DispatcherPtr make(FigureDetail detail) { return createDispatcher({.name = "seen", .figures = detail}); }

  const DispatcherPtr dispatcher_ = make(FigureDetail::Iterations);
};

TEST_F(DispatcherFiguresTest, HasItsNameAndWhatStatsHas) {
  const LogCapture log(LogLayer::Event);
  const TimerPtr timer = dispatcher_->createTimer([] {});
  timer->enableTimer(0ms);
  dispatcher_->post([] { throw std::runtime_error("counted"); });
  dispatcher_->run(RunType::NonBlock);
  const LoopFigures figures = dispatcher_->figures();
  const DispatcherStats stats = dispatcher_->stats();
  EXPECT_EQ("seen", figures.dispatcher);
  EXPECT_EQ(stats.iterations, figures.iterations);
  EXPECT_EQ(stats.posts_run, figures.posts_run);
  EXPECT_EQ(1U, figures.posts_run);
  EXPECT_EQ(1U, figures.timers_fired);
  EXPECT_EQ(1U, figures.callback_exceptions);
}

TEST_F(DispatcherFiguresTest, CountsPostsThatWaitAlsoWhileACallbackIsStuck) {
  DispatcherThread thread(*dispatcher_);
  Notification stuck;
  Notification end;
  dispatcher_->post([&] {
    stuck.notify();
    EXPECT_TRUE(end.wait());
  });
  ASSERT_TRUE(stuck.wait());
  dispatcher_->post([] {});
  dispatcher_->post([] {});
  EXPECT_EQ(2U, dispatcher_->figures().posts_waiting);
  end.notify();
  thread.call([] {});  // it is done with what is here
}

TEST_F(DispatcherFiguresTest, HasNoHistogramsUnlessToldTo) {
  const DispatcherPtr dispatcher = make(FigureDetail::Counters);
  dispatcher->post([] {});
  dispatcher->run(RunType::NonBlock);
  const LoopFigures figures = dispatcher->figures();
  EXPECT_EQ(0U, figures.loop_duration.count());
  EXPECT_EQ(0U, figures.callbacks.count());
  EXPECT_EQ(0U, figures.post_wait.count());
}

TEST_F(DispatcherFiguresTest, HasHowLongAnIterationTookAndHowManyCallbacksItRan) {
  for (int i = 0; i < 5; ++i) {
    dispatcher_->post([] {});
  }
  dispatcher_->post([] {
    for (const auto end = std::chrono::steady_clock::now() + 3ms; std::chrono::steady_clock::now() < end;) {
    }
  });
  dispatcher_->run(RunType::NonBlock);
  const LoopFigures figures = dispatcher_->figures();
  EXPECT_EQ(2U, figures.loop_duration.count());  // what comes before the first poll, and what comes after
  EXPECT_GE(figures.loop_duration.sum(), nanoseconds(3ms));
  EXPECT_EQ(6U, figures.callbacks.sum());
  EXPECT_EQ(2U, figures.callbacks.count());
  EXPECT_EQ(0U, figures.callback_duration.count());
}

TEST_F(DispatcherFiguresTest, HasHowLongEachCallbackTookWhereAskedTo) {
  const DispatcherPtr dispatcher = make(FigureDetail::Callbacks);
  dispatcher->post([] {});
  dispatcher->post([] {
    for (const auto end = std::chrono::steady_clock::now() + 3ms; std::chrono::steady_clock::now() < end;) {
    }
  });
  dispatcher->post([] {});
  dispatcher->run(RunType::NonBlock);
  const HistogramSnapshot durations = dispatcher->figures().callback_duration;
  EXPECT_EQ(3U, durations.count());
  EXPECT_GE(durations.sum(), nanoseconds(3ms));
  EXPECT_GE(durations.max(), nanoseconds(3ms));
}

TEST_F(DispatcherFiguresTest, ADestructorThatACallbackRunsHasItsOwnTime) {
  SimulatedTimeSystem time;
  const DispatcherPtr dispatcher = createDispatcher({.time_system = &time, .figures = FigureDetail::Callbacks});
  struct Connection : DeferredDeletable {};
  dispatcher->post([&] {
    time.advanceTimeAsync(1s);
    dispatcher->deferredDelete(std::make_unique<Connection>());
    dispatcher->clearDeferredDeleteList();
    time.advanceTimeAsync(1s);
  });
  dispatcher->run(RunType::NonBlock);
  const HistogramSnapshot durations = dispatcher->figures().callback_duration;
  EXPECT_EQ(2U, durations.count());
  EXPECT_EQ(nanoseconds(2s), durations.sum());
}

// A callback that the loop waited for does not last from the one before it on.
TEST_F(DispatcherFiguresTest, TheTimeThatTheLoopSleptIsNoCallbacks) {
  SimulatedTimeSystem time;
  const DispatcherPtr dispatcher = createDispatcher({.time_system = &time, .figures = FigureDetail::Callbacks});
  const TimerPtr timer = dispatcher->createTimer([&] {});
  dispatcher->post([&] { timer->enableTimer(1h); });
  time.advanceTimeAndRun(1h);
  const LoopFigures figures = dispatcher->figures();
  EXPECT_EQ(2U, figures.callback_duration.count());
  EXPECT_EQ(0U, figures.callback_duration.sum());
  EXPECT_EQ(0U, figures.loop_duration.sum());
}

TEST_F(DispatcherFiguresTest, HasThePollDelayOfPollsWithATimeout) {
  DispatcherThread thread(*dispatcher_);
  thread.call([] {});
  EXPECT_EQ(0U, dispatcher_->figures().poll_delay.count());  // nothing was due
  // On a loaded machine a timer may be due before the loop gets to sleep.
  for (int timers = 1; dispatcher_->figures().poll_delay.count() == 0; ++timers) {
    Notification fired;
    TimerPtr timer;
    thread.call([&] {
      timer = dispatcher_->createTimer([&] { fired.notify(); });
      timer->enableHRTimer(2ms);
    });
    ASSERT_TRUE(fired.wait());
    thread.call([&] { timer.reset(); });
    ASSERT_LT(timers, 1000);
  }
}

TEST_F(DispatcherFiguresTest, HasHowLongTheOldestPostOfABatchWaited) {
  DispatcherThread thread(*dispatcher_);
  Notification stuck;
  Notification end;
  dispatcher_->post([&] {
    stuck.notify();
    EXPECT_TRUE(end.wait());
  });
  ASSERT_TRUE(stuck.wait());
  dispatcher_->post([] {});
  const auto begin = std::chrono::steady_clock::now();
  for (const auto until = begin + 3ms; std::chrono::steady_clock::now() < until;) {
  }
  dispatcher_->post([] {});
  end.notify();
  thread.call([] {});
  const HistogramSnapshot waits = dispatcher_->figures().post_wait;
  EXPECT_GE(waits.max(), nanoseconds(3ms));
  EXPECT_GE(waits.count(), 2U);
}

TEST_F(DispatcherFiguresTest, NeverGoBackWhileAMillionPostsRun) {
  constexpr int kPosts = 1'000'000;
  const DispatcherPtr dispatcher = make(FigureDetail::Callbacks);
  std::atomic<int> ran{0};
  DispatcherThread thread(*dispatcher);
  std::thread poster([&] {
    for (int i = 0; i < kPosts; ++i) {
      dispatcher->post([&ran] { ran.fetch_add(1, std::memory_order_relaxed); });
    }
  });
  LoopFigures before = dispatcher->figures();
  while (ran < kPosts) {
    LoopFigures now = dispatcher->figures();
    ASSERT_GE(now.iterations, before.iterations);
    ASSERT_GE(now.posts_run, before.posts_run);
    ASSERT_GE(now.loop_duration.count(), before.loop_duration.count());
    ASSERT_GE(now.callbacks.sum(), before.callbacks.sum());
    ASSERT_GE(now.callback_duration.count(), before.callback_duration.count());
    ASSERT_GE(now.post_wait.count(), before.post_wait.count());
    before = std::move(now);
  }
  poster.join();
  thread.stop();
  EXPECT_EQ(static_cast<uint64_t>(kPosts), dispatcher->figures().posts_run - 1);  // one of DispatcherThread
  EXPECT_EQ(static_cast<uint64_t>(kPosts), dispatcher->figures().callback_duration.count() - 1);
}

}  // namespace
}  // namespace nuncio::test
