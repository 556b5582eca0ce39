// What breaks the library's contract: fatal in a debug build, with a message that says what, and a defined refusal in a
// release build.

#include "test/test_support/contract.h"

#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unistd.h>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "test/test_support/child_process.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::ContainsRegex;
using testing::HasSubstr;

class ContractTest : public testing::Test {
protected:
  ContractTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }

  // Other than the loop's.
  template <class F>
  static void onAnotherThread(F f) {
    std::thread(f).join();
  }

  Pair pair_ = makeSocketPair();
  DispatcherPtr dispatcher_ = createDispatcher({.name = "contracted"});
};

// Null callbacks

using NullCallbackTest = ContractTest;

TEST_F(NullCallbackTest, OfATimerIsRefused) {
  EXPECT_CONTRACT_VIOLATION(
      {
        TimerPtr timer = dispatcher_->createTimer(nullptr);
        ASSERT_NE(nullptr, timer);  // it does nothing
        timer->enableTimer(0ms);
        dispatcher_->run(RunType::Block);
      },
      AllOf(HasSubstr("contracted"), HasSubstr("createTimer")));
}

TEST_F(NullCallbackTest, OfASchedulableCallbackIsRefused) {
  EXPECT_CONTRACT_VIOLATION(
      {
        SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback(nullptr);
        ASSERT_NE(nullptr, callback);
        callback->scheduleCurrentIteration();
        dispatcher_->run(RunType::Block);
      },
      AllOf(HasSubstr("contracted"), HasSubstr("createSchedulableCallback")));
}

TEST_F(NullCallbackTest, OfAPostIsRefused) {
  EXPECT_CONTRACT_VIOLATION(
      {
        EXPECT_FALSE(dispatcher_->post(nullptr));
        dispatcher_->run(RunType::Block);
      },
      AllOf(HasSubstr("contracted"), HasSubstr("post")));
}

TEST_F(NullCallbackTest, OfAPostThroughAHandleIsRefused) {
  EXPECT_CONTRACT_VIOLATION(EXPECT_FALSE(dispatcher_->handle().post(nullptr)), HasSubstr("contracted"));
}

TEST_F(NullCallbackTest, OfAFileEventIsRefused) {
  EXPECT_CONTRACT_VIOLATION(
      {
        const auto event =
            dispatcher_->createFileEvent(pair_.watched.get(), nullptr, FileTriggerType::Edge, FileReadyType::Read);
        EXPECT_TRUE(absl::IsInvalidArgument(event.status())) << event.status();
      },
      AllOf(HasSubstr("contracted"), HasSubstr("createFileEvent")));
}

TEST_F(NullCallbackTest, OfASignalIsRefused) {
  EXPECT_CONTRACT_VIOLATION(
      {
        const auto event = dispatcher_->listenForSignal(SIGUSR1, nullptr);
        EXPECT_TRUE(absl::IsInvalidArgument(event.status())) << event.status();
      },
      AllOf(HasSubstr("contracted"), HasSubstr("listenForSignal")));
}

TEST_F(NullCallbackTest, IsAlsoAnEmptyStdFunctionOrANullFunctionPointer) {
  EXPECT_CONTRACT_VIOLATION(EXPECT_FALSE(dispatcher_->post(std::function<void()>())), HasSubstr("post"));
  void (*const none)() = nullptr;
  EXPECT_CONTRACT_VIOLATION(EXPECT_FALSE(dispatcher_->post(none)), HasSubstr("post"));
}

// Negative durations

using NegativeDurationTest = ContractTest;

TEST_F(NegativeDurationTest, OfATimerIsRefusedWithTheValueInTheMessage) {
  TimerPtr timer = dispatcher_->createTimer([] { FAIL() << "fired"; });
  EXPECT_CONTRACT_VIOLATION(
      {
        timer->enableTimer(-4321ms);
        EXPECT_FALSE(timer->enabled());
        dispatcher_->run(RunType::Block);
      },
      AllOf(HasSubstr("-4321"), HasSubstr("contracted"), HasSubstr("enableTimer")));
}

TEST_F(NegativeDurationTest, OfAHighResolutionTimerIsRefusedWithTheValueInTheMessage) {
  TimerPtr timer = dispatcher_->createTimer([] { FAIL() << "fired"; });
  EXPECT_CONTRACT_VIOLATION(
      {
        timer->enableHRTimer(-77us);
        EXPECT_FALSE(timer->enabled());
        dispatcher_->run(RunType::Block);
      },
      AllOf(HasSubstr("-77"), HasSubstr("contracted"), HasSubstr("enableHRTimer")));
}

TEST_F(NegativeDurationTest, TheSmallestIsRefusedToo) {
  TimerPtr timer = dispatcher_->createTimer([] { FAIL() << "fired"; });
  EXPECT_CONTRACT_VIOLATION(timer->enableTimer(std::chrono::milliseconds::min()), HasSubstr("-9223372036854775808"));
  EXPECT_CONTRACT_VIOLATION(timer->enableHRTimer(std::chrono::microseconds::min()), HasSubstr("-9223372036854775808"));
}

// File events

class FileEventContractTest : public ContractTest {
protected:
  FileEventPtr event_ = *dispatcher_->createFileEvent(
      pair_.watched.get(), [](uint32_t) { FAIL() << "called"; }, FileTriggerType::Edge, FileReadyType::Read);
};

TEST_F(FileEventContractTest, ActivatingNothingIsRefused) {
  EXPECT_CONTRACT_VIOLATION(
      {
        event_->activate(0);
        dispatcher_->run(RunType::NonBlock);
      },
      AllOf(HasSubstr("contracted"), HasSubstr("activate")));
}

TEST_F(FileEventContractTest, ActivatingUnknownBitsIsRefused) {
  EXPECT_CONTRACT_VIOLATION(
      {
        event_->activate(FileReadyType::Read | 0x100);
        dispatcher_->run(RunType::NonBlock);
      },
      AllOf(HasSubstr("contracted"), HasSubstr("activate")));
}

TEST_F(FileEventContractTest, EnablingUnknownBitsIsRefused) {
  EXPECT_CONTRACT_VIOLATION(
      {
        EXPECT_FALSE(event_->setEnabled(0x8));
        dispatcher_->run(RunType::NonBlock);
      },
      AllOf(HasSubstr("contracted"), HasSubstr("setEnabled")));
}

#ifndef NDEBUG  // what costs a system call is not looked at in release builds

class LostDescriptorTest : public FileEventContractTest {
protected:
  ~LostDescriptorTest() override { putInItsPlace(kept_.get()); }

  // The number of the watched descriptor stands for the file of `fd` from now on.
  void putInItsPlace(int fd) { EXPECT_EQ(dup3(fd, pair_.watched.get(), O_CLOEXEC), pair_.watched.get()); }

  Descriptor kept_{fcntl(pair_.watched.get(), F_DUPFD_CLOEXEC, 0)};
  Pair other_ = makeSocketPair();
  testing::Matcher<const std::string&> lost_ =
      AllOf(HasSubstr("contracted"), ContainsRegex("fd [0-9]+: the number is another descriptor's by now"));
};

TEST_F(LostDescriptorTest, IsFatalWhenItIsClosed) {
  EXPECT_DEATH(
      {
        pair_.watched.close();
        event_->setEnabled(FileReadyType::Write);
      },
      ContainsRegex("fd [0-9]+: closed by now"));
}

TEST_F(LostDescriptorTest, IsFatalWhenItsNumberIsUsedAgainAndTheEventIsUsed) {
  putInItsPlace(other_.watched.get());
  EXPECT_DEATH(event_->setEnabled(FileReadyType::Write), lost_);
  EXPECT_DEATH(event_->activate(FileReadyType::Write), lost_);
}

TEST_F(LostDescriptorTest, IsFatalWhenItsNumberIsUsedAgainAndTheEventIsDestroyed) {
  putInItsPlace(other_.watched.get());
  EXPECT_DEATH(event_.reset(), lost_);
}

TEST_F(LostDescriptorTest, IsFatalWhenItsNumberIsUsedAgainAndTheFormerFileIsReady) {
  putInItsPlace(other_.watched.get());
  writeText(pair_.peer.get(), "x");  // kept_ keeps the former file in the epoll
  EXPECT_DEATH(dispatcher_->run(RunType::NonBlock), lost_);
}

TEST_F(LostDescriptorTest, AChildOfForkMayHaveClosedIt) {
  EXPECT_EQ("", runInChild([this] {
              pair_.watched.close();
              event_.reset();
              dispatcher_->run(RunType::NonBlock);
            }));
}

TEST_F(LostDescriptorTest, ADuplicateInItsPlaceIsTheSame) {
  putInItsPlace(kept_.get());
  EXPECT_TRUE(event_->setEnabled(FileReadyType::Write));
}

#endif

// The loop

using LoopContractTest = ContractTest;

TEST_F(LoopContractTest, RunWithinACallbackIsRefused) {
  int calls = 0;
  dispatcher_->post([&] {
    ++calls;
    dispatcher_->run(RunType::NonBlock);
  });
  dispatcher_->post([&] { ++calls; });
  EXPECT_CONTRACT_VIOLATION(
      {
        dispatcher_->run(RunType::Block);
        EXPECT_EQ(2, calls);
      },
      AllOf(HasSubstr("contracted"), HasSubstr("run")));
}

TEST_F(LoopContractTest, ShutdownWithinACallbackIsRefused) {
  int calls = 0;
  dispatcher_->post([&] {
    ++calls;
    dispatcher_->shutdown();
  });
  dispatcher_->post([&] { ++calls; });
  EXPECT_CONTRACT_VIOLATION(
      {
        dispatcher_->run(RunType::Block);
        EXPECT_EQ(2, calls);
      },
      AllOf(HasSubstr("contracted"), HasSubstr("shutdown")));
}

// Use from any thread

using AnyThreadTest = ContractTest;

TEST_F(AnyThreadTest, MayPostExitAndReadHandleNameAndTimeSource) {
  dispatcher_->run(RunType::NonBlock);  // from now on this thread is the loop's
  onAnotherThread([&] {
    EXPECT_TRUE(dispatcher_->post([] {}));
    dispatcher_->deleteInDispatcherThread(makeDeferred([] {}));
    EXPECT_TRUE(dispatcher_->handle().post([] {}));
    EXPECT_FALSE(dispatcher_->isThreadSafe());
    EXPECT_EQ("contracted", dispatcher_->name());
    dispatcher_->timeSource().monotonicTime();
    dispatcher_->exit();
  });
  dispatcher_->run(RunType::RunUntilExit);
}

// Use from a wrong thread: names dispatcher, thread and operation. Undefined in a release build.

#ifndef NDEBUG

class WrongThreadTest : public ContractTest {
protected:
  WrongThreadTest() {
    dispatcher_->run(RunType::NonBlock);  // from now on this thread is the loop's
  }

  static auto names(const std::string& operation) {
    return AllOf(HasSubstr("contracted"), ContainsRegex("thread [0-9]+"), HasSubstr(operation));
  }

  TimerPtr timer_ = dispatcher_->createTimer([] {});
  SchedulableCallbackPtr callback_ = dispatcher_->createSchedulableCallback([] {});
  FileEventPtr event_ =
      *dispatcher_->createFileEvent(pair_.watched.get(), [](uint32_t) {}, FileTriggerType::Edge, FileReadyType::Read);
};

TEST_F(WrongThreadTest, CreatingATimerIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] { dispatcher_->createTimer([] {}); }), names("createTimer"));
}

TEST_F(WrongThreadTest, CreatingASchedulableCallbackIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] { dispatcher_->createSchedulableCallback([] {}); }),
               names("createSchedulableCallback"));
}

TEST_F(WrongThreadTest, CreatingAFileEventIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] {
                 (void)dispatcher_->createFileEvent(
                     pair_.peer.get(), [](uint32_t) {}, FileTriggerType::Edge, FileReadyType::Read);
               }),
               names("createFileEvent"));
}

TEST_F(WrongThreadTest, ListeningForASignalIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] { (void)dispatcher_->listenForSignal(SIGUSR1, [] {}); }), names("listenForSignal"));
}

TEST_F(WrongThreadTest, DeferringADeletionIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] { dispatcher_->deferredDelete(makeDeferred([] {})); }), names("deferredDelete"));
}

TEST_F(WrongThreadTest, ClearingTheDeferredListIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] { dispatcher_->clearDeferredDeleteList(); }), names("clearDeferredDeleteList"));
}

TEST_F(WrongThreadTest, ReadingTheApproximateTimeIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] { (void)dispatcher_->approximateMonotonicTime(); }),
               names("approximateMonotonicTime"));
}

TEST_F(WrongThreadTest, ArmingATimerIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] { timer_->enableTimer(1ms); }), names("enableTimer"));
  EXPECT_DEATH(onAnotherThread([&] { timer_->enableHRTimer(1us); }), names("enableHRTimer"));
}

TEST_F(WrongThreadTest, DisarmingATimerIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] { timer_->disableTimer(); }), names("disableTimer"));
}

TEST_F(WrongThreadTest, DestroyingAHandleWhileTheLoopRunsIsFatal) {
  // Once the loop has ended, any thread may: see LifetimeTest.
  EXPECT_DEATH(
      {
        DispatcherPtr running = createDispatcher({.name = "contracted elsewhere"});
        TimerPtr timer = running->createTimer([] {});
        DispatcherThread thread(*running);
        timer.reset();
      },
      names("Timer"));
  EXPECT_DEATH(
      {
        DispatcherPtr running = createDispatcher({.name = "contracted elsewhere"});
        SchedulableCallbackPtr callback = running->createSchedulableCallback([] {});
        DispatcherThread thread(*running);
        callback.reset();
      },
      names("SchedulableCallback"));
  EXPECT_DEATH(
      {
        DispatcherPtr running = createDispatcher({.name = "contracted elsewhere"});
        FileEventPtr event =
            *running->createFileEvent(pair_.peer.get(), [](uint32_t) {}, FileTriggerType::Edge, FileReadyType::Read);
        DispatcherThread thread(*running);
        event.reset();
      },
      names("FileEvent"));
}

TEST_F(WrongThreadTest, DestroyingTheDispatcherWhileItsLoopRunsIsFatal) {
  EXPECT_DEATH(
      {
        DispatcherPtr running = createDispatcher({.name = "contracted elsewhere"});
        DispatcherThread thread(*running);
        running.reset();
      },
      names("Dispatcher"));
}

TEST_F(WrongThreadTest, ShuttingDownWhileTheLoopRunsIsFatal) {
  EXPECT_DEATH(
      {
        DispatcherPtr running = createDispatcher({.name = "contracted elsewhere"});
        DispatcherThread thread(*running);
        running->shutdown();
      },
      names("shutdown"));
}

TEST_F(WrongThreadTest, RunningWhileTheLoopRunsIsFatal) {
  EXPECT_DEATH(
      {
        DispatcherPtr running = createDispatcher({.name = "contracted elsewhere"});
        DispatcherThread thread(*running);
        running->run(RunType::NonBlock);
      },
      names("run"));
}

TEST_F(WrongThreadTest, SchedulingIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] { callback_->scheduleCurrentIteration(); }), names("scheduleCurrentIteration"));
  EXPECT_DEATH(onAnotherThread([&] { callback_->scheduleNextIteration(); }), names("scheduleNextIteration"));
}

TEST_F(WrongThreadTest, CancellingIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] { callback_->cancel(); }), names("cancel"));
}

TEST_F(WrongThreadTest, ActivatingAFileEventIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] { event_->activate(FileReadyType::Read); }), names("activate"));
}

TEST_F(WrongThreadTest, EnablingAFileEventIsFatal) {
  EXPECT_DEATH(onAnotherThread([&] { event_->setEnabled(FileReadyType::Write); }), names("setEnabled"));
}

TEST_F(WrongThreadTest, WhileTheLoopRunsOnAnotherThreadIsFatalToo) {
  EXPECT_DEATH(
      {
        DispatcherPtr running = createDispatcher({.name = "running elsewhere"});
        DispatcherThread thread(*running);
        running->createTimer([] {});
      },
      AllOf(HasSubstr("running elsewhere"), ContainsRegex("thread [0-9]+"), HasSubstr("createTimer")));
}

TEST_F(WrongThreadTest, MessageNamesTheDispatcherOfTheCallingThreadToo) {
  EXPECT_DEATH(
      {
        DispatcherPtr caller = createDispatcher({.name = "the caller"});
        DispatcherThread thread(*caller);
        thread.call([&] { dispatcher_->createTimer([] {}); });
      },
      AllOf(HasSubstr("contracted"), HasSubstr("the caller"), HasSubstr("createTimer")));
}

#endif

}  // namespace
}  // namespace nuncio::test
