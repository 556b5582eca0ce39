// Work for when a dispatcher has nothing else to do.

#include "nuncio/future/background.h"

#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/contract.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;

class BackgroundTest : public ::testing::Test {
protected:
  void note(std::string what) { log_.push_back(std::move(what)); }

  const DispatcherPtr dispatcher_ = createDispatcher();
  Background background_{*dispatcher_};
  std::vector<std::string> log_;
};

TEST_F(BackgroundTest, RunsAfterAllElse) {
  const TimerPtr timer = dispatcher_->createTimer([&] { note("timer"); });
  const SchedulableCallbackPtr scheduled = dispatcher_->createSchedulableCallback([&] { note("scheduled"); });
  background_.post([&] { note("background"); });
  dispatcher_->post([&] {
    note("post");
    dispatcher_->post([&] {
      note("another post");
      makeReadyFuture().then([&] { note("continuation"); }).detach();
      scheduled->scheduleCurrentIteration();
    });
  });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::Block);
  ASSERT_EQ(6U, log_.size());
  EXPECT_EQ("background", log_.back());
}

TEST_F(BackgroundTest, RunsInOrderAlsoThatOfTwoBackgrounds) {
  Background other(*dispatcher_);
  dispatcher_->post([&] {
    background_.post([&] { note("1"); });
    other.post([&] { note("2"); });
    background_.post([&] { note("3"); });
  });
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(log_, ElementsAre("1", "2", "3"));
}

TEST_F(BackgroundTest, LetsWhatItPostedGoFirst) {
  dispatcher_->post([&] {
    background_.post([&] {
      note("1");
      dispatcher_->post([&] { note("post"); });
    });
    background_.post([&] { note("2"); });
  });
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(log_, ElementsAre("1", "post", "2"));
}

TEST_F(BackgroundTest, RunsABatchNowAndThenWhereAllElseNeverEnds) {
  constexpr int kPosts = 1'000;
  int ran = 0;
  for (int i = 0; i < kPosts; ++i) {
    background_.post([&] { ++ran; });
  }
  std::function<void()> busy = [&] {
    if (ran < kPosts) {
      dispatcher_->post([&] { busy(); });
    } else {
      dispatcher_->exit();
    }
  };
  dispatcher_->post([&] { busy(); });
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_EQ(kPosts, ran);
}

// Each iteration is at its limits with the posts alone, so that the background has to wait.
// A descriptor that is always ready is looked at between the callbacks, and does not keep them from running.
TEST_F(BackgroundTest, TakesTurnsWithDescriptorsThatAreAlwaysReady) {
  constexpr int kTurns = 100;
  const Pair pair = makePipe();
  writeText(pair.peer.get(), "x");
  int reads = 0;
  int ran = 0;
  const FileEventPtr event = *dispatcher_->createFileEvent(
      pair.watched.get(),
      [&](uint32_t) {
        ++reads;
        if (ran == kTurns && reads > kTurns / 2) {
          dispatcher_->exit();
        }
      },
      FileTriggerType::Level, FileReadyType::Read);
  std::function<void()> part = [&] {
    if (++ran < kTurns) {
      const auto end = std::chrono::steady_clock::now() + 600us;  // more than the time of an iteration
      while (std::chrono::steady_clock::now() < end) {
      }
      background_.post([&] { part(); });
    }
  };
  background_.post([&] { part(); });
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_EQ(kTurns, ran);
}

TEST_F(BackgroundTest, WaitsForItsTurnWhereAllElseNeverEnds) {
  int posts = 0;
  int posts_before = 0;
  background_.post([&] {
    posts_before = posts;
    dispatcher_->exit();
  });
  std::function<void()> busy = [&] {
    ++posts;
    dispatcher_->post([&] { busy(); });
  };
  dispatcher_->post([&] { busy(); });
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_GT(posts_before, 128);  // more than one iteration's batches
}

TEST_F(BackgroundTest, RunsInSimulatedTimeWhereAllElseNeverEnds) {
  SimulatedTimeSystem time;
  const DispatcherPtr dispatcher = createDispatcher({.time_system = &time});
  Background background(*dispatcher);
  background.post([&] { dispatcher->exit(); });
  std::function<void()> busy = [&] { dispatcher->post([&] { busy(); }); };
  dispatcher->post([&] { busy(); });
  dispatcher->run(RunType::RunUntilExit);
}

TEST_F(BackgroundTest, TakesPostsOfOtherThreadsAndWakesTheLoop) {
  DispatcherThread thread(*dispatcher_);
  thread.call([] {});
  Notification ran;
  std::thread::id on;
  EXPECT_TRUE(background_.post([&] {
    on = std::this_thread::get_id();
    ran.notify();
  }));
  ASSERT_TRUE(ran.wait());
  EXPECT_EQ(thread.id(), on);
}

TEST_F(BackgroundTest, DestroysTheCallbackRightAfterItRan) {
  auto counted = std::make_shared<int>();
  const std::weak_ptr<int> left = counted;
  background_.post([counted = std::move(counted)] {});
  background_.post([&] { EXPECT_TRUE(left.expired()); });
  dispatcher_->run(RunType::Block);
}

TEST_F(BackgroundTest, CallbacksMayThrow) {
  const LogCapture log(LogLayer::Event);
  background_.post([] { throw std::runtime_error("oops"); });
  background_.post([&] { note("next"); });
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(log_, ElementsAre("next"));
  EXPECT_TRUE(log.contains("background callback threw: oops"));
}

TEST_F(BackgroundTest, WhatIsPostedIsDestroyedWhenTheDispatcherShutsDown) {
  auto counted = std::make_shared<int>();
  EXPECT_TRUE(background_.post([counted] { FAIL(); }));
  dispatcher_->post([&] {
    EXPECT_TRUE(background_.post([counted] { FAIL(); }));
    dispatcher_->exit();
  });
  dispatcher_->run(RunType::NonBlock);
  dispatcher_->shutdown();
  EXPECT_FALSE(background_.post([counted] { FAIL(); }));
  EXPECT_EQ(1, counted.use_count());
}

TEST_F(BackgroundTest, MayOutliveItsDispatcher) {
  DispatcherPtr gone = createDispatcher();
  Background background(*gone);
  gone.reset();
  EXPECT_FALSE(background.post([] { FAIL(); }));
  Future<void> idle = background.whenIdle();
  ASSERT_TRUE(idle.isReady());
  EXPECT_TRUE(absl::IsCancelled(idle.result().status()));
}

TEST_F(BackgroundTest, RefusesANullCallback) {
  EXPECT_CONTRACT_VIOLATION(EXPECT_FALSE(background_.post(nullptr)), ::testing::HasSubstr("null callback"));
}

Future<void> inParts(Background& background, int parts, std::vector<std::string>& log) {
  for (int i = 0; i < parts; ++i) {
    co_await background.whenIdle();
    log.push_back("part");
  }
}

TEST_F(BackgroundTest, ACoroutineWaitsForItsTurn) {
  dispatcher_->post([&] {
    inParts(background_, 2, log_).detach();
    dispatcher_->post([&] { note("post"); });
  });
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(log_, ElementsAre("post", "part", "part"));
}

TEST_F(BackgroundTest, WhenIdleFailsWhenTheDispatcherShutsDown) {
  Future<void> idle;
  dispatcher_->post([&] {
    idle = background_.whenIdle();
    dispatcher_->exit();
    dispatcher_->post([] {});
  });
  dispatcher_->run(RunType::NonBlock);
  dispatcher_->shutdown();
  ASSERT_TRUE(idle.isReady());
  EXPECT_TRUE(idle.result().failed());
}

}  // namespace
}  // namespace nuncio::test
