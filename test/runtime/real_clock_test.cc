// Below a loop in simulated time nobody reads a real clock: neither the system's monotonic one, nor the processor's
// counter, by which a run would depend on how fast the machine is. The calendar may be read, for the log.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <dlfcn.h>
#include <optional>
#include <ranges>
#include <string>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/any_of.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/debouncer.h"
#include "nuncio/future/future.h"
#include "nuncio/future/loops.h"
#include "nuncio/future/queue.h"
#include "nuncio/future/rate_limiter.h"
#include "nuncio/future/retry.h"
#include "nuncio/future/submit.h"
#include "nuncio/future/time.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/child_process.h"
#include "test/test_support/sanitizers.h"

#ifndef NUNCIO_TEST_SANITIZER  // which bring their own clock_gettime

namespace {

// While `counting`: how often the time was asked for, but for the calendar, and by libevent, which keeps the time of
// its last poll and does nothing with it.
bool counting = false;
int64_t reads = 0;
int64_t reads_in_all = 0;

bool isLibevent(void* caller) {
  Dl_info info{};
  return dladdr(caller, &info) != 0 && info.dli_fname != nullptr &&
         absl::StrContains(absl::string_view(info.dli_fname), "libevent");
}

}  // namespace

// In place of the C library's, which std::chrono's clocks call.
extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  ++reads_in_all;
  if (counting && clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE &&
      !isLibevent(__builtin_return_address(0))) {
    ++reads;
  }
  return static_cast<int>(syscall(SYS_clock_gettime, clock, time));
}
// The calendar; in place of the C library's since that reads the processor's counter.
extern "C" int gettimeofday(timeval* time, void* zone) noexcept {
  return static_cast<int>(syscall(SYS_gettimeofday, time, zone));
}

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

// Runs `f` in a child, in which reading the processor's counter is fatal, where the kernel can see to that.
template <class F>
void expectNoRealClock(F f) {
  EXPECT_EQ("", runInChild([&f] {
#ifdef __x86_64__
              prctl(PR_SET_TSC, PR_TSC_SIGSEGV);
#endif
              counting = true;
              f();
              counting = false;
              CHILD_CHECK(reads == 0);
            }));
}

TEST(RealClockTest, IsTrapped) {
  EXPECT_NE("", runInChild([] {
              counting = true;
              static_cast<void>(std::chrono::steady_clock::now());
              CHILD_CHECK(reads == 0);
            }));
  EXPECT_GT(reads_in_all, 0) << "that of the calendar, too";
}

TEST(RealClockTest, IsReadByALoopInRealTime) {
  EXPECT_NE("", runInChild([] {
              counting = true;
              const DispatcherPtr dispatcher = createDispatcher({.name = "real"});
              const TimerPtr timer = dispatcher->createTimer([] {});
              timer->enableTimer(0ms);
              dispatcher->run(RunType::NonBlock);
              CHILD_CHECK(reads == 0);
            }));
}

TEST(RealClockTest, IsNotReadByTimersPostsAndCallbacks) {
  expectNoRealClock([] {
    SimulatedTimeSystem time;
    const DispatcherPtr dispatcher = createDispatcher({.name = "simulated", .time_system = &time});
    int fired = 0;
    std::vector<TimerPtr> timers;
    for (int i = 0; i < 1'000; ++i) {
      timers.push_back(dispatcher->createTimer([&] { ++fired; }));
      if (i % 2 == 0) {
        timers.back()->enableTimer(std::chrono::milliseconds(i));
      } else {
        timers.back()->enableHRTimer(std::chrono::microseconds(i));
      }
    }
    const SchedulableCallbackPtr callback = dispatcher->createSchedulableCallback([&] { ++fired; });
    callback->scheduleNextIteration();
    for (int i = 0; i < 10'000; ++i) {
      dispatcher->post([&] { ++fired; });
    }
    time.advanceTimeAndRun(2s);
    dispatcher->updateApproximateMonotonicTime();
    dispatcher->run(RunType::Block);
    CHILD_CHECK(fired == 11'001);
  });
}

TEST(RealClockTest, IsNotReadByContinuationsInPlace) {
  expectNoRealClock([] {
    SimulatedTimeSystem time;
    const DispatcherPtr dispatcher = createDispatcher({.name = "simulated", .time_system = &time});
    int ran = 0;
    dispatcher->post([&] {
      for (int i = 0; i < 50'000; ++i) {
        Promise<int> promise;
        promise.setValue(1);
        promise.future(*dispatcher).then([&](int value) { ran += value; }).detach();
      }
    });
    dispatcher->run(RunType::Block);
    CHILD_CHECK(ran == 50'000);
  });
}

Future<void> yieldAndSleep(Dispatcher& dispatcher, int& steps) {
  for (int i = 0; i < 1'000; ++i) {
    co_await yield();
    ++steps;
  }
  for (int i = 0; i < 10; ++i) {
    co_await 1ms;
    Future<void> sleep = sleepFor(dispatcher, 1us);
    co_await std::move(sleep);
    ++steps;
  }
}

TEST(RealClockTest, IsNotReadByCoroutinesAndLoops) {
  expectNoRealClock([] {
    SimulatedTimeSystem time;
    const DispatcherPtr dispatcher = createDispatcher({.name = "simulated", .time_system = &time});
    int steps = 0;
    std::vector<Future<void>> all;
    dispatcher->post([&] {
      all.push_back(yieldAndSleep(*dispatcher, steps));
      all.push_back(repeat(*dispatcher, [n = 0]() mutable { return ++n < 50'000; }));
      all.push_back(forEach(*dispatcher, std::views::iota(0, 50'000), 4, [&](int) { ++steps; }));
      all.push_back(reduce(*dispatcher, std::views::iota(0, 50'000), int64_t{0}, [](int64_t sum, int i) {
                      return sum + i;
                    }).then([](int64_t) {}));
      all.push_back(
          doUntil(*dispatcher, [&] { return sleepFor(*dispatcher, 1ms); }, [n = 0]() mutable { return ++n == 10; }));
    });
    for (int i = 0; i < 1'000; ++i) {
      time.advanceTimeAndRun(1ms);
    }
    for (const Future<void>& future : all) {
      CHILD_CHECK(future.isReady());
    }
    CHILD_CHECK(steps == 51'010);
  });
}

TEST(RealClockTest, IsNotReadByWhatWaitsForTime) {
  expectNoRealClock([] {
    SimulatedTimeSystem time;
    const DispatcherPtr dispatcher = createDispatcher({.name = "simulated", .time_system = &time});
    Promise<int> never;
    RateLimiter limiter(*dispatcher, 10, 1);
    Queue<int> queue(*dispatcher, 1);
    int calls = 0;
    Debouncer debouncer(*dispatcher, 1ms, [&] { ++calls; });
    std::vector<Future<void>> all;
    dispatcher->post([&] {
      all.push_back(within(never.future(*dispatcher), 10ms).then([](const Try<int>&) {}));
      all.push_back(delayed(makeReadyFuture(), 10ms));
      all.push_back(anyOf(queue.pop(), sleepFor(*dispatcher, 10ms)).then([](const std::variant<int, Unit>&) {}));
      all.push_back(retrying(*dispatcher, {.max_attempts = 3, .jitter = 0}, [] {
                      return absl::UnavailableError("again");
                    }).thenError([](const absl::Status&) {}));
      for (int i = 0; i < 10; ++i) {
        all.push_back(limiter.acquire());
        debouncer.request();
      }
      all.push_back(submit(*dispatcher, [] {}).via(*dispatcher));
    });
    time.advanceTimeAndRun(10s);
    for (const Future<void>& future : all) {
      CHILD_CHECK(future.isReady());
    }
    CHILD_CHECK(calls == 1);
  });
}

}  // namespace
}  // namespace nuncio::test

#endif
