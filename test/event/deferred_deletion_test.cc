#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

class DeferredDeletionTest : public testing::Test {
protected:
  void defer(const char* name) {
    dispatcher_->deferredDelete(makeDeferred([this, name] { order_.push_back(name); }));
  }

  std::vector<std::string> order_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "deferred_test"});
};

TEST_F(DeferredDeletionTest, ClearDestroysInsideTheCallInTheOrderOfSubmission) {
  defer("a");
  defer("b");
  defer("c");
  EXPECT_THAT(order_, IsEmpty());
  dispatcher_->clearDeferredDeleteList();
  EXPECT_THAT(order_, ElementsAre("a", "b", "c"));
}

TEST_F(DeferredDeletionTest, NullptrIsIgnored) {
  dispatcher_->deferredDelete(nullptr);
  defer("a");
  dispatcher_->deferredDelete(nullptr);
  dispatcher_->clearDeferredDeleteList();
  EXPECT_THAT(order_, ElementsAre("a"));
  dispatcher_->deleteInDispatcherThread(nullptr);
  dispatcher_->run(RunType::Block);
}

TEST_F(DeferredDeletionTest, ClearWithNothingDeferredDoesNothing) {
  dispatcher_->clearDeferredDeleteList();
  dispatcher_->clearDeferredDeleteList();
}

TEST_F(DeferredDeletionTest, WhatADestructorDefersIsDestroyedByTheNextClear) {
  dispatcher_->deferredDelete(makeDeferred([this] {
    order_.push_back("b");
    defer("c");
    dispatcher_->clearDeferredDeleteList();  // does nothing
    order_.push_back("end of b");
  }));
  dispatcher_->clearDeferredDeleteList();
  EXPECT_THAT(order_, ElementsAre("b", "end of b"));
  dispatcher_->clearDeferredDeleteList();
  EXPECT_THAT(order_, ElementsAre("b", "end of b", "c"));
}

TEST_F(DeferredDeletionTest, WhatADestructorDefersComesAfterWhatWasDeferredBefore) {
  dispatcher_->deferredDelete(makeDeferred([this] {
    order_.push_back("a");
    defer("deferred by a");
  }));
  defer("b");
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("a", "b", "deferred by a"));
}

TEST_F(DeferredDeletionTest, ObjectIsDestroyedBeforeAPostThatWasMadeBeforeItRuns) {
  dispatcher_->post([this] { order_.push_back("post"); });
  defer("deferred");
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("deferred", "post"));
}

TEST_F(DeferredDeletionTest, ObjectDeferredInAPostIsDestroyedInTheSameIteration) {
  dispatcher_->post([this] {
    defer("deferred");
    order_.push_back("post");
  });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("post", "deferred"));
}

TEST_F(DeferredDeletionTest, ObjectDeferredInATimerIsDestroyedInTheSameIteration) {
  TimerPtr timer = dispatcher_->createTimer([this] {
    defer("deferred");
    order_.push_back("timer");
  });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("timer", "deferred"));
}

TEST_F(DeferredDeletionTest, ObjectMayDeferItselfWithinItsOwnMethod) {
  class Connection : public DeferredDeletable {
  public:
    Connection(Dispatcher& dispatcher, std::vector<std::string>& order) : dispatcher_(dispatcher), order_(order) {}
    ~Connection() override { order_.push_back("destroyed"); }
    void close(DeferredDeletablePtr self) {
      dispatcher_.deferredDelete(std::move(self));
      order_.push_back(state_);  // still alive
    }

  private:
    Dispatcher& dispatcher_;
    std::vector<std::string>& order_;
    std::string state_ = "closing";
  };
  auto connection = std::make_unique<Connection>(*dispatcher_, order_);
  Connection* raw = connection.get();
  dispatcher_->post([raw, owner = std::move(connection)]() mutable { raw->close(std::move(owner)); });
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("closing", "destroyed"));
}

TEST_F(DeferredDeletionTest, DestructorMayPostArmTimersAndSchedule) {
  TimerPtr timer = dispatcher_->createTimer([this] { order_.push_back("timer"); });
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([this] { order_.push_back("scheduled"); });
  dispatcher_->deferredDelete(makeDeferred([this, &timer, &callback] {
    timer->enableTimer(0ms);
    callback->scheduleCurrentIteration();
    dispatcher_->post([this] { order_.push_back("posted"); });
  }));
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, testing::UnorderedElementsAre("timer", "scheduled", "posted"));
}

TEST_F(DeferredDeletionTest, DestructorMayDestroyHandlesAndOtherDeferredWork) {
  TimerPtr timer = dispatcher_->createTimer([] { FAIL() << "destroyed"; });
  timer->enableTimer(0ms);
  dispatcher_->deferredDelete(makeDeferred([&] { timer.reset(); }));
  dispatcher_->clearDeferredDeleteList();
  EXPECT_EQ(nullptr, timer);
  dispatcher_->run(RunType::Block);
}

TEST_F(DeferredDeletionTest, ManyObjectsAreDestroyedInOrder) {
  std::vector<int> order;
  std::vector<int> expected;
  for (int i = 0; i < 10'000; ++i) {
    expected.push_back(i);
    dispatcher_->deferredDelete(makeDeferred([&order, i] { order.push_back(i); }));
  }
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(expected, order);
}

// deleteInDispatcherThread

TEST_F(DeferredDeletionTest, DeleteInDispatcherThreadDestroysOnTheLoopsThread) {
  DispatcherThread thread(*dispatcher_);
  std::thread::id destroyed_on;
  Notification destroyed;
  dispatcher_->deleteInDispatcherThread(makeDeferred([&] {
    destroyed_on = std::this_thread::get_id();
    destroyed.notify();
  }));
  ASSERT_TRUE(destroyed.wait());
  EXPECT_EQ(thread.id(), destroyed_on);
}

TEST_F(DeferredDeletionTest, DeleteInDispatcherThreadKeepsTheOrderOfPosts) {
  dispatcher_->post([this] { order_.push_back("before"); });
  dispatcher_->deleteInDispatcherThread(makeDeferred([this] { order_.push_back("deleted"); }));
  dispatcher_->run(RunType::Block);
  dispatcher_->post([this] { order_.push_back("after"); });
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("before", "deleted", "after"));
}

TEST_F(DeferredDeletionTest, DeleteInDispatcherThreadStillPendingAtShutdownIsDestroyedDuringShutdown) {
  std::thread::id destroyed_on;
  std::thread([&] {
    dispatcher_->deleteInDispatcherThread(makeDeferred([&] { destroyed_on = std::this_thread::get_id(); }));
  }).join();
  EXPECT_EQ(std::thread::id(), destroyed_on);
  dispatcher_->shutdown();
  EXPECT_EQ(std::this_thread::get_id(), destroyed_on);
}

TEST_F(DeferredDeletionTest, DeleteInDispatcherThreadAfterShutdownDestroysOnTheCallersThread) {
  dispatcher_->shutdown();
  std::thread([&] {
    std::thread::id destroyed_on;
    dispatcher_->deleteInDispatcherThread(makeDeferred([&] { destroyed_on = std::this_thread::get_id(); }));
    EXPECT_EQ(std::this_thread::get_id(), destroyed_on);
  }).join();
}

TEST_F(DeferredDeletionTest, DeleteInDispatcherThreadFromManyThreadsLosesNothing) {
  constexpr int kThreads = 3;
  constexpr int kObjects = 1000;
  std::atomic<int> destroyed{0};
  {
    DispatcherThread loop(*dispatcher_);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < kObjects; ++i) {
          dispatcher_->deleteInDispatcherThread(makeDeferred([&] { ++destroyed; }));
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  }
  dispatcher_->shutdown();
  EXPECT_EQ(kThreads * kObjects, destroyed.load());
}

// shutdown()

class ShutdownTest : public DeferredDeletionTest {};

TEST_F(ShutdownTest, DestroysWhatIsDeferredAndPostedWithoutRunningIt) {
  defer("deferred");
  dispatcher_->post([this, probe = OnDestroy([this] { order_.push_back("capture"); })] { order_.push_back("ran"); });
  dispatcher_->shutdown();
  dispatcher_.reset();
  EXPECT_THAT(order_, testing::UnorderedElementsAre("deferred", "capture"));
}

TEST_F(ShutdownTest, DestroyingTheDispatcherShutsItDown) {
  defer("deferred");
  dispatcher_->post([this, probe = OnDestroy([this] { order_.push_back("capture"); })] { order_.push_back("ran"); });
  dispatcher_.reset();
  EXPECT_THAT(order_, testing::UnorderedElementsAre("deferred", "capture"));
}

TEST_F(ShutdownTest, IsIdempotent) {
  defer("deferred");
  dispatcher_->shutdown();
  dispatcher_->shutdown();
  EXPECT_THAT(order_, ElementsAre("deferred"));
}

TEST_F(ShutdownTest, RepeatsUntilWhatDestructorsDeferIsDestroyedToo) {
  int destroyed = 0;
  std::function<void()> chain = [&] {
    if (++destroyed < 100) {
      dispatcher_->deferredDelete(makeDeferred([&] { chain(); }));
    }
  };
  dispatcher_->deferredDelete(makeDeferred([&] { chain(); }));
  dispatcher_->shutdown();
  EXPECT_EQ(100, destroyed);
}

TEST_F(ShutdownTest, DestroysWhatCapturesOfPostsDefer) {
  dispatcher_->post([probe = OnDestroy([this] { defer("deferred by a capture"); })] { FAIL() << "ran"; });
  dispatcher_->shutdown();
  EXPECT_THAT(order_, ElementsAre("deferred by a capture"));
}

TEST_F(ShutdownTest, DestructorsThatRunInItMayDeleteInTheDispatchersThread) {
  dispatcher_->deferredDelete(makeDeferred(
      [this] { dispatcher_->deleteInDispatcherThread(makeDeferred([this] { order_.push_back("inner"); })); }));
  dispatcher_->shutdown();
  EXPECT_THAT(order_, ElementsAre("inner"));
}

TEST_F(ShutdownTest, DestructorsThatRunInItMayUseTimersAndScheduleAndPost) {
  TimerPtr timer = dispatcher_->createTimer([] { FAIL() << "fired"; });
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([] { FAIL() << "ran"; });
  bool accepted = true;
  dispatcher_->deferredDelete(makeDeferred([&] {
    timer->enableTimer(0ms);
    callback->scheduleCurrentIteration();
    accepted = dispatcher_->post([] { FAIL() << "ran"; });
  }));
  dispatcher_->shutdown();
  EXPECT_FALSE(accepted);
  dispatcher_->run(RunType::Block);
}

TEST_F(ShutdownTest, StopsAfterManyRoundsOfDestructorsThatKeepDeferringAndLogsIt) {
  bool go_on = true;
  int rounds = 0;
  int alive = 1;
  std::function<void()> chain = [&] {
    ++rounds;
    --alive;
    if (go_on) {
      ++alive;
      dispatcher_->deferredDelete(makeDeferred([&] { chain(); }));
    }
  };
  dispatcher_->deferredDelete(makeDeferred([&] { chain(); }));
  {
    LogCapture log(LogLayer::Event);
    dispatcher_->shutdown();
    EXPECT_NE("", log.text());
  }
  EXPECT_GE(rounds, 1000);
  go_on = false;
  dispatcher_.reset();
  EXPECT_EQ(0, alive);
}

TEST_F(ShutdownTest, ObjectDeferredAfterItIsDestroyedByTheNextClear) {
  dispatcher_->shutdown();
  defer("a");
  EXPECT_THAT(order_, IsEmpty());
  dispatcher_->clearDeferredDeleteList();
  EXPECT_THAT(order_, ElementsAre("a"));
}

TEST_F(ShutdownTest, ObjectDeferredAfterItIsDestroyedWithTheDispatcher) {
  dispatcher_->shutdown();
  defer("a");
  dispatcher_.reset();
  EXPECT_THAT(order_, ElementsAre("a"));
}

TEST_F(ShutdownTest, MayBeCalledOnAnotherThreadOnceTheLoopHasEnded) {
  {
    DispatcherThread thread(*dispatcher_);
  }
  std::thread::id destroyed_on;
  dispatcher_->post([probe = OnDestroy([&] { destroyed_on = std::this_thread::get_id(); })] { FAIL() << "ran"; });
  dispatcher_->shutdown();
  EXPECT_EQ(std::this_thread::get_id(), destroyed_on);
}

TEST_F(ShutdownTest, PostsThatRaceWithItRunOrAreDestroyed) {
  for (int round = 0; round < 50; ++round) {
    DispatcherPtr dispatcher = createDispatcher();
    std::atomic<int> made{0};
    std::atomic<int> destroyed{0};
    Notification started;
    std::thread poster([&] {
      bool accepted = true;
      while (accepted) {
        ++made;
        accepted = dispatcher->post([probe = OnDestroy([&] { ++destroyed; })] {});
        if (made == 5) {
          started.notify();
        }
      }
    });
    EXPECT_TRUE(started.wait());
    dispatcher->run(RunType::NonBlock);
    dispatcher->shutdown();
    poster.join();
    EXPECT_EQ(made.load(), destroyed.load());
  }
}

}  // namespace
}  // namespace nuncio::test
