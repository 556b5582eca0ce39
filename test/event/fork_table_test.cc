// Every public operation of events and runtime in the child of a fork: on a loop of the thread that forked, which goes
// on to work, and on one that was lost with its thread, where it does nothing. A new operation is a new row.

#include <atomic>
#include <chrono>
#include <csignal>
#include <memory>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/periodic_timer.h"
#include "nuncio/future/future.h"
#include "nuncio/future/promise.h"
#include "nuncio/future/shared_future.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "nuncio/runtime/worker_pool.h"
#include "test/test_support/child_process.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

class Deferred : public DeferredDeletable {};

struct NoDump : TrackedObject {
  void dumpState(CrashOutput&) const override {}
};

// A dispatcher with one of each thing that can be had of it, made before the fork.
struct Things {
  Pair pair = makeSocketPair();
  NoDump tracked;
  DispatcherPtr dispatcher;
  TimerPtr timer;
  std::unique_ptr<PeriodicTimer> periodic;
  std::vector<TimerPtr> timers;  // that are armed again and again
  FileEventPtr file_event;
  SchedulableCallbackPtr scheduled;
  SignalEventPtr signal;
  PostHandle posts;
  KeepRunning kept;
  Promise<int> promise;
  Future<int> future;
  Promise<int> shared_promise;
  SharedFuture<int> shared;

  void make(const char* name) {
    dispatcher = createDispatcher({.name = name});
    timer = dispatcher->createTimer([] {});
    timer->enableTimer(1h);
    periodic = std::make_unique<PeriodicTimer>(*dispatcher, [](uint64_t) {});
    for (int i = 0; i < 500; ++i) {
      timers.push_back(dispatcher->createTimer([] {}));
    }
    file_event =
        *dispatcher->createFileEvent(pair.watched.get(), [](uint32_t) {}, FileTriggerType::Edge, FileReadyType::Read);
    scheduled = dispatcher->createSchedulableCallback([] {});
    posts = dispatcher->handle();
    kept = dispatcher->keepRunning();
    future = promise.future(*dispatcher);
    shared = share(shared_promise.future(*dispatcher));
  }
};

struct Operation {
  const char* name;
  void (*run)(Things& things, bool lost);
  bool ends_loop = false;
};

const Operation kOperations[] = {
    {"Dispatcher::createFileEvent",
     [](Things& things, bool lost) {
       auto event = things.dispatcher->createFileEvent(
           things.pair.peer.get(), [](uint32_t) {}, FileTriggerType::Level, FileReadyType::Read);
       CHILD_CHECK(event.ok() != lost);
     }},
    {"Dispatcher::createTimer",
     [](Things& things, bool lost) {
       TimerPtr timer = things.dispatcher->createTimer([] {});
       timer->enableTimer(0ms);
       CHILD_CHECK(timer->enabled() != lost);
     }},
    {"Dispatcher::createSchedulableCallback",
     [](Things& things, bool lost) {
       SchedulableCallbackPtr callback = things.dispatcher->createSchedulableCallback([] {});
       callback->scheduleNextIteration();
       CHILD_CHECK(callback->enabled() != lost);
     }},
    {"Dispatcher::listenForSignal",
     [](Things& things, bool lost) { CHILD_CHECK(things.dispatcher->listenForSignal(SIGUSR2, [] {}).ok() != lost); }},
    {"Dispatcher::post", [](Things& things, bool lost) { CHILD_CHECK(things.dispatcher->post([] {}) != lost); }},
    {"Dispatcher::deferredDelete",
     [](Things& things, bool) { things.dispatcher->deferredDelete(std::make_unique<Deferred>()); }},
    {"Dispatcher::deleteInDispatcherThread",
     [](Things& things, bool) { things.dispatcher->deleteInDispatcherThread(std::make_unique<Deferred>()); }},
    {"Dispatcher::clearDeferredDeleteList", [](Things& things, bool) { things.dispatcher->clearDeferredDeleteList(); }},
    {"Dispatcher::run(Block)",
     [](Things& things, bool) {
       things.dispatcher->exit();
       things.dispatcher->run(RunType::Block);
     }},
    {"Dispatcher::run(NonBlock)", [](Things& things, bool) { things.dispatcher->run(RunType::NonBlock); }},
    {"Dispatcher::run(RunUntilExit)",
     [](Things& things, bool) {
       things.dispatcher->exit();
       things.dispatcher->run(RunType::RunUntilExit);
     }},
    {"Dispatcher::exit", [](Things& things, bool) { things.dispatcher->exit(); }},
    {"Dispatcher::keepRunning",
     [](Things& things, bool) { const KeepRunning kept = things.dispatcher->keepRunning(); }},
    {"Dispatcher::shutdown", [](Things& things, bool) { things.dispatcher->shutdown(); }, true},
    {"Dispatcher::isThreadSafe",
     [](Things& things, bool lost) { CHILD_CHECK(things.dispatcher->isThreadSafe() != lost); }},
    {"Dispatcher::name", [](Things& things, bool) { CHILD_CHECK(!things.dispatcher->name().empty()); }},
    {"Dispatcher::timeSource", [](Things& things, bool) { things.dispatcher->timeSource().monotonicTime(); }},
    {"Dispatcher::approximateMonotonicTime",
     [](Things& things, bool) { things.dispatcher->approximateMonotonicTime(); }},
    {"Dispatcher::updateApproximateMonotonicTime",
     [](Things& things, bool) { things.dispatcher->updateApproximateMonotonicTime(); }},
    {"Dispatcher::shouldYield", [](Things& things, bool) { CHILD_CHECK(!things.dispatcher->shouldYield()); }},
    {"Dispatcher::handle", [](Things& things, bool lost) { CHILD_CHECK(things.dispatcher->handle().alive() != lost); }},
    {"Dispatcher::loop", [](Things& things, bool) { things.dispatcher->loop(); }},
    {"Dispatcher::pushTrackedObject, popTrackedObject",
     [](Things& things, bool) { const TrackedObjectScope scope(*things.dispatcher, things.tracked); }},
    {"Dispatcher::stats", [](Things& things, bool) { things.dispatcher->stats(); }},
    {"Dispatcher::figures", [](Things& things, bool) { things.dispatcher->figures(); }},
    {"Dispatcher::~Dispatcher", [](Things& things, bool) { things.dispatcher.reset(); }, true},
    {"Timer::enableTimer", [](Things& things, bool) { things.timer->enableTimer(1ms); }},
    {"Timer::enableHRTimer", [](Things& things, bool) { things.timer->enableHRTimer(1us); }},
    {"Timer::enableTimerAt",
     [](Things& things, bool lost) {
       things.timer->disableTimer();
       things.timer->enableTimerAt(things.dispatcher->timeSource().monotonicTime() + 1h);
       CHILD_CHECK(things.timer->enabled() != lost);
     }},
    {"PeriodicTimer::PeriodicTimer, start, running, ~PeriodicTimer",
     [](Things& things, bool lost) {
       PeriodicTimer timer(*things.dispatcher, [](uint64_t) {});
       timer.start(1h);
       CHILD_CHECK(timer.running() != lost);
     }},
    {"PeriodicTimer::start, made before",
     [](Things& things, bool lost) {
       things.periodic->stop();
       things.periodic->start(1h);
       CHILD_CHECK(things.periodic->running() != lost);
     }},
    {"PeriodicTimer::~PeriodicTimer, made before", [](Things& things, bool) { things.periodic.reset(); }},
    {"Timer::disableTimer", [](Things& things, bool) { things.timer->disableTimer(); }},
    {"Timer::enabled", [](Things& things, bool) { things.timer->enabled(); }},
    {"Timer::~Timer", [](Things& things, bool) { things.timer.reset(); }},
    {"Timer::~Timer, of many", [](Things& things, bool) { things.timers.clear(); }},
    {"FileEvent::activate", [](Things& things, bool) { things.file_event->activate(FileReadyType::Read); }},
    {"FileEvent::setEnabled",
     [](Things& things, bool lost) { CHILD_CHECK(things.file_event->setEnabled(FileReadyType::Write) != lost); }},
    {"FileEvent::~FileEvent", [](Things& things, bool) { things.file_event.reset(); }},
    {"SchedulableCallback::scheduleCurrentIteration",
     [](Things& things, bool) { things.scheduled->scheduleCurrentIteration(); }},
    {"SchedulableCallback::scheduleNextIteration",
     [](Things& things, bool) { things.scheduled->scheduleNextIteration(); }},
    {"SchedulableCallback::cancel", [](Things& things, bool) { things.scheduled->cancel(); }},
    {"SchedulableCallback::enabled", [](Things& things, bool) { things.scheduled->enabled(); }},
    {"SchedulableCallback::~SchedulableCallback", [](Things& things, bool) { things.scheduled.reset(); }},
    {"SignalEvent::~SignalEvent", [](Things& things, bool) { things.signal.reset(); }},
    {"PostHandle::post", [](Things& things, bool lost) { CHILD_CHECK(things.posts.post([] {}) != lost); }},
    {"PostHandle::exit", [](Things& things, bool lost) { CHILD_CHECK(things.posts.exit() != lost); }},
    {"PostHandle::name", [](Things& things, bool) { CHILD_CHECK(!things.posts.name().empty()); }},
    {"PostHandle::alive", [](Things& things, bool lost) { CHILD_CHECK(things.posts.alive() != lost); }},
    {"PostHandle::~PostHandle", [](Things& things, bool) { things.posts = PostHandle(); }},
    {"KeepRunning::reset", [](Things& things, bool) { things.kept.reset(); }},
    {"Promise::setValue", [](Things& things, bool) { things.promise.setValue(1); }},
    {"Promise::~Promise", [](Things& things, bool) { things.promise = Promise<int>(); }},
    {"Future::~Future", [](Things& things, bool) { things.future = Future<int>(); }},
    {"SharedFuture::~SharedFuture", [](Things& things, bool) { things.shared = SharedFuture<int>(); }},
    {"all of them destroyed, the dispatcher last",
     [](Things& things, bool) {
       things.signal.reset();
       things.scheduled.reset();
       things.file_event.reset();
       things.timers.clear();
       things.timer.reset();
       things.future = Future<int>();
       things.dispatcher.reset();
     },
     true},
    {"all of them destroyed, the dispatcher first",
     [](Things& things, bool) {
       things.dispatcher.reset();
       things.future = Future<int>();
       things.timer.reset();
       things.timers.clear();
       things.file_event.reset();
       things.scheduled.reset();
       things.signal.reset();
     },
     true},
};

bool runsAPost(Dispatcher& dispatcher) {
  bool ran = false;
  CHILD_CHECK(dispatcher.post([&ran] { ran = true; }));
  dispatcher.run(RunType::NonBlock);
  return ran;
}

TEST(ForkTableTest, OnALoopOfTheThreadThatForkedEachOperationWorks) {
  Things things;
  things.make("own");
  things.dispatcher->run(RunType::NonBlock);
  things.signal = *things.dispatcher->listenForSignal(SIGUSR1, [] {});
  for (const Operation& operation : kOperations) {
    EXPECT_EQ("", runInChild([&] {
                operation.run(things, /*lost=*/false);
                CHILD_CHECK(operation.ends_loop || runsAPost(*things.dispatcher));
              }))
        << operation.name;
  }
}

// The thread of the loop does all the time what changes its structures.
class Busy {
public:
  explicit Busy(Things& things) : things_(things), thread_([this] { work(); }) { EXPECT_TRUE(up_.wait()); }
  ~Busy() {
    stop_ = true;
    thread_.join();
  }

private:
  void work() {
    things_.make("lost");
    things_.signal = *things_.dispatcher->listenForSignal(SIGUSR1, [] {});
    SchedulableCallbackPtr again;
    unsigned random = 1;
    again = things_.dispatcher->createSchedulableCallback([&] {
      for (const TimerPtr& timer : things_.timers) {
        random = random * 1664525U + 1013904223U;
        timer->enableTimer(std::chrono::milliseconds(random >> 16));
      }
      things_.timers.front() = things_.dispatcher->createTimer([] {});
      things_.dispatcher->deferredDelete(std::make_unique<Deferred>());
      things_.dispatcher->post([] {});
      things_.scheduled->scheduleNextIteration();
      things_.file_event->setEnabled(FileReadyType::Read);
      if (stop_) {
        things_.dispatcher->exit();
      } else {
        again->scheduleNextIteration();
      }
    });
    again->scheduleNextIteration();
    things_.dispatcher->post([this] { up_.notify(); });
    things_.dispatcher->run(RunType::RunUntilExit);
  }

  Things& things_;
  Notification up_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

TEST(ForkTableTest, OnALostLoopEachOperationDoesNothing) {
  DispatcherPtr own = createDispatcher({.name = "own"});
  own->run(RunType::NonBlock);
  Things things;
  const Busy busy(things);
  for (const Operation& operation : kOperations) {
    for (int times = 0; times < 4; ++times) {
      ASSERT_EQ("", runInChild([&] {
                  operation.run(things, /*lost=*/true);
                  CHILD_CHECK(runsAPost(*own));
                  CHILD_CHECK(runsAPost(*createDispatcher({.name = "new"})));
                }))
          << operation.name;
    }
  }
}

TEST(ForkTableTest, OfALostWorkerPoolEachOperationDoesNothing) {
  auto created = WorkerPool::create({.threads = 2});
  ASSERT_TRUE(created.ok()) << created.status();
  std::unique_ptr<WorkerPool> pool = *std::move(created);
  const std::vector<std::pair<const char*, void (*)(std::unique_ptr<WorkerPool>&)>> operations = {
      {"size", [](std::unique_ptr<WorkerPool>& lost) { CHILD_CHECK(lost->size() == 2); }},
      {"dispatcher", [](std::unique_ptr<WorkerPool>& lost) { CHILD_CHECK(!lost->dispatcher(0).post([] {})); }},
      {"next", [](std::unique_ptr<WorkerPool>& lost) { CHILD_CHECK(!lost->next().post([] {})); }},
      {"runOnAll", [](std::unique_ptr<WorkerPool>& lost) { CHILD_CHECK(!lost->runOnAll([](Dispatcher&) {})); }},
      {"runOnAll, with an end",
       [](std::unique_ptr<WorkerPool>& lost) { CHILD_CHECK(!lost->runOnAll([](Dispatcher&) {}, [] {})); }},
      {"stop", [](std::unique_ptr<WorkerPool>& lost) { lost->stop(); }},
      {"~WorkerPool", [](std::unique_ptr<WorkerPool>& lost) { lost.reset(); }},
  };
  for (const auto& [name, operation] : operations) {
    EXPECT_EQ("", runInChild([&pool, f = operation] {
                f(pool);
                auto own = WorkerPool::create({.threads = 1});
                CHILD_CHECK(own.ok());
              }))
        << name;
  }
}

TEST(ForkTableTest, SimulatedTimeGoesOnForTheDispatchersThatTheChildHas) {
  SimulatedTimeSystem time;
  DispatcherPtr own = createDispatcher({.name = "own", .time_system = &time});
  DispatcherPtr lost = createDispatcher({.name = "lost", .time_system = &time});
  int fired = 0;
  std::atomic<int> lost_fired{0};
  TimerPtr timer = own->createTimer([&fired] { ++fired; });
  timer->enableTimer(1h);
  TimerPtr lost_timer = lost->createTimer([&lost_fired] { ++lost_fired; });
  lost_timer->enableTimer(1h);
  Notification up;
  lost->post([&up] { up.notify(); });
  std::thread thread([&lost] { lost->run(RunType::RunUntilExit); });
  ASSERT_TRUE(up.wait());
  for (int times = 0; times < 20; ++times) {
    ASSERT_EQ("", runInChild([&] {
                time.advanceTimeAndRun(1h);
                CHILD_CHECK(fired == 1);
                CHILD_CHECK(lost_fired == 0);
                time.advanceTimeAsync(1h);
                time.setSystemTime(SystemTime());
                lost.reset();
              }));
  }
  time.advanceTimeAndRun(1h);
  EXPECT_EQ(1, fired);
  EXPECT_EQ(1, lost_fired);
  lost->exit();
  thread.join();
}

}  // namespace
}  // namespace nuncio::test
