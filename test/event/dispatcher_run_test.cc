#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/contract.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::_;
using testing::ElementsAre;
using testing::HasSubstr;

class DispatcherRunTest : public testing::Test {
protected:
  // A file event that is always ready, and runs `cb` in each iteration.
  FileEventPtr alwaysReady(std::function<void()> cb) {
    auto event = dispatcher_->createFileEvent(
        pair_.watched.get(), [cb = std::move(cb)](uint32_t) { cb(); }, FileTriggerType::Level, FileReadyType::Write);
    EXPECT_TRUE(event.ok()) << event.status();
    return *std::move(event);
  }
  // Runs a timer, a file event and a post that are made in this order and due at once; returns the order they ran in.
  std::vector<std::string> orderOfTimerFileAndPost() {
    std::vector<std::string> order;
    TimerPtr timer = dispatcher_->createTimer([&] { order.push_back("timer"); });
    timer->enableTimer(0ms);
    FileEventPtr event = alwaysReady([&] { order.push_back("file"); });
    dispatcher_->post([&] { order.push_back("post"); });
    dispatcher_->run(RunType::NonBlock);
    return order;
  }

  Pair pair_ = makeSocketPair();
  DispatcherPtr dispatcher_ = createDispatcher({.name = "run_test"});
};

TEST_F(DispatcherRunTest, BlockReturnsAtOnceWhenThereIsNothingToDo) { dispatcher_->run(RunType::Block); }

TEST_F(DispatcherRunTest, NonBlockReturnsAtOnceWhenThereIsNothingToDo) { dispatcher_->run(RunType::NonBlock); }

TEST_F(DispatcherRunTest, RunUntilExitBlocksWithNothingToDoUntilAnotherThreadCallsExit) {
  Notification running;
  Notification returned;
  dispatcher_->post([&] { running.notify(); });
  std::thread loop([&] {
    dispatcher_->run(RunType::RunUntilExit);
    returned.notify();
  });
  ASSERT_TRUE(running.wait());
  EXPECT_FALSE(returned.notified());
  dispatcher_->exit();
  EXPECT_TRUE(returned.wait());
  loop.join();
}

TEST_F(DispatcherRunTest, RunUntilExitGoesOnWhenTheLastTimerHasFired) {
  bool second = false;
  TimerPtr timer = dispatcher_->createTimer([] {});
  timer->enableTimer(0ms);
  DispatcherThread thread(*dispatcher_);
  thread.call([] {});
  thread.call([&] { second = true; });
  thread.stop();
  EXPECT_TRUE(second);
}

TEST_F(DispatcherRunTest, BlockReturnsWhenTheLastTimerHasFired) {
  int fired = 0;
  TimerPtr first = dispatcher_->createTimer([&] { ++fired; });
  TimerPtr second = dispatcher_->createTimer([&] { ++fired; });
  first->enableTimer(1ms);
  second->enableTimer(5ms);
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(2, fired);
}

TEST_F(DispatcherRunTest, BlockWithADisabledTimerReturns) {
  TimerPtr timer = dispatcher_->createTimer([] {});
  timer->enableTimer(1h);
  timer->disableTimer();
  dispatcher_->run(RunType::Block);
}

TEST_F(DispatcherRunTest, BlockWithADestroyedTimerReturns) {
  TimerPtr timer = dispatcher_->createTimer([] {});
  timer->enableTimer(1h);
  timer.reset();
  dispatcher_->run(RunType::Block);
}

TEST_F(DispatcherRunTest, BlockWithADisabledFileEventReturns) {
  auto event = dispatcher_->createFileEvent(pair_.watched.get(), [](uint32_t) {}, FileTriggerType::Edge, 0);
  ASSERT_TRUE(event.ok());
  dispatcher_->run(RunType::Block);
  EXPECT_TRUE((*event)->setEnabled(FileReadyType::Read));
  EXPECT_TRUE((*event)->setEnabled(0));
  dispatcher_->run(RunType::Block);
}

TEST_F(DispatcherRunTest, BlockReturnsWhenTheLastFileEventIsDisabledInItsCallback) {
  FileEventPtr event;
  event = alwaysReady([&] { EXPECT_TRUE(event->setEnabled(0)); });
  dispatcher_->run(RunType::Block);
}

TEST_F(DispatcherRunTest, BlockReturnsWhenTheLastFileEventIsDestroyedInItsCallback) {
  FileEventPtr event;
  event = alwaysReady([&] { event.reset(); });
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(nullptr, event);
}

TEST_F(DispatcherRunTest, BlockRunsPostsAndWhatThesePost) {
  std::vector<int> order;
  dispatcher_->post([&] {
    order.push_back(1);
    dispatcher_->post([&] {
      order.push_back(2);
      dispatcher_->post([&] { order.push_back(3); });
    });
  });
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order, ElementsAre(1, 2, 3));
}

TEST_F(DispatcherRunTest, BlockRunsScheduledCallbacksForThisAndTheNextIteration) {
  int calls = 0;
  SchedulableCallbackPtr current = dispatcher_->createSchedulableCallback([&] { ++calls; });
  SchedulableCallbackPtr next = dispatcher_->createSchedulableCallback([&] { ++calls; });
  current->scheduleCurrentIteration();
  next->scheduleNextIteration();
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(2, calls);
}

TEST_F(DispatcherRunTest, BlockDeletesWhatIsDeferredBeforeItReturns) {
  bool deleted = false;
  dispatcher_->deferredDelete(makeDeferred([&] { deleted = true; }));
  dispatcher_->run(RunType::Block);
  EXPECT_TRUE(deleted);
}

TEST_F(DispatcherRunTest, BlockReturnsOnExitFromAnotherThreadWhileAFileEventIsEnabled) {
  auto event =
      dispatcher_->createFileEvent(pair_.watched.get(), [](uint32_t) {}, FileTriggerType::Edge, FileReadyType::Read);
  ASSERT_TRUE(event.ok());
  Notification running;
  dispatcher_->post([&] { running.notify(); });
  std::thread other([&] {
    EXPECT_TRUE(running.wait());
    dispatcher_->exit();
  });
  dispatcher_->run(RunType::Block);
  other.join();
}

TEST_F(DispatcherRunTest, NonBlockHandlesWhatIsReadyAndReturns) {
  bool posted = false;
  bool fired = false;
  uint32_t ready = 0;
  dispatcher_->post([&] { posted = true; });
  TimerPtr timer = dispatcher_->createTimer([&] { fired = true; });
  timer->enableTimer(0ms);
  TimerPtr later = dispatcher_->createTimer([] { FAIL() << "not due"; });
  later->enableTimer(1h);
  auto event = dispatcher_->createFileEvent(
      pair_.watched.get(), [&](uint32_t events) { ready = events; }, FileTriggerType::Edge, FileReadyType::Write);
  ASSERT_TRUE(event.ok());
  dispatcher_->run(RunType::NonBlock);
  EXPECT_TRUE(posted);
  EXPECT_TRUE(fired);
  EXPECT_EQ(FileReadyType::Write, ready);
  EXPECT_TRUE(later->enabled());
}

TEST_F(DispatcherRunTest, NonBlockReturnsAfterOneIterationWithAnFdThatIsAlwaysReady) {
  int calls = 0;
  FileEventPtr event = alwaysReady([&] { ++calls; });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(2, calls);
}

TEST_F(DispatcherRunTest, NonBlockReturnsWithATimerThatAlwaysRearmsItself) {
  TimerPtr timer;
  timer = dispatcher_->createTimer([&] { timer->enableTimer(0ms); });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_TRUE(timer->enabled());
}

TEST_F(DispatcherRunTest, NonBlockReturnsWithACallbackThatAlwaysPostsItself) {
  std::function<void()> again = [&] { dispatcher_->post([&] { again(); }); };
  again();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_GT(dispatcher_->stats().posts_run, 0u);
}

TEST_F(DispatcherRunTest, NonBlockReturnsWithACallbackThatAlwaysSchedulesItselfInTheSameIteration) {
  SchedulableCallbackPtr callback;
  callback = dispatcher_->createSchedulableCallback([&] { callback->scheduleCurrentIteration(); });
  callback->scheduleCurrentIteration();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_TRUE(callback->enabled());
}

TEST_F(DispatcherRunTest, PostsBeforeRunRunBeforeFileAndTimerEvents) {
  EXPECT_THAT(orderOfTimerFileAndPost(), ElementsAre("post", _, _));
}

TEST_F(DispatcherRunTest, PostsBetweenRunsRunBeforeFileAndTimerEventsOfTheNextRun) {
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(orderOfTimerFileAndPost(), ElementsAre("post", _, _));
}

TEST_F(DispatcherRunTest, AnIterationRunsFileEventsThenTimersThenScheduledCallbacksThenPosts) {
  std::vector<std::string> order;
  SchedulableCallbackPtr scheduled = dispatcher_->createSchedulableCallback([&] { order.push_back("scheduled"); });
  TimerPtr timer = dispatcher_->createTimer([&] { order.push_back("timer"); });
  FileEventPtr event;
  event = alwaysReady([&] {
    order.push_back("file");
    event.reset();
    dispatcher_->post([&] { order.push_back("post"); });
    dispatcher_->deferredDelete(makeDeferred([&] { order.push_back("deferred"); }));
    scheduled->scheduleCurrentIteration();
  });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order, ElementsAre("file", "timer", "scheduled", "deferred", "post"));
}

TEST_F(DispatcherRunTest, AnIterationRunsActivationsAndWhatWasScheduledForItAfterTimersInTheOrderOfScheduling) {
  std::vector<std::string> order;
  auto event = dispatcher_->createFileEvent(
      pair_.watched.get(), [&](uint32_t) { order.push_back("activation"); }, FileTriggerType::Edge, 0);
  ASSERT_TRUE(event.ok()) << event.status();
  SchedulableCallbackPtr first = dispatcher_->createSchedulableCallback([&] { order.push_back("first"); });
  SchedulableCallbackPtr last = dispatcher_->createSchedulableCallback([&] { order.push_back("last"); });
  TimerPtr timer = dispatcher_->createTimer([&] { order.push_back("timer"); });
  first->scheduleNextIteration();
  (*event)->activate(FileReadyType::Read);
  last->scheduleNextIteration();
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order, ElementsAre("timer", "first", "activation", "last"));
}

// Timers armed with 0

TEST_F(DispatcherRunTest, ZeroTimerArmedBeforeRunFiresInItsFirstIterationAfterPostsAndFileEvents) {
  std::vector<std::string> order;
  TimerPtr timer = dispatcher_->createTimer([&] { order.push_back("timer"); });
  timer->enableTimer(0ms);
  FileEventPtr event = alwaysReady([&] { order.push_back("file"); });
  SchedulableCallbackPtr scheduled = dispatcher_->createSchedulableCallback([&] { order.push_back("scheduled"); });
  dispatcher_->post([&] { order.push_back("post"); });
  scheduled->scheduleCurrentIteration();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order, ElementsAre("scheduled", "post", "file", "timer"));
}

TEST_F(DispatcherRunTest, ZeroTimerArmedByAPostFromBeforeRunFiresInItsFirstIteration) {
  TimerPtr timer = dispatcher_->createTimer([] {});
  dispatcher_->post([&] { timer->enableTimer(0ms); });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_FALSE(timer->enabled());
  EXPECT_EQ(1u, dispatcher_->stats().timers_fired);
}

TEST_F(DispatcherRunTest, ZeroTimerArmedByAFileEventFiresInTheNextIteration) {
  std::vector<std::string> order;
  SchedulableCallbackPtr scheduled = dispatcher_->createSchedulableCallback([&] { order.push_back("scheduled"); });
  TimerPtr timer = dispatcher_->createTimer([&] { order.push_back("timer"); });
  FileEventPtr event = alwaysReady([&] {
    order.push_back("file");
    scheduled->scheduleCurrentIteration();
    timer->enableTimer(0ms);
  });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order, ElementsAre("file", "scheduled"));
  event.reset();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order, ElementsAre("file", "scheduled", "timer"));
}

TEST_F(DispatcherRunTest, ZeroTimerArmedByAPostFiresInTheNextIteration) {
  TimerPtr timer = dispatcher_->createTimer([] {});
  FileEventPtr event = alwaysReady([&] { dispatcher_->post([&] { timer->enableTimer(0ms); }); });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_TRUE(timer->enabled());
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1u, dispatcher_->stats().timers_fired);
}

// exit()

TEST_F(DispatcherRunTest, ExitBeforeRunIsNotLost) {
  dispatcher_->exit();
  dispatcher_->run(RunType::RunUntilExit);
}

TEST_F(DispatcherRunTest, ExitBeforeRunStillRunsWhatIsReady) {
  int calls = 0;
  bool posted = false;
  FileEventPtr event = alwaysReady([&] { ++calls; });
  dispatcher_->post([&] { posted = true; });
  dispatcher_->exit();
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_EQ(1, calls);
  EXPECT_TRUE(posted);
}

TEST_F(DispatcherRunTest, ExitBeforeRunWithBlockDoesNotWaitForATimer) {
  TimerPtr timer = dispatcher_->createTimer([] {});
  timer->enableTimer(1h);
  dispatcher_->exit();
  dispatcher_->run(RunType::Block);
  EXPECT_TRUE(timer->enabled());
}

TEST_F(DispatcherRunTest, ExitBeforeRunFromAnotherThreadIsNotLost) {
  std::thread([&] { dispatcher_->exit(); }).join();
  dispatcher_->run(RunType::RunUntilExit);
}

TEST_F(DispatcherRunTest, ExitInsideACallbackLetsCallbacksThatAreActiveRun) {
  Pair other = makeSocketPair();
  int calls = 0;
  FileEventPtr first = alwaysReady([&] {
    ++calls;
    dispatcher_->exit();
  });
  auto second = dispatcher_->createFileEvent(
      other.watched.get(),
      [&](uint32_t) {
        ++calls;
        dispatcher_->exit();
      },
      FileTriggerType::Level, FileReadyType::Write);
  ASSERT_TRUE(second.ok());
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_EQ(2, calls);
}

TEST_F(DispatcherRunTest, ExitInsideATimerLetsTheOtherDueTimersRun) {
  int calls = 0;
  TimerPtr first = dispatcher_->createTimer([&] {
    ++calls;
    dispatcher_->exit();
  });
  TimerPtr second = dispatcher_->createTimer([&] { ++calls; });
  first->enableTimer(0ms);
  second->enableTimer(0ms);
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_EQ(2, calls);
}

TEST_F(DispatcherRunTest, ExitInsideAPostLetsTheRestOfTheBatchRun) {
  int calls = 0;
  dispatcher_->post([&] {
    ++calls;
    dispatcher_->exit();
  });
  dispatcher_->post([&] { ++calls; });
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_EQ(2, calls);
}

TEST_F(DispatcherRunTest, ExitInsideAScheduledCallbackReturns) {
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([&] { dispatcher_->exit(); });
  callback->scheduleNextIteration();
  dispatcher_->run(RunType::RunUntilExit);
}

TEST_F(DispatcherRunTest, ExitReturnsThoughACallbackPostsItselfForEver) {
  int rounds = 0;
  std::function<void()> again = [&] {
    if (++rounds == 1000) {
      dispatcher_->exit();
    }
    dispatcher_->post([&] { again(); });
  };
  dispatcher_->post([&] { again(); });
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_GE(rounds, 1000);
}

TEST_F(DispatcherRunTest, ExitInsideACallbackDoesNotReachTheNextRun) {
  bool fired = false;
  TimerPtr timer = dispatcher_->createTimer([&] {
    fired = true;
    dispatcher_->exit();
  });
  dispatcher_->post([&] { dispatcher_->exit(); });
  dispatcher_->run(RunType::RunUntilExit);
  timer->enableTimer(2ms);
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_TRUE(fired);
}

TEST_F(DispatcherRunTest, ExitBeforeRunCountsOnceHoweverOftenItIsCalled) {
  bool fired = false;
  TimerPtr timer = dispatcher_->createTimer([&] {
    fired = true;
    dispatcher_->exit();
  });
  dispatcher_->exit();
  dispatcher_->exit();
  dispatcher_->run(RunType::RunUntilExit);
  timer->enableTimer(2ms);
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_TRUE(fired);
}

TEST_F(DispatcherRunTest, ExitInsideARunThatEndsForAnotherReasonDoesNotReachTheNextRun) {
  for (const RunType type : {RunType::Block, RunType::NonBlock}) {
    dispatcher_->post([&] { dispatcher_->exit(); });  // the last thing to do: the run ends anyway
    dispatcher_->run(type);
    bool fired = false;
    TimerPtr timer = dispatcher_->createTimer([&] {
      fired = true;
      dispatcher_->exit();
    });
    timer->enableTimer(2ms);
    dispatcher_->run(RunType::RunUntilExit);
    EXPECT_TRUE(fired);
  }
}

TEST_F(DispatcherRunTest, ExitThatRacesWithTheStartOfRunIsNeverLost) {
  constexpr int kRounds = 2000;
  std::atomic<int> round{0};
  std::thread other([&] {
    for (int i = 1; i <= kRounds; ++i) {
      while (round.load(std::memory_order_acquire) < i) {
        std::this_thread::yield();
      }
      dispatcher_->exit();
    }
  });
  for (int i = 1; i <= kRounds; ++i) {
    round.store(i, std::memory_order_release);
    dispatcher_->run(RunType::RunUntilExit);  // hangs when the exit is lost
  }
  other.join();
}

TEST_F(DispatcherRunTest, ExitIsSafeInASignalHandler) {
  static Dispatcher* exiting = nullptr;
  exiting = dispatcher_.get();
  struct sigaction action{};
  struct sigaction former{};
  action.sa_handler = [](int) { exiting->exit(); };
  ASSERT_EQ(0, sigaction(SIGUSR1, &action, &former));
  dispatcher_->post([] { raise(SIGUSR1); });
  dispatcher_->run(RunType::RunUntilExit);
  ASSERT_EQ(0, sigaction(SIGUSR1, &former, nullptr));
}

// shutdown() and run()

TEST_F(DispatcherRunTest, RunAfterShutdownReturnsAtOnce) {
  FileEventPtr event = alwaysReady([] { FAIL() << "ran after shutdown"; });
  TimerPtr timer = dispatcher_->createTimer([] { FAIL() << "ran after shutdown"; });
  timer->enableTimer(0ms);
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([] { FAIL() << "ran after shutdown"; });
  callback->scheduleCurrentIteration();
  dispatcher_->shutdown();
  dispatcher_->run(RunType::NonBlock);
  dispatcher_->run(RunType::Block);
  dispatcher_->run(RunType::RunUntilExit);
}

TEST_F(DispatcherRunTest, ExitAfterShutdownDoesNothing) {
  dispatcher_->shutdown();
  dispatcher_->exit();
  dispatcher_->run(RunType::RunUntilExit);
}

// isThreadSafe()

TEST_F(DispatcherRunTest, AnyThreadIsSafeBeforeTheFirstRun) {
  EXPECT_TRUE(dispatcher_->isThreadSafe());
  std::thread([&] { EXPECT_TRUE(dispatcher_->isThreadSafe()); }).join();
}

TEST_F(DispatcherRunTest, OnlyTheLoopsThreadIsSafeWhileItRuns) {
  DispatcherThread thread(*dispatcher_);
  EXPECT_FALSE(dispatcher_->isThreadSafe());
  bool safe = false;
  thread.call([&] { safe = dispatcher_->isThreadSafe(); });
  EXPECT_TRUE(safe);
}

TEST_F(DispatcherRunTest, OnlyTheLoopsThreadIsSafeAfterARun) {
  dispatcher_->run(RunType::NonBlock);
  EXPECT_TRUE(dispatcher_->isThreadSafe());
  std::thread([&] { EXPECT_FALSE(dispatcher_->isThreadSafe()); }).join();
}

// Names, options, statistics

TEST_F(DispatcherRunTest, NameIsThatOfTheOptions) {
  EXPECT_EQ("run_test", dispatcher_->name());
  EXPECT_EQ("dispatcher", createDispatcher()->name());
}

TEST_F(DispatcherRunTest, TimeSourceIsTheRealOneUnlessAnotherIsGiven) {
  EXPECT_EQ(&realTimeSystem(), &dispatcher_->timeSource());
  SimulatedTimeSystem time;
  DispatcherPtr simulated = createDispatcher({.time_system = &time});
  EXPECT_EQ(&time, &simulated->timeSource());
}

TEST_F(DispatcherRunTest, StatsStartAtZeroAndCount) {
  EXPECT_EQ(0u, dispatcher_->stats().iterations);
  EXPECT_EQ(0u, dispatcher_->stats().posts_run);
  EXPECT_EQ(0u, dispatcher_->stats().timers_fired);
  EXPECT_EQ(0u, dispatcher_->stats().wakeups);
  EXPECT_EQ(0u, dispatcher_->stats().callback_exceptions);
  TimerPtr timer = dispatcher_->createTimer([] {});
  timer->enableTimer(0ms);
  dispatcher_->post([] {});
  dispatcher_->post([] {});
  dispatcher_->run(RunType::NonBlock);
  EXPECT_GE(dispatcher_->stats().iterations, 1u);
  EXPECT_EQ(2u, dispatcher_->stats().posts_run);
  EXPECT_EQ(1u, dispatcher_->stats().timers_fired);
  EXPECT_EQ(0u, dispatcher_->stats().wakeups);
}

TEST(DispatcherOptionsTest, NoPostBatchesAreInvalid) {
  const auto dispatcher = tryCreateDispatcher({.max_post_batches_per_iteration = 0});
  EXPECT_TRUE(absl::IsInvalidArgument(dispatcher.status())) << dispatcher.status();
}

TEST(DispatcherOptionsTest, NoOrNegativeCallbackTimeIsInvalid) {
  for (const auto time : {0us, -1us}) {
    const auto dispatcher = tryCreateDispatcher({.max_callback_time_per_iteration = time});
    EXPECT_TRUE(absl::IsInvalidArgument(dispatcher.status())) << dispatcher.status();
  }
}

TEST(DispatcherOptionsTest, NegativeBusyPollIsInvalid) {
  const auto dispatcher = tryCreateDispatcher({.busy_poll = -1us});
  EXPECT_TRUE(absl::IsInvalidArgument(dispatcher.status())) << dispatcher.status();
}

TEST(DispatcherOptionsTest, CreateDispatcherGivesNullForInvalidOptionsAndLogsWhy) {
  LogCapture log(LogLayer::Event);
  EXPECT_EQ(nullptr, createDispatcher({.max_post_batches_per_iteration = 0}));
  EXPECT_THAT(log.text(), HasSubstr("limits of an iteration"));
}

TEST(DispatcherOptionsTest, HugeOptionsAreAccepted) {
  DispatcherPtr dispatcher = createDispatcher({.max_post_batches_per_iteration = UINT32_MAX,
                                               .max_callback_time_per_iteration = std::chrono::microseconds::max()});
  ASSERT_NE(nullptr, dispatcher);
  int calls = 0;
  for (int i = 0; i < 100; ++i) {
    dispatcher->post([&] { ++calls; });
  }
  dispatcher->run(RunType::Block);
  EXPECT_EQ(100, calls);
}

TEST(DispatcherOptionsTest, ManyDispatchersLiveSideBySide) {
  std::vector<DispatcherPtr> dispatchers;
  int calls = 0;
  for (int i = 0; i < 50; ++i) {
    dispatchers.push_back(createDispatcher({.name = "one of many"}));
    ASSERT_NE(nullptr, dispatchers.back());
    dispatchers.back()->post([&] { ++calls; });
  }
  for (const DispatcherPtr& dispatcher : dispatchers) {
    dispatcher->run(RunType::NonBlock);
  }
  EXPECT_EQ(50, calls);
}

// Busy polling

class BusyPollTest : public testing::Test {
protected:
  DispatcherPtr dispatcher_ = createDispatcher({.name = "busy", .busy_poll = 2ms});
};

TEST_F(BusyPollTest, BlockReturnsAtOnceWhenThereIsNothingToDo) { dispatcher_->run(RunType::Block); }

TEST_F(BusyPollTest, PostsFromAnotherThreadRun) {
  DispatcherThread thread(*dispatcher_);
  for (int i = 0; i < 100; ++i) {
    thread.call([] {});
  }
}

TEST_F(BusyPollTest, TimersThatAreDueWithinTheSpinAreNotDelayedBeyondIt) {
  TimerPtr timer = dispatcher_->createTimer([] {});
  const MonotonicTime start = std::chrono::steady_clock::now();
  timer->enableHRTimer(200us);
  dispatcher_->run(RunType::Block);
  EXPECT_GE(std::chrono::steady_clock::now() - start, 200us);
  EXPECT_FALSE(timer->enabled());
}

TEST_F(BusyPollTest, FileEventsAreSeen) {
  Pair pair = makeSocketPair();
  FileEventPtr event;
  auto created = dispatcher_->createFileEvent(
      pair.watched.get(), [&](uint32_t) { event.reset(); }, FileTriggerType::Level, FileReadyType::Read);
  ASSERT_TRUE(created.ok());
  event = *std::move(created);
  std::thread writer([&] { writeText(pair.peer.get(), "x"); });
  dispatcher_->run(RunType::Block);
  writer.join();
  EXPECT_EQ(nullptr, event);
}

// The approximate time

template <class Pass>
void expectApproximateTimeRules(Dispatcher& dispatcher, Pass pass) {
  MonotonicTime first;
  MonotonicTime second;
  MonotonicTime updated;
  MonotonicTime later_run;
  dispatcher.post([&] {
    first = dispatcher.approximateMonotonicTime();
    pass();
    second = dispatcher.approximateMonotonicTime();
    dispatcher.updateApproximateMonotonicTime();
    updated = dispatcher.approximateMonotonicTime();
  });
  dispatcher.run(RunType::NonBlock);
  pass();
  dispatcher.post([&] { later_run = dispatcher.approximateMonotonicTime(); });
  dispatcher.run(RunType::NonBlock);
  EXPECT_EQ(first, second);
  EXPECT_LT(first, updated);
  EXPECT_LT(updated, later_run);
}

void spinFor(std::chrono::microseconds duration) {
  const MonotonicTime end = std::chrono::steady_clock::now() + duration;
  while (std::chrono::steady_clock::now() < end) {
  }
}

TEST(DispatcherApproximateTimeTest, IsEqualWithinACallbackAndLargerAfterUpdateAndInALaterRun) {
  DispatcherPtr dispatcher = createDispatcher();
  expectApproximateTimeRules(*dispatcher, [] { spinFor(10us); });
}

TEST(DispatcherApproximateTimeTest, KeepsItsRulesUnderSimulatedTime) {
  SimulatedTimeSystem time;
  DispatcherPtr dispatcher = createDispatcher({.time_system = &time});
  expectApproximateTimeRules(*dispatcher, [&] { time.advanceTimeAsync(1us); });
}

TEST(DispatcherApproximateTimeTest, IsLargerInALaterIterationOfTheSameRun) {
  DispatcherPtr dispatcher = createDispatcher();
  std::vector<MonotonicTime> times;
  TimerPtr timer;
  timer = dispatcher->createTimer([&] {
    times.push_back(dispatcher->approximateMonotonicTime());
    spinFor(1us);
    if (times.size() < 3) {
      timer->enableTimer(0ms);
    }
  });
  timer->enableTimer(0ms);
  dispatcher->run(RunType::Block);
  ASSERT_EQ(3u, times.size());
  EXPECT_LT(times[0], times[1]);
  EXPECT_LT(times[1], times[2]);
}

TEST(DispatcherApproximateTimeTest, IsNeverAheadOfTheClock) {
  DispatcherPtr dispatcher = createDispatcher();
  const MonotonicTime first = dispatcher->approximateMonotonicTime();
  EXPECT_LE(first, std::chrono::steady_clock::now());
  dispatcher->updateApproximateMonotonicTime();
  const MonotonicTime updated = dispatcher->approximateMonotonicTime();
  EXPECT_LE(updated, std::chrono::steady_clock::now());
}

TEST(DispatcherApproximateTimeTest, InATimerIsNotBeforeItsDeadline) {
  DispatcherPtr dispatcher = createDispatcher();
  MonotonicTime seen;
  TimerPtr timer = dispatcher->createTimer([&] { seen = dispatcher->approximateMonotonicTime(); });
  const MonotonicTime start = std::chrono::steady_clock::now();
  timer->enableTimer(3ms);
  dispatcher->run(RunType::Block);
  EXPECT_GE(seen, start + 3ms);
}

TEST(DispatcherApproximateTimeTest, IsReadAnewWhenTheIterationLooksAtItsTimersAndThenStays) {
  DispatcherPtr dispatcher = createDispatcher();
  Pair pair = makeSocketPair();
  std::vector<MonotonicTime> times;
  TimerPtr timer = dispatcher->createTimer([&] {
    times.push_back(dispatcher->approximateMonotonicTime());
    spinFor(1us);
    dispatcher->post([&] { times.push_back(dispatcher->approximateMonotonicTime()); });
  });
  auto event = dispatcher->createFileEvent(
      pair.watched.get(),
      [&](uint32_t) {
        times.push_back(dispatcher->approximateMonotonicTime());
        spinFor(1us);
      },
      FileTriggerType::Edge, FileReadyType::Write);
  ASSERT_TRUE(event.ok()) << event.status();
  timer->enableTimer(0ms);
  dispatcher->run(RunType::NonBlock);
  ASSERT_EQ(3u, times.size());
  EXPECT_LT(times[0], times[1]);
  EXPECT_EQ(times[1], times[2]);
}

}  // namespace
}  // namespace nuncio::test
