// What a dispatcher does when the process lacks what it needs. Each test runs in a child process, so that its limits
// end with it.

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <fcntl.h>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/lifetime_guard.h"
#include "nuncio/event/periodic_timer.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "nuncio/runtime/worker_pool.h"
#include "test/test_support/backend.h"
#include "test/test_support/child_process.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/operation_end.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

constexpr int kLimit = 128;

void limitDescriptors() {
  const rlimit limit{kLimit, kLimit};
  CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

// Uses up the descriptors, but for `left`.
std::vector<Descriptor> useUpDescriptors(int left) {
  std::vector<Descriptor> taken;
  for (;;) {
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
      break;
    }
    taken.emplace_back(fd);
  }
  CHILD_CHECK(taken.size() >= static_cast<size_t>(left));
  taken.resize(taken.size() - left);
  return taken;
}

// What operations are begun with.
struct World {
  // Whether the loops still do what they are there for.
  bool works() {
    calls = 0;
    TimerPtr probe_timer = dispatcher->createTimer([this] { ++calls; });
    probe_timer->enableTimer(0ms);
    const bool posted = dispatcher->post([this] { ++calls; });
    dispatcher->run(RunType::NonBlock);
    dispatcher->run(RunType::NonBlock);
    return posted && calls == 2;
  }

  Pair pair = makeSocketPair();
  Pair watched_pair = makeSocketPair();
  SimulatedTimeSystem time;
  DispatcherPtr dispatcher = createDispatcher({.name = "here"});
  DispatcherPtr simulated = createDispatcher({.name = "simulated", .time_system = &time});
  TimerPtr timer = dispatcher->createTimer([this] { ++calls; });
  SchedulableCallbackPtr scheduled = dispatcher->createSchedulableCallback([this] { ++calls; });
  FileEventPtr event = *dispatcher->createFileEvent(
      watched_pair.watched.get(), [this](uint32_t) { ++calls; }, FileTriggerType::Level, 0);
  std::unique_ptr<WorkerPool> pool = *WorkerPool::create({.threads = 2});
  int calls = 0;
};

End doneIf(bool good) { return good ? End::Done : End::Wrong; }

// A new operation is a new line in the table below.
struct Operation {
  std::string name;
  int descriptors;  // that it takes
  std::function<End(World& world)> run;
  bool once = false;  // it takes them for the process, and keeps them
};
std::ostream& operator<<(std::ostream& stream, const Operation& operation) { return stream << operation.name; }

End watch(World& world, FileTriggerType trigger, uint32_t events) {
  return endOf(world.dispatcher->createFileEvent(world.pair.watched.get(), [](uint32_t) {}, trigger, events).status());
}

// On libevent's backend a dispatcher has all its descriptors from the start: its alarm and its listeners need none.
std::vector<Operation> creating() {
  const int alarm = onLibevent() ? 0 : 1;
  const int simulated = onLibevent() ? 5 : 4;
  return {
      {"tryCreateDispatcher", 5, [](World&) { return endOf(tryCreateDispatcher({}).status()); }},
      {"tryCreateDispatcherOnSimulatedTime", simulated,
       [](World& world) { return endOf(tryCreateDispatcher({.time_system = &world.time}).status()); }},
      {"createDispatcher", 5, [](World&) { return createDispatcher() != nullptr ? End::Done : End::Refused; }},
      {"createAlarm", alarm,
       [](World& world) { return endOf(realTimeSystem().createAlarm(*world.dispatcher).status()); }},
      {"createSimulatedAlarm", 0,
       [](World& world) { return endOf(world.time.createAlarm(*world.simulated).status()); }},
      {"createAPoolOfTwo", 10, [](World&) { return endOf(WorkerPool::create({.threads = 2}).status()); }},
      {"PeriodicTimer", 0,
       [](World& world) {
         PeriodicTimer timer(*world.dispatcher, [](uint64_t) {});
         timer.start(1h);
         return doneIf(timer.running());
       }},
      {"createTimer", 0, [](World& world) { return doneIf(world.dispatcher->createTimer([] {}) != nullptr); }},
      {"createSchedulableCallback", 0,
       [](World& world) { return doneIf(world.dispatcher->createSchedulableCallback([] {}) != nullptr); }},
      {"createFileEvent", 0, [](World& world) { return watch(world, FileTriggerType::Level, FileReadyType::Read); }},
      {"createFileEventOnEdges", 0,
       [](World& world) { return watch(world, FileTriggerType::Edge, FileReadyType::Read | FileReadyType::Write); }},
      {"createFileEventForClosedOnly", 1,
       [](World& world) { return watch(world, FileTriggerType::Level, FileReadyType::Closed); }},
      {"listenForSignal", onLibevent() ? 0 : 1,
       [](World& world) { return endOf(world.dispatcher->listenForSignal(SIGUSR1, [] {}).status()); }, true},
      {"LifetimeGuard", 0,
       [](World&) {
         LifetimeGuard guard;
         guard.wrap([] {})();
         return End::Done;
       }},
      {"installCrashHandler", 0,
       [](World& world) {
         installCrashHandler();
         world.dispatcher->run(RunType::NonBlock);
         return End::Done;
       }},
  };
}

std::vector<Operation> useOfWhatIsThere() {
  return {
      {"enableTimer", 0,
       [](World& world) {
         world.timer->enableTimer(1ms);
         world.timer->enableHRTimer(1us);
         world.dispatcher->run(RunType::Block);
         world.timer->enableTimerAt(MonotonicTime());
         world.dispatcher->run(RunType::Block);
         return doneIf(world.calls == 2);
       }},
      {"schedule", 0,
       [](World& world) {
         world.scheduled->scheduleNextIteration();
         world.dispatcher->run(RunType::Block);
         return doneIf(world.calls == 1);
       }},
      {"setEnabled", 0, [](World& world) { return doneIf(world.event->setEnabled(FileReadyType::Read)); }},
      {"setEnabledClosedOnly", 1,
       [](World& world) { return world.event->setEnabled(FileReadyType::Closed) ? End::Done : End::Refused; }},
      {"activate", 0,
       [](World& world) {
         world.event->activate(FileReadyType::Read);
         world.dispatcher->run(RunType::NonBlock);
         return doneIf(world.calls == 1);
       }},
      {"post", 0,
       [](World& world) {
         const bool posted = world.dispatcher->post([&world] { ++world.calls; });
         const bool posted_by_handle = world.dispatcher->handle().post([&world] { ++world.calls; });
         world.dispatcher->run(RunType::Block);
         return doneIf(posted && posted_by_handle && world.calls == 2);
       }},
      {"exit", 0,
       [](World& world) {
         world.dispatcher->exit();
         world.dispatcher->run(RunType::RunUntilExit);
         return doneIf(world.dispatcher->handle().exit());
       }},
      {"keepRunning", 0,
       [](World& world) {
         world.dispatcher->keepRunning().reset();
         world.dispatcher->run(RunType::Block);
         return End::Done;
       }},
      {"deferredDelete", 0,
       [](World& world) {
         world.dispatcher->deferredDelete(std::make_unique<DeferredDeletable>());
         world.dispatcher->deleteInDispatcherThread(std::make_unique<DeferredDeletable>());
         world.dispatcher->clearDeferredDeleteList();
         world.dispatcher->run(RunType::Block);
         return End::Done;
       }},
      {"theRest", 0,
       [](World& world) {
         world.dispatcher->approximateMonotonicTime();
         world.dispatcher->updateApproximateMonotonicTime();
         world.dispatcher->shouldYield();
         world.dispatcher->timeSource().systemTime();
         return doneIf(world.dispatcher->isThreadSafe() && world.dispatcher->stats().posts_waiting == 0 &&
                       world.dispatcher->figures().posts_waiting == 0);
       }},
      {"runOnAll", 0,
       [](World& world) {
         std::atomic<int> calls{0};
         const bool all = world.pool->runOnAll([&calls](Dispatcher&) { ++calls; });
         world.pool->stop();
         return doneIf(all && calls == 2);
       }},
      {"advanceTimeAndRun", 0,
       [](World& world) {
         const TimerPtr timer = world.simulated->createTimer([&world] { ++world.calls; });
         timer->enableTimer(10s);
         world.time.advanceTimeAndRun(10s);
         return doneIf(world.calls == 1);
       }},
      {"shutdown", 0,
       [](World& world) {
         world.simulated->shutdown();
         return doneIf(!world.simulated->post([] {}));
       }},
      {"destructor", 0,
       [](World& world) {
         world.simulated.reset();
         return End::Done;
       }},
  };
}

class EachDescriptorTest : public testing::TestWithParam<Operation> {};

TEST_P(EachDescriptorTest, ThatIsMissingIsAStatusAndTheRestIsAsBefore) {
  const Operation& operation = GetParam();
  for (int left = 0; left <= operation.descriptors + 1; ++left) {
    EXPECT_EQ("", runInChild([&operation, left] {
                limitDescriptors();
                const LogCapture log(LogLayer::Event);
                const int at_first = countOpenDescriptors(kLimit);
                {
                  World world;
                  const int before = countOpenDescriptors(kLimit);
                  std::vector<Descriptor> taken = useUpDescriptors(left);
                  const End end = operation.run(world);
                  CHILD_CHECK(end == (left < operation.descriptors ? End::Refused : End::Done));
                  CHILD_CHECK(world.works());
                  taken.clear();
                  world.event->setEnabled(0);
                  world.pool->stop();
                  const int kept = operation.once && end == End::Done ? operation.descriptors : 0;
                  CHILD_CHECK(operation.name == "destructor" || countOpenDescriptors(kLimit) == before + kept);
                }
                CHILD_CHECK(operation.once || countOpenDescriptors(kLimit) == at_first);
              }))
        << operation.name << " with " << left;
  }
}

INSTANTIATE_TEST_SUITE_P(Creating, EachDescriptorTest, testing::ValuesIn(creating()),
                         [](const auto& row) { return row.param.name; });
INSTANTIATE_TEST_SUITE_P(Using, EachDescriptorTest, testing::ValuesIn(useOfWhatIsThere()),
                         [](const auto& row) { return row.param.name; });

TEST(DescriptorExhaustionTest, DispatchersWhileAnotherThreadTakesAndGivesDescriptorsDoNotEndTheProcess) {
  constexpr int kProcesses = 20;
  for (int i = 0; i < kProcesses; ++i) {
    EXPECT_EQ("", runInChild([] {
                limitDescriptors();
                const LogCapture log(LogLayer::Event);
                CHILD_CHECK(createDispatcher() != nullptr);
                const std::vector<Descriptor> taken = useUpDescriptors(6);
                std::atomic<bool> stop{false};
                std::thread other([&stop] {
                  while (!stop) {
                    for (const Descriptor& fd : useUpDescriptors(0)) {
                      CHILD_CHECK(fd.get() >= 0);
                    }
                  }
                });
                constexpr int kDispatchers = 200;
                for (int made = 0; made < kDispatchers; ++made) {
                  const absl::Status status = tryCreateDispatcher({}).status();
                  CHILD_CHECK(status.ok() || absl::IsResourceExhausted(status));
                }
                stop = true;
                other.join();
              }));
  }
}

TEST(DescriptorExhaustionTest, TryCreateDispatcherIsResourceExhaustedAndLeaksNothing) {
  EXPECT_EQ("", runInChild([] {
              limitDescriptors();
              DispatcherPtr first = createDispatcher();  // whatever is made once for the process
              CHILD_CHECK(first != nullptr);
              first.reset();
              bool refused = false;
              bool created = false;
              for (int left = 0; left < 16; ++left) {
                std::vector<Descriptor> taken = useUpDescriptors(left);
                const int before = countOpenDescriptors(kLimit);
                {
                  const auto dispatcher = tryCreateDispatcher({});
                  if (!dispatcher.ok()) {
                    CHILD_CHECK(!created);  // more descriptors cannot be worse
                    CHILD_CHECK(absl::IsResourceExhausted(dispatcher.status()));
                    CHILD_CHECK(!dispatcher.status().message().empty());
                    refused = true;
                  } else {
                    (*dispatcher)->run(RunType::NonBlock);
                    created = true;
                  }
                }
                CHILD_CHECK(countOpenDescriptors(kLimit) == before);
              }
              CHILD_CHECK(refused);
              CHILD_CHECK(created);
            }));
}

TEST(DescriptorExhaustionTest, CreateDispatcherIsNullAndLogsTheCause) {
  EXPECT_EQ("", runInChild([] {
              limitDescriptors();
              const std::vector<Descriptor> taken = useUpDescriptors(0);
              LogCapture log(LogLayer::Event);
              CHILD_CHECK(createDispatcher({.name = "hopeless"}) == nullptr);
              CHILD_CHECK(log.contains("hopeless") || log.contains("open files"));
            }));
}

TEST(DescriptorExhaustionTest, DispatcherThatLivesGoesOnWithNoDescriptorLeft) {
  EXPECT_EQ("", runInChild([] {
              limitDescriptors();
              DispatcherPtr dispatcher = createDispatcher();
              Pair pair = makeSocketPair();
              const std::vector<Descriptor> taken = useUpDescriptors(0);
              int calls = 0;
              TimerPtr timer = dispatcher->createTimer([&] { ++calls; });
              timer->enableTimer(std::chrono::milliseconds(1));
              dispatcher->post([&] { ++calls; });
              FileEventPtr event;
              auto created = dispatcher->createFileEvent(
                  pair.watched.get(),
                  [&](uint32_t) {
                    ++calls;
                    event.reset();
                  },
                  FileTriggerType::Level, FileReadyType::Write);
              CHILD_CHECK(created.ok());
              event = *std::move(created);
              dispatcher->run(RunType::Block);
              CHILD_CHECK(calls == 3);
            }));
}

TEST(DescriptorExhaustionTest, ListeningForASignalWorksOrIsResourceExhausted) {
  EXPECT_EQ("", runInChild([] {
              limitDescriptors();
              DispatcherPtr dispatcher = createDispatcher();
              for (int left = 0; left < 4; ++left) {
                std::vector<Descriptor> taken = useUpDescriptors(left);
                const auto event = dispatcher->listenForSignal(SIGUSR1, [] {});
                CHILD_CHECK(event.ok() || absl::IsResourceExhausted(event.status()));
              }
              const auto event = dispatcher->listenForSignal(SIGUSR1, [] {});
              CHILD_CHECK(event.ok());
            }));
}

TEST(DescriptorExhaustionTest, WorkerPoolIsResourceExhaustedAndLeaksNothing) {
  EXPECT_EQ("", runInChild([] {
              limitDescriptors();
              CHILD_CHECK(WorkerPool::create({.threads = 1}).ok());
              const int before = countOpenDescriptors(kLimit);
              const auto pool = WorkerPool::create({.threads = 64});  // needs 320
              CHILD_CHECK(absl::IsResourceExhausted(pool.status()));
              CHILD_CHECK(countOpenDescriptors(kLimit) == before);
              CHILD_CHECK(WorkerPool::create({.threads = 4}).ok());
            }));
}

TEST(DescriptorExhaustionTest, ManyDispatchersComeAndGoWithoutALeak) {
  EXPECT_EQ("", runInChild([] {
              limitDescriptors();
              createDispatcher();
              const int before = countOpenDescriptors(kLimit);
              for (int i = 0; i < 500; ++i) {
                DispatcherPtr dispatcher = createDispatcher();
                CHILD_CHECK(dispatcher != nullptr);
                dispatcher->post([] {});
                dispatcher->run(RunType::NonBlock);
              }
              CHILD_CHECK(countOpenDescriptors(kLimit) == before);
            }));
}

}  // namespace
}  // namespace nuncio::test
