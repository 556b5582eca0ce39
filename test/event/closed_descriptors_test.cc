// What a dispatcher does when the program closes its descriptors behind its back: it says so once, and its run ends; it
// neither spins nor says it again. Each test runs in a child process, and in it this program's epoll_wait takes the
// place of the C library's, to count the polls.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <system_error>
#include <thread>
#include <unistd.h>
#include <vector>

#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "test/test_support/child_process.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/log_capture.h"

namespace {
std::atomic<int> polls{0};
std::atomic<bool> asleep{false};  // or about to be
}  // namespace

extern "C" int epoll_wait(int epoll, epoll_event* events, int max_events, int timeout) {
  ++polls;
  if (timeout != 0) {
    asleep = true;
  }
  // With no set of signals this is epoll_wait, which some architectures do not have as a system call.
  return static_cast<int>(syscall(SYS_epoll_pwait, epoll, events, max_events, timeout, nullptr, 0));
}

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

std::set<int> openDescriptors() {
  constexpr int kLimit = 1024;
  std::set<int> descriptors;
  for (int fd = 0; fd < kLimit; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) {
      descriptors.insert(fd);
    }
  }
  return descriptors;
}

// Whether `fd` is of a kind, as the kernel calls it: "eventpoll", "eventfd", "timerfd", "socket", "pipe"; "": of any.
bool isOfKind(int fd, const std::string& kind) {
  std::error_code error;  // it is closed
  const std::string target = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), error);
  return !error && target.find(kind) != std::string::npos;
}

int errorsIn(const LogCapture& log) {
  const std::string text = log.text();
  int errors = 0;
  for (std::size_t at = text.find("[error]"); at != std::string::npos; at = text.find("[error]", at + 1)) {
    ++errors;
  }
  return errors;
}

// What the loop of the process under test has.
struct World {
  World() {
    const std::set<int> before = openDescriptors();
    dispatcher = createDispatcher({.name = "robbed"});
    timer = dispatcher->createTimer([this] { ++timer_calls; });
    signal = *dispatcher->listenForSignal(SIGUSR1, [] {});
    for (const int fd : openDescriptors()) {
      if (before.count(fd) == 0) {
        own.push_back(fd);
      }
    }
    signal_fd = own.empty() ? -1 : own.back();
    for (const int fd : own) {  // that of signals was opened last, and lowest numbers are given first
      signal_fd = isOfKind(fd, "eventfd") ? std::max(signal_fd, fd) : signal_fd;
    }
  }

  // Closes those of a kind; of the two eventfds, that of signals or the other.
  int closeThose(const std::string& kind, bool of_signals) {
    int closed = 0;
    for (const int fd : own) {
      if (isOfKind(fd, kind) && (kind != "eventfd" || (fd == signal_fd) == of_signals)) {
        CHILD_CHECK(close(fd) == 0);
        ++closed;
      }
    }
    return closed;
  }

  DispatcherPtr dispatcher;
  std::vector<int> own;
  int signal_fd = -1;
  TimerPtr timer;
  SignalEventPtr signal;
  int timer_calls = 0;
};

struct Closed {
  std::string name;
  std::string kind;
  bool of_signals;
  std::function<void(World&)> use;  // of what was closed
  std::string call;                 // what the log says; "": nothing
};
std::ostream& operator<<(std::ostream& stream, const Closed& closed) { return stream << closed.name; }

std::vector<Closed> kinds() {
  return {
      {"Epoll", "eventpoll", false, [](World&) {}, "epoll_wait"},
      {"Timer", "timerfd", false, [](World& world) { world.timer->enableTimer(1ms); }, "timerfd_settime on fd"},
      {"WakeUp", "eventfd", false, [](World& world) { world.dispatcher->keepRunning().reset(); }, "write, to wake it,"},
      {"Signal", "eventfd", true, [](World&) { CHILD_CHECK(raise(SIGUSR1) == 0); }, "write, for a signal,"},
      {"All", "", false,
       [](World& world) {
         world.timer->enableTimer(1ms);
         world.dispatcher->keepRunning().reset();
         CHILD_CHECK(raise(SIGUSR1) == 0);
       },
       "Bad file descriptor"},
  };
}

class ClosedDescriptorsTest : public testing::TestWithParam<Closed> {};

TEST_P(ClosedDescriptorsTest, AreOneErrorAndTheEndOfTheRun) {
  const Closed& closed = GetParam();
  EXPECT_EQ("", runInChild([&closed] {
              LogCapture log(LogLayer::Event);
              World world;
              int polls_before = 0;
              world.dispatcher->post([&] {
                CHILD_CHECK(world.closeThose(closed.kind, closed.of_signals) > 0);
                polls_before = polls;
                closed.use(world);
              });
              world.dispatcher->run(RunType::RunUntilExit);
              CHILD_CHECK(polls - polls_before <= 2);
              CHILD_CHECK(errorsIn(log) == 1);
              CHILD_CHECK(log.contains("robbed") && log.contains(closed.call) && log.contains("Bad file descriptor"));

              const int polls_of_run = polls;
              bool posted_runs = false;
              CHILD_CHECK(world.dispatcher->post([&] { posted_runs = true; }));
              for (const RunType type : {RunType::RunUntilExit, RunType::Block, RunType::NonBlock}) {
                world.dispatcher->run(type);  // returns at once
              }
              world.dispatcher->exit();
              CHILD_CHECK(polls == polls_of_run);
              CHILD_CHECK(!posted_runs);
              world.dispatcher->shutdown();
              CHILD_CHECK(!world.dispatcher->post([] {}));
              world.signal.reset();
              world.dispatcher.reset();
              CHILD_CHECK(errorsIn(log) == 1);
            }));
}

INSTANTIATE_TEST_SUITE_P(EachKind, ClosedDescriptorsTest, testing::ValuesIn(kinds()),
                         [](const auto& row) { return row.param.name; });

TEST(ClosedDescriptorsTest, ThoseThatOnlyLibeventKeepsAreNotMissed) {
  EXPECT_EQ("", runInChild([] {
              LogCapture log(LogLayer::Event);
              World world;
              world.dispatcher->post([&world] {
                CHILD_CHECK(world.closeThose("socket", false) + world.closeThose("pipe", false) == 2);
                world.timer->enableTimer(1ms);
                world.signal.reset();
              });
              world.dispatcher->run(RunType::Block);
              CHILD_CHECK(world.timer_calls == 1);
              CHILD_CHECK(errorsIn(log) == 0);
            }));
}

TEST(ClosedDescriptorsTest, PostsThatCannotWakeTheLoopSayItOnceAndTheNextEventEndsTheRun) {
  EXPECT_EQ("", runInChild([] {
              LogCapture log(LogLayer::Event);
              World world;
              Pair pair = makeSocketPair();
              auto event = world.dispatcher->createFileEvent(
                  pair.watched.get(), [](uint32_t) {}, FileTriggerType::Edge, FileReadyType::Read);
              CHILD_CHECK(event.ok());
              std::thread other([&] {
                while (!asleep) {
                  std::this_thread::yield();
                }
                CHILD_CHECK(world.closeThose("eventfd", false) == 1);
                const int polls_before = polls;
                std::array<std::thread, 3> posting;
                for (std::thread& thread : posting) {
                  thread = std::thread([&world] {
                    for (int i = 0; i < 1000; ++i) {
                      CHILD_CHECK(world.dispatcher->post([] {}));
                      world.dispatcher->keepRunning().reset();
                    }
                  });
                }
                for (std::thread& thread : posting) {
                  thread.join();
                }
                CHILD_CHECK(polls == polls_before);  // it cannot be woken
                CHILD_CHECK(errorsIn(log) == 1);
                writeText(pair.peer.get(), "x");
              });
              world.dispatcher->run(RunType::RunUntilExit);
              other.join();
              CHILD_CHECK(errorsIn(log) == 1);
            }));
}

TEST(ClosedDescriptorsTest, AllOfThemWhileThreadsPostAreOneError) {
  EXPECT_EQ("", runInChild([] {
              LogCapture log(LogLayer::Event);
              World world;
              std::atomic<bool> done{false};
              std::array<std::thread, 2> posting;
              for (std::thread& thread : posting) {
                thread = std::thread([&] {
                  while (!done) {
                    world.dispatcher->post([] {});
                  }
                });
              }
              world.dispatcher->post([&world] { CHILD_CHECK(world.closeThose("", false) > 0); });
              world.dispatcher->run(RunType::RunUntilExit);
              done = true;
              for (std::thread& thread : posting) {
                thread.join();
              }
              CHILD_CHECK(errorsIn(log) == 1);
            }));
}

TEST(ClosedDescriptorsTest, ABusyPollingLoopDoesNotSpin) {
  EXPECT_EQ("", runInChild([] {
              LogCapture log(LogLayer::Event);
              const std::set<int> before = openDescriptors();
              const DispatcherPtr dispatcher = createDispatcher({.busy_poll = std::chrono::hours(24)});
              std::set<int> own = openDescriptors();
              for (const int fd : before) {
                own.erase(fd);
              }
              int polls_before = 0;
              dispatcher->post([&] {
                for (const int fd : own) {
                  close(fd);
                }
                polls_before = polls;
              });
              dispatcher->run(RunType::RunUntilExit);
              CHILD_CHECK(polls - polls_before <= 2);
              CHILD_CHECK(errorsIn(log) == 1);
            }));
}

TEST(ClosedDescriptorsTest, ABusyPollingLoopThatSpinsAlreadyEnds) {
  EXPECT_EQ("", runInChild([] {
              LogCapture log(LogLayer::Event);
              const std::set<int> before = openDescriptors();
              const DispatcherPtr dispatcher = createDispatcher({.busy_poll = std::chrono::hours(24)});
              std::set<int> own = openDescriptors();
              for (const int fd : before) {
                own.erase(fd);
              }
              std::thread other([&own] {
                constexpr int kSpinning = 100;  // polls
                while (polls < kSpinning) {
                  std::this_thread::yield();
                }
                for (const int fd : own) {
                  close(fd);
                }
              });
              dispatcher->run(RunType::RunUntilExit);
              other.join();
              CHILD_CHECK(errorsIn(log) == 1);
            }));
}

TEST(ClosedDescriptorsTest, TheLoopThatListensIsWokenByTheNextThatRuns) {
  EXPECT_EQ("", runInChild([] {
              LogCapture log(LogLayer::Event);
              World world;
              std::thread owner([&world] { world.dispatcher->run(RunType::RunUntilExit); });
              while (!asleep) {
                std::this_thread::yield();
              }
              CHILD_CHECK(world.closeThose("eventfd", true) == 1);
              CHILD_CHECK(raise(SIGUSR1) == 0);  // which cannot wake it
              createDispatcher({.name = "other"})->run(RunType::NonBlock);
              owner.join();
              CHILD_CHECK(errorsIn(log) == 1);
              CHILD_CHECK(log.contains("robbed"));
            }));
}

TEST(ClosedDescriptorsTest, AListenerThatComesAfterThatGetsADescriptorOfItsOwn) {
  EXPECT_EQ("", runInChild([] {
              LogCapture log(LogLayer::Event);
              {
                World world;
                world.dispatcher->post([&world] {
                  CHILD_CHECK(world.closeThose("eventfd", true) == 1);
                  CHILD_CHECK(raise(SIGUSR1) == 0);
                });
                world.dispatcher->run(RunType::RunUntilExit);
              }
              const DispatcherPtr dispatcher = createDispatcher();
              int signals = 0;
              const auto event = dispatcher->listenForSignal(SIGUSR1, [&] {
                ++signals;
                dispatcher->exit();
              });
              CHILD_CHECK(raise(SIGUSR1) == 0);
              dispatcher->run(RunType::RunUntilExit);
              CHILD_CHECK(signals == 1);
              CHILD_CHECK(errorsIn(log) == 1);
            }));
}

TEST(ClosedDescriptorsTest, AChildOfAParentWhoseSignalsFailGetsItsOwn) {
  EXPECT_EQ("", runInChild([] {
              LogCapture log(LogLayer::Event);
              World world;
              CHILD_CHECK(world.closeThose("eventfd", true) == 1);
              CHILD_CHECK(raise(SIGUSR1) == 0);
              // Takes the number that was closed: the child closes it, as what it has inherited.
              CHILD_CHECK(fcntl(world.own.front(), F_DUPFD_CLOEXEC, 0) == world.signal_fd);
              const std::string wrong = runInChild([&world] {
                bool ran = false;
                world.dispatcher->post([&] { ran = true; });
                world.dispatcher->run(RunType::NonBlock);
                CHILD_CHECK(ran);
                CHILD_CHECK(raise(SIGUSR1) == 0);
                world.timer->enableTimer(0ms);
                world.dispatcher->run(RunType::NonBlock);
                CHILD_CHECK(world.timer_calls == 1);
              });
              CHILD_CHECK(wrong.empty());
              CHILD_CHECK(errorsIn(log) == 0);
            }));
}

TEST(ClosedDescriptorsTest, AChildThatClosesThoseOfItsParentSaysNothing) {
  EXPECT_EQ("", runInChild([] {
              LogCapture log(LogLayer::Event);
              World world;
              const std::string wrong = runInChild([&] {
                CHILD_CHECK(world.closeThose("", false) > 0);
                world.dispatcher->keepRunning().reset();
                CHILD_CHECK(world.dispatcher->post([] {}));
                CHILD_CHECK(errorsIn(log) == 0);
              });
              CHILD_CHECK(wrong.empty());
            }));
}

}  // namespace
}  // namespace nuncio::test
