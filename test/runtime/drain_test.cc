#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/future/call.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/gate.h"
#include "nuncio/future/time.h"
#include "nuncio/runtime/sharded.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "nuncio/runtime/worker_pool.h"
#include "test/test_support/child_process.h"
#include "test/test_support/contract.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/log.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::StartsWith;

// A gate on each worker, which is made and destroyed there.
struct Gated {
  Gated(WorkerPool& pool, Dispatcher& worker, std::size_t index) : gate(worker) {
    pool.addGate(gate, absl::StrCat("gate_", index));
  }
  Gate gate;
};

class DrainTest : public testing::Test {
protected:
  static constexpr std::size_t kWorkers = 4;

  // The workers' thread runs `f`, and the caller waits.
  template <class F>
  void onWorker(std::size_t index, F f) {
    Notification done;
    ASSERT_TRUE(pool_->dispatcher(index).post([&] {
      f(pool_->dispatcher(index));
      done.notify();
    }));
    ASSERT_TRUE(done.wait());
  }
  // Has the home call drain(), and runs it until the future is done.
  DrainReport drain(std::chrono::milliseconds deadline) {
    begin(deadline);
    return end();
  }
  void begin(std::chrono::milliseconds deadline) {
    home_->post([this, deadline] {
      pool_->drain(deadline)
          .then([this](Try<DrainReport>&& result) {
            result_ = std::move(result);
            home_->exit();
          })
          .detach();
    });
    home_->run(RunType::NonBlock);
  }
  DrainReport end() {
    if (!result_.ready()) {
      home_->run(RunType::RunUntilExit);
    }
    EXPECT_TRUE(result_.hasValue()) << result_.status();
    return result_.hasValue() ? *result_ : DrainReport();
  }
  // Is inside of a gate on worker `index` from now on, until what `f` returns is done.
  template <class F>
  void enter(std::size_t index, F f) {
    onWorker(index, [&](Dispatcher& worker) { gates_.local().gate.with([&] { return f(worker); }).detach(); });
  }
  void startGates() {
    ASSERT_TRUE(gates_
                    .start(*pool_, [this](Dispatcher& worker,
                                          std::size_t index) { return std::make_unique<Gated>(*pool_, worker, index); })
                    .get()
                    .hasValue());
  }

  SimulatedTimeSystem time_;
  DispatcherPtr home_ = createDispatcher({.name = "home", .time_system = &time_});
  std::unique_ptr<WorkerPool> pool_ = *WorkerPool::create({.threads = kWorkers, .dispatcher = {.time_system = &time_}});
  Sharded<Gated> gates_;
  Try<DrainReport> result_;
};

TEST_F(DrainTest, NothingToDoIsDoneAtOnce) {
  const DrainReport report = drain(5s);
  EXPECT_TRUE(report.ok()) << report.toString();
  EXPECT_EQ("drained in 0 ms", report.toString());
  EXPECT_FALSE(pool_->next().post([] { FAIL() << "ran"; }));
}

TEST_F(DrainTest, WaitsForAHundredHoldersAndNoLonger) {
  startGates();
  for (std::size_t i = 0; i < 100; ++i) {
    enter(i % kWorkers, [](Dispatcher& worker) { return sleepFor(worker, 1s); });
  }
  begin(5s);
  time_.advanceTimeAndRun(999ms);
  EXPECT_FALSE(result_.ready());
  time_.advanceTimeAndRun(2ms);
  const DrainReport report = end();
  EXPECT_TRUE(report.ok()) << report.toString();
  EXPECT_GE(report.waited, 1s);
  EXPECT_LE(report.waited, 1001ms);
  EXPECT_THAT(report.failures, IsEmpty());
}

TEST_F(DrainTest, AtTheDeadlineTheReportNamesWhoIsInsideAndForWhat) {
  startGates();
  std::atomic<bool> ended{false};
  Promise<void> never;
  uint32_t line = 0;
  enter(1, [](Dispatcher& worker) { return sleepFor(worker, 1s); });
  onWorker(2, [&](Dispatcher& worker) {
    line = std::source_location::current().line() + 1;
    gates_.local().gate.with([&] { return never.future(worker).ensure([&] { ended = true; }); }).detach();
  });
  begin(5s);
  time_.advanceTimeAndRun(4999ms);
  EXPECT_FALSE(result_.ready());
  time_.advanceTimeAndRun(2ms);
  const DrainReport report = end();
  EXPECT_FALSE(report.ok());
  EXPECT_GE(report.waited, 5s);
  EXPECT_LE(report.waited, 5001ms);
  EXPECT_THAT(
      report.still_inside,
      ElementsAre(AllOf(StartsWith(absl::StrCat("gate_2 on worker_2: entered at ", __FILE__, ":", line, " in ")),
                        HasSubstr("\n  ensure at "), HasSubstr("\n  promise at "))));
  EXPECT_THAT(report.stalled_workers, IsEmpty());
  EXPECT_THAT(report.still_stopping, ElementsAre(HasSubstr("Gated>"))) << "it waited for its turn";
  EXPECT_THAT(report.toString(), StartsWith("not drained in time; after 500"));
  EXPECT_TRUE(ended) << "cancelled when the worker shut down";
  EXPECT_TRUE(gates_.stop().get().hasValue()) << "what was not stopped is gone all the same";
}

TEST_F(DrainTest, ClosedGatesRefuseAndThoseInsideMayGoOn) {
  startGates();
  Promise<void> proceed;
  Notification refused;
  bool went_on = false;
  enter(0, [&](Dispatcher& worker) {
    return proceed.future(worker).then([&] {
      EXPECT_EQ(absl::StatusCode::kFailedPrecondition, gates_.local().gate.enter().status().code());
      // Others' gates are closed, too, but who is inside may call their objects still.
      return gates_.call(3, [](Gated& other) { EXPECT_TRUE(other.gate.closed()); }).then([&] { went_on = true; });
    });
  });
  begin(5s);
  for (std::size_t i = 0; i < kWorkers; ++i) {
    onWorker(i, [this](Dispatcher&) { EXPECT_TRUE(gates_.local().gate.closed()); });
  }
  proceed.setValue();
  EXPECT_TRUE(end().ok());
  EXPECT_TRUE(went_on);
}

TEST_F(DrainTest, GatesThatGoAndGatesThatCome) {
  DrainReport report;
  std::unique_ptr<Gate> gone;
  std::unique_ptr<Gate> renamed;
  std::unique_ptr<Gate> late;
  Gate::Holder of_gone;
  Gate::Holder of_renamed;
  onWorker(0, [&](Dispatcher& worker) {
    gone = std::make_unique<Gate>(worker);
    renamed = std::make_unique<Gate>(worker);
    late = std::make_unique<Gate>(worker);
    pool_->addGate(*gone, "gone");
    pool_->addGate(*renamed, "first");
    pool_->addGate(*renamed, "second");
    of_gone = *gone->enter();
    of_renamed = *renamed->enter();
  });
  begin(5s);
  onWorker(0, [&](Dispatcher&) {
    EXPECT_TRUE(gone->closed());
    gone.reset();  // its holders are its owner's business from now on
    pool_->addGate(*late, "late");
    EXPECT_TRUE(late->closed());
  });
  time_.advanceTimeAndRun(5001ms);
  EXPECT_THAT(end().still_inside, ElementsAre(StartsWith("second on worker_0: entered at ")));
  of_renamed.leave();
  of_gone.leave();
}

// Where the first gate goes, and the next one comes where it was in memory, nothing has failed.
TEST_F(DrainTest, AGateThatTakesThePlaceOfOneThatIsWaitedFor) {
  std::unique_ptr<Gate> gate;
  Gate::Holder of_first;
  Gate::Holder of_second;
  onWorker(0, [&](Dispatcher& worker) {
    gate = std::make_unique<Gate>(worker);
    pool_->addGate(*gate, "first");
    of_first = *gate->enter();
  });
  begin(5s);
  onWorker(0, [](Dispatcher&) {});  // it waits
  onWorker(0, [&](Dispatcher& worker) {
    gate.reset();
    gate = std::make_unique<Gate>(worker);
    of_second = *gate->enter();
    pool_->addGate(*gate, "second");
  });
  onWorker(0, [](Dispatcher&) {});  // it has seen that
  EXPECT_FALSE(result_.ready());
  onWorker(0, [&](Dispatcher&) { of_second.leave(); });
  EXPECT_TRUE(end().ok());
  of_first.leave();
}

TEST_F(DrainTest, DeadlineOfZeroWaitsForNobody) {
  startGates();
  Promise<void> never;
  enter(1, [&](Dispatcher& worker) { return never.future(worker); });
  begin(0ms);
  time_.advanceTimeAndRun(1ms);
  const DrainReport report = end();
  EXPECT_THAT(report.still_inside, SizeIs(1));
  EXPECT_LE(report.waited, 1ms);
}

TEST_F(DrainTest, DeadlineOfZeroClosesTheGatesAlsoOfAWorkerThatGetsToItLater) {
  startGates();
  std::vector<Promise<void>> never(kWorkers);
  std::array<bool, kWorkers> closed{};
  Notification busy;
  Notification proceed;
  for (std::size_t i = 0; i < kWorkers; ++i) {
    enter(i, [&, i](Dispatcher& worker) {
      return never[i].future(worker).ensure([&, i] { closed[i] = gates_.local().gate.closed(); });
    });
  }
  ASSERT_TRUE(pool_->dispatcher(0).post([&] {
    busy.notify();
    EXPECT_TRUE(proceed.wait());
  }));
  ASSERT_TRUE(busy.wait());
  begin(0ms);
  time_.advanceTimeAsync(1ms);
  home_->run(RunType::NonBlock);
  home_->run(RunType::NonBlock);
  EXPECT_FALSE(result_.ready());
  proceed.notify();
  EXPECT_FALSE(end().ok());
  EXPECT_THAT(closed, testing::Each(true));
}

TEST_F(DrainTest, DeadlineOfZeroIsInTimeWhereThereIsNothingToStop) {
  begin(0ms);
  time_.advanceTimeAndRun(1ms);
  const DrainReport report = end();
  EXPECT_TRUE(report.ok()) << report.toString();
  EXPECT_THAT(report.toString(), StartsWith("drained in "));
}

// Sharded

// Says when it ends, and that it does so where it came to be.
class Counter {
public:
  Counter(const std::string& name, Log& log) : name_(name), log_(log) {}
  ~Counter() { log_.add(std::this_thread::get_id() == made_on_ ? name_ : name_ + " on another thread"); }

private:
  const std::thread::id made_on_ = std::this_thread::get_id();
  const std::string name_;
  Log& log_;
};

TEST_F(DrainTest, WhatWasStartedIsStoppedInReverseOrderOnItsOwnThreads) {
  Log log;
  Sharded<Counter> first;
  Sharded<Counter> stopped;
  Sharded<Counter> second;
  const auto start = [&](Sharded<Counter>& sharded, const std::string& name) {
    ASSERT_TRUE(
        sharded
            .start(*pool_, [&](Dispatcher&,
                               std::size_t index) { return std::make_unique<Counter>(absl::StrCat(name, index), log); })
            .get()
            .hasValue());
  };
  start(first, "a");
  start(stopped, "s");
  start(second, "b");
  ASSERT_TRUE(stopped.stop().get().hasValue());
  log.take();
  EXPECT_TRUE(drain(5s).ok());
  EXPECT_THAT(log.take(), ElementsAre("b3", "b2", "b1", "b0", "a3", "a2", "a1", "a0"));
  EXPECT_TRUE(second.stop().get().hasValue()) << "it has been stopped";
}

TEST_F(DrainTest, GatesAreLeftBeforeAnythingIsStopped) {
  Log log;
  startGates();
  Sharded<Counter> counters;
  ASSERT_TRUE(counters.start(*pool_, [&](Dispatcher&, std::size_t) { return std::make_unique<Counter>("~", log); })
                  .get()
                  .hasValue());
  Promise<void> proceed;
  enter(2, [&](Dispatcher& worker) { return proceed.future(worker).then([&] { log.add("left"); }); });
  begin(5s);
  for (std::size_t i = 0; i < kWorkers; ++i) {
    onWorker(i, [](Dispatcher&) {});
  }
  home_->run(RunType::NonBlock);
  EXPECT_THAT(log.take(), IsEmpty());
  proceed.setValue();
  EXPECT_TRUE(end().ok());
  EXPECT_THAT(log.take(), ElementsAre("left", "~", "~", "~", "~"));
}

struct NeverStops {
  NeverStops(Dispatcher& worker, Log& to, std::atomic<bool>& begins) : dispatcher(worker), log(to), began(begins) {}
  ~NeverStops() { log.add("~NeverStops"); }
  Future<void> stop() {
    began = true;
    return never.future(dispatcher).ensure([this] { log.add("stop() ended"); });
  }
  Dispatcher& dispatcher;
  Log& log;
  std::atomic<bool>& began;
  Promise<void> never;
};
struct StopsAfter {
  explicit StopsAfter(Log& to) : log(to) {}
  ~StopsAfter() { log.add("~StopsAfter"); }
  Log& log;
};

TEST_F(DrainTest, AtTheDeadlineTheReportNamesWhatIsStopping) {
  Log log;
  std::atomic<bool> began{false};
  Sharded<StopsAfter> after;
  Sharded<NeverStops> never;
  ASSERT_TRUE(after.start(*pool_, [&](Dispatcher&, std::size_t) { return std::make_unique<StopsAfter>(log); })
                  .get()
                  .hasValue());
  ASSERT_TRUE(never
                  .start(*pool_,
                         [&](Dispatcher& worker, std::size_t index) -> absl::StatusOr<std::unique_ptr<NeverStops>> {
                           auto object = std::make_unique<NeverStops>(worker, log, began);
                           if (index != kWorkers - 1) {
                             object->never.setValue();
                           }
                           return object;
                         })
                  .get()
                  .hasValue());
  begin(5s);
  while (!began) {  // after the deadline no stop() would begin
    home_->run(RunType::NonBlock);
  }
  time_.advanceTimeAndRun(5001ms);
  const DrainReport report = end();
  EXPECT_THAT(report.still_stopping, ElementsAre(AllOf(StartsWith("Sharded<"), HasSubstr("NeverStops>")),
                                                 AllOf(StartsWith("Sharded<"), HasSubstr("StopsAfter>"))));
  EXPECT_THAT(report.still_inside, IsEmpty());
  EXPECT_THAT(report.stalled_workers, IsEmpty());
  // In reverse order still, and when what the one worker has begun has ended; no other one is asked.
  EXPECT_THAT(log.take(), ElementsAre("stop() ended", "~NeverStops", "~NeverStops", "~NeverStops", "~NeverStops",
                                      "~StopsAfter", "~StopsAfter", "~StopsAfter", "~StopsAfter"));
}

struct SaysThatItStops {
  explicit SaysThatItStops(Log& to) : log(to) {}
  ~SaysThatItStops() { log.add("~"); }
  void stop() { log.add("stop()"); }
  Log& log;
};

// Nobody is inside any more when the workers are asked, but it was too late for the rest.
TEST_F(DrainTest, AfterTheDeadlineNothingIsStoppedAndTheReportNamesAllThatWaited) {
  Log log;
  startGates();
  Sharded<SaysThatItStops> says;
  ASSERT_TRUE(says.start(*pool_, [&](Dispatcher&, std::size_t) { return std::make_unique<SaysThatItStops>(log); })
                  .get()
                  .hasValue());
  begin(0ms);
  time_.advanceTimeAndRun(1ms);
  const DrainReport report = end();
  EXPECT_FALSE(report.ok());
  EXPECT_THAT(report.still_inside, IsEmpty());
  EXPECT_THAT(report.still_stopping, ElementsAre(HasSubstr("SaysThatItStops>"), HasSubstr("Gated>")));
  EXPECT_THAT(report.stalled_workers, IsEmpty());
  EXPECT_THAT(report.toString(), StartsWith("not drained in time; after "));
  EXPECT_THAT(log.take(), ElementsAre("~", "~", "~", "~"));
}

TEST_F(DrainTest, WhoLeavesAfterTheDeadlineIsLate) {
  startGates();
  Promise<void> proceed;
  Notification busy;
  Notification go_on;
  enter(2, [&](Dispatcher& worker) { return proceed.future(worker); });
  ASSERT_TRUE(pool_->dispatcher(2).post([&] {
    busy.notify();
    EXPECT_TRUE(go_on.wait());
    proceed.setValue();  // before it is asked
  }));
  ASSERT_TRUE(busy.wait());
  begin(5s);
  time_.advanceTimeAsync(5001ms);
  home_->run(RunType::NonBlock);
  home_->run(RunType::NonBlock);
  go_on.notify();
  const DrainReport report = end();
  EXPECT_FALSE(report.ok());
  EXPECT_THAT(report.still_stopping, ElementsAre(HasSubstr("Gated>")));
}

TEST_F(DrainTest, WhatFailsWhenItIsStoppedIsReportedAndDelaysNothing) {
  struct Fails {
    absl::Status stop() { return absl::DataLossError("unsaved"); }
  };
  Sharded<Fails> fails;
  ASSERT_TRUE(fails.start(*pool_, [](Dispatcher&, std::size_t) { return std::make_unique<Fails>(); }).get().hasValue());
  const DrainReport report = drain(5s);
  EXPECT_TRUE(report.ok());
  EXPECT_THAT(report.failures, ElementsAre(AllOf(HasSubstr("Fails>: DATA_LOSS: unsaved"))));
  EXPECT_THAT(report.toString(), AllOf(StartsWith("drained in "), HasSubstr("\nfailed: Sharded<")));
}

TEST_F(DrainTest, NothingIsStartedMeanwhile) {
  startGates();
  Promise<void> proceed;
  enter(0, [&](Dispatcher& worker) { return proceed.future(worker); });
  begin(5s);
  Sharded<int> late;
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition,
            late.start(*pool_, [](Dispatcher&, std::size_t) { return std::make_unique<int>(); }).get().status().code());
  proceed.setValue();
  EXPECT_TRUE(end().ok());
}

TEST_F(DrainTest, AStartThatIsUnderWayIsStopped) {
  Log log;
  Sharded<Counter> slow;
  std::vector<Promise<void>> proceed(kWorkers);
  Countdown making(kWorkers);
  absl::Status started;
  home_->post([&] {
    slow.start(*pool_,
               [&](Dispatcher& worker, std::size_t index) {
                 making.countDown();
                 return proceed[index].future(worker).then([&] { return std::make_unique<Counter>("~", log); });
               })
        .then([&](Try<void>&& result) { started = result.status(); })
        .detach();
  });
  home_->run(RunType::NonBlock);
  ASSERT_TRUE(making.wait());
  begin(5s);
  // The drain has got to it when a worker has been told: then it makes none any more.
  EXPECT_TRUE(end().ok());
  for (Promise<void>& promise : proceed) {
    promise.setValue();
  }
  home_->run(RunType::NonBlock);
  EXPECT_EQ(absl::StatusCode::kCancelled, started.code()) << started;
  EXPECT_EQ(absl::StatusCode::kCancelled, slow.call(0, [](Counter&) {}).get().status().code());
}

// Who may call it

TEST_F(DrainTest, OnlyALoopThatIsNoneOfThePoolsMayCallIt) {
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, pool_->drain(1s).get().status().code());
  onWorker(0, [this](Dispatcher&) {
    Future<DrainReport> refused = pool_->drain(1s);
    ASSERT_TRUE(refused.isReady());
    const absl::Status status = std::move(refused).get().status();
    EXPECT_EQ(absl::StatusCode::kFailedPrecondition, status.code());
    EXPECT_THAT(std::string(status.message()), HasSubstr("stop()"));
  });
  home_->post([this] {
    Future<DrainReport> refused = pool_->drain(-1ms);
    ASSERT_TRUE(refused.isReady());
    EXPECT_EQ(absl::StatusCode::kInvalidArgument, std::move(refused).get().status().code());
  });
  home_->run(RunType::NonBlock);
  EXPECT_TRUE(pool_->next().post([] {})) << "nothing has come of it";
  EXPECT_TRUE(drain(std::chrono::milliseconds::max()).ok());
}

TEST_F(DrainTest, WhoCallsItAgainGetsTheSameReport) {
  startGates();
  Promise<void> never;
  enter(0, [&](Dispatcher& worker) { return never.future(worker); });
  DispatcherPtr other = createDispatcher({.name = "other"});
  DispatcherThread other_thread(*other);
  begin(5s);
  Notification came;
  std::thread::id came_on;
  DrainReport others;
  other_thread.call([&] {
    pool_->drain(1h)
        .then([&](const DrainReport& report) {
          came_on = std::this_thread::get_id();
          others = report;
          came.notify();
        })
        .detach();
  });
  time_.advanceTimeAndRun(5001ms);
  const DrainReport report = end();
  EXPECT_THAT(report.still_inside, SizeIs(1));
  ASSERT_TRUE(came.wait());
  EXPECT_EQ(other_thread.id(), came_on);
  EXPECT_EQ(report.still_inside, others.still_inside);
  EXPECT_EQ(report.still_inside, drain(1s).still_inside) << "also when it is over";
}

TEST_F(DrainTest, ItGoesOnWhenTheFutureIsDroppedOrCancelled) {
  for (const bool cancel : {false, true}) {
    auto pool = *WorkerPool::create({.threads = 2});
    bool done = false;
    home_->post([&] {
      Future<DrainReport> dropped = pool->drain(1h);
      if (cancel) {
        dropped.cancel();
      }
      std::move(dropped).detach();
      pool->drain(1h)
          .then([&](const DrainReport& report) { done = report.ok(); })
          .ensure([&] { home_->exit(); })
          .detach();
    });
    home_->run(RunType::RunUntilExit);
    EXPECT_TRUE(done);
    EXPECT_FALSE(pool->next().post([] {}));
  }
}

TEST_F(DrainTest, WhereItsLoopIsGoneAnotherOneDrainsAnew) {
  startGates();
  Promise<void> proceed;
  enter(0, [&](Dispatcher& worker) { return proceed.future(worker); });
  auto first = createDispatcher({.name = "first", .time_system = &time_});
  absl::Status of_first;
  first->post([&] { pool_->drain(5s).then([&](Try<DrainReport>&& result) { of_first = result.status(); }).detach(); });
  first->run(RunType::NonBlock);
  onWorker(0, [this](Dispatcher&) { EXPECT_TRUE(gates_.local().gate.closed()); });
  first.reset();
  onWorker(0, [](Dispatcher&) {});
  begin(5s);
  proceed.setValue();
  EXPECT_TRUE(end().ok());
}

TEST_F(DrainTest, ThePoolMayBeStoppedMeanwhile) {
  for (int round = 0; round < 50; ++round) {
    auto pool = *WorkerPool::create({.threads = 3});
    Log log;
    std::atomic<std::size_t> made{0};
    bool began = false;
    Try<DrainReport> result;
    {
      Sharded<Counter> counters;
      home_->post([&] {
        counters
            .start(*pool,
                   [&](Dispatcher&, std::size_t) {
                     ++made;
                     return std::make_unique<Counter>("~", log);
                   })
            .then([&] {
              began = true;
              return pool->drain(1h);
            })
            .then([&](Try<DrainReport>&& came) {
              result = std::move(came);
              return counters.stop().thenError([](const absl::Status&) {});
            })
            .ensure([&] { home_->exit(); })
            .detach();
      });
      std::thread stops([&] { pool->stop(); });
      home_->run(RunType::RunUntilExit);
      stops.join();
    }
    EXPECT_FALSE(pool->next().post([] {}));
    EXPECT_EQ(began, result.hasValue()) << result.status();
    EXPECT_TRUE(!began || result->ok()) << result->toString();
    EXPECT_THAT(log.take(), SizeIs(made.load())) << "none is left, nor destroyed twice";
  }
}

TEST_F(DrainTest, ThePoolMayBeDestroyedMeanwhile) {
  auto pool = *WorkerPool::create({.threads = 3});
  std::unique_ptr<Gate> gate;
  Notification inside;
  Promise<void> never;
  pool->dispatcher(1).post([&] {
    gate = std::make_unique<Gate>(pool->dispatcher(1));
    pool->addGate(*gate, "gate");
    gate->with([&] { return never.future(pool->dispatcher(1)); }).detach();
    inside.notify();
  });
  ASSERT_TRUE(inside.wait());
  std::optional<DrainReport> report;
  home_->post([&] {
    pool->drain(5s)
        .then([&](const DrainReport& came) {
          report = came;
          home_->exit();
        })
        .detach();
    pool.reset();
  });
  home_->run(RunType::RunUntilExit);
  ASSERT_TRUE(report.has_value());
  EXPECT_TRUE(report->ok()) << "they have left, since their loop is gone: " << report->toString();
}

TEST_F(DrainTest, PostsMeanwhileAreRunOrDestroyed) {
  std::atomic<int> made{0};
  std::atomic<int> destroyed{0};
  Notification started;
  std::thread poster([&] {
    bool accepted = true;
    while (accepted) {
      ++made;
      accepted = pool_->next().post([probe = OnDestroy([&] { ++destroyed; })] {});
      if (made == 10) {
        started.notify();
      }
    }
  });
  ASSERT_TRUE(started.wait());
  EXPECT_TRUE(drain(5s).ok());
  poster.join();
  EXPECT_EQ(made.load(), destroyed.load());
}

TEST_F(DrainTest, RunsWhatWasPostedBefore) {
  std::atomic<int> ran{0};
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_TRUE(pool_->next().post([&] { ++ran; }));
  }
  EXPECT_TRUE(drain(5s).ok());
  EXPECT_EQ(10'000, ran.load());
}

TEST_F(DrainTest, InTheChildOfAForkItIsRefusedAndWhatIsUnderWayFails) {
  startGates();
  Promise<void> proceed;
  enter(0, [&](Dispatcher& worker) { return proceed.future(worker); });
  begin(5s);
  EXPECT_EQ("", runInChild([this] {
              absl::Status again;
              home_->post(
                  [&] { pool_->drain(1s).then([&](Try<DrainReport>&& result) { again = result.status(); }).detach(); });
              time_.advanceTimeAsync(6s);
              home_->run(RunType::NonBlock);
              home_->run(RunType::NonBlock);
              CHILD_CHECK(absl::IsFailedPrecondition(again));
              CHILD_CHECK(result_.failed());
              CHILD_CHECK(absl::IsFailedPrecondition(result_.status()));
              pool_.reset();
            }));
  proceed.setValue();
  EXPECT_TRUE(end().ok());
}

using DrainContractTest = DrainTest;

TEST_F(DrainContractTest, OnlyAWorkersGateOnItsThreadIsDrained) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto on_worker = [](auto f) {
    auto pool = *WorkerPool::create({.threads = 2});
    Notification done;
    pool->dispatcher(0).post([&] {
      f(*pool);
      done.notify();
    });
    EXPECT_TRUE(done.wait());
  };
  EXPECT_CONTRACT_VIOLATION(
      {
        DispatcherPtr dispatcher = createDispatcher();
        Gate gate(*dispatcher);
        on_worker([&](WorkerPool& pool) { pool.addGate(gate, "of none"); });
      },
      HasSubstr("WorkerPool::addGate"));
  EXPECT_CONTRACT_VIOLATION(on_worker([](WorkerPool& pool) {
                              Gate gate(pool.dispatcher(1));
                              pool.addGate(gate, "of another");
                            }),
                            HasSubstr("WorkerPool::addGate"));
  EXPECT_CONTRACT_VIOLATION(
      {
        auto pool = *WorkerPool::create({.threads = 1});
        DispatcherPtr dispatcher = createDispatcher();
        Gate gate(*dispatcher);
        pool->addGate(gate, "off a worker");
      },
      HasSubstr("WorkerPool::addGate"));
}

// Stalled workers

// Data of a thread, which tells that the thread has ended. At namespace scope, so that each thread that names it makes
// it.
struct TellsWhenItsThreadEnds {
  ~TellsWhenItsThreadEnds() {
    if (ended != nullptr) {
      ended->notify();
    }
  }
  std::shared_ptr<Notification> ended;
};
thread_local TellsWhenItsThreadEnds thread_end;

// Has worker 1 block until it is told, in real time.
class StalledWorkerTest : public testing::Test {
protected:
  StalledWorkerTest() {
    pool_->dispatcher(1).post([release = release_, ended = ended_, entered = entered_] {
      thread_end.ended = ended;
      entered->notify();
      EXPECT_TRUE(release->wait());
    });
    EXPECT_TRUE(entered_->wait());
  }
  ~StalledWorkerTest() override {
    release_->notify();
    EXPECT_TRUE(ended_->wait());
  }
  DrainReport drain() {
    DrainReport report;
    home_->post([&] {
      pool_->drain(1ms).then([&](const DrainReport& came) { report = came; }).ensure([&] { home_->exit(); }).detach();
    });
    home_->run(RunType::RunUntilExit);
    EXPECT_THAT(report.stalled_workers, ElementsAre(StartsWith("worker_1"))) << report.toString();
    return report;
  }

  const std::shared_ptr<Notification> entered_ = std::make_shared<Notification>();
  const std::shared_ptr<Notification> release_ = std::make_shared<Notification>();
  const std::shared_ptr<Notification> ended_ = std::make_shared<Notification>();
  DispatcherPtr home_ = createDispatcher({.name = "home"});
  std::unique_ptr<WorkerPool> pool_ = *WorkerPool::create({.threads = 3});
};

TEST_F(StalledWorkerTest, IsNamedAndLeftBehindByTheDestructor) {
  Dispatcher& stalled = pool_->dispatcher(1);
  Dispatcher& other = pool_->dispatcher(0);
  auto ran = std::make_shared<Notification>();
  auto destroyed = std::make_shared<Notification>();
  ASSERT_TRUE(stalled.post([&stalled, &other, ran, destroyed, probe = OnDestroy([destroyed] { destroyed->notify(); })] {
    EXPECT_FALSE(other.post([] { FAIL() << "ran"; })) << "it is there still, and refuses";
    EXPECT_EQ("worker_1", stalled.name());
    ran->notify();
  }));
  const DrainReport report = drain();
  EXPECT_FALSE(report.ok());
  EXPECT_THAT(report.toString(), HasSubstr("\nstalled: worker_1"));
  {
    LogCapture log(LogLayer::Runtime);
    pool_.reset();
    EXPECT_THAT(log.text(), AllOf(HasSubstr("[error] worker_1 is stalled"), HasSubstr("left behind")));
  }
  EXPECT_FALSE(ran->notified());
  release_->notify();
  EXPECT_TRUE(ran->wait()) << "what was posted to it is not lost";
  EXPECT_TRUE(destroyed->wait());
}

TEST_F(StalledWorkerTest, StopWaitsForItAndThenTheDestructorDestroys) {
  drain();
  std::thread stops([this] { pool_->stop(); });
  release_->notify();
  stops.join();
  EXPECT_TRUE(ended_->notified());
  LogCapture log(LogLayer::Runtime);
  pool_.reset();
  EXPECT_EQ("", log.text());
}

TEST_F(StalledWorkerTest, OneThatHasEndedMeanwhileIsJoined) {
  drain();
  release_->notify();
  ASSERT_TRUE(ended_->wait());
  LogCapture log(LogLayer::Runtime);
  pool_.reset();
  EXPECT_EQ("", log.text());
}

TEST_F(StalledWorkerTest, WithoutADrainTheDestructorWaitsForIt) {
  std::thread destroys([this] { pool_.reset(); });
  release_->notify();
  destroys.join();
  EXPECT_TRUE(ended_->notified());
}

TEST(DrainOfAStalledWorkerTest, WhatItMayUseStaysAndItsOwnersMayGo) {
  DispatcherPtr home = createDispatcher({.name = "home"});
  struct Object {
    explicit Object(std::atomic<int>& count) : living(count) { ++living; }
    ~Object() { --living; }
    std::atomic<int>& living;
  };
  static std::atomic<int> living{0};
  auto pool = *WorkerPool::create({.threads = 2});
  auto release = std::make_shared<Notification>();
  auto used = std::make_shared<Notification>();
  auto ended = std::make_shared<Notification>();
  {
    Sharded<Object> objects;
    ASSERT_TRUE(objects.start(*pool, [](Dispatcher&, std::size_t) { return std::make_unique<Object>(living); })
                    .get()
                    .hasValue());
    Notification entered;
    pool->dispatcher(0).post([&objects, &entered, release, used, ended] {
      thread_end.ended = ended;
      Object& own = objects.local();
      entered.notify();
      EXPECT_TRUE(release->wait());
      EXPECT_EQ(2, own.living.load());
      used->notify();
    });
    ASSERT_TRUE(entered.wait());
    home->post([&] { pool->drain(1ms).ensure([&] { home->exit(); }).detach(); });
    home->run(RunType::RunUntilExit);
  }
  {
    LogCapture log(LogLayer::Runtime);
    pool.reset();
  }
  home.reset();
  EXPECT_EQ(2, living.load()) << "that of the other worker, which has ended, too";
  release->notify();
  EXPECT_TRUE(used->wait());
  EXPECT_TRUE(ended->wait());
}

}  // namespace
}  // namespace nuncio::test
