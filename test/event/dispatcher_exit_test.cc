// What ends a run from outside, and what keeps it going; with the system call of those who wake the loop slowed down.

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdarg>
#include <dlfcn.h>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <pthread.h>
#include <sched.h>
#include <string>
#include <sys/syscall.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/future/submit.h"
#include "test/test_support/child_process.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/notification.h"

namespace {

thread_local bool slow_calls = false;  // of this thread, where it wakes a loop
std::atomic<int> in_slow_calls{0};     // threads
std::atomic<bool> held{false};         // those calls begin, and go no further
std::atomic<bool> gone_on{false};      // the thread that those calls are to hold up, if they do

// A while, or until the other thread has gone on, as it must not.
void dawdle() {
  constexpr int kYields = 5'000;
  for (int i = 0; i < kYields && !gone_on; ++i) {
    sched_yield();
  }
}

}  // namespace

// Takes the place of the C library's, through which the library wakes loops.
extern "C" long syscall(long number, ...) noexcept {
  using Syscall = long (*)(long, long, long, long, long, long, long);
  static const auto next = reinterpret_cast<Syscall>(dlsym(RTLD_NEXT, "syscall"));
  std::va_list arguments;
  va_start(arguments, number);
  std::array<long, 6> values{};
  for (long& value : values) {
    value = va_arg(arguments, long);
  }
  va_end(arguments);
  const auto call = [&] { return next(number, values[0], values[1], values[2], values[3], values[4], values[5]); };
  if (!slow_calls || number != SYS_write) {
    return call();
  }
  ++in_slow_calls;
  while (held) {
    sched_yield();
  }
  dawdle();
  const long result = call();
  dawdle();
  --in_slow_calls;
  return result;
}

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

// Whether the kernel says that `thread` sleeps.
bool sleeps(pid_t thread) {
  std::ifstream file(absl::StrCat("/proc/self/task/", thread, "/stat"));
  const std::string line(std::istreambuf_iterator<char>(file), {});
  return line.find(") S ") != std::string::npos;
}

// Has `call`, on a thread whose calls are slow, end a run of a dispatcher that is awake, or asleep; then destroys the
// dispatcher, after which that thread must not be at work on it any more.
void expectLeftBeforeTheEnd(bool asleep, const std::function<void(Dispatcher&)>& call) {
  gone_on = false;
  DispatcherPtr dispatcher = createDispatcher({.name = "ended"});
  SchedulableCallbackPtr busy;
  busy = dispatcher->createSchedulableCallback([&] { busy->scheduleNextIteration(); });
  if (!asleep) {
    busy->scheduleNextIteration();
  }
  Notification running;
  dispatcher->post([&] { running.notify(); });
  std::thread caller([&, d = dispatcher.get(), loop = gettid()] {
    ASSERT_TRUE(running.wait());
    while (asleep && !sleeps(loop)) {
      sched_yield();
    }
    slow_calls = true;
    call(*d);
    slow_calls = false;
  });
  dispatcher->run(RunType::RunUntilExit);
  EXPECT_EQ(in_slow_calls, 0) << "it is at work on a dispatcher whose run it has ended";
  busy.reset();
  dispatcher.reset();
  gone_on = true;
  caller.join();
}

// A thread that is in the middle of a slow exit() when this returns.
std::thread exitSlowly(Dispatcher& dispatcher) {
  held = true;
  std::thread caller([&dispatcher] {
    slow_calls = true;
    dispatcher.exit();
    slow_calls = false;
  });
  while (in_slow_calls == 0) {
    sched_yield();
  }
  held = false;
  return caller;
}

TEST(DispatcherExitTest, ACallOfExitThatEndedTheRunHasLeftWhenRunReturns) {
  for (const bool asleep : {false, true}) {
    expectLeftBeforeTheEnd(asleep, [](Dispatcher& dispatcher) { dispatcher.exit(); });
  }
}

TEST(DispatcherExitTest, APostThatEndedTheRunHasLeftWhenRunReturns) {
  for (const bool asleep : {false, true}) {
    expectLeftBeforeTheEnd(asleep,
                           [](Dispatcher& dispatcher) { dispatcher.post([&dispatcher] { dispatcher.exit(); }); });
  }
}

TEST(DispatcherExitTest, APostWithACaptureThatIsMovedSlowlyHasLeftWhenRunReturns) {
  struct Slow {
    explicit Slow(Dispatcher& d) : dispatcher(&d) {}
    Slow(Slow&& other) noexcept : dispatcher(other.dispatcher) { dawdle(); }
    Slow& operator=(Slow&&) = delete;
    ~Slow() = default;
    Dispatcher* dispatcher;
  };
  for (const bool asleep : {false, true}) {
    expectLeftBeforeTheEnd(asleep, [](Dispatcher& dispatcher) {
      dispatcher.post([slow = Slow(dispatcher)] { slow.dispatcher->exit(); });
    });
  }
}

TEST(DispatcherExitTest, ADispatcherThatIsDestroyedWithoutARunWaitsForThoseWhoWakeIt) {
  gone_on = false;
  DispatcherPtr dispatcher = createDispatcher({.name = "ended"});
  std::thread caller = exitSlowly(*dispatcher);
  dispatcher.reset();
  EXPECT_EQ(in_slow_calls, 0);
  gone_on = true;
  caller.join();
}

TEST(DispatcherExitTest, AChildOfForkDoesNotWaitForThoseWhoAreNotThere) {
  gone_on = false;
  DispatcherPtr dispatcher = createDispatcher({.name = "forked"});
  std::thread caller = exitSlowly(*dispatcher);
  EXPECT_EQ("", runInChild([&] {
              dispatcher->run(RunType::NonBlock);
              dispatcher.reset();
            }));
  gone_on = true;
  caller.join();
}

TEST(DispatcherExitTest, AHandleEndsTheRunOfADispatcherThatLivesAndOfNoOther) {
  DispatcherPtr dispatcher = createDispatcher({.name = "by_handle"});
  const PostHandle handle = dispatcher->handle();
  EXPECT_FALSE(PostHandle().exit());
  for (int i = 0; i < 100; ++i) {
    std::thread caller([&] { EXPECT_TRUE(handle.exit()); });
    dispatcher->run(RunType::RunUntilExit);
    caller.join();
  }
  dispatcher->shutdown();
  EXPECT_FALSE(handle.exit());
  dispatcher.reset();
  EXPECT_FALSE(handle.exit());
}

TEST(DispatcherExitTest, ManyThreadsEndRunsByTheirHandlesWhileDispatchersComeAndGo) {
  for (int round = 0; round < 300; ++round) {
    DispatcherPtr dispatcher = createDispatcher({.name = "many"});
    std::vector<std::thread> callers;
    for (int i = 0; i < 3; ++i) {
      callers.emplace_back([handle = dispatcher->handle()] { handle.exit(); });
    }
    dispatcher->run(RunType::RunUntilExit);
    dispatcher.reset();
    for (std::thread& caller : callers) {
      caller.join();
    }
  }
}

Dispatcher* interrupted = nullptr;
std::optional<PostHandle> interrupted_by_handle;

TEST(DispatcherExitTest, ASignalHandlerEndsTheRunAlsoByAHandle) {
  DispatcherPtr dispatcher = createDispatcher({.name = "interrupted"});
  interrupted = dispatcher.get();
  interrupted_by_handle = dispatcher->handle();
  const std::array<void (*)(int), 2> handlers = {[](int) { interrupted->exit(); },
                                                 [](int) { interrupted_by_handle->exit(); }};
  for (const auto handler : handlers) {
    struct sigaction action{};
    struct sigaction former{};
    action.sa_handler = handler;
    ASSERT_EQ(sigaction(SIGUSR2, &action, &former), 0);
    Notification running;
    dispatcher->post([&] { running.notify(); });
    std::thread killer([&, thread = pthread_self()] {
      ASSERT_TRUE(running.wait());
      pthread_kill(thread, SIGUSR2);
    });
    dispatcher->run(RunType::RunUntilExit);
    killer.join();
    ASSERT_EQ(sigaction(SIGUSR2, &former, nullptr), 0);
  }
  interrupted_by_handle.reset();
}

TEST(KeepRunningTest, ABlockingRunWaitsForItsEnd) {
  DispatcherPtr dispatcher = createDispatcher({.name = "kept"});
  for (int i = 0; i < 100; ++i) {
    std::atomic<bool> ended{false};
    std::thread other([&ended, kept = dispatcher->keepRunning()]() mutable {
      std::this_thread::yield();
      ended = true;
      kept.reset();
    });
    dispatcher->run(RunType::Block);
    EXPECT_TRUE(ended);
    other.join();
  }
  dispatcher->run(RunType::Block);
}

TEST(KeepRunningTest, SeveralAllHaveToEnd) {
  DispatcherPtr dispatcher = createDispatcher({.name = "kept"});
  KeepRunning first = dispatcher->keepRunning();
  KeepRunning moved = std::move(first);
  KeepRunning second = dispatcher->keepRunning();
  std::vector<int> order;
  TimerPtr timer = dispatcher->createTimer([&] {
    order.push_back(static_cast<int>(order.size()));
    (order.size() == 1 ? moved : second).reset();
    if (order.size() == 1) {
      timer->enableTimer(1ms);
    }
  });
  timer->enableTimer(1ms);
  dispatcher->run(RunType::Block);
  EXPECT_EQ(order.size(), 2U);
  second.reset();  // again: nothing
}

TEST(KeepRunningTest, AssigningToOneEndsWhatItKept) {
  DispatcherPtr first = createDispatcher({.name = "first"});
  DispatcherPtr second = createDispatcher({.name = "second"});
  KeepRunning kept = first->keepRunning();
  kept = second->keepRunning();
  first->run(RunType::Block);
  kept = KeepRunning();
  second->run(RunType::Block);
}

TEST(KeepRunningTest, ExitAndShutdownDoNotWaitForIt) {
  DispatcherPtr dispatcher = createDispatcher({.name = "kept"});
  KeepRunning kept = dispatcher->keepRunning();
  dispatcher->exit();
  dispatcher->run(RunType::Block);
  dispatcher->run(RunType::NonBlock);
  dispatcher.reset();
  kept.reset();
}

TEST(KeepRunningTest, APendingFutureDoesNotKeepARunUnlessItsFunctionHoldsOne) {
  DispatcherPtr worker = createDispatcher({.name = "worker"});
  DispatcherPtr dispatcher = createDispatcher({.name = "here"});
  DispatcherThread thread(*worker);
  Notification go;
  int answered = 0;
  Future<void> answer = submit(*worker, [&] { EXPECT_TRUE(go.wait()); }).via(*dispatcher).then([&] { ++answered; });
  dispatcher->run(RunType::Block);
  EXPECT_EQ(answered, 0);
  Future<void> kept_answer = std::move(answer).then([&, kept = dispatcher->keepRunning()] { ++answered; });
  go.notify();
  dispatcher->run(RunType::Block);
  EXPECT_EQ(answered, 2);
}

}  // namespace
}  // namespace nuncio::test
