// Dispatchers across fork(): the child's goes on to work with kernel objects of its own, the parent's is unharmed.

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/common/file_descriptor.h"
#include "nuncio/common/no_fork.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/child_process.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

class ForkTest : public testing::Test {
protected:
  FileEventPtr watch(int fd, int& calls) {
    auto event =
        dispatcher_->createFileEvent(fd, [&calls](uint32_t) { ++calls; }, FileTriggerType::Level, FileReadyType::Read);
    EXPECT_TRUE(event.ok()) << event.status();
    return *std::move(event);
  }
  // The parent's registration still reports.
  void expectStillReports(int& calls) {
    EXPECT_EQ(0, calls);
    writeText(pair_.peer.get(), "x");
    dispatcher_->run(RunType::NonBlock);
    EXPECT_EQ(1, calls);
    EXPECT_EQ("x", readAvailable(pair_.watched.get()));
    dispatcher_->run(RunType::NonBlock);
    EXPECT_EQ(1, calls);
  }
  // A child runs `f` on a file event that it has from its parent, whose own still reports.
  template <class F>
  void expectParentUnharmedBy(F f) {
    int calls = 0;
    FileEventPtr event = watch(pair_.watched.get(), calls);
    dispatcher_->run(RunType::NonBlock);
    EXPECT_EQ("", runInChild([&] { f(event); }));
    expectStillReports(calls);
  }

  Pair pair_ = makeSocketPair();
  DispatcherPtr dispatcher_ = createDispatcher({.name = "forked"});
};

TEST_F(ForkTest, ChildRunsPostsTimersAndScheduledCallbacks) {
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([this] {
              int calls = 0;
              dispatcher_->post([&] { ++calls; });
              TimerPtr timer = dispatcher_->createTimer([&] { ++calls; });
              timer->enableTimer(2ms);
              SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([&] { ++calls; });
              callback->scheduleNextIteration();
              dispatcher_->run(RunType::Block);
              CHILD_CHECK(calls == 3);
            }));
}

TEST_F(ForkTest, AChildThatMayOpenNothingCanDestroyAndRunWhatItInherited) {
  for (const bool destroys : {false, true}) {
    int calls = 0;
    FileEventPtr event = watch(pair_.watched.get(), calls);
    dispatcher_->run(RunType::NonBlock);
    EXPECT_EQ("", runInChild([&] {
                const rlimit none{3, 3};
                CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
                LogCapture log(LogLayer::Event);
                if (!destroys) {
                  int posts = 0;
                  CHILD_CHECK(dispatcher_->post([&posts] { ++posts; }));
                  dispatcher_->run(RunType::RunUntilExit);
                  CHILD_CHECK(posts == 0);
                  CHILD_CHECK(log.contains("in the child of a fork"));
                  CHILD_CHECK(!event->setEnabled(FileReadyType::Write));
                  CHILD_CHECK(dispatcher_
                                  ->createFileEvent(
                                      pair_.peer.get(), [](uint32_t) {}, FileTriggerType::Level, FileReadyType::Read)
                                  .status()
                                  .code() == absl::StatusCode::kResourceExhausted);
                }
                dispatcher_.reset();
                event.reset();
              }))
        << destroys;
  }
}

TEST_F(ForkTest, AChildThatClosesWhatItInheritedCanMakeDispatchersAndDestroyTheOldOnesBefore) {
  int calls = 0;
  FileEventPtr event = watch(pair_.watched.get(), calls);
  auto listener = dispatcher_->listenForSignal(SIGUSR1, [] {});
  ASSERT_TRUE(listener.ok()) << listener.status();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([&] {
              event.reset();
              listener->reset();
              dispatcher_.reset();
              for (int fd = 3; fd < 200; ++fd) {
                ::close(fd);
              }
              DispatcherPtr own = createDispatcher({.name = "own"});
              CHILD_CHECK(own != nullptr);
              bool came = false;
              auto own_listener = own->listenForSignal(SIGUSR1, [&] {
                came = true;
                own->exit();
              });
              CHILD_CHECK(own_listener.ok());
              raise(SIGUSR1);
              own->run(RunType::RunUntilExit);
              CHILD_CHECK(came);
            }));
}

TEST_F(ForkTest, TimerThatWasArmedBeforeFiresInBoth) {
  int calls = 0;
  TimerPtr timer = dispatcher_->createTimer([&] { ++calls; });
  timer->enableTimer(20ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([&] {
              dispatcher_->run(RunType::Block);
              CHILD_CHECK(calls == 1);
            }));
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(1, calls);
}

TEST_F(ForkTest, PostFromBeforeRunsInBoth) {
  int calls = 0;
  dispatcher_->post([&] { ++calls; });
  EXPECT_EQ("", runInChild([&] {
              dispatcher_->run(RunType::Block);
              CHILD_CHECK(calls == 1);
            }));
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(1, calls);
}

TEST_F(ForkTest, FileEventFromBeforeReportsInTheChild) {
  int calls = 0;
  FileEventPtr event = watch(pair_.watched.get(), calls);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([&] {
              writeText(pair_.peer.get(), "x");
              dispatcher_->run(RunType::NonBlock);
              CHILD_CHECK(calls == 1);
              CHILD_CHECK(readAvailable(pair_.watched.get()) == "x");
              dispatcher_->run(RunType::NonBlock);
              CHILD_CHECK(calls == 1);
            }));
  expectStillReports(calls);
}

TEST_F(ForkTest, EdgeEventFromBeforeReportsInTheChild) {
  int calls = 0;
  auto event = dispatcher_->createFileEvent(
      pair_.watched.get(), [&](uint32_t) { ++calls; }, FileTriggerType::Edge, FileReadyType::Read);
  ASSERT_TRUE(event.ok());
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([&] {
              dispatcher_->run(RunType::NonBlock);
              writeText(pair_.peer.get(), "x");
              dispatcher_->run(RunType::NonBlock);
              CHILD_CHECK(calls == 1);
              readAvailable(pair_.watched.get());
            }));
}

TEST_F(ForkTest, NewFileEventsWorkInTheChild) {
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([&] {
              int calls = 0;
              Pair own = makeSocketPair();
              FileEventPtr event = watch(own.watched.get(), calls);
              writeText(own.peer.get(), "x");
              dispatcher_->run(RunType::NonBlock);
              CHILD_CHECK(calls == 1);
            }));
}

TEST_F(ForkTest, ParentIsUnharmedWhenTheChildDestroysItsFileEvent) {
  expectParentUnharmedBy([](FileEventPtr& event) { event.reset(); });
}

TEST_F(ForkTest, ParentIsUnharmedWhenTheChildSilencesItsFileEvent) {
  expectParentUnharmedBy([this](FileEventPtr& event) {
    CHILD_CHECK(event->setEnabled(0));
    dispatcher_->run(RunType::Block);
  });
}

TEST_F(ForkTest, ParentIsUnharmedWhenTheChildDestroysTheDispatcher) {
  expectParentUnharmedBy([this](FileEventPtr& event) {
    dispatcher_.reset();
    event.reset();
  });
}

TEST_F(ForkTest, ParentIsUnharmedWhenTheChildDestroysTheEventAndThenTheDispatcher) {
  expectParentUnharmedBy([this](FileEventPtr& event) {
    event.reset();
    dispatcher_.reset();
  });
}

TEST_F(ForkTest, ParentIsUnharmedWhenTheChildShutsDownAfterRunning) {
  expectParentUnharmedBy([this](FileEventPtr& event) {
    dispatcher_->run(RunType::NonBlock);
    event.reset();
    dispatcher_->shutdown();
    dispatcher_.reset();
  });
}

TEST_F(ForkTest, ParentsTimersAreUnharmedByTheChilds) {
  int calls = 0;
  TimerPtr timer = dispatcher_->createTimer([&] { ++calls; });
  timer->enableTimer(30ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([&] {
              timer->enableTimer(1h);  // on a timer of the kernel that is shared, this would move the parent's
              dispatcher_->run(RunType::NonBlock);
              timer->disableTimer();
              dispatcher_->run(RunType::Block);
            }));
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(1, calls);
}

// Without the mending, the parent's timer comes in an hour: at the end of its run the child set the alarm that they
// share.
TEST_F(ForkTest, AlarmOfTheParentIsUnharmedByAChildThatLeavesTheRun) {
  pid_t child = -1;
  std::array<int, 2> pipe{};
  ASSERT_EQ(0, ::pipe(pipe.data()));
  const FileDescriptor read_end(pipe[0]);
  const FileDescriptor write_end(pipe[1]);
  TimerPtr due = dispatcher_->createTimer([&] { dispatcher_->exit(); });
  SchedulableCallbackPtr alarm_is_set =
      dispatcher_->createSchedulableCallback([&] { EXPECT_EQ(1, ::write(write_end.get(), "x", 1)); });
  TimerPtr fork_now = dispatcher_->createTimer([&] {
    child = fork();
    if (child != 0) {
      due->enableTimer(300ms);
      alarm_is_set->scheduleNextIteration();
      return;
    }
    char byte = 0;
    EXPECT_EQ(1, ::read(read_end.get(), &byte, 1));
    due->enableTimer(1h);
    dispatcher_->exit();
  });
  fork_now->enableTimer(1ms);
  dispatcher_->run(RunType::RunUntilExit);
  if (child == 0) {
    _exit(due->enabled() ? 0 : 1);
  }
  EXPECT_EQ("", waitForChild(child));
}

TEST_F(ForkTest, WakesOfTheChildDoNotReachTheParent) {
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([&] {
              bool ran = false;
              dispatcher_->post([&] { ran = true; });
              dispatcher_->exit();
              dispatcher_->run(RunType::RunUntilExit);
              CHILD_CHECK(ran);
            }));
  bool fired = false;
  TimerPtr timer = dispatcher_->createTimer([&] {
    fired = true;
    dispatcher_->exit();
  });
  timer->enableTimer(2ms);
  dispatcher_->run(RunType::RunUntilExit);  // the child's exit was not for this one
  EXPECT_TRUE(fired);
}

TEST_F(ForkTest, WithinACallbackTheChildGoesOnWithItsLoop) {
  bool child = false;
  bool fired = false;
  pid_t pid = -1;
  TimerPtr timer = dispatcher_->createTimer([&] { fired = true; });
  dispatcher_->post([&] {
    pid = fork();
    child = pid == 0;
    timer->enableTimer(2ms);
  });
  dispatcher_->run(RunType::Block);
  if (child) {
    _exit(fired ? 0 : 1);
  }
  EXPECT_EQ("", waitForChild(pid));
  EXPECT_TRUE(fired);
}

TEST_F(ForkTest, WithinAFileEventCallbackTheChildGoesOnWithItsLoop) {
  bool child = false;
  pid_t pid = -1;
  int calls = 0;
  FileEventPtr event;
  event = *dispatcher_->createFileEvent(
      pair_.watched.get(),
      [&](uint32_t) {
        if (++calls == 1) {
          pid = fork();
          child = pid == 0;
        } else {
          event.reset();
        }
      },
      FileTriggerType::Level, FileReadyType::Write);
  dispatcher_->run(RunType::Block);
  if (child) {
    _exit(calls == 2 ? 0 : 1);
  }
  EXPECT_EQ("", waitForChild(pid));
  EXPECT_EQ(2, calls);
}

TEST_F(ForkTest, SignalInTheChildReachesTheChildAlone) {
  int calls = 0;
  auto event = dispatcher_->listenForSignal(SIGUSR1, [&] { ++calls; });
  ASSERT_TRUE(event.ok()) << event.status();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([&] {
              dispatcher_->run(RunType::NonBlock);
              raise(SIGUSR1);
              dispatcher_->run(RunType::NonBlock);
              CHILD_CHECK(calls == 1);
            }));
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(0, calls);
  raise(SIGUSR1);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls);
}

TEST_F(ForkTest, SignalForWhichTheChildListensFirstOfAllReachesTheChildAlone) {
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([&] {
              int calls = 0;
              auto event = dispatcher_->listenForSignal(SIGUSR1, [&] { ++calls; });
              CHILD_CHECK(event.ok());
              raise(SIGUSR1);
              for (int i = 0; i < 3; ++i) {
                dispatcher_->run(RunType::NonBlock);
              }
              CHILD_CHECK(calls == 1);
            }));
  int calls = 0;
  auto event = dispatcher_->listenForSignal(SIGUSR1, [&] { ++calls; });
  ASSERT_TRUE(event.ok());
  for (int i = 0; i < 3; ++i) {
    dispatcher_->run(RunType::NonBlock);
  }
  EXPECT_EQ(calls, 0);
}

TEST_F(ForkTest, SignalThatTheParentHasPendingDoesNotCallBackInTheChild) {
  int calls = 0;
  auto event = dispatcher_->listenForSignal(SIGUSR1, [&] { ++calls; });
  ASSERT_TRUE(event.ok()) << event.status();
  raise(SIGUSR1);
  EXPECT_EQ("", runInChild([&] {
              dispatcher_->run(RunType::NonBlock);
              CHILD_CHECK(calls == 0);
              raise(SIGUSR1);
              raise(SIGUSR1);
              dispatcher_->run(RunType::NonBlock);
              dispatcher_->run(RunType::NonBlock);
              CHILD_CHECK(calls == 1);
            }));
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls);
}

TEST_F(ForkTest, AChildThatClosesAllDescriptorsCanRunWhatItInherited) {
  auto listener = dispatcher_->listenForSignal(SIGUSR1, [&] { dispatcher_->exit(); });
  ASSERT_TRUE(listener.ok()) << listener.status();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([&] {
              for (int fd = 3; fd < 200; ++fd) {
                ::close(fd);
              }
              bool ran = false;
              dispatcher_->post([&] { ran = true; });
              const TimerPtr timer = dispatcher_->createTimer([] { raise(SIGUSR1); });
              timer->enableTimer(1ms);
              dispatcher_->run(RunType::RunUntilExit);
              CHILD_CHECK(ran);
            }));
}

// A child that listens anew before its loop runs, and forks then.
TEST_F(ForkTest, SignalsOfAGrandchildDoNotWakeTheChild) {
  auto first = dispatcher_->listenForSignal(SIGUSR1, [] {});
  ASSERT_TRUE(first.ok()) << first.status();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([&] {
              auto second = dispatcher_->listenForSignal(SIGUSR2, [] {});
              CHILD_CHECK(second.ok());
              const pid_t grandchild = startChild([&] {
                for (int i = 0; i < 300; ++i) {
                  raise(SIGUSR1);
                  dispatcher_->run(RunType::NonBlock);
                }
              });
              const uint64_t before = dispatcher_->stats().iterations;
              const TimerPtr end = dispatcher_->createTimer([&] { dispatcher_->exit(); });
              end->enableTimer(100ms);
              dispatcher_->run(RunType::RunUntilExit);
              CHILD_CHECK(waitForChild(grandchild).empty());
              CHILD_CHECK(dispatcher_->stats().iterations - before <= 20);
            }));
}

TEST_F(ForkTest, SignalsBehindACallbackThatForksAreTheParents) {
  int calls = 0;
  pid_t child = -1;
  auto first = dispatcher_->listenForSignal(SIGUSR1, [&] { child = fork(); });
  auto second = dispatcher_->listenForSignal(SIGUSR2, [&] { ++calls; });
  ASSERT_TRUE(first.ok() && second.ok());
  raise(SIGUSR2);
  raise(SIGUSR1);
  dispatcher_->run(RunType::NonBlock);
  if (child == 0) {
    raise(SIGUSR2);
    const int before = calls;
    dispatcher_->run(RunType::NonBlock);
    _exit(before == 0 && calls == 1 ? 0 : 1);
  }
  EXPECT_EQ("", waitForChild(child));
  EXPECT_EQ(1, calls);
}

TEST_F(ForkTest, SignalThatComesBeforeTheChildsLoopRunsIsDeliveredThere) {
  int calls = 0;
  auto event = dispatcher_->listenForSignal(SIGUSR1, [&] { ++calls; });
  ASSERT_TRUE(event.ok()) << event.status();
  dispatcher_->run(RunType::NonBlock);
  const uint64_t iterations = dispatcher_->stats().iterations;
  EXPECT_EQ("", runInChild([&] {
              raise(SIGUSR1);
              auto other = dispatcher_->listenForSignal(SIGUSR2, [&] { ++calls; });
              CHILD_CHECK(other.ok());
              raise(SIGUSR2);
              dispatcher_->run(RunType::NonBlock);
              CHILD_CHECK(calls == 2);
            }));
  EXPECT_EQ(iterations, dispatcher_->stats().iterations);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(0, calls);
}

TEST_F(ForkTest, SignalOfTheParentDoesNotWakeTheChild) {
  int calls = 0;
  auto event = dispatcher_->listenForSignal(SIGUSR1, [&] { ++calls; });
  ASSERT_TRUE(event.ok()) << event.status();
  dispatcher_->run(RunType::NonBlock);
  Pair ready = makeSocketPair();
  const pid_t child = startChild([&] {
    auto end = dispatcher_->createFileEvent(
        pair_.watched.get(), [&](uint32_t) { dispatcher_->exit(); }, FileTriggerType::Level, FileReadyType::Read);
    CHILD_CHECK(end.ok());
    dispatcher_->run(RunType::NonBlock);
    const uint64_t before = dispatcher_->stats().iterations;
    writeText(ready.peer.get(), "x");
    dispatcher_->run(RunType::RunUntilExit);
    CHILD_CHECK(calls == 0);
    CHILD_CHECK(dispatcher_->stats().iterations - before <= 3);
  });
  int is_ready = 0;
  auto wait = dispatcher_->createFileEvent(
      ready.watched.get(), [&](uint32_t) { ++is_ready; }, FileTriggerType::Edge, FileReadyType::Read);
  while (is_ready == 0) {
    dispatcher_->run(RunType::NonBlock);
  }
  for (int i = 1; i <= 20; ++i) {
    raise(SIGUSR1);
    dispatcher_->run(RunType::NonBlock);
    EXPECT_EQ(i, calls);
  }
  writeText(pair_.peer.get(), "x");
  EXPECT_EQ("", waitForChild(child));
}

TEST_F(ForkTest, BlockingRunOfTheChildWaitsForItsSignals) {
  int calls = 0;
  SignalEventPtr event = *dispatcher_->listenForSignal(SIGUSR1, [&] {
    ++calls;
    event.reset();
  });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([&] {
              dispatcher_->post([] { raise(SIGUSR1); });
              dispatcher_->run(RunType::Block);
              CHILD_CHECK(calls == 1);
            }));
}

TEST_F(ForkTest, ChildHasAsManyDescriptorsAsItsParent) {
  auto event = dispatcher_->listenForSignal(SIGUSR1, [] {});
  ASSERT_TRUE(event.ok()) << event.status();
  dispatcher_->run(RunType::NonBlock);
  const int open = countOpenDescriptors();
  EXPECT_EQ("", runInChild([&] {
              dispatcher_->run(RunType::NonBlock);
              CHILD_CHECK(countOpenDescriptors() == open);
            }));
}

TEST_F(ForkTest, ChildStopsListeningOfItsOwnBeforeItsLoopEverRuns) {
  struct sigaction former{};
  auto event = dispatcher_->listenForSignal(SIGUSR1, [] {});
  ASSERT_TRUE(event.ok()) << event.status();
  EXPECT_EQ("child killed by signal 10", runInChild([&] {
              event->reset();
              DispatcherPtr other = createDispatcher({.name = "other"});
              CHILD_CHECK(other->listenForSignal(SIGUSR2, [] {}).ok());
              raise(SIGUSR1);
            }));
  EXPECT_EQ(0, sigaction(SIGUSR1, nullptr, &former));
  EXPECT_NE(SIG_DFL, former.sa_handler);
}

TEST_F(ForkTest, ChildOfALostListenerHasTheFormerActionsAndListensAnew) {
  SignalEventPtr event;
  DispatcherPtr signals = createDispatcher({.name = "signals"});
  std::atomic<int> parents_calls{0};
  Notification came;
  DispatcherThread thread(*signals);
  thread.call([&] {
    event = *signals->listenForSignal(SIGTERM, [&] {
      ++parents_calls;
      came.notify();
    });
  });
  EXPECT_EQ("child killed by signal 15", runInChild([] { raise(SIGTERM); }));
  EXPECT_EQ("", runInChild([&] {
              int calls = 0;
              DispatcherPtr own = createDispatcher({.name = "child"});
              auto anew = own->listenForSignal(SIGTERM, [&] { ++calls; });
              CHILD_CHECK(anew.ok());
              event.reset();  // not the child's
              signals.reset();
              kill(getpid(), SIGTERM);
              own->run(RunType::NonBlock);
              own->run(RunType::NonBlock);
              CHILD_CHECK(calls == 1);
              CHILD_CHECK(runInChild([&] {
                            raise(SIGTERM);
                            own->run(RunType::NonBlock);
                            CHILD_CHECK(calls == 2);
                          }).empty());
              own->run(RunType::NonBlock);
              CHILD_CHECK(calls == 1);
            }));
  EXPECT_EQ(0, parents_calls);
  kill(getpid(), SIGTERM);
  EXPECT_TRUE(came.wait());
  thread.call([&] { event.reset(); });
}

TEST_F(ForkTest, SignalSentToTheChildAtItsBirthIsNeitherLostNorTheParents) {
  int calls = 0;
  auto event = dispatcher_->listenForSignal(SIGUSR1, [&] { ++calls; });
  ASSERT_TRUE(event.ok()) << event.status();
  dispatcher_->run(RunType::NonBlock);
  for (int i = 0; i < 50; ++i) {
    const pid_t child = startChild([&] {
      while (calls == 0) {
        dispatcher_->run(RunType::NonBlock);
      }
      CHILD_CHECK(calls == 1);
    });
    kill(child, SIGUSR1);
    ASSERT_EQ("", waitForChild(child));
  }
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(0, calls);
}

TEST_F(ForkTest, WhatKeepsTheParentRunningDoesNotKeepTheChild) {
  KeepRunning kept = dispatcher_->keepRunning();
  EXPECT_EQ("", runInChild([&] {
              dispatcher_->run(RunType::Block);
              KeepRunning own = dispatcher_->keepRunning();
              kept.reset();  // does nothing
              int rounds = 0;
              TimerPtr timer = dispatcher_->createTimer([&] {
                ++rounds;
                own.reset();
              });
              timer->enableTimer(1ms);
              dispatcher_->run(RunType::Block);
              CHILD_CHECK(rounds == 1);
              kept = dispatcher_->keepRunning();
              std::thread end([&] { kept.reset(); });
              dispatcher_->run(RunType::Block);
              end.join();
            }));
  bool fired = false;
  TimerPtr timer = dispatcher_->createTimer([&] {
    fired = true;
    kept.reset();
  });
  timer->enableTimer(2ms);
  dispatcher_->run(RunType::Block);
  EXPECT_TRUE(fired);
}

TEST_F(ForkTest, LoopIsLostOutsideOfItsThreadsRunsTooButNotWhenItsThreadHasEnded) {
  DispatcherPtr ended = createDispatcher({.name = "ended"});
  pid_t number = 0;
  std::thread([&] {
    number = gettid();
    ended->run(RunType::NonBlock);
  }).join();
  while (tgkill(getpid(), number, 0) == 0) {  // the kernel knows it for a moment longer
    std::this_thread::yield();
  }
  DispatcherPtr between = createDispatcher({.name = "between"});
  Notification ran;
  Notification go_on;
  DispatcherPtr before;
  std::thread other([&] {
    before = createDispatcher({.name = "before its first run"});
    between->run(RunType::NonBlock);
    ran.notify();
    EXPECT_TRUE(go_on.wait());
  });
  ASSERT_TRUE(ran.wait());
  EXPECT_EQ("", runInChild([&] {
              CHILD_CHECK(!between->post([] {}));
              CHILD_CHECK(!before->post([] {}));
              bool called = false;
              CHILD_CHECK(ended->post([&] { called = true; }));
              ended->run(RunType::NonBlock);
              CHILD_CHECK(called);
            }));
  go_on.notify();
  other.join();
}

TEST_F(ForkTest, ForkWaitsForNoScopeOfItsOwnThread) {
  const NoFork outer;
  const NoFork inner;
  EXPECT_EQ("", runInChild([] {
              const NoFork own;
              std::thread([] { const NoFork other; }).join();
            }));
}

TEST_F(ForkTest, GrandchildOfTwoCallbacksGoesOnWithTheLoop) {
  pid_t pid = -1;
  std::array<bool, 2> child{};
  int fired = 0;
  TimerPtr timer = dispatcher_->createTimer([&] { ++fired; });
  dispatcher_->post([&] {
    pid = fork();
    child[0] = pid == 0;
    timer->enableTimer(1ms);
  });
  dispatcher_->post([&] {
    if (child[0]) {
      pid = fork();
      child[1] = pid == 0;
    }
  });
  dispatcher_->run(RunType::Block);
  if (child[1]) {
    _exit(fired == 1 ? 0 : 1);
  }
  if (child[0]) {
    _exit(fired == 1 && waitForChild(pid).empty() ? 0 : 1);
  }
  EXPECT_EQ("", waitForChild(pid));
  EXPECT_EQ(1, fired);
}

TEST_F(ForkTest, LoopsOfAChildAreLostInAChildOfAnotherThreadThere) {
  EXPECT_EQ("", runInChild([this] {
              DispatcherPtr made = createDispatcher({.name = "made in the child"});
              std::string wrong;
              std::thread([&] {
                wrong = runInChild([&] {
                  CHILD_CHECK(!made->post([] {}));
                  CHILD_CHECK(!dispatcher_->post([] {}));
                });
              }).join();
              CHILD_CHECK(wrong.empty());
            }));
}

TEST_F(ForkTest, GrandchildWorksToo) {
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ("", runInChild([this] {
              dispatcher_->run(RunType::NonBlock);
              CHILD_CHECK(runInChild([this] {
                            int calls = 0;
                            TimerPtr timer = dispatcher_->createTimer([&] { ++calls; });
                            timer->enableTimer(1ms);
                            dispatcher_->run(RunType::Block);
                            CHILD_CHECK(calls == 1);
                          }).empty());
            }));
}

TEST_F(ForkTest, ChildOfManyDispatchersUsesEachOfThem) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  EXPECT_EQ("", runInChild([&] {
              int calls = 0;
              for (Dispatcher* dispatcher : {dispatcher_.get(), other.get()}) {
                TimerPtr timer = dispatcher->createTimer([&] { ++calls; });
                timer->enableTimer(1ms);
                dispatcher->run(RunType::Block);
              }
              CHILD_CHECK(calls == 2);
            }));
}

TEST_F(ForkTest, ChildMayDestroyTheDispatcherOfAThreadThatIsGone) {
  DispatcherThread thread(*dispatcher_);
  thread.call([] {});
  EXPECT_EQ("", runInChild([&] { dispatcher_.reset(); }));
  thread.call([] {});  // the parent's loop goes on
}

TEST_F(ForkTest, SimulatedTimeGoesOnInTheChild) {
  SimulatedTimeSystem time;
  DispatcherPtr simulated = createDispatcher({.time_system = &time});
  int calls = 0;
  TimerPtr timer = simulated->createTimer([&] { ++calls; });
  timer->enableTimer(1h);
  EXPECT_EQ("", runInChild([&] {
              time.advanceTimeAndRun(1h);
              CHILD_CHECK(calls == 1);
            }));
  EXPECT_EQ(0, calls);
  time.advanceTimeAndRun(1h);
  EXPECT_EQ(1, calls);
}

TEST_F(ForkTest, SimulatedTimeGoesOnForALoopWhoseCallbackForked) {
  SimulatedTimeSystem time;
  DispatcherPtr simulated = createDispatcher({.name = "simulated", .time_system = &time});
  pid_t pid = -1;
  bool fired = false;
  TimerPtr timer = simulated->createTimer([&] {
    fired = true;
    simulated->exit();
  });
  timer->enableTimer(1h);
  std::thread advances;
  SchedulableCallbackPtr next =
      simulated->createSchedulableCallback([&] { advances = std::thread([&time] { time.advanceTimeAndRun(1h); }); });
  simulated->post([&] {
    pid = fork();
    next->scheduleNextIteration();
  });
  simulated->run(RunType::RunUntilExit);
  advances.join();
  if (pid == 0) {
    _exit(fired ? 0 : 1);
  }
  EXPECT_EQ("", waitForChild(pid));
  EXPECT_TRUE(fired);
}

// What has locks.

// Forks while another thread calls `busy` all the time; each child calls it too.
void expectForksAmid(const std::function<void()>& busy) {
  constexpr int kForks = 100;
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) {
      busy();
    }
  });
  for (int i = 0; i < kForks && !testing::Test::HasFailure(); ++i) {
    EXPECT_EQ("", runInChild([&] { busy(); }));
  }
  stop = true;
  other.join();
}

TEST_F(ForkTest, LockOfPostsIsFreeInTheChild) {
  const PostHandle posts = dispatcher_->handle();
  dispatcher_->shutdown();
  expectForksAmid([&] { CHILD_CHECK(!posts.post([] {})); });
}

TEST_F(ForkTest, LockOfSimulatedTimeIsFreeInTheChild) {
  SimulatedTimeSystem time;
  expectForksAmid([&] { time.advanceTimeAsync(1us); });
}

// Waits in its move to the queue.
class MovedSlowly {
public:
  MovedSlowly(Notification& moving, Notification& go) : moving_(&moving), go_(&go) {}
  MovedSlowly(MovedSlowly&& other) noexcept : moving_(other.moving_), go_(other.go_), moves_(other.moves_ + 1) {
    if (moves_ == 2) {  // the first one is to the callback
      moving_->notify();
      EXPECT_TRUE(go_->wait());
    }
  }
  MovedSlowly& operator=(MovedSlowly&&) = delete;
  ~MovedSlowly() = default;

private:
  Notification* moving_;
  Notification* go_;
  int moves_ = 0;
};

TEST_F(ForkTest, PostThatAnotherThreadWasAtIsNotTheChilds) {
  Notification moving;
  Notification go;
  std::vector<int> order;
  dispatcher_->post([&] { order.push_back(1); });
  std::thread other([&] { dispatcher_->post([&order, slow = MovedSlowly(moving, go)] { order.push_back(2); }); });
  ASSERT_TRUE(moving.wait());
  dispatcher_->post([&] { order.push_back(3); });
  EXPECT_EQ("", runInChild([&] {
              dispatcher_->run(RunType::NonBlock);
              CHILD_CHECK(order == std::vector<int>({1, 3}));
              dispatcher_.reset();
            }));
  go.notify();
  other.join();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order, testing::ElementsAre(1, 2, 3));
}

TEST_F(ForkTest, PostThatAnotherThreadWasAtIsNotTheChildsThoughTheLoopHadTakenIt) {
  Notification moving;
  Notification go;
  std::vector<int> order;
  pid_t child = -1;
  dispatcher_->post([&] { child = fork(); });
  std::thread other([&] { dispatcher_->post([&order, slow = MovedSlowly(moving, go)] { order.push_back(2); }); });
  ASSERT_TRUE(moving.wait());
  dispatcher_->post([&] { order.push_back(3); });
  dispatcher_->run(RunType::NonBlock);
  if (child == 0) {
    dispatcher_->run(RunType::NonBlock);
    const bool good = order == std::vector<int>{3};
    dispatcher_.reset();
    _exit(good ? 0 : 1);
  }
  EXPECT_TRUE(order.empty());
  go.notify();
  other.join();
  EXPECT_EQ("", waitForChild(child));
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order, testing::ElementsAre(2, 3));
}

}  // namespace
}  // namespace nuncio::test
