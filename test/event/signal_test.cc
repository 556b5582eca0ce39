#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "test/test_support/child_process.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

std::atomic<int> formerly_handled{0};
void formerHandler(int) { ++formerly_handled; }

class SignalTest : public testing::Test {
protected:
  SignalEventPtr listen(int signal, SignalCb cb) {
    auto event = dispatcher_->listenForSignal(signal, std::move(cb));
    EXPECT_TRUE(event.ok()) << event.status();
    return event.ok() ? *std::move(event) : nullptr;
  }

  int calls_ = 0;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "signal_test"});
};

// Puts formerHandler in place for a scope.
class FormerHandler {
public:
  explicit FormerHandler(int signal) : signal_(signal) {
    struct sigaction action{};
    action.sa_handler = formerHandler;
    sigaction(signal, &action, &before_);
    formerly_handled = 0;
  }
  ~FormerHandler() { sigaction(signal_, &before_, nullptr); }

private:
  const int signal_;
  struct sigaction before_{};
};

TEST_F(SignalTest, CallbackRunsOnTheLoopsThreadAndNotInTheHandler) {
  std::thread::id ran_on;
  bool in_raise = false;
  SignalEventPtr event = listen(SIGUSR1, [&] {
    EXPECT_FALSE(in_raise);
    ran_on = std::this_thread::get_id();
    dispatcher_->exit();
  });
  dispatcher_->post([&] {
    in_raise = true;
    raise(SIGUSR1);
    in_raise = false;
  });
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_EQ(std::this_thread::get_id(), ran_on);
}

TEST_F(SignalTest, SignalToTheProcessWakesTheLoopOnItsThread) {
  std::thread::id ran_on;
  Notification ran;
  SignalEventPtr event = listen(SIGUSR1, [&] {
    ran_on = std::this_thread::get_id();
    ran.notify();
  });
  DispatcherThread thread(*dispatcher_);
  kill(getpid(), SIGUSR1);
  ASSERT_TRUE(ran.wait());
  EXPECT_EQ(thread.id(), ran_on);
  thread.call([&] { event.reset(); });
}

TEST_F(SignalTest, SignalBetweenRunsIsDeliveredInTheNext) {
  SignalEventPtr event = listen(SIGUSR1, [&] { ++calls_; });
  raise(SIGUSR1);
  EXPECT_EQ(0, calls_);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
}

TEST_F(SignalTest, CallbackRunsForEachSignalThatComesAlone) {
  SignalEventPtr event = listen(SIGUSR1, [&] { ++calls_; });
  for (int i = 1; i <= 5; ++i) {
    raise(SIGUSR1);
    dispatcher_->run(RunType::NonBlock);
    EXPECT_EQ(i, calls_);
  }
}

TEST_F(SignalTest, DestroyingTheHandleRestoresTheFormerHandler) {
  FormerHandler former(SIGUSR1);
  SignalEventPtr event = listen(SIGUSR1, [&] { ++calls_; });
  raise(SIGUSR1);
  EXPECT_EQ(0, formerly_handled);
  dispatcher_->run(RunType::NonBlock);
  event.reset();
  raise(SIGUSR1);
  EXPECT_EQ(1, formerly_handled);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
}

TEST_F(SignalTest, DestroyingTheHandleInItsOwnCallbackRestoresTheFormerHandler) {
  FormerHandler former(SIGUSR1);
  SignalEventPtr event;
  event = listen(SIGUSR1, [&] {
    ++calls_;
    event.reset();
  });
  raise(SIGUSR1);
  dispatcher_->run(RunType::NonBlock);
  raise(SIGUSR1);
  EXPECT_EQ(1, formerly_handled);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
}

TEST_F(SignalTest, HandleDestroyedWithASignalPendingIsNeverCalled) {
  FormerHandler former(SIGUSR1);
  SignalEventPtr event = listen(SIGUSR1, [&] { ++calls_; });
  raise(SIGUSR1);
  event.reset();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(0, calls_);
}

TEST_F(SignalTest, ListeningAgainAfterTheHandleWasDestroyedWorks) {
  for (int i = 1; i <= 3; ++i) {
    SignalEventPtr event = listen(SIGUSR1, [&] { ++calls_; });
    raise(SIGUSR1);
    dispatcher_->run(RunType::NonBlock);
    EXPECT_EQ(i, calls_);
  }
}

TEST_F(SignalTest, TwoHandlesForOneSignalAreBothCalled) {
  FormerHandler former(SIGUSR1);
  int other_calls = 0;
  SignalEventPtr first = listen(SIGUSR1, [&] { ++calls_; });
  SignalEventPtr second = listen(SIGUSR1, [&] { ++other_calls; });
  raise(SIGUSR1);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
  EXPECT_EQ(1, other_calls);
  first.reset();
  raise(SIGUSR1);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
  EXPECT_EQ(2, other_calls);
  EXPECT_EQ(0, formerly_handled);
  second.reset();
  raise(SIGUSR1);
  EXPECT_EQ(1, formerly_handled);
}

TEST_F(SignalTest, HandleDestroyedByAnotherCallbackOfTheSameSignalIsNeverCalled) {
  SignalEventPtr first;
  SignalEventPtr second;
  first = listen(SIGUSR1, [&] {
    ++calls_;
    second.reset();
  });
  second = listen(SIGUSR1, [&] {
    ++calls_;
    first.reset();
  });
  raise(SIGUSR1);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
}

TEST_F(SignalTest, DifferentSignalsReachTheirOwnCallbacks) {
  std::vector<int> order;
  SignalEventPtr first = listen(SIGUSR1, [&] { order.push_back(1); });
  SignalEventPtr second = listen(SIGUSR2, [&] { order.push_back(2); });
  raise(SIGUSR2);
  dispatcher_->run(RunType::NonBlock);
  raise(SIGUSR1);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order, ElementsAre(2, 1));
}

TEST_F(SignalTest, RealTimeSignalsWork) {
  SignalEventPtr event = listen(SIGRTMIN + 3, [&] { ++calls_; });
  raise(SIGRTMIN + 3);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
}

TEST_F(SignalTest, BlockWaitsForSignals) {
  SignalEventPtr event;
  event = listen(SIGUSR1, [&] {
    ++calls_;
    event.reset();  // nothing is left
  });
  Notification running;
  dispatcher_->post([&] { running.notify(); });
  std::thread sender([&] {
    EXPECT_TRUE(running.wait());
    kill(getpid(), SIGUSR1);
  });
  dispatcher_->run(RunType::Block);
  sender.join();
  EXPECT_EQ(1, calls_);
}

TEST_F(SignalTest, SecondDispatcherThatListensIsRefusedByNameOfTheFirst) {
  SignalEventPtr event = listen(SIGUSR1, [] {});
  DispatcherPtr second = createDispatcher({.name = "second"});
  for (const int signal : {SIGUSR1, SIGUSR2}) {
    const auto refused = second->listenForSignal(signal, [] {});
    EXPECT_TRUE(absl::IsFailedPrecondition(refused.status())) << refused.status();
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("signal_test"));
  }
}

TEST_F(SignalTest, RefusedSecondDispatcherDoesNotDisturbTheFirst) {
  SignalEventPtr event = listen(SIGUSR1, [&] { ++calls_; });
  DispatcherPtr second = createDispatcher({.name = "second"});
  EXPECT_FALSE(second->listenForSignal(SIGUSR1, [] {}).ok());
  second.reset();
  raise(SIGUSR1);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
}

TEST_F(SignalTest, SecondDispatcherMayListenOnceTheFirstNoLongerDoes) {
  SignalEventPtr event = listen(SIGUSR1, [&] { ++calls_; });
  event.reset();
  DispatcherPtr second = createDispatcher({.name = "second"});
  auto other = second->listenForSignal(SIGUSR1, [&] { ++calls_; });
  ASSERT_TRUE(other.ok()) << other.status();
  raise(SIGUSR1);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(0, calls_);
  second->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
}

TEST_F(SignalTest, SecondDispatcherMayListenOnceTheFirstIsDestroyed) {
  FormerHandler former(SIGUSR1);
  SignalEventPtr event = listen(SIGUSR1, [&] { ++calls_; });
  dispatcher_.reset();  // the handle lives on
  raise(SIGUSR1);
  EXPECT_EQ(1, formerly_handled);
  DispatcherPtr second = createDispatcher({.name = "second"});
  auto other = second->listenForSignal(SIGUSR1, [&] { ++calls_; });
  ASSERT_TRUE(other.ok()) << other.status();
  raise(SIGUSR1);
  second->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
  event.reset();  // does not take the second's registration with it
  raise(SIGUSR1);
  second->run(RunType::NonBlock);
  EXPECT_EQ(2, calls_);
}

TEST_F(SignalTest, NumbersThatAreNoSignalsOrCannotBeCaughtAreRefused) {
  for (const int signal : {-1, 0, SIGKILL, SIGSTOP, 65, 1000}) {
    const auto refused = dispatcher_->listenForSignal(signal, [] {});
    EXPECT_TRUE(absl::IsInvalidArgument(refused.status())) << signal << ": " << refused.status();
  }
  dispatcher_->run(RunType::Block);  // nothing is left of them
}

TEST_F(SignalTest, FaultsAreRefusedAndTheCrashHandlerIsNamed) {
  for (const int signal : {SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGTRAP, SIGSYS}) {
    struct sigaction before{};
    ASSERT_EQ(0, sigaction(signal, nullptr, &before));
    const auto refused = dispatcher_->listenForSignal(signal, [] {});
    EXPECT_TRUE(absl::IsInvalidArgument(refused.status())) << signal << ": " << refused.status();
    EXPECT_THAT(std::string(refused.status().message()), HasSubstr("installCrashHandler"));
    struct sigaction after{};
    ASSERT_EQ(0, sigaction(signal, nullptr, &after));
    EXPECT_EQ(before.sa_handler, after.sa_handler);
  }
}

TEST_F(SignalTest, ListeningOnADispatcherThatIsShutDownIsRefused) {
  dispatcher_->shutdown();
  const auto refused = dispatcher_->listenForSignal(SIGUSR1, [] {});
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status())) << refused.status();
}

TEST_F(SignalTest, ShutdownRestoresTheFormerHandler) {
  FormerHandler former(SIGUSR1);
  SignalEventPtr event = listen(SIGUSR1, [&] { ++calls_; });
  dispatcher_->shutdown();
  raise(SIGUSR1);
  EXPECT_EQ(1, formerly_handled);
}

TEST_F(SignalTest, ProgramsThatAreExecutedHaveTheDefaultForSigpipe) {
  EXPECT_EQ("child killed by signal 13", runInChild([] {
              execl("/bin/sh", "sh", "-c", "kill -PIPE $$; exit 3", nullptr);
              _exit(2);
            }));
}

TEST_F(SignalTest, SigpipeThatTheProgramIgnoresStaysIgnoredInProgramsThatAreExecuted) {
  EXPECT_EQ("child exited with 3", runInChild([] {
              signal(SIGPIPE, SIG_IGN);
              createDispatcher().reset();
              execl("/bin/sh", "sh", "-c", "kill -PIPE $$; exit 3", nullptr);
              _exit(2);
            }));
}

TEST_F(SignalTest, SigpipeIsIgnored) {
  Pair pair = makeSocketPair();
  pair.peer.close();
  EXPECT_EQ(-1, write(pair.watched.get(), "x", 1));
  EXPECT_EQ(EPIPE, errno);
}

TEST_F(SignalTest, SigpipeKeepsAHandlerOfTheProgram) {
  FormerHandler former(SIGPIPE);
  DispatcherPtr second = createDispatcher({.name = "second"});
  raise(SIGPIPE);
  EXPECT_EQ(1, formerly_handled);
}

TEST_F(SignalTest, FloodOfOneSignalHidesNoOther) {
  int other_calls = 0;
  SignalEventPtr flood = listen(SIGUSR1, [&] { ++calls_; });
  SignalEventPtr other = listen(SIGUSR2, [&] { ++other_calls; });
  for (int i = 0; i < 100'000; ++i) {
    raise(SIGUSR1);  // far more than any pipe holds, with nobody to read it
  }
  raise(SIGUSR2);
  for (int i = 0; i < 200'000 && other_calls == 0; ++i) {
    dispatcher_->run(RunType::NonBlock);
  }
  EXPECT_GE(calls_, 1);
  EXPECT_EQ(1, other_calls);
}

TEST_F(SignalTest, LoopStaysLiveUnderSignalsAtFullRate) {
  const char* seconds = std::getenv("NUNCIO_SIGNAL_FLOOD_SECONDS");  // 10 for an acceptance run
  const auto duration = std::chrono::seconds(seconds == nullptr ? 1 : std::atoi(seconds));
  SignalEventPtr event = listen(SIGUSR1, [&] { ++calls_; });
  std::atomic<int> ticks{0};
  TimerPtr timer;
  timer = dispatcher_->createTimer([&] {
    ++ticks;
    timer->enableTimer(1ms);
  });
  timer->enableTimer(1ms);
  Pair pair = makeSocketPair();
  auto echo = dispatcher_->createFileEvent(
      pair.watched.get(), [&](uint32_t) { writeText(pair.watched.get(), readAvailable(pair.watched.get())); },
      FileTriggerType::Level, FileReadyType::Read);
  ASSERT_TRUE(echo.ok());
  std::atomic<bool> stop{false};
  int round_trips = 0;
  int echoes = 0;
  {
    DispatcherThread thread(*dispatcher_);
    std::thread sender([&] {
      while (!stop.load(std::memory_order_relaxed)) {
        kill(getpid(), SIGUSR1);
      }
    });
    const auto end = std::chrono::steady_clock::now() + duration;
    while (std::chrono::steady_clock::now() < end) {
      thread.call([&] { ++round_trips; });
      writeText(pair.peer.get(), "x");
      thread.call([] {});
      echoes += static_cast<int>(readAvailable(pair.peer.get()).size());
    }
    stop = true;
    sender.join();
    Notification last;
    thread.call([&] { event.reset(); });
    thread.call([&] { event = listen(SIGUSR1, [&] { last.notify(); }); });
    kill(getpid(), SIGUSR1);
    EXPECT_TRUE(last.wait());
    thread.call([&] {
      event.reset();
      timer.reset();
      echo->reset();
    });
  }
  EXPECT_GT(calls_, 0);
  EXPECT_GT(round_trips, 10);
  EXPECT_GT(ticks.load(), 10);
  EXPECT_GT(echoes, 0);
}

}  // namespace
}  // namespace nuncio::test
