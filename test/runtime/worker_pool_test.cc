#include "nuncio/runtime/worker_pool.h"

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <pthread.h>
#include <sched.h>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/child_process.h"
#include "test/test_support/contract.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::HasSubstr;

using WorkerPoolPtr = std::unique_ptr<WorkerPool>;

WorkerPoolPtr makePool(const WorkerPoolOptions& options) {
  auto pool = WorkerPool::create(options);
  EXPECT_TRUE(pool.ok()) << pool.status();
  return pool.ok() ? *std::move(pool) : nullptr;
}

WorkerPoolPtr makePool(size_t threads) { return makePool(WorkerPoolOptions{.threads = threads}); }

// Runs `f` on a worker and waits.
template <class F>
void call(Dispatcher& worker, F f) {
  Notification done;
  ASSERT_TRUE(worker.post([&] {
    f();
    done.notify();
  }));
  ASSERT_TRUE(done.wait());
}

std::string threadName() {
  char name[32] = {};
  pthread_getname_np(pthread_self(), name, sizeof(name));
  return name;
}

size_t usableCpus() {
  cpu_set_t cpus;
  EXPECT_EQ(0, sched_getaffinity(0, sizeof(cpus), &cpus));
  return static_cast<size_t>(CPU_COUNT(&cpus));
}

TEST(WorkerPoolTest, ThreadsAndDispatchersAreNamedByIndex) {
  WorkerPoolPtr pool = makePool(3);
  ASSERT_EQ(3u, pool->size());
  for (size_t i = 0; i < 3; ++i) {
    const std::string expected = absl::StrCat("worker_", i);
    EXPECT_EQ(expected, pool->dispatcher(i).name());
    std::string name;
    call(pool->dispatcher(i), [&] { name = threadName(); });
    EXPECT_EQ(expected, name);
  }
}

TEST(WorkerPoolTest, PrefixOfTheNamesIsThatOfTheOptions) {
  WorkerPoolPtr pool = makePool({.threads = 2, .name_prefix = "io/"});
  EXPECT_EQ("io/1", pool->dispatcher(1).name());
  std::string name;
  call(pool->dispatcher(1), [&] { name = threadName(); });
  EXPECT_EQ("io/1", name);
}

TEST(WorkerPoolTest, PrefixLongerThanTheKernelsNamesIsAccepted) {
  WorkerPoolPtr pool = makePool({.threads = 1, .name_prefix = "a_prefix_that_is_far_too_long_"});
  EXPECT_EQ("a_prefix_that_is_far_too_long_0", pool->dispatcher(0).name());
  std::string name;
  call(pool->dispatcher(0), [&] { name = threadName(); });
  EXPECT_FALSE(name.empty());
}

TEST(WorkerPoolTest, HasAThreadForEachCpuByDefault) { EXPECT_EQ(usableCpus(), makePool(0)->size()); }

TEST(WorkerPoolTest, EachWorkerRunsItsOwnDispatcherOnItsOwnThread) {
  WorkerPoolPtr pool = makePool(4);
  std::set<std::thread::id> threads;
  for (size_t i = 0; i < 4; ++i) {
    call(pool->dispatcher(i), [&] {
      EXPECT_TRUE(pool->dispatcher(i).isThreadSafe());
      threads.insert(std::this_thread::get_id());
    });
  }
  EXPECT_EQ(4u, threads.size());
  EXPECT_EQ(0u, threads.count(std::this_thread::get_id()));
}

TEST(WorkerPoolTest, WorkersTakeTheOptionsOfDispatchers) {
  SimulatedTimeSystem time;
  WorkerPoolPtr pool = makePool({.threads = 2, .dispatcher = {.name = "replaced", .time_system = &time}});
  EXPECT_EQ(&time, &pool->dispatcher(1).timeSource());
  EXPECT_EQ("worker_1", pool->dispatcher(1).name());
}

TEST(WorkerPoolTest, TimersOfWorkersFireUnderSimulatedTime) {
  SimulatedTimeSystem time;
  WorkerPoolPtr pool = makePool({.threads = 3, .dispatcher = {.time_system = &time}});
  std::array<TimerPtr, 3> timers;
  std::array<int, 3> fired{};
  for (size_t i = 0; i < 3; ++i) {
    call(pool->dispatcher(i), [&] {
      timers[i] = pool->dispatcher(i).createTimer([&fired, i] { ++fired[i]; });
      timers[i]->enableTimer(1h);
    });
  }
  time.advanceTimeAndRun(1h);
  EXPECT_THAT(fired, testing::Each(1));
  pool->stop();
}

// next()

TEST(WorkerPoolTest, NextIsRoundRobin) {
  WorkerPoolPtr pool = makePool(3);
  std::vector<Dispatcher*> first_round = {&pool->next(), &pool->next(), &pool->next()};
  EXPECT_EQ(3u, std::set<Dispatcher*>(first_round.begin(), first_round.end()).size());
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(first_round[i % 3], &pool->next());
  }
}

TEST(WorkerPoolTest, NextFromManyThreadsIsEven) {
  WorkerPoolPtr pool = makePool(4);
  std::map<Dispatcher*, std::atomic<int>> picked;
  for (size_t i = 0; i < 4; ++i) {
    picked[&pool->dispatcher(i)] = 0;
  }
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        ++picked.at(&pool->next());
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const auto& [dispatcher, count] : picked) {
    EXPECT_EQ(1000, count.load()) << dispatcher->name();
  }
}

// runOnAll()

TEST(WorkerPoolTest, RunOnAllRunsOnceOnEachWorkerWithItsDispatcher) {
  WorkerPoolPtr pool = makePool(4);
  std::array<std::atomic<int>, 4> calls{};
  Countdown done(4);
  EXPECT_TRUE(pool->runOnAll([&](Dispatcher& worker) {
    EXPECT_TRUE(worker.isThreadSafe());
    for (size_t i = 0; i < 4; ++i) {
      calls[i] += &worker == &pool->dispatcher(i) ? 1 : 0;
    }
    done.countDown();
  }));
  ASSERT_TRUE(done.wait());
  for (const std::atomic<int>& count : calls) {
    EXPECT_EQ(1, count.load());
  }
}

TEST(WorkerPoolTest, DoneRunsOnceAfterAllTheWorkers) {
  WorkerPoolPtr pool = makePool(4);
  for (int round = 0; round < 100; ++round) {
    std::atomic<int> calls{0};
    std::atomic<int> dones{0};
    int calls_at_done = 0;
    Notification finished;
    EXPECT_TRUE(pool->runOnAll([&](Dispatcher&) { ++calls; },
                               [&] {
                                 ++dones;
                                 calls_at_done = calls;
                                 finished.notify();
                               }));
    ASSERT_TRUE(finished.wait());
    EXPECT_EQ(4, calls_at_done);
    EXPECT_EQ(1, dones.load());
  }
}

TEST(WorkerPoolTest, DoneRunsOnAWorker) {
  WorkerPoolPtr pool = makePool(2);
  Notification finished;
  std::string name;
  pool->runOnAll([](Dispatcher&) {},
                 [&] {
                   name = threadName();
                   finished.notify();
                 });
  ASSERT_TRUE(finished.wait());
  EXPECT_THAT(name, HasSubstr("worker_"));
}

TEST(WorkerPoolTest, DoneRunsAlthoughAWorkersCallThrows) {
  LogCapture log(LogLayer::Event);
  LogCapture runtime_log(LogLayer::Runtime);
  WorkerPoolPtr pool = makePool(3);
  Notification finished;
  EXPECT_TRUE(
      pool->runOnAll([](Dispatcher&) { throw std::runtime_error("thrown on purpose"); }, [&] { finished.notify(); }));
  EXPECT_TRUE(finished.wait());
  pool->stop();
}

TEST(WorkerPoolTest, CallbackOfRunOnAllIsDestroyedOnce) {
  std::atomic<int> destroyed{0};
  {
    WorkerPoolPtr pool = makePool(3);
    EXPECT_TRUE(pool->runOnAll([probe = OnDestroy([&] { ++destroyed; })](Dispatcher&) {}));
    pool->stop();
  }
  EXPECT_EQ(1, destroyed.load());
}

TEST(WorkerPoolTest, RunOnAllMayBeCalledByAWorker) {
  WorkerPoolPtr pool = makePool(2);
  Notification finished;
  pool->dispatcher(0).post([&] { pool->runOnAll([](Dispatcher&) {}, [&] { finished.notify(); }); });
  EXPECT_TRUE(finished.wait());
}

TEST(WorkerPoolTest, RunOnAllAfterStopIsFalseAndRunsNothing) {
  WorkerPoolPtr pool = makePool(2);
  pool->stop();
  bool destroyed = false;
  bool done_destroyed = false;
  EXPECT_FALSE(pool->runOnAll([probe = OnDestroy([&] { destroyed = true; })](Dispatcher&) { FAIL() << "ran"; }));
  EXPECT_TRUE(destroyed);
  EXPECT_FALSE(pool->runOnAll([](Dispatcher&) { FAIL() << "ran"; },
                              [probe = OnDestroy([&] { done_destroyed = true; })] { FAIL() << "done"; }));
  EXPECT_TRUE(done_destroyed);
}

// stop()

TEST(WorkerPoolTest, StopDrainsWhatWasPostedBefore) {
  WorkerPoolPtr pool = makePool(2);
  std::atomic<int> ran{0};
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_TRUE(pool->next().post([&] { ++ran; }));
  }
  pool->stop();
  EXPECT_EQ(10'000, ran.load());
}

TEST(WorkerPoolTest, StopDrainsPostsThatRunLongerThanAnIterationMay) {
  WorkerPoolPtr pool = makePool({.threads = 1, .dispatcher = {.max_callback_time_per_iteration = 50us}});
  int ran = 0;
  for (int i = 0; i < 500; ++i) {
    pool->dispatcher(0).post([&] {
      ++ran;
      const auto end = std::chrono::steady_clock::now() + 20us;
      while (std::chrono::steady_clock::now() < end) {
      }
    });
  }
  pool->stop();
  EXPECT_EQ(500, ran);
}

TEST(WorkerPoolTest, StopEndsThoughACallbackPostsItselfForEver) {
  WorkerPoolPtr pool = makePool(1);
  Dispatcher& worker = pool->dispatcher(0);
  std::function<void()> again = [&] { worker.post([&] { again(); }); };
  worker.post([&] { again(); });
  pool->stop();
}

TEST(WorkerPoolTest, PostsAfterStopAreRefused) {
  WorkerPoolPtr pool = makePool(2);
  const PostHandle handle = pool->dispatcher(1).handle();
  pool->stop();
  EXPECT_FALSE(pool->dispatcher(0).post([] { FAIL() << "ran"; }));
  EXPECT_FALSE(pool->next().post([] { FAIL() << "ran"; }));
  EXPECT_FALSE(handle.post([] { FAIL() << "ran"; }));
  EXPECT_FALSE(handle.alive());
}

TEST(WorkerPoolTest, StopIsIdempotent) {
  WorkerPoolPtr pool = makePool(2);
  pool->stop();
  pool->stop();
}

TEST(WorkerPoolTest, DestructorStops) {
  std::atomic<int> ran{0};
  {
    WorkerPoolPtr pool = makePool(2);
    for (int i = 0; i < 1000; ++i) {
      pool->next().post([&] { ++ran; });
    }
  }
  EXPECT_EQ(1000, ran.load());
}

// Data of one thread, which tells where it was destroyed. At namespace scope, so that each thread that names it makes
// it: one within a function is made only by threads that pass its declaration.
struct Local {
  ~Local() {
    if (destroyed_on != nullptr) {
      *destroyed_on = std::this_thread::get_id();
    }
  }
  std::thread::id* destroyed_on = nullptr;
};
thread_local Local local;

TEST(WorkerPoolTest, StopDestroysThreadLocalDataOnItsOwnThread) {
  WorkerPoolPtr pool = makePool(2);
  std::array<std::thread::id, 2> worker{};
  std::array<std::thread::id, 2> destroyed_on{};
  for (size_t i = 0; i < 2; ++i) {
    call(pool->dispatcher(i), [&] {
      worker[i] = std::this_thread::get_id();
      local.destroyed_on = &destroyed_on[i];
    });
  }
  pool->stop();
  EXPECT_EQ(worker, destroyed_on);
}

TEST(WorkerPoolTest, StopDestroysWhatIsDeferredAndPendingOnTheWorkersThread) {
  WorkerPoolPtr pool = makePool(1);
  Dispatcher& worker = pool->dispatcher(0);
  std::thread::id thread;
  std::thread::id deleted_on;
  call(worker, [&] { thread = std::this_thread::get_id(); });
  worker.deleteInDispatcherThread(makeDeferred([&] { deleted_on = std::this_thread::get_id(); }));
  pool->stop();
  EXPECT_EQ(thread, deleted_on);
}

TEST(WorkerPoolTest, PostsThatRaceWithStopRunOrAreDestroyed) {
  for (int round = 0; round < 20; ++round) {
    WorkerPoolPtr pool = makePool(2);
    std::atomic<int> made{0};
    std::atomic<int> destroyed{0};
    Notification started;
    std::thread poster([&] {
      bool accepted = true;
      while (accepted) {
        ++made;
        accepted = pool->dispatcher(0).post([probe = OnDestroy([&] { ++destroyed; })] {});
        if (made == 10) {
          started.notify();
        }
      }
    });
    EXPECT_TRUE(started.wait());
    pool->stop();
    poster.join();
    EXPECT_EQ(made.load(), destroyed.load());
  }
}

TEST(WorkerPoolTest, WorkersMayPostToEachOtherWhileTheyStop) {
  for (int round = 0; round < 20; ++round) {
    WorkerPoolPtr pool = makePool(2);
    std::function<void(size_t)> ping = [&](size_t to) { pool->dispatcher(to).post([&, to] { ping(1 - to); }); };
    ping(0);
    ping(1);
    pool->stop();
  }
}

TEST(WorkerPoolTest, CallbackThatThrowsIsLoggedAndCountedAndTheLoopGoesOn) {
  LogCapture log(LogLayer::Event);
  WorkerPoolPtr pool = makePool(1);
  Dispatcher& worker = pool->dispatcher(0);
  worker.post([] { throw std::runtime_error("thrown on purpose"); });
  uint64_t exceptions = 0;
  call(worker, [&] { exceptions = worker.stats().callback_exceptions; });
  EXPECT_EQ(1u, exceptions);
  pool->stop();
  EXPECT_THAT(log.text(), AllOf(HasSubstr("thrown on purpose"), HasSubstr("worker_0")));
}

TEST(WorkerPoolContractTest, StopFromAWorkersThreadIsRefused) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_CONTRACT_VIOLATION(
      {
        WorkerPoolPtr pool = makePool(2);
        call(pool->dispatcher(0), [&] { pool->stop(); });
        call(pool->dispatcher(1), [] {});  // still at work
        pool->stop();
      },
      HasSubstr("stop"));
}

// create()

TEST(WorkerPoolTest, PinnedWorkersRunOnTheirCpuOnly) {
  cpu_set_t usable;
  ASSERT_EQ(0, sched_getaffinity(0, sizeof(usable), &usable));
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &usable)) {
      cpus.push_back(cpu);
    }
  }
  WorkerPoolPtr pool = makePool({.threads = cpus.size() + 1, .pin_to_cpus = true});
  for (size_t i = 0; i < pool->size(); ++i) {
    cpu_set_t mine;
    CPU_ZERO(&mine);
    call(pool->dispatcher(i), [&] { sched_getaffinity(0, sizeof(mine), &mine); });
    EXPECT_EQ(1, CPU_COUNT(&mine));
    EXPECT_TRUE(CPU_ISSET(cpus[i % cpus.size()], &mine)) << i;
  }
}

TEST(WorkerPoolTest, WorkersRunOnTheCpusThatAreNamed) {
  cpu_set_t usable;
  ASSERT_EQ(0, sched_getaffinity(0, sizeof(usable), &usable));
  int last = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    last = CPU_ISSET(cpu, &usable) ? cpu : last;
  }
  WorkerPoolPtr pool = makePool({.threads = 2, .cpus = {last}});
  for (size_t i = 0; i < pool->size(); ++i) {
    EXPECT_EQ(last, pool->cpu(i));
    cpu_set_t mine;
    CPU_ZERO(&mine);
    call(pool->dispatcher(i), [&] { sched_getaffinity(0, sizeof(mine), &mine); });
    EXPECT_EQ(1, CPU_COUNT(&mine));
    EXPECT_TRUE(CPU_ISSET(last, &mine)) << i;
  }
  EXPECT_EQ(-1, makePool(1)->cpu(0));
}

TEST(WorkerPoolTest, ACpuThatTheProcessMayNotUseIsInvalid) {
  for (const int cpu : {-1, CPU_SETSIZE, CPU_SETSIZE - 1}) {
    const auto pool = WorkerPool::create({.threads = 1, .cpus = {cpu}});
    EXPECT_TRUE(absl::IsInvalidArgument(pool.status())) << pool.status();
    EXPECT_THAT(std::string(pool.status().message()), HasSubstr(absl::StrCat(cpu)));
  }
}

TEST(WorkerPoolTest, TooManyThreadsAreInvalid) {
  const auto pool = WorkerPool::create({.threads = 4097});
  EXPECT_TRUE(absl::IsInvalidArgument(pool.status())) << pool.status();
  EXPECT_TRUE(absl::IsInvalidArgument(WorkerPool::create({.threads = SIZE_MAX}).status()));
}

TEST(WorkerPoolTest, InvalidDispatcherOptionsAreInvalid) {
  const auto pool = WorkerPool::create({.threads = 2, .dispatcher = {.max_post_batches_per_iteration = 0}});
  EXPECT_TRUE(absl::IsInvalidArgument(pool.status())) << pool.status();
}

TEST(WorkerPoolTest, ThreadsThatCannotBeStartedAreResourceExhausted) {
  EXPECT_EQ("", runInChild([] {
              // No thread has room for its stack; RLIMIT_NPROC would not stop the superuser.
              pthread_attr_t attributes;
              CHILD_CHECK(pthread_attr_init(&attributes) == 0);
              CHILD_CHECK(pthread_attr_setstacksize(&attributes, size_t{1} << 47) == 0);
              CHILD_CHECK(pthread_setattr_default_np(&attributes) == 0);
              const auto pool = WorkerPool::create({.threads = 3});
              CHILD_CHECK(absl::IsResourceExhausted(pool.status()));
            }));
}

}  // namespace
}  // namespace nuncio::test
