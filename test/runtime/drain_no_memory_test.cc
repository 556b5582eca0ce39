#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/future/coroutine.h"
#include "nuncio/future/dropped_failure.h"
#include "nuncio/future/gate.h"
#include "nuncio/runtime/sharded.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "nuncio/runtime/worker_pool.h"
#include "test/test_support/count_allocations.h"
#include "test/test_support/notification.h"
#include "test/test_support/sanitizers.h"

// What becomes of drain() when its caller's thread has no memory. Under a sanitizer, where no allocation can fail, only
// that it works.
namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

struct Gated {
  Gated(WorkerPool& pool, Dispatcher& worker) : gate(worker) { pool.addGate(gate, "gate"); }
  Gate gate;
};

class DrainNoMemoryTest : public testing::Test {
protected:
  DrainNoMemoryTest() {
    setDroppedFailureHandler([](const absl::Status&, const std::source_location&) {});
    home_->run(RunType::NonBlock);  // from now on this thread is the loop's
  }
  ~DrainNoMemoryTest() override { setDroppedFailureHandler(nullptr); }

  // Drains, and while it does so allocation `n` of this thread fails. Whether it has.
  bool drain(WorkerPool& pool, int64_t n, Fails fails, Try<DrainReport>& result) {
    Future<DrainReport> draining;
    bool threw = false;
    home_->post([&] {
      failAllocation(n, fails);
      try {
        draining = pool.drain(1h);
      } catch (const std::bad_alloc&) {
        threw = true;
      }
      at_once_ = draining.isReady();
    });
    do {
      home_->run(RunType::NonBlock);
    } while (!threw && !draining.isReady());
    const bool failed = stopFailing();
    EXPECT_FALSE(threw);
    if (!threw) {
      result = std::move(draining).get();
    }
    return failed;
  }

  // The same on a worker's thread, which waits.
  template <class F>
  static void onWorker(WorkerPool& pool, F f) {
    Notification done;
    ASSERT_TRUE(pool.dispatcher(0).post([&] {
      f();
      done.notify();
    }));
    ASSERT_TRUE(done.wait());
  }

  DispatcherPtr home_ = createDispatcher({.name = "home"});
  bool at_once_ = false;  // the future was ready
};

TEST_F(DrainNoMemoryTest, EachAllocationThatFailsLeavesThePoolToBeDrainedAnew) {
  for (const Fails fails : {Fails::One, Fails::AllFromThere}) {
    bool failed = true;
    for (int64_t n = 0; failed; ++n) {
      SCOPED_TRACE(n);
      ASSERT_LT(n, 10'000);
      auto pool = *WorkerPool::create({.threads = 2});
      Sharded<Gated> gates;
      ASSERT_TRUE(
          gates.start(*pool, [&](Dispatcher& worker, std::size_t) { return std::make_unique<Gated>(*pool, worker); })
              .get()
              .hasValue());
      Try<DrainReport> result;
      failed = drain(*pool, n, fails, result);
      if (result.failed()) {
        Try<DrainReport> again;
        drain(*pool, -1, Fails::One, again);
        ASSERT_TRUE(again.hasValue()) << again.status();
      }
      EXPECT_FALSE(pool->next().post([] {}));
      EXPECT_TRUE(gates.stop().get().hasValue());
    }
  }
}

// Where there is no memory for the result, nothing begins: else who drains anew would find it at work.
TEST_F(DrainNoMemoryTest, WithoutMemoryForTheResultNothingBeginsAndNothingIsThrown) {
  auto pool = *WorkerPool::create({.threads = 1});
  Sharded<Gated> gates;
  ASSERT_TRUE(
      gates.start(*pool, [&](Dispatcher& worker, std::size_t) { return std::make_unique<Gated>(*pool, worker); })
          .get()
          .hasValue());
  Try<DrainReport> result;
  const bool counted = drain(*pool, 0, Fails::AllFromThere, result);
  EXPECT_TRUE(counted);
  if (!kSanitizer) {  // under which allocations are only counted
    EXPECT_TRUE(at_once_);
    EXPECT_EQ(absl::StatusCode::kResourceExhausted, result.status().code()) << result.status();
    onWorker(*pool, [&] { EXPECT_FALSE(gates.local().gate.closed()); });
    drain(*pool, -1, Fails::One, result);
  }
  ASSERT_TRUE(result.hasValue()) << result.status();
  EXPECT_TRUE(result->ok());
}

// A worker's thread, of which the drain asks who is inside when it has no memory.
TEST_F(DrainNoMemoryTest, AWorkerThatCannotTellWhoIsInsideIsNotTakenForEmpty) {
  SimulatedTimeSystem time;
  DispatcherPtr home = createDispatcher({.name = "home", .time_system = &time});
  auto pool = *WorkerPool::create({.threads = 1, .dispatcher = {.time_system = &time}});
  Promise<void> never;
  std::unique_ptr<Gate> gate;
  bool counted = false;
  onWorker(*pool, [&] {
    Dispatcher& worker = pool->dispatcher(0);
    gate = std::make_unique<Gate>(worker);
    pool->addGate(*gate, "gate");
    gate->with([&] { return never.future(worker).ensure([&] { counted = stopFailing(); }); }).detach();
  });
  Try<DrainReport> result;
  home->post([&] {
    pool->drain(1s)
        .then([&](Try<DrainReport>&& came) {
          result = std::move(came);
          home->exit();
        })
        .detach();
  });
  home->run(RunType::NonBlock);
  onWorker(*pool, [] {});  // it waits
  onWorker(*pool, [] { failAllocation(0, Fails::AllFromThere); });
  time.advanceTimeAndRun(1001ms);
  if (!result.ready()) {  // else home was told to exit in a run that is over
    home->run(RunType::RunUntilExit);
  }
  ASSERT_TRUE(result.hasValue()) << result.status();
  EXPECT_FALSE(result->ok());
  EXPECT_TRUE(counted);
  EXPECT_THAT(result->still_inside,
              testing::ElementsAre(testing::StartsWith(
                  !kSanitizer ? "worker_0: who is inside is not known: RESOURCE_EXHAUSTED" : "gate on worker_0: ")));
}

TEST_F(DrainNoMemoryTest, AGateThatThereIsNoMemoryToAddIsNoneOfThePools) {
  auto pool = *WorkerPool::create({.threads = 1});
  std::unique_ptr<Gate> gate;
  std::optional<Gate::Holder> inside;
  bool threw = false;
  onWorker(*pool, [&] {
    gate = std::make_unique<Gate>(pool->dispatcher(0));
    failAllocation(0, Fails::AllFromThere);
    try {
      pool->addGate(*gate, "gate");
    } catch (const std::bad_alloc&) {
      threw = true;
    }
    stopFailing();
    inside = *gate->enter();
  });
  EXPECT_EQ(!kSanitizer, threw);
  if (!threw) {
    onWorker(*pool, [&] { inside.reset(); });
  }
  Try<DrainReport> result;
  drain(*pool, -1, Fails::One, result);
  ASSERT_TRUE(result.hasValue()) << result.status();
  EXPECT_TRUE(result->ok()) << result->toString();
  EXPECT_EQ(threw, !gate->closed());
  inside.reset();
}

}  // namespace
}  // namespace nuncio::test
