// Forks at random moments, while other threads use all of the library: each child works. A child that hangs is killed.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "nuncio/common/logging.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/future/retry.h"
#include "nuncio/future/submit.h"
#include "nuncio/future/time.h"
#include "test/test_support/child_process.h"
#include "test/test_support/sanitizers.h"

#ifdef NUNCIO_TEST_THREAD_SANITIZER
// A thread of the parent that had ended at a fork, and that nobody had joined yet, is nobody's leak in the child.
extern "C" const char* __tsan_default_options();  // NOLINT(bugprone-reserved-identifier): the sanitizer's name
const char* __tsan_default_options() { return "report_thread_leaks=0"; }
#endif

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

// How many forks; more for an acceptance run.
int forks() {
  const char* number = std::getenv("NUNCIO_FORKS");
  return number == nullptr ? 100 : std::atoi(number);
}

// Keeps back what is logged, and shows the end of it when the test fails.
class QuietStderr {
public:
  QuietStderr() { testing::internal::CaptureStderr(); }
  ~QuietStderr() {
    const std::string text = testing::internal::GetCapturedStderr();
    if (testing::Test::HasFailure()) {
      constexpr std::size_t kShown = 3000;
      std::fputs(text.substr(text.size() - std::min(kShown, text.size())).c_str(), stderr);
    }
  }
};

// A dispatcher, a log line, a post, a timer, a future, a signal.
void useAll() {
  DispatcherPtr dispatcher = createDispatcher({.name = "child"});
  CHILD_CHECK(dispatcher != nullptr);
  NUNCIO_LOG(Event, info, "a line of the child");
  int calls = 0;
  SignalEventPtr signal;
  auto listening = dispatcher->listenForSignal(SIGUSR1, [&] {
    ++calls;
    signal.reset();
  });
  CHILD_CHECK(listening.ok());
  signal = *std::move(listening);
  dispatcher->post([&] { ++calls; });
  TimerPtr timer = dispatcher->createTimer([&] { ++calls; });
  timer->enableTimer(1ms);
  sleepFor(*dispatcher, 1ms).then([&] { ++calls; }).detach();
  dispatcher->post([] { throw 1; });
  raise(SIGUSR1);
  while (calls < 4) {
    dispatcher->run(RunType::Block);
  }
  CHILD_CHECK(calls == 4);
}

// First of all in this process, none of which has used the library yet: what is made at its first use is made in each
// child anew, by one of its threads, while another forks.
TEST(ForkStressTest, ChildWorksThatIsMadeWhileOthersUseTheLibraryForTheFirstTime) {
  const QuietStderr quiet;
#ifdef NUNCIO_TEST_THREAD_SANITIZER
  // The C++ runtime makes something at the first throw, by pthread_once(), which begins anew in the child of a fork;
  // the sanitizer's waits there for a thread that the child does not have.
  EXPECT_ANY_THROW(throw 1);
#endif
  for (int i = 0; i < forks(); ++i) {
    ASSERT_EQ("", runInChild([i] {
                std::atomic<bool> begun{false};
                std::thread first([&begun] {
                  begun = true;
                  useAll();
                });
                while (!begun) {
                }
                for (std::atomic<int> later{i * 50}; later > 0; --later) {  // another moment each time
                }
                const pid_t grandchild = startChild([] { useAll(); });
                first.join();
                CHILD_CHECK(waitForChild(grandchild).empty());
              }));
  }
}

TEST(ForkStressTest, ChildWorksThatIsMadeWhileOthersUseTheLibrary) {
  const QuietStderr quiet;
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  DispatcherPtr busy = createDispatcher({.name = "busy"});
  DispatcherPtr mine = createDispatcher({.name = "mine"});
  mine->run(RunType::NonBlock);
  std::function<void()> again = [&] {
    if (!stop) {
      busy->post([&] { again(); });
      sleepFor(*busy, 0ms).then([] {}).detach();
      throw 1;  // which the loop logs
    }
  };
  busy->post([&] { again(); });
  std::thread busy_thread([&] { busy->run(RunType::RunUntilExit); });
  threads.emplace_back([&] {
    while (!stop) {
      mine->post([] {});
      busy->post([] {});
      NUNCIO_LOG(Future, info, "a line of the parent");
    }
  });
  threads.emplace_back([&] {
    while (!stop) {
      DispatcherPtr passing = createDispatcher({.name = "passing"});
      TimerPtr timer = passing->createTimer([] {});
      timer->enableTimer(0ms);
      passing->run(RunType::Block);
    }
  });
  threads.emplace_back([&] {
    while (!stop) {
      EXPECT_TRUE(submit(*busy, [] { return 1; }).get().hasValue());
    }
  });
  for (int i = 0; i < forks() && !HasFailure(); ++i) {
    EXPECT_EQ("", runInChild([&] {
                useAll();
                bool ran = false;
                mine->post([&ran] { ran = true; });
                while (!ran) {  // there may be many before it
                  mine->run(RunType::NonBlock);
                }
                mine.reset();
                busy.reset();
              }));
    mine->run(RunType::NonBlock);
  }
  stop = true;
  for (std::thread& thread : threads) {
    thread.join();
  }
  busy->exit();  // only now: they wait for what it answers
  busy_thread.join();
}

// libevent has one lock for the process, which each poll of a loop that listens for signals takes for a moment.
TEST(ForkStressTest, ChildWorksThatIsMadeWhileAnotherLoopListensForSignals) {
  std::atomic<bool> stop{false};
  DispatcherPtr mine = createDispatcher({.name = "mine"});
  mine->run(RunType::NonBlock);
  std::thread thread([&stop] {
    DispatcherPtr listening = createDispatcher({.name = "listening"});
    const auto signal = listening->listenForSignal(SIGUSR2, [] {});
    EXPECT_TRUE(signal.ok());
    while (!stop) {
      listening->run(RunType::NonBlock);
    }
  });
  for (int i = 0; i < 3 * forks() && !HasFailure(); ++i) {  // it is held for nanoseconds of each microsecond
    EXPECT_EQ("", runInChild([&] {
                bool ran = false;
                mine->post([&ran] { ran = true; });
                mine->run(RunType::NonBlock);
                CHILD_CHECK(ran);
              }));
  }
  stop = true;
  thread.join();
}

}  // namespace
}  // namespace nuncio::test
