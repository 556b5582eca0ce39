// Promises about allocations: none in steady state for what a loop does all the time.

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/internal/loop_core.h"
#include "nuncio/event/loop_trace.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/count_allocations.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/notification.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

class AllocationTest : public testing::Test {
protected:
  DispatcherPtr dispatcher_ = createDispatcher({.name = "allocations"});
  int64_t calls_ = 0;
};

TEST_F(AllocationTest, AreCounted) {
  EXPECT_GE(allocationsOf([] {
              auto memory = std::make_unique<std::array<char, 100>>();
              allocation_sink = memory.get();
            }),
            1);
}

TEST_F(AllocationTest, NoneForAPostWithASmallCapture) {
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 1000; ++i) {
                dispatcher_->post([this] { ++calls_; });
              }
              dispatcher_->run(RunType::NonBlock);
            }));
  EXPECT_EQ((kWarmUpRounds + 1) * 1000, calls_);
}

TEST_F(AllocationTest, NoneWhileItIsTracedAndCountsEverything) {
  const DispatcherPtr dispatcher =
      createDispatcher({.max_callback_time_per_iteration = std::chrono::hours(1), .figures = FigureDetail::Callbacks});
  LoopTrace trace;
  ASSERT_TRUE(trace.add(*dispatcher).ok());
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 500; ++i) {  // in one chunk, with their numbers
                dispatcher->post([this] { ++calls_; });
              }
              dispatcher->run(RunType::NonBlock);
            }));
}

TEST_F(AllocationTest, NoneForAPostWithACaptureOf48Bytes) {
  const auto capture = [this, padding = std::array<char, kPostCaptureBytes - sizeof(void*)>()] {
    calls_ += 1 + padding[0];
  };
  static_assert(sizeof(capture) == kPostCaptureBytes);
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 1000; ++i) {
                dispatcher_->post(capture);
              }
              dispatcher_->run(RunType::NonBlock);
            }));
  EXPECT_EQ((kWarmUpRounds + 1) * 1000, calls_);
}

TEST_F(AllocationTest, OneForAPostWithALargerCapture) {
  const auto capture = [this, padding = std::array<char, kPostCaptureBytes>()] { calls_ += 1 + padding[0]; };
  EXPECT_EQ(100, allocationsOf([&] {
              for (int i = 0; i < 100; ++i) {
                dispatcher_->post(capture);
              }
              dispatcher_->run(RunType::NonBlock);
            }));
}

TEST_F(AllocationTest, NoneForPostsThatPost) {
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 100; ++i) {
                dispatcher_->post([this] { dispatcher_->post([this] { ++calls_; }); });
              }
              dispatcher_->run(RunType::Block);
            }));
}

TEST_F(AllocationTest, NoneForPostsFromAnotherThread) {
  DispatcherThread thread(*dispatcher_);
  std::atomic<int> ran{0};
  // More memory than the few blocks that are under way between the two threads at a time.
  Notification go_on;
  dispatcher_->post([&] { EXPECT_TRUE(go_on.wait()); });
  for (int i = 0; i < 5000; ++i) {
    dispatcher_->post([] {});
  }
  go_on.notify();
  EXPECT_EQ(0, allocationsOf([&] {
              ran = 0;
              for (int i = 0; i < 100; ++i) {
                dispatcher_->post([&ran] { ++ran; });
                while (ran.load() <= i) {  // one at a time: the queue stays of one size
                }
              }
            }));
}

TEST_F(AllocationTest, NoneForRearmingAndFiringATimer) {
  TimerPtr timer = dispatcher_->createTimer([this] { ++calls_; });
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 100; ++i) {
                timer->enableTimer(1s);
                timer->enableHRTimer(50us);
                timer->enableTimer(0ms);
                dispatcher_->run(RunType::NonBlock);
              }
            }));
  EXPECT_EQ((kWarmUpRounds + 1) * 100, calls_);
}

TEST_F(AllocationTest, NoneForArmingMovingAndDisarmingManyTimersOfAllDistances) {
  std::vector<TimerPtr> timers;
  for (int i = 0; i < 1000; ++i) {
    timers.push_back(dispatcher_->createTimer([this] { ++calls_; }));
  }
  EXPECT_EQ(0, allocationsOf([&] {
              for (size_t i = 0; i < timers.size(); ++i) {
                timers[i]->enableTimer(std::chrono::milliseconds(int64_t{1} << (i % 40)));
                timers[i]->enableTimer(std::chrono::milliseconds(1 + i * 37 % 5000));
              }
              dispatcher_->run(RunType::NonBlock);
              for (const TimerPtr& timer : timers) {
                timer->disableTimer();
              }
            }));
}

TEST_F(AllocationTest, NoneForTimersThatFireAsTimePasses) {
  SimulatedTimeSystem time;
  DispatcherPtr dispatcher = createDispatcher({.time_system = &time});
  std::vector<TimerPtr> timers;
  for (int i = 0; i < 500; ++i) {
    timers.push_back(dispatcher->createTimer([this] { ++calls_; }));
  }
  EXPECT_EQ(0, allocationsOf([&] {
              for (size_t i = 0; i < timers.size(); ++i) {
                timers[i]->enableTimer(std::chrono::milliseconds(1 + i * 37 % 5000));
              }
              for (int i = 0; i < 100; ++i) {
                time.advanceTimeAsync(51ms);
                dispatcher->run(RunType::NonBlock);
              }
            }));
  EXPECT_EQ((kWarmUpRounds + 1) * 500, calls_);
}

TEST_F(AllocationTest, NoneForMoreTimersThatAreDueTogetherThanEverBefore) {
  constexpr int64_t kTimers = 30'000;  // so that their slot is emptied in pieces
  SimulatedTimeSystem time;
  DispatcherPtr dispatcher = createDispatcher({.time_system = &time});
  std::vector<TimerPtr> timers;
  for (int64_t i = 0; i < kTimers; ++i) {
    timers.push_back(dispatcher->createTimer([this] { ++calls_; }));
    timers.back()->enableTimer(100ms);
  }
  dispatcher->run(RunType::NonBlock);
  constexpr int kNoRoundsBefore = 0;
  EXPECT_EQ(0, allocationsOf(
                   [&] {
                     time.advanceTimeAsync(100ms);
                     while (calls_ < kTimers) {
                       dispatcher->run(RunType::NonBlock);
                     }
                   },
                   kNoRoundsBefore));
}

TEST_F(AllocationTest, NoneForTheDeliveryOfAFileEvent) {
  Pair pair = makeSocketPair();
  auto event = dispatcher_->createFileEvent(
      pair.watched.get(), [this](uint32_t) { ++calls_; }, FileTriggerType::Level, FileReadyType::Write);
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 100; ++i) {
                dispatcher_->run(RunType::NonBlock);
              }
            }));
  EXPECT_EQ((kWarmUpRounds + 1) * 100, calls_);
}

TEST_F(AllocationTest, NoneForActivatingAndChangingAFileEvent) {
  Pair pair = makeSocketPair();
  auto event = dispatcher_->createFileEvent(
      pair.watched.get(), [this](uint32_t) { ++calls_; }, FileTriggerType::Level, FileReadyType::Read);
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 100; ++i) {
                (*event)->activate(FileReadyType::Read);
                (*event)->setEnabled(FileReadyType::Write);
                dispatcher_->run(RunType::NonBlock);
                (*event)->setEnabled(FileReadyType::Read);
              }
            }));
}

TEST_F(AllocationTest, NoneForDeferredDeletion) {
  struct Object : DeferredDeletable {};
  constexpr int kObjects = 100;
  std::vector<DeferredDeletablePtr> objects;
  objects.reserve(kObjects);
  const auto refill = [&] {
    for (int i = 0; i < kObjects; ++i) {
      objects.push_back(std::make_unique<Object>());
    }
  };
  const auto defer = [&] {
    for (DeferredDeletablePtr& object : objects) {
      dispatcher_->deferredDelete(std::move(object));
    }
    objects.clear();
    dispatcher_->clearDeferredDeleteList();
  };
  for (int i = 0; i < 5; ++i) {
    refill();
    defer();
  }
  refill();
  EXPECT_EQ(0, allocationsOf(defer, 0));
}

TEST_F(AllocationTest, NoneForDeletionInTheDispatchersThread) {
  struct Object : DeferredDeletable {};
  constexpr int kObjects = 100;
  std::vector<DeferredDeletablePtr> objects;
  objects.reserve(kObjects);
  int64_t made = 0;
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < kObjects; ++i) {
      objects.push_back(std::make_unique<Object>());
    }
    made = allocationsOf(
        [&] {
          for (DeferredDeletablePtr& object : objects) {
            dispatcher_->deleteInDispatcherThread(std::move(object));
          }
          objects.clear();
          dispatcher_->run(RunType::NonBlock);
        },
        0);
  }
  EXPECT_EQ(0, made);
}

TEST_F(AllocationTest, NoneForSchedulingACallback) {
  SchedulableCallbackPtr current = dispatcher_->createSchedulableCallback([this] { ++calls_; });
  SchedulableCallbackPtr next = dispatcher_->createSchedulableCallback([this] { ++calls_; });
  EXPECT_EQ(0, allocationsOf([&] {
              for (int i = 0; i < 100; ++i) {
                current->scheduleCurrentIteration();
                next->scheduleNextIteration();
                current->cancel();
                current->scheduleCurrentIteration();
                dispatcher_->run(RunType::Block);
              }
            }));
  EXPECT_EQ((kWarmUpRounds + 1) * 200, calls_);
}

TEST_F(AllocationTest, FewForManyTimersAndNoneForThoseThatFollowOthers) {
  constexpr int kTimers = 100'000;
  std::vector<TimerPtr> timers;
  timers.reserve(kTimers);
  const auto make_all = [&] {
    timers.clear();
    for (int i = 0; i < kTimers; ++i) {
      timers.push_back(dispatcher_->createTimer([this] { ++calls_; }));
    }
  };
  const int64_t before = allocations;
  make_all();
  EXPECT_LE(allocations - before, 100);
  EXPECT_EQ(0, allocationsOf(make_all, 1));
}

TEST_F(AllocationTest, OneForASchedulableCallback) {
  std::vector<SchedulableCallbackPtr> callbacks(11);
  int i = 0;
  EXPECT_LE(allocationsOf([&] { callbacks[i++] = dispatcher_->createSchedulableCallback([this] { ++calls_; }); }), 1);
}

TEST_F(AllocationTest, TwoForAFileEventOnADescriptorThatWasWatchedBefore) {
  const Pair pair = makeSocketPair();
  EXPECT_LE(allocationsOf([&] {
              auto event = dispatcher_->createFileEvent(
                  pair.watched.get(), [this](uint32_t) { ++calls_; }, FileTriggerType::Edge, FileReadyType::Read);
              EXPECT_TRUE(event.ok()) << event.status();
            }),
            2);
}

TEST_F(AllocationTest, NoneForExitAndTheApproximateTimeAndStats) {
  EXPECT_EQ(0, allocationsOf([&] {
              dispatcher_->exit();
              dispatcher_->run(RunType::RunUntilExit);
              dispatcher_->approximateMonotonicTime();
              dispatcher_->updateApproximateMonotonicTime();
              dispatcher_->stats();
            }));
}

#ifndef NUNCIO_TEST_SANITIZER  // whose hooks cannot let one fail

class WithoutMemoryTest : public AllocationTest {
protected:
  // Calls `work` with the first allocation in it failing, then with the second one, and so on, until none does.
  // `check(n, failed)` after each.
  template <class Work, class Check>
  void failEach(Work work, Check check) {
    bool failed = true;
    for (int n = 0; failed; ++n) {
      ASSERT_LT(n, 100);
      failed = false;
      allocations_until_failure = n;
      try {
        failed = !work();
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      failed = failed || allocations_until_failure < 0;
      allocations_until_failure = -1;
      check(n, failed);
    }
  }
};

TEST_F(WithoutMemoryTest, ATimerIsNotMadeAndThoseThatFollowAre) {
  TimerPtr timer;
  failEach(
      [&] {
        dispatcher_->createTimer([this] { ++calls_; }).swap(timer);
        return timer != nullptr;
      },
      [&](int n, bool /*failed*/) {
        std::vector<TimerPtr> timers;
        calls_ = 0;
        for (int i = 0; i < 1000; ++i) {
          timers.push_back(dispatcher_->createTimer([this] { ++calls_; }));
          timers.back()->enableTimer(0ms);
        }
        dispatcher_->run(RunType::Block);
        EXPECT_EQ(calls_, 1000) << "allocation " << n;
        timers.clear();
        timer.reset();
        dispatcher_ = createDispatcher({.name = "allocations"});  // with slabs to be allocated anew
      });
}

TEST_F(WithoutMemoryTest, APostIsRefusedAndItsCallbackDestroyed) {
  auto alive = std::make_shared<int>(0);
  failEach([&] { return dispatcher_->post([this, alive] { ++calls_; }); },
           [&](int n, bool failed) {
             calls_ = 0;
             dispatcher_->run(RunType::NonBlock);
             EXPECT_EQ(calls_, failed ? 0 : 1) << "allocation " << n;
             EXPECT_EQ(alive.use_count(), 1) << "allocation " << n;
           });
}

TEST_F(WithoutMemoryTest, ATaskOfAnotherThreadWakesTheLoopAndRuns) {
  class NotifyingTask final : public Task {
  public:
    explicit NotifyingTask(Notification& ran) : ran_(ran) {}
    void runTask() noexcept override { ran_.notify(); }
    void refuseTask() noexcept override { ADD_FAILURE(); }

  private:
    Notification& ran_;
  };
  Notification running;
  SchedulableCallbackPtr scheduled = dispatcher_->createSchedulableCallback([&] { running.notify(); });
  scheduled->scheduleCurrentIteration();
  std::thread thread([this] { dispatcher_->run(RunType::RunUntilExit); });
  ASSERT_TRUE(running.wait());
  Notification ran;
  NotifyingTask task(ran);
  allocations_until_failure = 0;  // a first post needs memory
  dispatcher_->loop().deliver(task);
  EXPECT_LT(std::exchange(allocations_until_failure, -1), 0);
  EXPECT_TRUE(ran.wait());
  dispatcher_->exit();
  thread.join();
  scheduled.reset();
}

TEST_F(WithoutMemoryTest, AnObjectIsDestroyedAtOnceWhereItCannotBeDeferred) {
  struct Object : DeferredDeletable {
    explicit Object(int64_t* counter) : destroyed(counter) {}
    ~Object() override { ++*destroyed; }
    int64_t* destroyed;
  };
  int64_t destroyed = 0;
  int64_t made = 0;
  failEach(
      [&] {
        allocations_until_failure += 1;  // that of the object
        auto object = std::make_unique<Object>(&destroyed);
        ++made;
        dispatcher_->deferredDelete(std::move(object));
        return true;
      },
      [&](int n, bool failed) {
        EXPECT_EQ(destroyed, failed ? made : made - 1) << "allocation " << n;
        dispatcher_->clearDeferredDeleteList();
        EXPECT_EQ(destroyed, made) << "allocation " << n;
      });
}

#endif

}  // namespace
}  // namespace nuncio::test
