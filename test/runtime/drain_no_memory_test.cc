#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/future/coroutine.h"
#include "nuncio/future/dropped_failure.h"
#include "nuncio/future/gate.h"
#include "nuncio/runtime/sharded.h"
#include "nuncio/runtime/worker_pool.h"
#include "test/test_support/count_allocations.h"

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
    });
    do {
      home_->run(RunType::NonBlock);
    } while (!threw && !draining.isReady());
    const bool failed = stopFailing();
    if (!threw) {
      result = std::move(draining).get();
    }
    return failed;
  }

  DispatcherPtr home_ = createDispatcher({.name = "home"});
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
      if (!result.ready() || result.failed()) {
        Try<DrainReport> again;
        drain(*pool, -1, Fails::One, again);
        ASSERT_TRUE(again.hasValue()) << again.status();
      }
      EXPECT_FALSE(pool->next().post([] {}));
      EXPECT_TRUE(gates.stop().get().ready());
    }
  }
}

}  // namespace
}  // namespace nuncio::test
