// Exceptions that callbacks let escape: caught, logged, counted, and the loop goes on.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/log_capture.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

class CallbackExceptionTest : public testing::Test {
protected:
  // One exception was counted, and logged with its text and the dispatcher's name; the loop still works.
  void expectOneException() {
    EXPECT_EQ(1u, dispatcher_->stats().callback_exceptions);
    EXPECT_THAT(log_.text(), AllOf(HasSubstr("[error]"), HasSubstr("thrown on purpose"), HasSubstr("thrower")));
    bool ran = false;
    dispatcher_->post([&] { ran = true; });
    dispatcher_->run(RunType::NonBlock);
    EXPECT_TRUE(ran);
  }
  [[noreturn]] static void fail() { throw std::runtime_error("thrown on purpose"); }

  LogCapture log_{LogLayer::Event};
  Pair pair_ = makeSocketPair();
  DispatcherPtr dispatcher_ = createDispatcher({.name = "thrower"});
};

TEST_F(CallbackExceptionTest, OfAPostIsCaught) {
  dispatcher_->post([] { fail(); });
  dispatcher_->run(RunType::Block);
  expectOneException();
}

TEST_F(CallbackExceptionTest, OfAPostKeepsTheRestOfTheBatchAndDestroysItsCaptures) {
  std::vector<std::string> order;
  dispatcher_->post([probe = OnDestroy([&] { order.push_back("~first"); })] { fail(); });
  dispatcher_->post([&] { order.push_back("second"); });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order, ElementsAre("~first", "second"));
  expectOneException();
}

TEST_F(CallbackExceptionTest, OfATimerIsCaughtAndTheOthersFire) {
  int fired = 0;
  TimerPtr first = dispatcher_->createTimer([] { fail(); });
  TimerPtr second = dispatcher_->createTimer([&] { ++fired; });
  first->enableTimer(0ms);
  second->enableTimer(0ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, fired);
  expectOneException();
}

TEST_F(CallbackExceptionTest, OfATimerLeavesItReadyToBeArmedAgain) {
  int fired = 0;
  TimerPtr timer = dispatcher_->createTimer([&] {
    if (++fired == 1) {
      fail();
    }
  });
  for (int i = 1; i <= 2; ++i) {
    timer->enableTimer(0ms);
    dispatcher_->run(RunType::NonBlock);
    EXPECT_EQ(i, fired);
    EXPECT_FALSE(timer->enabled());
  }
  expectOneException();
}

TEST_F(CallbackExceptionTest, OfATimerThatDestroyedItselfIsCaught) {
  TimerPtr timer;
  timer = dispatcher_->createTimer([&] {
    timer.reset();
    fail();
  });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::Block);
  expectOneException();
}

TEST_F(CallbackExceptionTest, OfASchedulableCallbackIsCaughtAndTheOthersRun) {
  int ran = 0;
  SchedulableCallbackPtr first = dispatcher_->createSchedulableCallback([] { fail(); });
  SchedulableCallbackPtr second = dispatcher_->createSchedulableCallback([&] { ++ran; });
  first->scheduleCurrentIteration();
  second->scheduleCurrentIteration();
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(1, ran);
  expectOneException();
}

TEST_F(CallbackExceptionTest, OfASchedulableCallbackThatDestroyedItselfIsCaught) {
  SchedulableCallbackPtr callback;
  callback = dispatcher_->createSchedulableCallback([&] {
    callback.reset();
    fail();
  });
  callback->scheduleCurrentIteration();
  dispatcher_->run(RunType::Block);
  expectOneException();
}

TEST_F(CallbackExceptionTest, OfAFileEventIsCaughtAndTheEventGoesOn) {
  int calls = 0;
  auto event = dispatcher_->createFileEvent(
      pair_.watched.get(),
      [&](uint32_t) {
        if (++calls == 1) {
          fail();
        }
      },
      FileTriggerType::Level, FileReadyType::Write);
  ASSERT_TRUE(event.ok());
  dispatcher_->run(RunType::NonBlock);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(2, calls);
  expectOneException();
}

TEST_F(CallbackExceptionTest, OfAFileEventThatDestroyedItselfIsCaught) {
  FileEventPtr event;
  event = *dispatcher_->createFileEvent(
      pair_.watched.get(),
      [&](uint32_t) {
        event.reset();
        fail();
      },
      FileTriggerType::Level, FileReadyType::Write);
  dispatcher_->run(RunType::Block);
  expectOneException();
}

TEST_F(CallbackExceptionTest, OfASignalIsCaught) {
  auto event = dispatcher_->listenForSignal(SIGUSR1, [] { fail(); });
  ASSERT_TRUE(event.ok());
  raise(SIGUSR1);
  dispatcher_->run(RunType::NonBlock);
  expectOneException();
}

TEST_F(CallbackExceptionTest, ThatIsNoStdExceptionIsCaught) {
  dispatcher_->post([] { throw 42; });
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(1u, dispatcher_->stats().callback_exceptions);
  EXPECT_THAT(log_.text(), HasSubstr("[error]"));
}

TEST_F(CallbackExceptionTest, IsCountedEachTime) {
  for (int i = 0; i < 100; ++i) {
    dispatcher_->post([] { fail(); });
  }
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(100u, dispatcher_->stats().callback_exceptions);
  EXPECT_EQ(100u, dispatcher_->stats().posts_run);
}

TEST_F(CallbackExceptionTest, DoesNotEndRunUntilExit) {
  dispatcher_->post([] { fail(); });
  TimerPtr timer = dispatcher_->createTimer([&] { dispatcher_->exit(); });
  timer->enableTimer(2ms);
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_FALSE(timer->enabled());
  expectOneException();
}

// terminate_on_exception

class TerminateOnExceptionTest : public testing::Test {
protected:
  TerminateOnExceptionTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
  DispatcherPtr dispatcher_ = createDispatcher({.name = "strict", .terminate_on_exception = true});
};

TEST_F(TerminateOnExceptionTest, OfAPostTerminates) {
  dispatcher_->post([] { throw std::runtime_error("thrown on purpose"); });
  EXPECT_EXIT(dispatcher_->run(RunType::Block), testing::KilledBySignal(SIGABRT), "");
}

TEST_F(TerminateOnExceptionTest, OfATimerTerminates) {
  TimerPtr timer = dispatcher_->createTimer([] { throw std::runtime_error("thrown on purpose"); });
  timer->enableTimer(0ms);
  EXPECT_EXIT(dispatcher_->run(RunType::Block), testing::KilledBySignal(SIGABRT), "");
}

TEST_F(TerminateOnExceptionTest, OfAFileEventTerminates) {
  Pair pair = makeSocketPair();
  auto event = dispatcher_->createFileEvent(
      pair.watched.get(), [](uint32_t) { throw 1; }, FileTriggerType::Level, FileReadyType::Write);
  EXPECT_EXIT(dispatcher_->run(RunType::NonBlock), testing::KilledBySignal(SIGABRT), "");
}

TEST_F(TerminateOnExceptionTest, OfASchedulableCallbackTerminates) {
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([] { throw 1; });
  callback->scheduleCurrentIteration();
  EXPECT_EXIT(dispatcher_->run(RunType::Block), testing::KilledBySignal(SIGABRT), "");
}

TEST(CallbackExceptionLogTest, TakesALineASecondAtMostAndCountsTheRest) {
  LogCapture log(LogLayer::Event);
  SimulatedTimeSystem time;
  DispatcherPtr dispatcher = createDispatcher({.name = "thrower", .time_system = &time});
  const auto lines = [&log] {
    const std::string text = log.text();
    return std::count(text.begin(), text.end(), '\n');
  };
  const auto fail = [&](int times) {
    for (int i = 0; i < times; ++i) {
      dispatcher->post([] { throw std::runtime_error("thrown on purpose"); });
    }
    dispatcher->run(RunType::Block);
  };
  fail(1000);
  EXPECT_EQ(1, lines());
  EXPECT_EQ(1000u, dispatcher->stats().callback_exceptions);
  time.advanceTimeAndRun(999ms);
  fail(1);
  EXPECT_EQ(1, lines());
  time.advanceTimeAndRun(1ms);
  fail(2);
  EXPECT_EQ(2, lines());
  EXPECT_THAT(log.text(), HasSubstr("1000 more"));
  dispatcher.reset();
  EXPECT_EQ(3, lines());
  EXPECT_THAT(log.text(), HasSubstr("1 more")) << "the last one is not lost";
}

}  // namespace
}  // namespace nuncio::test
