// What becomes of dispatchers, worker pools and simulated time when there is no memory: of each operation in the table,
// its first allocation fails, then its second, and so on, until it needs no more of them; alone, or with all that
// follow. Whatever fails, it ends as its header says, all is as before, the loop goes on, and nothing leaks.
//
// A new operation is a new line in one of the tables below.

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <fcntl.h>
#include <functional>
#include <memory>
#include <new>
#include <ostream>
#include <string>
#include <thread>
#include <tuple>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/lifetime_guard.h"
#include "nuncio/event/loop_figures.h"
#include "nuncio/event/loop_trace.h"
#include "nuncio/event/periodic_timer.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "nuncio/runtime/worker_pool.h"
#include "test/test_support/child_process.h"
#include "test/test_support/count_allocations.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/notification.h"
#include "test/test_support/operation_end.h"
#include "test/test_support/sanitizers.h"

#ifndef NUNCIO_TEST_SANITIZER  // which brings its own malloc

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

std::atomic<int> living{0};

// Counts the captures and objects that live.
class Probe {
public:
  Probe() { ++living; }
  Probe(Probe&& /*other*/) noexcept { ++living; }
  Probe& operator=(Probe&&) = delete;
  ~Probe() { --living; }
};
// One that is too large for a callback without an allocation.
struct LargeProbe {
  Probe probe;
  std::array<std::byte, 200> bytes{};
};
struct DeferredProbe : DeferredDeletable {
  Probe probe;
};

// Calls `f` on a thread of its own, where allocations fail as they would here.
template <class F>
void onAThread(F f) {
  int64_t until_failure = allocations_until_failure;
  const bool fail_on = allocations_fail_on;
  {
    const FailuresPaused paused;
    std::thread thread([&] {
      failAllocation(until_failure, fail_on ? Fails::AllFromThere : Fails::One);
      f();
      allocations_fail_on = false;
      until_failure = std::exchange(allocations_until_failure, -1);
    });
    thread.join();
  }
  allocations_until_failure = until_failure;
}

// What operations are begun with: all made before allocations fail.
class World {
public:
  static constexpr int kHighDescriptor = 700;  // beyond what a loop's tables have room for

  World() {
    setUpEvents();
    fcntl(pair.peer.get(), F_DUPFD_CLOEXEC, kHighDescriptor);
  }
  ~World() { ::close(kHighDescriptor); }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // Whether the loop does what it is there for, and knows of nothing that is not there.
  bool works() {
    handles.clear();
    event.reset();
    timer.reset();
    scheduled.reset();
    signal.reset();
    const int before = calls;
    TimerPtr probe_timer = dispatcher->createTimer([this] { ++calls; });
    probe_timer->enableTimer(0ms);
    SchedulableCallbackPtr probe_scheduled = dispatcher->createSchedulableCallback([this] { ++calls; });
    probe_scheduled->scheduleNextIteration();
    FileEventPtr probe_event = *dispatcher->createFileEvent(
        kHighDescriptor, [this](uint32_t) { ++calls; }, FileTriggerType::Edge, FileReadyType::Write);
    const bool posted = dispatcher->post([this, &probe_event] {
      ++calls;
      probe_event.reset();
    });
    dispatcher->run(RunType::NonBlock);
    dispatcher->run(RunType::Block);  // returns when nothing is left
    return posted && calls - before >= 3;
  }

  DispatcherPtr dispatcher = createDispatcher({.name = "here"});
  Pair pair = makeSocketPair();
  int calls = 0;
  TimerPtr timer;
  SchedulableCallbackPtr scheduled;
  FileEventPtr event;
  SignalEventPtr signal;
  SimulatedTimeSystem time;
  DispatcherPtr simulated = createDispatcher({.name = "simulated", .time_system = &time});
  std::vector<std::shared_ptr<void>> handles;

private:
  void setUpEvents() {
    timer = dispatcher->createTimer([this] { ++calls; });
    scheduled = dispatcher->createSchedulableCallback([this] { ++calls; });
    event = *dispatcher->createFileEvent(pair.watched.get(), [this](uint32_t) { ++calls; }, FileTriggerType::Level, 0);
  }
};

struct Operation {
  std::string name;
  std::function<End(World& world)> run;
  bool may_throw = false;   // std::bad_alloc, as its header says
  bool shuts_down = false;  // the dispatcher does not work any more after it
};
std::ostream& operator<<(std::ostream& stream, const Operation& operation) { return stream << operation.name; }

// Of two dispatchers of one name, which is replaced in part.
std::string textOfFigures(std::string (*write)(absl::Span<const LoopFigures>)) {
  std::vector<LoopFigures> figures;
  {
    const FailuresPaused paused;
    figures.resize(2);
    for (LoopFigures& each : figures) {
      each.dispatcher = std::string(100, '\xff');
    }
  }
  return write(figures);
}

// Operations that say without memory that they were refused, or need none.
std::vector<Operation> creating() {
  return {
      {"tryCreateDispatcher", [](World&) { return endOf(tryCreateDispatcher({.name = "made"}).status()); }},
      {"tryCreateDispatcherWithALongName",
       [](World&) {
         DispatcherOptions options;
         {
           const FailuresPaused paused;
           options.name = std::string(100, 'x');
         }
         return endOf(tryCreateDispatcher(options).status());
       }},
      {"tryCreateDispatcherOnSimulatedTime",
       [](World& world) { return endOf(tryCreateDispatcher({.name = "made", .time_system = &world.time}).status()); }},
      {"createDispatcher", [](World&) { return endOf(createDispatcher({.name = "made"}) != nullptr); }},
      {"createAlarm", [](World& world) { return endOf(realTimeSystem().createAlarm(*world.dispatcher).status()); }},
      {"createSimulatedAlarm", [](World& world) { return endOf(world.time.createAlarm(*world.simulated).status()); }},
      {"createTimer",
       [](World& world) { return endOf(world.dispatcher->createTimer([probe = Probe()] {}) != nullptr); }, true},
      {"PeriodicTimer",
       [](World& world) {
         int beats = 0;
         PeriodicTimer timer(*world.dispatcher, [&beats, probe = Probe()](uint64_t missed) { beats += 1 + missed; });
         timer.start(1us);
         while (beats == 0) {
           world.dispatcher->run(RunType::NonBlock);
         }
         timer.stop();
         return endOf(!timer.running());
       },
       true},
      {"createTimerWithALargeCapture",
       [](World& world) { return endOf(world.dispatcher->createTimer([probe = LargeProbe()] {}) != nullptr); }, true},
      {"createSchedulableCallback",
       [](World& world) { return endOf(world.dispatcher->createSchedulableCallback([probe = Probe()] {}) != nullptr); },
       true},
      {"LifetimeGuard",
       [](World&) {
         LifetimeGuard guard;
         auto wrapped = guard.wrap([probe = Probe()] {});
         wrapped();
         guard.reset();
         wrapped();
         return End::Done;
       },
       true},
      {"logALine",
       [](World&) {
         NUNCIO_LOG(Event, err, "{} is dropped where there is no memory for it", "a line that is longer than most");
         return End::Done;
       }},
      {"setLogLevel", [](World&) { return endOf(setLogLevel("event", "info")); }},
      {"setLogLevelThatIsRefused",
       [](World&) { return absl::IsInvalidArgument(setLogLevel("event", "loud")) ? End::Done : End::Wrong; }, true},
      {"SimulatedTimeSystem",
       [](World&) {
         SimulatedTimeSystem made;
         return End::Done;
       },
       true},
      {"createDispatcherWithFigures",
       [](World&) { return endOf(tryCreateDispatcher({.figures = FigureDetail::Callbacks}).status()); }},
      {"figures", [](World& world) { return endOf(!world.dispatcher->figures().dispatcher.empty()); }, true},
      {"LoopTrace",
       [](World& world) {
         LoopTrace trace(/*records=*/16);
         const absl::Status added = trace.add(*world.dispatcher);
         return added.ok() ? endOf(!trace.chromeJson().empty()) : endOf(added);
       },
       true},
      {"prometheusText", [](World&) { return endOf(!textOfFigures(prometheusText).empty()); }, true},
      {"figuresJson", [](World&) { return endOf(!textOfFigures(figuresJson).empty()); }, true},
  };
}

End watch(World& world, int fd, FileTriggerType trigger, uint32_t events) {
  absl::StatusOr<FileEventPtr> made = world.dispatcher->createFileEvent(
      fd, [&calls = world.calls, probe = Probe()](uint32_t) { ++calls; }, trigger, events);
  if (!made.ok()) {
    return endOf(made.status());
  }
  const FailuresPaused paused;
  world.calls = 0;
  writeText(world.pair.peer.get(), "x");
  world.dispatcher->run(RunType::NonBlock);
  readAvailable(world.pair.watched.get());
  return world.calls == ((events & (FileReadyType::Read | FileReadyType::Write)) != 0 ? 1 : 0) ? End::Done : End::Wrong;
}

// The event enables `events`; when it cannot, it is tried again with memory.
End setEnabled(World& world, FileEvent& event, uint32_t events) {
  const bool enabled = event.setEnabled(events);
  const FailuresPaused paused;
  if (!enabled) {
    world.calls = 0;
    writeText(world.pair.peer.get(), "x");
    world.dispatcher->run(RunType::NonBlock);
    const bool silent = world.calls == 0;
    readAvailable(world.pair.watched.get());
    if (!silent || !event.setEnabled(events)) {
      return End::Wrong;
    }
  }
  return endOf(enabled);
}

std::vector<Operation> fileEvents() {
  const auto watching = [](const char* name, FileTriggerType trigger, uint32_t events) {
    return Operation{name, [trigger, events](World& world) {
                       world.event.reset();
                       return watch(world, world.pair.watched.get(), trigger, events);
                     }};
  };
  return {
      watching("createFileEventThatReads", FileTriggerType::Level, FileReadyType::Read),
      watching("createFileEventOnEdges", FileTriggerType::Edge, FileReadyType::Read | FileReadyType::Write),
      watching("createFileEventForClosedOnly", FileTriggerType::Level, FileReadyType::Closed),
      watching("createFileEventForNothing", FileTriggerType::Level, 0),
      {"createFileEventOnAHighDescriptor",
       [](World& world) { return watch(world, World::kHighDescriptor, FileTriggerType::Level, FileReadyType::Write); }},
      {"createFileEventWithALargeCapture",
       [](World& world) {
         return endOf(world.dispatcher
                          ->createFileEvent(
                              world.pair.peer.get(), [probe = LargeProbe()](uint32_t) {}, FileTriggerType::Level, 0)
                          .status());
       },
       true},
      {"createFileEventThatIsRefused",
       [](World& world) {
         const absl::Status status =
             world.dispatcher->createFileEvent(-1, [](uint32_t) {}, FileTriggerType::Level, 0).status();
         return absl::IsInvalidArgument(status) ? End::Done : endOf(status);
       }},
      {"setEnabled", [](World& world) { return setEnabled(world, *world.event, FileReadyType::Read); }},
      {"setEnabledClosedOnly", [](World& world) { return setEnabled(world, *world.event, FileReadyType::Closed); }},
      {"setEnabledAnew",
       [](World& world) {
         {
           const FailuresPaused paused;
           world.event->setEnabled(FileReadyType::Write);
         }
         return setEnabled(world, *world.event, FileReadyType::Read);
       }},
      {"activate",
       [](World& world) {
         world.event->activate(FileReadyType::Read);
         world.dispatcher->run(RunType::NonBlock);
         return world.calls == 1 ? End::Done : End::Wrong;
       }},
  };
}

SchedulableCallbackPtr makeScheduled(World& world, SchedulableCb cb) {
  const FailuresPaused paused;
  return world.dispatcher->createSchedulableCallback(std::move(cb));
}

std::vector<Operation> callbacks() {
  return {
      {"enableTimer",
       [](World& world) {
         world.timer->enableTimer(0ms);
         world.timer->enableTimer(10ms);
         world.timer->enableHRTimer(1us);
         world.dispatcher->run(RunType::Block);
         world.timer->enableTimer(10ms);
         world.timer->disableTimer();
         world.timer->enableTimerAt(MonotonicTime());
         world.dispatcher->run(RunType::Block);
         return world.calls == 2 && !world.timer->enabled() ? End::Done : End::Wrong;
       }},
      {"schedule",
       [](World& world) {
         world.scheduled->scheduleNextIteration();
         world.scheduled->cancel();
         world.scheduled->scheduleCurrentIteration();
         world.dispatcher->run(RunType::Block);
         return world.calls == 1 ? End::Done : End::Wrong;
       }},
      {"post",
       [](World& world) {
         const bool posted = world.dispatcher->post([&calls = world.calls, probe = Probe()] { ++calls; });
         world.dispatcher->run(RunType::Block);
         return world.calls == (posted ? 1 : 0) ? endOf(posted) : End::Wrong;
       }},
      {"postOfALargeCapture", [](World& world) { return endOf(world.dispatcher->post([probe = LargeProbe()] {})); },
       true},
      {"postByAHandle", [](World& world) { return endOf(world.dispatcher->handle().post([probe = Probe()] {})); }},
      {"postFromTheLoop",
       [](World& world) {
         bool posted = false;
         world.scheduled = makeScheduled(world, [&posted, &world] {
           posted = world.dispatcher->post([&calls = world.calls, probe = Probe()] { ++calls; });
         });
         world.scheduled->scheduleCurrentIteration();
         world.dispatcher->run(RunType::Block);
         return world.calls == (posted ? 1 : 0) ? endOf(posted) : End::Wrong;
       }},
      {"postsOfSeveralChunks",
       [](World& world) {
         constexpr int kPosts = 2000;
         int posted = 0;
         for (int i = 0; i < kPosts; ++i) {
           posted += world.dispatcher->post([&calls = world.calls, probe = Probe()] { ++calls; }) ? 1 : 0;
         }
         world.dispatcher->run(RunType::Block);
         return world.calls == posted ? endOf(posted == kPosts) : End::Wrong;
       }},
      {"deferredDelete",
       [](World& world) {
         world.dispatcher->deferredDelete(std::make_unique<DeferredProbe>());
         world.dispatcher->clearDeferredDeleteList();
         return living == 0 ? End::Done : End::Wrong;
       },
       true},
      {"deleteInDispatcherThread",
       [](World& world) {
         DeferredDeletablePtr object;
         {
           const FailuresPaused paused;
           object = std::make_unique<DeferredProbe>();
         }
         world.dispatcher->deleteInDispatcherThread(std::move(object));
         world.dispatcher->run(RunType::Block);
         return living == 0 ? End::Done : End::Wrong;
       }},
      {"listenForSignal",
       [](World& world) {
         auto made = world.dispatcher->listenForSignal(SIGUSR1, [&calls = world.calls, probe = Probe()] { ++calls; });
         if (!made.ok()) {
           struct sigaction action{};
           sigaction(SIGUSR1, nullptr, &action);
           return action.sa_handler == SIG_DFL ? endOf(made.status()) : End::Wrong;
         }
         const FailuresPaused paused;
         raise(SIGUSR1);
         world.dispatcher->run(RunType::NonBlock);
         return world.calls == 1 ? End::Done : End::Wrong;
       }},
      {"anotherListenForSignal",
       [](World& world) {
         {
           const FailuresPaused paused;
           world.signal = *world.dispatcher->listenForSignal(SIGUSR2, [&calls = world.calls] { ++calls; });
         }
         auto made = world.dispatcher->listenForSignal(SIGUSR1, [probe = Probe()] {});
         const FailuresPaused paused;
         raise(SIGUSR2);
         world.dispatcher->run(RunType::NonBlock);
         return world.calls == 1 ? endOf(made.status()) : End::Wrong;
       }},
  };
}

std::vector<Operation> running() {
  return {
      {"runNonBlock",
       [](World& world) {
         world.dispatcher->run(RunType::NonBlock);
         return End::Done;
       }},
      {"runOfAllKinds",
       [](World& world) {
         {
           const FailuresPaused paused;
           world.timer->enableTimer(1ms);
           world.scheduled->scheduleNextIteration();
           world.event->setEnabled(FileReadyType::Write);
           world.dispatcher->post([&world] {
             ++world.calls;
             world.event->setEnabled(0);
           });
           world.dispatcher->deferredDelete(std::make_unique<DeferredProbe>());
         }
         world.dispatcher->run(RunType::Block);
         return world.calls >= 3 && living == 0 ? End::Done : End::Wrong;
       }},
      {"runOfACallbackThatThrows",
       [](World& world) {
         {
           const FailuresPaused paused;
           world.dispatcher->post([&calls = world.calls] {
             ++calls;
             throw 1;  // which needs no memory of malloc's
           });
           world.dispatcher->post([&calls = world.calls] { ++calls; });
         }
         world.dispatcher->run(RunType::Block);
         return world.calls == 2 && world.dispatcher->stats().callback_exceptions == 1 ? End::Done : End::Wrong;
       }},
      {"exit",
       [](World& world) {
         world.dispatcher->exit();
         world.dispatcher->run(RunType::RunUntilExit);
         return End::Done;
       }},
      {"exitByAHandle",
       [](World& world) {
         const PostHandle handle = world.dispatcher->handle();
         const PostHandle copy = handle;
         const bool exits = copy.exit();
         world.dispatcher->run(RunType::RunUntilExit);
         return exits && copy.name() == "here" ? End::Done : End::Wrong;
       }},
      {"keepRunning",
       [](World& world) {
         KeepRunning kept = world.dispatcher->keepRunning();
         KeepRunning moved = std::move(kept);
         moved.reset();
         world.dispatcher->run(RunType::Block);
         return End::Done;
       }},
      {"theRest",
       [](World& world) {
         struct Tracked : TrackedObject {
           void dumpState(CrashOutput& /*out*/) const override {}
         } object;
         const TrackedObjectScope scope(*world.dispatcher, object);
         world.dispatcher->approximateMonotonicTime();
         world.dispatcher->updateApproximateMonotonicTime();
         world.dispatcher->shouldYield();
         world.dispatcher->clearDeferredDeleteList();
         world.dispatcher->timeSource().systemTime();
         return world.dispatcher->isThreadSafe() && world.dispatcher->name() == "here" &&
                        world.dispatcher->handle().alive() && world.dispatcher->stats().callback_exceptions == 0
                    ? End::Done
                    : End::Wrong;
       }},
      {"runOnAThreadWithoutASignalStack",
       [](World& world) {
         installCrashHandler();
         onAThread([&world] { world.dispatcher->run(RunType::NonBlock); });
         const FailuresPaused paused;
         world.dispatcher->run(RunType::NonBlock);  // here again
         return End::Done;
       }},
      {"shutdown",
       [](World& world) {
         {
           const FailuresPaused paused;
           world.dispatcher->post([probe = Probe()] {});
           world.dispatcher->deferredDelete(std::make_unique<DeferredProbe>());
           world.timer->enableTimer(1ms);
         }
         world.dispatcher->shutdown();
         return living == 0 ? End::Done : End::Wrong;
       },
       false, true},
      {"destructor",
       [](World& world) {
         {
           const FailuresPaused paused;
           world.dispatcher->post([probe = Probe()] {});
           world.dispatcher->deferredDelete(std::make_unique<DeferredProbe>());
           world.signal = *world.dispatcher->listenForSignal(SIGUSR1, [] {});
         }
         world.dispatcher.reset();
         world.event.reset();
         world.timer.reset();
         return living == 0 ? End::Done : End::Wrong;
       },
       false, true},
  };
}

std::vector<Operation> simulatedTime() {
  return {
      {"advanceTimeAndRun",
       [](World& world) {
         TimerPtr timer;
         {
           const FailuresPaused paused;
           timer = world.simulated->createTimer([&calls = world.calls] { ++calls; });
           timer->enableTimer(10s);
         }
         world.time.advanceTimeAndRun(10s);
         return world.calls == 1 ? End::Done : End::Wrong;
       },
       true},
      {"advanceTimeAndRunOfALoopOnAnotherThread",
       [](World& world) {
         std::unique_ptr<DispatcherThread> thread;
         TimerPtr timer;
         std::atomic<int> calls{0};
         {
           const FailuresPaused paused;
           thread = std::make_unique<DispatcherThread>(*world.simulated);
           thread->call([&] {
             timer = world.simulated->createTimer([&] { ++calls; });
             timer->enableTimer(10s);
           });
         }
         bool threw = false;
         try {
           world.time.advanceTimeAndRun(10s);
         } catch (const std::bad_alloc&) {
           threw = true;
         }
         const FailuresPaused paused;
         world.time.advanceTimeAndRun(10s);  // as if nothing had been
         thread.reset();
         timer.reset();
         return calls != 1 ? End::Wrong : threw ? End::Refused : End::Done;
       }},
      {"advanceTimeAsyncOfALoopOnAnotherThread",
       [](World& world) {
         std::unique_ptr<DispatcherThread> thread;
         TimerPtr timer;
         Notification fired;
         {
           const FailuresPaused paused;
           thread = std::make_unique<DispatcherThread>(*world.simulated);
           thread->call([&] {
             timer = world.simulated->createTimer([&] { fired.notify(); });
             timer->enableTimer(10s);
           });
         }
         world.time.advanceTimeAsync(11s);
         const FailuresPaused paused;
         const bool good = fired.wait();
         thread.reset();
         timer.reset();
         return good ? End::Done : End::Wrong;
       }},
      {"clocks",
       [](World& world) {
         world.time.setSystemTime(SystemTime(std::chrono::hours(1)));
         world.time.setMonotonicTime(MonotonicTime(std::chrono::hours(1)));
         return world.time.systemTime() >= SystemTime(std::chrono::hours(1)) ? End::Done : End::Wrong;
       }},
  };
}

std::unique_ptr<WorkerPool> makePool() {
  const FailuresPaused paused;
  return *WorkerPool::create({.threads = 2});
}

std::vector<Operation> workerPools() {
  return {
      {"createAPool", [](World&) { return endOf(WorkerPool::create({.threads = 2}).status()); }},
      {"createAPoolOfPinnedThreads",
       [](World&) { return endOf(WorkerPool::create({.threads = 2, .pin_to_cpus = true}).status()); }},
      {"runOnAll",
       [](World&) {
         const std::unique_ptr<WorkerPool> pool = makePool();
         std::atomic<int> calls{0};
         const bool all = pool->runOnAll([&calls, probe = Probe()](Dispatcher&) { ++calls; });
         const FailuresPaused paused;
         pool->stop();
         return all && calls != 2 ? End::Wrong : endOf(all);
       }},
      {"runOnAllWithAnEnd",
       [](World&) {
         const std::unique_ptr<WorkerPool> pool = makePool();
         std::atomic<int> ends{0};
         const bool all = pool->runOnAll([](Dispatcher&) {}, [&ends, probe = Probe()] { ++ends; });
         const FailuresPaused paused;
         pool->stop();
         return ends != (all ? 1 : 0) ? End::Wrong : endOf(all);
       }},
      {"stop",
       [](World&) {
         const std::unique_ptr<WorkerPool> pool = makePool();
         std::atomic<int> calls{0};
         {
           const FailuresPaused paused;
           for (int i = 0; i < 1000; ++i) {
             pool->next().post([&calls] { ++calls; });
           }
         }
         pool->stop();
         return calls == 1000 ? End::Done : End::Wrong;
       }},
      {"workersOfAPool",
       [](World&) {
         const std::unique_ptr<WorkerPool> pool = makePool();
         return pool->size() == 2 && &pool->next() == &pool->dispatcher(0) ? End::Done : End::Wrong;
       }},
      {"destructorOfAPool",
       [](World&) {
         std::unique_ptr<WorkerPool> pool = makePool();
         pool.reset();
         return End::Done;
       }},
  };
}

// What is made once for a process is made within the operation: in a child of this process, in which nothing has been
// made yet. `f` returns what came of it; afterwards, dispatchers work.
void failEachInAFreshProcess(End (*f)()) {
  constexpr int kNothingFailed = 3;
  for (const Fails fails : {Fails::One, Fails::AllFromThere}) {
    std::string end;
    for (int64_t allocation = 0; end.empty(); ++allocation) {
      ASSERT_LT(allocation, 1000);
      end = runInChild([f, allocation, fails] {
        failAllocation(allocation, fails);
        const End what = f();
        const bool failed = stopFailing();
        CHILD_CHECK(what != End::Wrong);
        CHILD_CHECK(failed || what == End::Done);
        CHILD_CHECK(living == 0);
        World world;
        CHILD_CHECK(world.works());
        if (!failed) {
          _exit(kNothingFailed);
        }
      });
    }
    EXPECT_EQ(end, "child exited with 3");
  }
}

// These come first in this program.
TEST(FirstNoMemoryTest, TryCreateDispatcherSaysSo) {
  failEachInAFreshProcess([] { return endOf(tryCreateDispatcher({.name = "made"}).status()); });
}

TEST(FirstNoMemoryTest, CreateDispatcherIsNull) {
  failEachInAFreshProcess([] { return endOf(createDispatcher({.name = "made"}) != nullptr); });
}

TEST(FirstNoMemoryTest, WorkerPoolSaysSo) {
  failEachInAFreshProcess([] { return endOf(WorkerPool::create({.threads = 2}).status()); });
}

TEST(FirstNoMemoryTest, SignalThatIsRefusedKeepsItsActionAndHasNoOwner) {
  failEachInAFreshProcess([] {
    DispatcherPtr dispatcher;
    {
      const FailuresPaused paused;
      dispatcher = createDispatcher();
    }
    const absl::Status status = dispatcher->listenForSignal(SIGUSR1, [probe = Probe()] {}).status();
    const FailuresPaused paused;
    struct sigaction action{};
    sigaction(SIGUSR1, nullptr, &action);
    const DispatcherPtr other = createDispatcher();
    return action.sa_handler == SIG_DFL && other->listenForSignal(SIGUSR1, [] {}).ok() ? endOf(status) : End::Wrong;
  });
}

class LoopNoMemoryTest : public testing::TestWithParam<std::tuple<Operation, Fails>> {};

TEST_P(LoopNoMemoryTest, EndsAsItsHeaderSaysAndTheLoopGoesOn) {
  const Operation& operation = std::get<Operation>(GetParam());
  const Fails fails = std::get<Fails>(GetParam());
  LogCapture log(LogLayer::Event);
  bool failed = true;
  for (int64_t allocation = -1; failed; ++allocation) {  // first of all, none
    ASSERT_LT(allocation, 1000);
    int64_t before = 0;
    for (int time = 0; time < 3; ++time) {  // the first ones allocate what is allocated once for the process
      before = allocations - frees;
      const std::string what = operation.name + ", allocation " + std::to_string(allocation);
      const int descriptors = countOpenDescriptors(1024);
      auto world = std::make_unique<World>();
      End end = End::Wrong;
      bool threw = false;
      if (allocation >= 0) {
        failAllocation(allocation, fails);
      }
      try {
        end = operation.run(*world);
      } catch (const std::bad_alloc&) {
        threw = true;
      }
      failed = stopFailing();
      EXPECT_TRUE(threw ? operation.may_throw : end != End::Wrong) << what << (threw ? " throws" : "");
      EXPECT_TRUE((failed && allocation >= 0) || end == End::Done) << what;
      EXPECT_TRUE(operation.shuts_down || world->works()) << what;
      world.reset();
      EXPECT_EQ(living, 0) << what;
      EXPECT_TRUE(time == 0 || countOpenDescriptors(1024) == descriptors) << what;
    }
    EXPECT_EQ(allocations - frees, before) << operation.name << ", allocation " << allocation << " leaks";
  }
}

std::string nameOf(const testing::TestParamInfo<std::tuple<Operation, Fails>>& info) {
  return std::get<Operation>(info.param).name + (std::get<Fails>(info.param) == Fails::One ? "_One" : "_All");
}
auto each(const std::vector<Operation>& operations) {
  return testing::Combine(testing::ValuesIn(operations), testing::Values(Fails::One, Fails::AllFromThere));
}
INSTANTIATE_TEST_SUITE_P(Creating, LoopNoMemoryTest, each(creating()), nameOf);
INSTANTIATE_TEST_SUITE_P(FileEvents, LoopNoMemoryTest, each(fileEvents()), nameOf);
INSTANTIATE_TEST_SUITE_P(Callbacks, LoopNoMemoryTest, each(callbacks()), nameOf);
INSTANTIATE_TEST_SUITE_P(Running, LoopNoMemoryTest, each(running()), nameOf);
INSTANTIATE_TEST_SUITE_P(SimulatedTime, LoopNoMemoryTest, each(simulatedTime()), nameOf);
INSTANTIATE_TEST_SUITE_P(WorkerPools, LoopNoMemoryTest, each(workerPools()), nameOf);

}  // namespace
}  // namespace nuncio::test

#endif
