#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/lifetime_probe.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

class SchedulableCallbackTest : public testing::Test {
protected:
  // A callback that appends `number` to order_.
  SchedulableCallbackPtr numbered(int number) {
    return dispatcher_->createSchedulableCallback([this, number] { order_.push_back(number); });
  }

  std::vector<int> order_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "schedulable_test"});
};

TEST_F(SchedulableCallbackTest, CancelDoesNothingWhenUnscheduled) {
  SchedulableCallbackPtr callback = numbered(0);
  callback->cancel();
  callback->cancel();
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, IsEmpty());
}

TEST_F(SchedulableCallbackTest, UnscheduledNeverRuns) {
  SchedulableCallbackPtr callback = numbered(0);
  EXPECT_FALSE(callback->enabled());
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, IsEmpty());
}

TEST_F(SchedulableCallbackTest, CancelledForThisIterationNeverRuns) {
  SchedulableCallbackPtr callback = numbered(0);
  callback->scheduleCurrentIteration();
  callback->cancel();
  EXPECT_FALSE(callback->enabled());
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, IsEmpty());
}

TEST_F(SchedulableCallbackTest, CancelledForTheNextIterationNeverRuns) {
  SchedulableCallbackPtr callback = numbered(0);
  callback->scheduleNextIteration();
  callback->cancel();
  EXPECT_FALSE(callback->enabled());
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, IsEmpty());
}

TEST_F(SchedulableCallbackTest, DestroyedForThisIterationNeverRuns) {
  SchedulableCallbackPtr callback = numbered(0);
  callback->scheduleCurrentIteration();
  callback.reset();
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, IsEmpty());
}

TEST_F(SchedulableCallbackTest, DestroyedForTheNextIterationNeverRuns) {
  SchedulableCallbackPtr callback = numbered(0);
  callback->scheduleNextIteration();
  callback.reset();
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, IsEmpty());
}

TEST_F(SchedulableCallbackTest, OutsideTheLoopThisIterationComesBeforeTheNext) {
  SchedulableCallbackPtr callback0 = numbered(0);
  SchedulableCallbackPtr callback1 = numbered(1);
  SchedulableCallbackPtr callback2 = numbered(2);
  callback0->scheduleNextIteration();
  callback1->scheduleCurrentIteration();
  callback2->scheduleCurrentIteration();
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre(1, 2, 0));
}

TEST_F(SchedulableCallbackTest, FirstScheduleWinsWhenItWasForTheNextIteration) {
  SchedulableCallbackPtr next = numbered(0);
  SchedulableCallbackPtr current = numbered(1);
  next->scheduleNextIteration();
  next->scheduleCurrentIteration();
  current->scheduleCurrentIteration();
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre(1, 0));
}

TEST_F(SchedulableCallbackTest, FirstScheduleWinsWhenItWasForThisIteration) {
  SchedulableCallbackPtr current = numbered(0);
  SchedulableCallbackPtr other = numbered(1);
  current->scheduleCurrentIteration();
  current->scheduleNextIteration();
  other->scheduleCurrentIteration();
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre(0, 1));
}

TEST_F(SchedulableCallbackTest, ScheduledOftenRunsOnce) {
  SchedulableCallbackPtr callback = numbered(0);
  for (int i = 0; i < 10; ++i) {
    callback->scheduleCurrentIteration();
    callback->scheduleNextIteration();
  }
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre(0));
}

TEST_F(SchedulableCallbackTest, ScheduledAgainAfterCancelGoesToTheEnd) {
  SchedulableCallbackPtr first = numbered(1);
  SchedulableCallbackPtr second = numbered(2);
  first->scheduleCurrentIteration();
  second->scheduleCurrentIteration();
  first->cancel();
  first->scheduleCurrentIteration();
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre(2, 1));
}

TEST_F(SchedulableCallbackTest, CancelLetsTheNextScheduleBeOfTheOtherKind) {
  SchedulableCallbackPtr callback = numbered(0);
  SchedulableCallbackPtr other = numbered(1);
  callback->scheduleNextIteration();
  callback->cancel();
  callback->scheduleCurrentIteration();
  other->scheduleNextIteration();
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre(0, 1));
}

TEST_F(SchedulableCallbackTest, EnabledFromSchedulingUntilTheCallbackStarts) {
  SchedulableCallbackPtr callback;
  bool enabled_inside = true;
  callback = dispatcher_->createSchedulableCallback([&] { enabled_inside = callback->enabled(); });
  EXPECT_FALSE(callback->enabled());
  callback->scheduleCurrentIteration();
  EXPECT_TRUE(callback->enabled());
  dispatcher_->run(RunType::Block);
  EXPECT_FALSE(enabled_inside);
  EXPECT_FALSE(callback->enabled());
  callback->scheduleNextIteration();
  EXPECT_TRUE(callback->enabled());
  dispatcher_->run(RunType::Block);
  EXPECT_FALSE(callback->enabled());
}

TEST_F(SchedulableCallbackTest, ThisIterationMeansTheSameOneWhenScheduledByATimer) {
  uint64_t scheduled_in = 0;
  uint64_t ran_in = 0;
  SchedulableCallbackPtr callback =
      dispatcher_->createSchedulableCallback([&] { ran_in = dispatcher_->stats().iterations; });
  TimerPtr timer = dispatcher_->createTimer([&] {
    scheduled_in = dispatcher_->stats().iterations;
    callback->scheduleCurrentIteration();
  });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_GT(ran_in, 0u);
  EXPECT_EQ(scheduled_in, ran_in);
}

TEST_F(SchedulableCallbackTest, ThisIterationMeansTheSameOneWhenScheduledByAPost) {
  bool ran = false;
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([&] { ran = true; });
  TimerPtr timer = dispatcher_->createTimer([&] { dispatcher_->post([&] { callback->scheduleCurrentIteration(); }); });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_TRUE(ran);
}

TEST_F(SchedulableCallbackTest, ThisIterationMeansTheSameOneWhenScheduledByADestructor) {
  bool ran = false;
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([&] { ran = true; });
  TimerPtr timer = dispatcher_->createTimer(
      [&] { dispatcher_->deferredDelete(makeDeferred([&] { callback->scheduleCurrentIteration(); })); });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_TRUE(ran);
}

TEST_F(SchedulableCallbackTest, ScheduledByAnotherForThisIterationRunsInIt) {
  SchedulableCallbackPtr second = numbered(2);
  SchedulableCallbackPtr first = dispatcher_->createSchedulableCallback([&] {
    order_.push_back(1);
    second->scheduleCurrentIteration();
  });
  first->scheduleCurrentIteration();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre(1, 2));
}

TEST_F(SchedulableCallbackTest, ScheduledByACallbackForTheNextIterationRunsAfterAPoll) {
  Pair pair = makeSocketPair();
  std::vector<std::string> order;
  SchedulableCallbackPtr next = dispatcher_->createSchedulableCallback([&] {
    order.push_back("next");
    dispatcher_->exit();
  });
  FileEventPtr event;
  auto created = dispatcher_->createFileEvent(
      pair.watched.get(),
      [&](uint32_t) {
        order.push_back("file");
        next->scheduleNextIteration();
      },
      FileTriggerType::Level, FileReadyType::Write);
  ASSERT_TRUE(created.ok());
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_THAT(order, ElementsAre("file", "file", "next"));
}

TEST_F(SchedulableCallbackTest, ForTheNextIterationDoesNotRunInTheIterationThatScheduledIt) {
  SchedulableCallbackPtr next = numbered(1);
  TimerPtr timer = dispatcher_->createTimer([&] { next->scheduleNextIteration(); });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, IsEmpty());
  EXPECT_TRUE(next->enabled());
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre(1));
}

TEST_F(SchedulableCallbackTest, ThatSchedulesItselfForTheNextIterationRunsOnceAnIteration) {
  int calls = 0;
  SchedulableCallbackPtr callback;
  callback = dispatcher_->createSchedulableCallback([&] {
    ++calls;
    callback->scheduleNextIteration();
  });
  callback->scheduleNextIteration();
  for (int i = 1; i <= 5; ++i) {
    dispatcher_->run(RunType::NonBlock);
    EXPECT_EQ(i, calls);
  }
}

TEST_F(SchedulableCallbackTest, ThatSchedulesItselfForTheNextIterationDoesNotStarveTimers) {
  SchedulableCallbackPtr callback;
  callback = dispatcher_->createSchedulableCallback([&] { callback->scheduleNextIteration(); });
  callback->scheduleNextIteration();
  TimerPtr timer = dispatcher_->createTimer([&] { dispatcher_->exit(); });
  timer->enableTimer(2ms);
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_FALSE(timer->enabled());
}

TEST_F(SchedulableCallbackTest, ThatAlwaysSchedulesItselfInTheSameIterationStarvesNobody) {
  Pair pair = makeSocketPair();
  SchedulableCallbackPtr callback;
  callback = dispatcher_->createSchedulableCallback([&] { callback->scheduleCurrentIteration(); });
  callback->scheduleCurrentIteration();
  bool file = false;
  bool posted = false;
  const auto end_with_both = [&] {
    if (file && posted) {
      dispatcher_->exit();
    }
  };
  auto event = dispatcher_->createFileEvent(
      pair.watched.get(),
      [&](uint32_t) {
        file = true;
        end_with_both();
      },
      FileTriggerType::Level, FileReadyType::Write);
  ASSERT_TRUE(event.ok());
  TimerPtr timer = dispatcher_->createTimer([&] {
    dispatcher_->post([&] {
      posted = true;
      end_with_both();
    });
  });
  timer->enableTimer(1ms);
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_TRUE(file);
  EXPECT_TRUE(posted);
}

TEST_F(SchedulableCallbackTest, CancelledByAnotherOfTheSameIterationNeverRuns) {
  SchedulableCallbackPtr second = numbered(2);
  SchedulableCallbackPtr third = numbered(3);
  SchedulableCallbackPtr first = dispatcher_->createSchedulableCallback([&] {
    order_.push_back(1);
    second->cancel();
  });
  first->scheduleCurrentIteration();
  second->scheduleCurrentIteration();
  third->scheduleCurrentIteration();
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre(1, 3));
}

TEST_F(SchedulableCallbackTest, DestroyedByAnotherOfTheSameIterationNeverRuns) {
  for (const bool next_iteration : {false, true}) {
    order_.clear();
    SchedulableCallbackPtr second = numbered(2);
    SchedulableCallbackPtr third = numbered(3);
    SchedulableCallbackPtr first = dispatcher_->createSchedulableCallback([&] {
      order_.push_back(1);
      second.reset();
    });
    for (SchedulableCallbackPtr* callback : {&first, &second, &third}) {
      next_iteration ? (*callback)->scheduleNextIteration() : (*callback)->scheduleCurrentIteration();
    }
    dispatcher_->run(RunType::Block);
    EXPECT_THAT(order_, ElementsAre(1, 3));
  }
}

TEST_F(SchedulableCallbackTest, DestroyingAllFromOneLeavesTheLoopWhole) {
  std::vector<SchedulableCallbackPtr> callbacks;
  int calls = 0;
  for (int i = 0; i < 5; ++i) {
    callbacks.push_back(dispatcher_->createSchedulableCallback([&] {
      ++calls;
      callbacks.clear();
    }));
  }
  for (const SchedulableCallbackPtr& callback : callbacks) {
    callback->scheduleCurrentIteration();
  }
  SchedulableCallbackPtr last = numbered(9);
  last->scheduleCurrentIteration();
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(1, calls);
  EXPECT_THAT(order_, ElementsAre(9));
}

TEST_F(SchedulableCallbackTest, ManyRunInTheOrderOfScheduling) {
  std::vector<SchedulableCallbackPtr> callbacks;
  std::vector<int> expected;
  for (int i = 0; i < 1000; ++i) {
    callbacks.push_back(numbered(i));
  }
  for (int i = 999; i >= 0; --i) {
    callbacks[i]->scheduleCurrentIteration();
    expected.push_back(i);
  }
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(expected, order_);
}

}  // namespace
}  // namespace nuncio::test
