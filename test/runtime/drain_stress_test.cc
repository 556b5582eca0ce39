#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/future/call.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/gate.h"
#include "nuncio/future/time.h"
#include "nuncio/runtime/sharded.h"
#include "nuncio/runtime/worker_pool.h"
#include "test/test_support/sanitizers.h"

// Workers that use each other's objects all the time, by bare references, and a pool that is drained at any moment.
// Where drain() does not wait for the gates, an object that is gone is used; where it does not stop the objects, they
// go on another thread; where workers end first, work fails. NUNCIO_DRAIN_ROUNDS: how often.
namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kWorkers = 4;

int rounds() {
  const char* const given = std::getenv("NUNCIO_DRAIN_ROUNDS");
  return given != nullptr ? std::atoi(given) : kSanitizer ? 30 : 100;
}
uint64_t seed() {
  const char* const given = std::getenv("NUNCIO_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
}

// What one worker has: the others send it work, which it sends on, for a few steps.
class Node {
public:
  Node(WorkerPool& pool, Dispatcher& worker, uint64_t seed) : worker_(worker), gate_(worker), random_(seed) {
    pool.addGate(gate_, "node");
  }
  ~Node() {
    EXPECT_EQ(made_on_, std::this_thread::get_id());
    alive_ = nullptr;  // so that using it is seen also where no sanitizer looks
  }

  void meet(std::vector<Node*> all) { all_ = std::move(all); }
  // One piece of work after another, until nobody is let in any more. Each is posted while the one before is inside: so
  // it runs before what comes when all have left.
  void work() {
    gate_.with([this] { return send(3).ensure([this] { worker_.post([this] { work(); }); }); })
        .then([](Try<void>&& done) {
          EXPECT_TRUE(done.hasValue() || absl::IsFailedPrecondition(done.status())) << done.status();
        })
        .detach();
  }

private:
  // To another one, and so on; done when the last has answered.
  Future<void> send(int steps) {
    Node& to = *all_[random_() % all_.size()];
    return call(to.worker_, [&to, steps] { return to.receive(steps); });
  }
  Future<void> receive(int steps) {
    EXPECT_NE(nullptr, alive_);
    return steps > 0 ? send(steps - 1) : makeReadyFuture();
  }

  const std::thread::id made_on_ = std::this_thread::get_id();
  const Node* alive_ = this;
  Dispatcher& worker_;
  Gate gate_;
  std::minstd_rand random_;
  std::vector<Node*> all_;
};

// Runs all of it once; `moment`: after how long it is drained.
void runOnce(std::minstd_rand& random) {
  DispatcherPtr home = createDispatcher({.name = "home"});
  auto pool = *WorkerPool::create({.threads = kWorkers});
  Sharded<Node> nodes;
  DrainReport report;
  const auto moment = std::chrono::microseconds(random() % 3000);
  const uint64_t node_seed = random();
  home->post([&] {
    [](WorkerPool& workers, Sharded<Node>& all, Dispatcher& here, DrainReport& came, std::chrono::microseconds wait,
       uint64_t first_seed) -> Future<void> {
      Future<void> started = all.start(workers, [&](Dispatcher& worker, std::size_t index) {
        return std::make_unique<Node>(workers, worker, first_seed + index);
      });
      co_await std::move(started);
      std::vector<Node*> pointers(kWorkers);
      for (std::size_t i = 0; i < kWorkers; ++i) {
        Future<void> found = all.call(i, [&pointer = pointers[i]](Node& node) { pointer = &node; });
        co_await std::move(found);
      }
      Future<void> met = all.callAll([&](Node& node) { node.meet(pointers); });
      co_await std::move(met);
      Future<void> working = all.callAll([](Node& node) { node.work(); });
      co_await std::move(working);
      Future<void> slept = sleepFor(here, wait);
      co_await std::move(slept);
      Future<DrainReport> drained = workers.drain(60s);
      came = co_await std::move(drained);
      here.exit();
    }(*pool, nodes, *home, report, moment, node_seed)
                                   .detach();
  });
  home->run(RunType::RunUntilExit);
  EXPECT_TRUE(report.ok()) << report.toString();
  EXPECT_TRUE(report.failures.empty()) << report.toString();
}

TEST(DrainStressTest, WorkersThatUseEachOtherAreDrainedAtAnyMoment) {
  const uint64_t first = seed();
  RecordProperty("seed", std::to_string(first));
  std::printf("NUNCIO_TEST_SEED=%llu\n", static_cast<unsigned long long>(first));
  std::minstd_rand random(static_cast<std::minstd_rand::result_type>(first));
  for (int round = 0; round < rounds() && !testing::Test::HasFailure(); ++round) {
    SCOPED_TRACE(round);
    runOnce(random);
  }
}

}  // namespace
}  // namespace nuncio::test
