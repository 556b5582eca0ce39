// Handles against the end of what they belong to: destroyed in their own callbacks, after shutdown(), after the
// dispatcher.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <sys/eventfd.h>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

class LifetimeTest : public testing::Test {
public:
  FileEventPtr fileEvent(FileReadyCb cb) {
    auto event =
        dispatcher_->createFileEvent(pair_.watched.get(), std::move(cb), FileTriggerType::Level, FileReadyType::Write);
    EXPECT_TRUE(event.ok()) << event.status();
    return *std::move(event);
  }
  SignalEventPtr signalEvent(SignalCb cb) {
    auto event = dispatcher_->listenForSignal(SIGUSR1, std::move(cb));
    EXPECT_TRUE(event.ok()) << event.status();
    return *std::move(event);
  }

protected:
  std::vector<std::string> order_;
  Pair pair_ = makeSocketPair();
  DispatcherPtr dispatcher_ = createDispatcher({.name = "lifetime"});
};

// In its own callback: the captures live until the callback has returned.

TEST_F(LifetimeTest, TimerDestroyedInItsCallbackKeepsItsCapturesUntilItReturns) {
  TimerPtr timer;
  timer = dispatcher_->createTimer([this, &timer, text = std::make_unique<std::string>("alive")] {
    timer.reset();
    order_.push_back(*text);
  });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("alive"));
}

TEST_F(LifetimeTest, SchedulableCallbackDestroyedInItsCallbackKeepsItsCapturesUntilItReturns) {
  SchedulableCallbackPtr callback;
  callback = dispatcher_->createSchedulableCallback([this, &callback, text = std::make_unique<std::string>("alive")] {
    callback.reset();
    order_.push_back(*text);
  });
  callback->scheduleCurrentIteration();
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("alive"));
}

TEST_F(LifetimeTest, FileEventDestroyedInItsCallbackKeepsItsCapturesUntilItReturns) {
  FileEventPtr event;
  event = fileEvent([this, &event, text = std::make_unique<std::string>("alive")](uint32_t) {
    event.reset();
    order_.push_back(*text);
  });
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("alive"));
}

TEST_F(LifetimeTest, SignalEventDestroyedInItsCallbackKeepsItsCapturesUntilItReturns) {
  SignalEventPtr event;
  event = signalEvent([this, &event, text = std::make_unique<std::string>("alive")] {
    event.reset();
    order_.push_back(*text);
  });
  raise(SIGUSR1);
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("alive"));
}

TEST_F(LifetimeTest, FileEventWithAnActivationPendingMayBeDestroyedInItsCallback) {
  FileEventPtr event;
  int calls = 0;
  event = fileEvent([&](uint32_t) {
    ++calls;
    event->activate(FileReadyType::Read);
    event.reset();
  });
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(1, calls);
}

TEST_F(LifetimeTest, TimerThatRearmsAndThenDestroysItselfInItsCallbackIsGone) {
  TimerPtr timer;
  int calls = 0;
  timer = dispatcher_->createTimer([&] {
    ++calls;
    timer->enableTimer(0ms);
    timer.reset();
  });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(1, calls);
}

TEST_F(LifetimeTest, SchedulableCallbackThatReschedulesAndThenDestroysItselfIsGone) {
  SchedulableCallbackPtr callback;
  int calls = 0;
  callback = dispatcher_->createSchedulableCallback([&] {
    ++calls;
    callback->scheduleCurrentIteration();
    callback.reset();
  });
  callback->scheduleCurrentIteration();
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(1, calls);
}

TEST_F(LifetimeTest, HandleMayBeReplacedByANewOneInItsCallback) {
  TimerPtr timer;
  timer = dispatcher_->createTimer([&] {
    order_.push_back("first");
    timer = dispatcher_->createTimer([&] { order_.push_back("second"); });
    timer->enableTimer(0ms);
  });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("first", "second"));
}

TEST_F(LifetimeTest, OwnerOfAllKindsOfHandlesMayDestroyItselfInAnyOfTheirCallbacks) {
  class Owner {
  public:
    Owner(LifetimeTest& test, std::unique_ptr<Owner>& self, Dispatcher& dispatcher)
        : timer_(dispatcher.createTimer([&self] { self.reset(); })),
          callback_(dispatcher.createSchedulableCallback([&self] { self.reset(); })),
          event_(test.fileEvent([&self](uint32_t) { self.reset(); })),
          signal_(test.signalEvent([&self] { self.reset(); })) {}
    void start(int kind) {
      // All are due; the one that comes first ends the others.
      timer_->enableTimer(0ms);
      callback_->scheduleCurrentIteration();
      raise(SIGUSR1);
      switch (kind) {
        case 0:
          event_->setEnabled(0);
          break;
        case 1:
          event_->setEnabled(0);
          timer_->disableTimer();
          break;
        case 2:
          callback_->cancel();
          break;
        default:
          event_->activate(FileReadyType::Write);
      }
    }

  private:
    TimerPtr timer_;
    SchedulableCallbackPtr callback_;
    FileEventPtr event_;
    SignalEventPtr signal_;
  };
  for (int kind = 0; kind < 4; ++kind) {
    std::unique_ptr<Owner> owner;
    owner = std::make_unique<Owner>(*this, owner, *dispatcher_);
    owner->start(kind);
    dispatcher_->run(RunType::Block);
    EXPECT_EQ(nullptr, owner);
  }
}

TEST_F(LifetimeTest, DestructorOfACallbacksCapturesMayUseTheDispatcher) {
  TimerPtr other = dispatcher_->createTimer([this] { order_.push_back("other"); });
  TimerPtr timer;
  timer = dispatcher_->createTimer(
      [&timer, probe = std::make_unique<OnDestroy>([&] { other->enableTimer(0ms); })] { timer.reset(); });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("other"));
}

TEST_F(LifetimeTest, CapturesOfAHandleAreDestroyedWithIt) {
  bool destroyed = false;
  TimerPtr timer = dispatcher_->createTimer([probe = std::make_unique<OnDestroy>([&] { destroyed = true; })] {});
  timer->enableTimer(1h);
  timer.reset();
  EXPECT_TRUE(destroyed);
}

// After the end, on several threads at once

void destroyOnSeveralThreads(std::vector<TimerPtr> timers, std::vector<SchedulableCallbackPtr> callbacks,
                             std::vector<FileEventPtr> events, SignalEventPtr signal, DispatcherPtr dispatcher) {
  std::atomic<int> waiting{4};
  const auto meet = [&waiting] {
    for (--waiting; waiting > 0;) {
      std::this_thread::yield();
    }
  };
  std::thread first([&, mine = std::move(callbacks)]() mutable {
    meet();
    mine.clear();
  });
  std::thread second([&, mine = std::move(events)]() mutable {
    meet();
    mine.clear();
  });
  std::thread third([&, mine = std::move(dispatcher)]() mutable {
    meet();
    mine.reset();
  });
  meet();
  signal.reset();
  timers.clear();
  first.join();
  second.join();
  third.join();
}

class SeveralThreadsTest : public LifetimeTest {
protected:
  void destroyAfter(void (*end)(DispatcherPtr& dispatcher)) {
    for (int round = 0; round < 20; ++round) {
      DispatcherPtr dispatcher = createDispatcher({.name = "ended"});
      std::vector<TimerPtr> timers;
      std::vector<SchedulableCallbackPtr> callbacks;
      std::vector<FileEventPtr> events;
      Pair pair = makeSocketPair();
      std::atomic<int> destroyed{0};
      for (int i = 0; i < 200; ++i) {
        const auto probe = [&destroyed] { return std::make_unique<OnDestroy>([&destroyed] { ++destroyed; }); };
        timers.push_back(dispatcher->createTimer([own = probe()] {}));
        timers.back()->enableTimer(std::chrono::milliseconds(i));
        callbacks.push_back(dispatcher->createSchedulableCallback([own = probe()] {}));
        callbacks.back()->scheduleNextIteration();
        events.push_back(*dispatcher->createFileEvent(
            pair.watched.get(), [own = probe()](uint32_t) {}, FileTriggerType::Level, FileReadyType::Read));
      }
      SignalEventPtr signal = *dispatcher->listenForSignal(SIGUSR1, [] {});
      end(dispatcher);
      destroyOnSeveralThreads(std::move(timers), std::move(callbacks), std::move(events), std::move(signal),
                              std::move(dispatcher));
      EXPECT_EQ(600, destroyed);
    }
  }
};

TEST_F(SeveralThreadsTest, HandlesMayBeDestroyedOnceTheDispatcherIsGone) {
  destroyAfter([](DispatcherPtr& dispatcher) { dispatcher.reset(); });
}

TEST_F(SeveralThreadsTest, HandlesAndTheDispatcherMayBeDestroyedOnceItIsShutDown) {
  destroyAfter([](DispatcherPtr& dispatcher) { dispatcher->shutdown(); });
}

// After shutdown()

TEST_F(LifetimeTest, HandlesDoNothingAfterShutdown) {
  TimerPtr timer = dispatcher_->createTimer([this] { order_.push_back("timer"); });
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([this] { order_.push_back("scheduled"); });
  FileEventPtr event = fileEvent([this](uint32_t) { order_.push_back("file"); });
  SignalEventPtr signal = signalEvent([this] { order_.push_back("signal"); });
  timer->enableTimer(0ms);
  callback->scheduleNextIteration();
  dispatcher_->shutdown();
  timer->enableTimer(0ms);
  timer->enableHRTimer(0us);
  callback->cancel();
  callback->scheduleCurrentIteration();
  event->activate(FileReadyType::Read);
  event->setEnabled(FileReadyType::Read | FileReadyType::Write);
  dispatcher_->run(RunType::Block);
  timer->disableTimer();
  callback->cancel();
  event->setEnabled(0);
  EXPECT_THAT(order_, IsEmpty());
}

TEST_F(LifetimeTest, HandlesMayBeDestroyedBetweenShutdownAndTheEndOfTheDispatcher) {
  TimerPtr timer = dispatcher_->createTimer([] {});
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([] {});
  FileEventPtr event = fileEvent([](uint32_t) {});
  SignalEventPtr signal = signalEvent([] {});
  timer->enableTimer(1h);
  callback->scheduleCurrentIteration();
  event->activate(FileReadyType::Read);
  dispatcher_->shutdown();
  timer.reset();
  callback.reset();
  event.reset();
  signal.reset();
  dispatcher_.reset();
}

// After the dispatcher

TEST_F(LifetimeTest, HandlesOutliveTheDispatcherAndDoNothing) {
  TimerPtr timer = dispatcher_->createTimer([this] { order_.push_back("timer"); });
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([this] { order_.push_back("scheduled"); });
  FileEventPtr event = fileEvent([this](uint32_t) { order_.push_back("file"); });
  SignalEventPtr signal = signalEvent([this] { order_.push_back("signal"); });
  timer->enableTimer(0ms);
  callback->scheduleCurrentIteration();
  event->activate(FileReadyType::Read);
  dispatcher_.reset();
  timer->enableTimer(0ms);
  timer->enableHRTimer(0us);
  timer->enabled();
  timer->disableTimer();
  EXPECT_FALSE(timer->enabled());
  callback->scheduleCurrentIteration();
  callback->scheduleNextIteration();
  callback->enabled();
  callback->cancel();
  EXPECT_FALSE(callback->enabled());
  event->activate(FileReadyType::Read);
  event->setEnabled(FileReadyType::Read);
  event->setEnabled(0);
  EXPECT_THAT(order_, IsEmpty());
}

TEST_F(LifetimeTest, ArmedHandlesMayBeDestroyedAfterTheDispatcher) {
  TimerPtr timer = dispatcher_->createTimer([] {});
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([] {});
  FileEventPtr event = fileEvent([](uint32_t) {});
  SignalEventPtr signal = signalEvent([] {});
  timer->enableTimer(0ms);
  callback->scheduleNextIteration();
  event->activate(FileReadyType::Write);
  dispatcher_.reset();
  timer.reset();
  callback.reset();
  event.reset();
  signal.reset();
}

TEST_F(LifetimeTest, DescriptorIsFreeForAnotherDispatcherAfterTheFirstIsGone) {
  FileEventPtr former = fileEvent([this](uint32_t) { order_.push_back("former"); });
  dispatcher_ = createDispatcher({.name = "second"});
  FileEventPtr event = fileEvent([this](uint32_t) { order_.push_back("second"); });
  former.reset();  // takes nothing from the second
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("second"));
}

TEST_F(LifetimeTest, PostedHandlesAreDestroyedWithTheDispatcher) {
  TimerPtr timer = dispatcher_->createTimer([] {});
  timer->enableTimer(1h);
  FileEventPtr event = fileEvent([](uint32_t) {});
  dispatcher_->post([timer = std::move(timer), event = std::move(event)] { FAIL() << "ran"; });
  dispatcher_.reset();
}

TEST_F(LifetimeTest, CapturesMayHoldHandlesOfADispatcherThatIsGone) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  TimerPtr timer = other->createTimer([] { FAIL() << "fired"; });
  timer->enableTimer(0ms);
  dispatcher_->post([timer = std::move(timer)] { timer->disableTimer(); });
  other.reset();
  dispatcher_->run(RunType::Block);
}

TEST_F(LifetimeTest, DispatcherMayBeDestroyedOnAnotherThreadOnceItsLoopHasEnded) {
  int destroyed = 0;
  {
    DispatcherThread thread(*dispatcher_);
    thread.call([] {});
  }
  dispatcher_->post([probe = OnDestroy([&] { ++destroyed; })] { FAIL() << "ran"; });
  dispatcher_.reset();
  EXPECT_EQ(1, destroyed);
}

TEST_F(LifetimeTest, HandlesMayBeDestroyedOnAnotherThreadOnceTheirLoopHasEnded) {
  TimerPtr timer = dispatcher_->createTimer([] { FAIL() << "fired"; });
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([] {});
  FileEventPtr event = fileEvent([](uint32_t) {});
  {
    DispatcherThread thread(*dispatcher_);
    thread.call([&] { timer->enableTimer(1h); });
  }
  timer.reset();
  callback.reset();
  event.reset();
  dispatcher_.reset();
}

TEST_F(LifetimeTest, AfterShutdownHandlesMayBeUsedWhileOtherThreadsDestroyOthers) {
  constexpr int kRounds = 20;
  constexpr int kHandles = 200;
  for (int round = 0; round < kRounds; ++round) {
    dispatcher_ = createDispatcher({.name = "ended"});
    struct Handles {
      TimerPtr timer;
      SchedulableCallbackPtr callback;
      FileEventPtr event;
    };
    std::vector<Handles> used;
    std::vector<Handles> destroyed;
    for (int i = 0; i < kHandles; ++i) {
      for (std::vector<Handles>* handles : {&used, &destroyed}) {
        handles->push_back({dispatcher_->createTimer([] {}), dispatcher_->createSchedulableCallback([] {}),
                            fileEvent([](uint32_t) {})});
        handles->back().timer->enableTimer(1h);
        handles->back().callback->scheduleNextIteration();
      }
    }
    dispatcher_->shutdown();
    std::thread other([&] { destroyed.clear(); });
    for (const Handles& handles : used) {
      handles.timer->enableTimer(1ms);
      EXPECT_NE(nullptr, dispatcher_->createTimer([] {}));
      handles.timer->disableTimer();
      handles.callback->cancel();
      handles.callback->scheduleCurrentIteration();
      EXPECT_NE(nullptr, dispatcher_->createSchedulableCallback([] {}));
      handles.event->activate(FileReadyType::Read);
      handles.event->setEnabled(FileReadyType::Write);
    }
    EXPECT_EQ(
        absl::StatusCode::kFailedPrecondition,
        dispatcher_->createFileEvent(
                       pair_.watched.get(), [](uint32_t) {}, FileTriggerType::Level, FileReadyType::Read)
            .status()
            .code());
    other.join();
  }
}

TEST_F(LifetimeTest, DispatcherMayBeDestroyedByTheCallbackOfAnother) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  other->post([] { FAIL() << "ran"; });
  dispatcher_->post([&] { other.reset(); });
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(nullptr, other);
}

// --- Captures of callbacks that are called again.

// What a callback captured stays where it is while its handle lives: pointers to it may be kept.
TEST(CaptureTest, StaysWhereItIs) {
  DispatcherPtr dispatcher = createDispatcher({.name = "captures"});
  const int fd = ::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
  const Descriptor owner(fd);
  std::vector<const int*> places;
  const auto note = [&places, value = 1](auto...) { places.push_back(&value); };
  TimerPtr timer = dispatcher->createTimer(note);
  SchedulableCallbackPtr scheduled = dispatcher->createSchedulableCallback(note);
  FileEventPtr file = *dispatcher->createFileEvent(fd, note, FileTriggerType::Level, FileReadyType::Read);
  SignalEventPtr signal = *dispatcher->listenForSignal(SIGUSR1, note);
  const std::vector<std::function<void()>> triggers = {
      [&] { timer->enableTimer(std::chrono::milliseconds(0)); },
      [&] { scheduled->scheduleNextIteration(); },
      [&] { file->activate(FileReadyType::Read); },
      [&] { raise(SIGUSR1); },
  };
  file->setEnabled(0);
  for (const std::function<void()>& trigger : triggers) {
    places.clear();
    if (&trigger == &triggers[2]) {
      file->setEnabled(FileReadyType::Read);
    }
    for (int i = 0; i < 3; ++i) {
      trigger();
      dispatcher->run(RunType::NonBlock);
      dispatcher->run(RunType::NonBlock);
    }
    file->setEnabled(0);
    ASSERT_GE(places.size(), 3U);
    EXPECT_EQ(std::count(places.begin(), places.end(), places.front()), static_cast<std::ptrdiff_t>(places.size()));
  }
}

// A handle that is destroyed in its callback is gone at once; its captures go when the callback has returned.
TEST(CaptureTest, OutlivesTheCallInWhichItsHandleIsDestroyed) {
  DispatcherPtr dispatcher = createDispatcher({.name = "captures"});
  std::vector<std::string> order;
  TimerPtr timer;
  timer = dispatcher->createTimer([&, probe = OnDestroy([&] { order.emplace_back("~"); })] {
    timer.reset();
    order.emplace_back("still here");
  });
  timer->enableTimer(std::chrono::milliseconds(0));
  dispatcher->run(RunType::Block);
  EXPECT_THAT(order, testing::ElementsAre("still here", "~"));
}

}  // namespace
}  // namespace nuncio::test
