// Random trees of coroutines, joins, deadlines, primitives and hops between two dispatchers, which are cancelled, time
// out, throw, or lose a dispatcher at random moments. The model is one rule: what an operation refers to outlives it.
// Probes in each frame, parameter and capture check that what they were made in is still there when they go, and that
// nothing that a frame started is left when the frame goes; functions of ensure() run exactly once, after what they
// were attached to; in the end nothing is left.
//
// NUNCIO_TEST_SEED sets the seed, NUNCIO_CANCELLATION_TREES the number of trees; NUNCIO_CANCELLATION_TREE grows the one
// tree of that seed again.

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/any_of.h"
#include "nuncio/future/async_mutex.h"
#include "nuncio/future/async_var.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/dropped_failure.h"
#include "nuncio/future/future.h"
#include "nuncio/future/gate.h"
#include "nuncio/future/loops.h"
#include "nuncio/future/queue.h"
#include "nuncio/future/retry.h"
#include "nuncio/future/semaphore.h"
#include "nuncio/future/submit.h"
#include "nuncio/future/time.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

using std::chrono::microseconds;

uint64_t fromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

#if defined(NUNCIO_TEST_THREAD_SANITIZER)
constexpr uint64_t kTrees = 3'000;
#elif defined(NUNCIO_TEST_ADDRESS_SANITIZER)
constexpr uint64_t kTrees = 10'000;
#else
constexpr uint64_t kTrees = 30'000;  // a quarter of a minute
#endif

constexpr int kMaxProbes = 600;
constexpr int kMaxEnsures = 300;
constexpr int kMaxPromises = 64;
constexpr int kMaxDepth = 5;

// Numbers that depend on a node's place in its tree alone, on whatever thread it grows.
class Dice {
public:
  explicit Dice(uint64_t seed) : random_(seed) {}
  unsigned roll(unsigned sides) { return static_cast<unsigned>(random_() % sides); }
  uint64_t seed() { return random_(); }

private:
  SplitMix64 random_;
};

class Tree;

// In a frame, a parameter or a capture. `parent`: the probe in the frame in which this is made; -1: none.
class Probe {
public:
  Probe(Tree& tree, int parent);
  Probe(Probe&& other) noexcept : tree_(std::exchange(other.tree_, nullptr)), parent_(other.parent_), id_(other.id_) {}
  Probe& operator=(Probe&&) = delete;
  ~Probe();
  int id() const { return id_; }
  bool alive() const;

private:
  Tree* tree_;
  int parent_;
  int id_;
};

// What is known of one tree, by whatever thread.
class Tree {
public:
  Tree(Dispatcher& first, Dispatcher& second)
      : home(first), away(second), mutex(first), units(first, 2), queue(first, 2), gate(first), variable(first, 0) {}

  Dispatcher& other(const Dispatcher& here) { return &here == &home ? away : home; }

  void fail(std::string what) {
    const std::lock_guard<std::mutex> lock(lock_);
    if (error_.empty()) {
      error_ = std::move(what);
    }
  }
  std::string error() {
    const std::lock_guard<std::mutex> lock(lock_);
    return error_;
  }

  int enter(int parent) {
    const int id = next_probe_.fetch_add(1);
    if (parent >= 0) {
      check(alive_[parent] == 1, "is made in a frame that is gone", id, parent);
      ++children_[parent];
    }
    alive_[id] = 1;
    ++living_;
    return id;
  }
  void leave(int id, int parent) {
    check(alive_[id] == 1, "is destroyed twice", id, parent);
    check(children_[id] == 0, "goes before what it started", id, parent);
    alive_[id] = 0;
    if (parent >= 0) {
      check(alive_[parent] == 1, "goes after what it refers to", id, parent);
      --children_[parent];
    }
    --living_;
  }
  bool full() const { return next_probe_ > kMaxProbes - 60; }
  int living() const { return living_; }

  int addEnsure() {
    const int id = next_ensure_.fetch_add(1);
    return id < kMaxEnsures ? id : kMaxEnsures - 1;
  }
  void runEnsure(int id) {
    if (id < kMaxEnsures - 1) {
      check(++ensures_[id] == 1, "an ensure() function runs twice", id, -1);
    }
  }
  void checkEnsures() {
    for (int i = 0; i < next_ensure_ && i < kMaxEnsures - 1; ++i) {
      check(ensures_[i] == 1, "an ensure() function has not run", i, -1);
    }
  }

  // The future of a promise that the test fulfils; not valid when there are enough.
  Future<int> waitForTest(Dispatcher& here, int parent, bool with_handler) {
    const int id = next_promise_.fetch_add(1);
    if (id >= kMaxPromises) {
      return Future<int>();
    }
    Promise<int>& promise = promises_[id];
    if (with_handler) {
      promise.onCancel([this, own = Probe(*this, parent)] { check(own.alive(), "onCancel's capture is gone", 0, 0); });
    }
    Future<int> future = promise.future(here);
    may_be_set_[id].store(true, std::memory_order_release);
    return future;
  }
  void fulfil(unsigned which, bool fail) {
    const unsigned id = which % kMaxPromises;
    if (!may_be_set_[id].load(std::memory_order_acquire)) {
      return;
    }
    if (fail) {
      promises_[id].setStatus(absl::UnavailableError("promise"));
    } else {
      promises_[id].setValue(1);
    }
  }

  bool alive(int id) const { return alive_[id] == 1; }

  void check(bool ok, const char* what, int id, int parent) {
    if (!ok) {
      fail(absl::StrCat(what, ": ", id, " of ", parent));
    }
  }

  Dispatcher& home;
  Dispatcher& away;
  std::atomic<bool> asynchronous{false};  // a part is on the other dispatcher, or an ensure() takes its time
  std::atomic<bool> ending{false};        // the dispatchers are about to go: functions may not use them
  AsyncMutex mutex;
  Semaphore units;
  Queue<int> queue;
  Gate gate;
  AsyncVar<int> variable;

private:
  std::array<std::atomic<int>, kMaxProbes> alive_{};
  std::array<std::atomic<int>, kMaxProbes> children_{};
  std::array<std::atomic<int>, kMaxEnsures> ensures_{};
  std::array<Promise<int>, kMaxPromises> promises_;
  std::array<std::atomic<bool>, kMaxPromises> may_be_set_{};
  std::atomic<int> next_probe_{0};
  std::atomic<int> next_ensure_{0};
  std::atomic<int> next_promise_{0};
  std::atomic<int> living_{0};
  std::mutex lock_;
  std::string error_;
};

Probe::Probe(Tree& tree, int parent) : tree_(&tree), parent_(parent), id_(tree.enter(parent)) {}
Probe::~Probe() {
  if (tree_ != nullptr) {
    tree_->leave(id_, parent_);
  }
}
bool Probe::alive() const { return tree_ != nullptr && tree_->alive(id_); }

Future<int> grow(Dispatcher& here, Tree& tree, Probe parameter, int parent, uint64_t seed, int depth);

Future<int> child(Dispatcher& here, Tree& tree, int parent, Dice& dice, int depth) {
  return grow(here, tree, Probe(tree, parent), parent, dice.seed(), depth + 1);
}

std::vector<Future<int>> children(Dispatcher& here, Tree& tree, int parent, Dice& dice, int depth) {
  std::vector<Future<int>> futures;
  for (unsigned left = 1 + dice.roll(3); left > 0; --left) {
    futures.push_back(child(here, tree, parent, dice, depth));
  }
  return futures;
}

// A child behind continuations.
Future<int> chained(Dispatcher& here, Tree& tree, int parent, Dice& dice, int depth) {
  Future<int> future = child(here, tree, parent, dice, depth);
  const int first = tree.addEnsure();
  const int second = tree.addEnsure();
  const bool takes_time = dice.roll(3) == 0;
  if (takes_time) {
    tree.asynchronous = true;
  }
  return std::move(future)
      .then([probe = Probe(tree, parent)](int value) { return value + 1; })
      .ensure([&tree, first, probe = Probe(tree, parent)] { tree.runEnsure(first); })
      .ensure([&tree, &here, second, takes_time, probe = Probe(tree, parent)]() -> Future<void> {
        tree.runEnsure(second);
        return takes_time && !tree.ending ? sleepFor(here, microseconds(100)) : makeReadyFuture();
      });
}

Future<int> leaf(Dispatcher& here, Tree& tree, int parent, Dice& dice) {
  const Probe probe(tree, parent);
  switch (dice.roll(&here == &tree.home ? 10 : 4)) {
    case 0:
      co_await microseconds(dice.roll(400));
      co_return 1;
    case 1:
      for (unsigned left = dice.roll(5); left > 0; --left) {
        co_await yield();
      }
      co_return 1;
    case 2:
      throw std::runtime_error("leaf");
    case 3: {
      Future<int> future = tree.waitForTest(here, probe.id(), dice.roll(2) == 0);
      const int value = co_await std::move(future);
      co_return value;
    }
    case 4: {
      Future<int> future = tree.queue.pop();
      const int value = co_await std::move(future);
      co_return value;
    }
    case 5: {
      Future<void> future = tree.queue.push(1);
      co_await std::move(future);
      co_return 1;
    }
    case 6: {
      Future<Semaphore::Units> future = tree.units.acquire(1 + dice.roll(2));
      const Semaphore::Units units = co_await std::move(future);
      co_await microseconds(50);
      co_return 1;
    }
    case 7: {
      Future<void> future = tree.variable.onChange();
      co_await std::move(future);
      co_return 1;
    }
    case 8:
      tree.variable.set(tree.variable.get() + 1);
      co_return 1;
    default: {
      Future<void> future = sleepFor(here, std::chrono::hours(1));
      co_await std::move(future);
      co_return 1;
    }
  }
}

// Releases what it holds only when nothing that was started under it is left.
struct Holding {
  Holding(Tree& tree, AsyncMutex::Guard locked) : guard(std::move(locked)), probe(tree, -1) {}
  AsyncMutex::Guard guard;
  Probe probe;
};

Future<int> grow(Dispatcher& here, Tree& tree, Probe /*parameter*/, int parent, uint64_t seed, int depth) {
  const Probe frame(tree, parent);
  const int me = frame.id();
  Dice dice(seed);
  if (depth >= kMaxDepth || tree.full()) {
    Future<int> future = leaf(here, tree, me, dice);
    const int value = co_await std::move(future);
    co_return value;
  }
  switch (dice.roll(&here == &tree.home ? 21 : 18)) {
    case 0: {
      Future<int> future = leaf(here, tree, me, dice);
      const int value = co_await std::move(future);
      co_return value;
    }
    case 1: {
      Future<int> future = child(here, tree, me, dice, depth);
      const int value = co_await std::move(future);
      co_return value;
    }
    case 2: {
      Future<int> future = within(child(here, tree, me, dice, depth), microseconds(dice.roll(300)));
      auto wrapped = asTry(std::move(future));
      const Try<int> result = co_await std::move(wrapped);
      co_return result.hasValue() ? *result : 2;
    }
    case 3: {
      Future<int> future = delayed(child(here, tree, me, dice, depth), microseconds(dice.roll(300)));
      const int value = co_await std::move(future);
      co_return value;
    }
    case 4: {
      Future<std::vector<int>> future = collect(children(here, tree, me, dice, depth));
      const std::vector<int> values = co_await std::move(future);
      co_return static_cast<int>(values.size());
    }
    case 5: {
      Future<std::vector<Try<int>>> future = collectAll(children(here, tree, me, dice, depth));
      const std::vector<Try<int>> values = co_await std::move(future);
      co_return static_cast<int>(values.size());
    }
    case 6: {
      auto future = collectAny(children(here, tree, me, dice, depth));
      const std::pair<std::size_t, Try<int>> first = co_await std::move(future);
      co_return static_cast<int>(first.first);
    }
    case 7: {
      auto future = anyOf(child(here, tree, me, dice, depth), sleepFor(here, microseconds(dice.roll(300))));
      const auto first = co_await std::move(future);
      co_return static_cast<int>(first.index());
    }
    case 8: {
      auto lambda = [&here, &tree, me, child_seed = dice.seed(), depth, probe = Probe(tree, me)]() -> Future<int> {
        Future<int> inner = grow(here, tree, Probe(tree, probe.id()), probe.id(), child_seed, depth + 1);
        const int value = co_await std::move(inner);
        co_return value + me * 0;
      };
      Future<int> future = keepAlive(std::move(lambda));
      const int value = co_await std::move(future);
      co_return value;
    }
    case 9: {
      std::vector<uint64_t> seeds = {dice.seed(), dice.seed(), dice.seed()};
      Future<void> future = forEach(
          here, std::move(seeds), 1 + dice.roll(3),
          [&here, &tree, depth, probe = Probe(tree, me)](uint64_t child_seed) {
            return grow(here, tree, Probe(tree, probe.id()), probe.id(), child_seed, depth + 1).then([](int) {});
          });
      co_await std::move(future);
      co_return 1;
    }
    case 10: {
      const RetryPolicy policy{.max_attempts = 2, .initial_backoff = microseconds(50), .jitter = 0};
      Future<int> future =
          retrying(here, policy, [&here, &tree, child_seed = dice.seed(), depth, probe = Probe(tree, me)] {
            return grow(here, tree, Probe(tree, probe.id()), probe.id(), child_seed, depth + 1);
          });
      const int value = co_await std::move(future);
      co_return value;
    }
    case 11: {
      Future<int> future = chained(here, tree, me, dice, depth);
      const int value = co_await std::move(future);
      co_return value;
    }
    case 12: {
      tree.asynchronous = true;
      Dispatcher& there = tree.other(here);
      Future<int> future = submit(there, [&there, &tree, child_seed = dice.seed(), depth, me, probe = Probe(tree, me)] {
                             return grow(there, tree, Probe(tree, me), me, child_seed, depth + 1);
                           }).via(here);
      const int value = co_await std::move(future);
      co_return value;
    }
    case 13: {
      tree.asynchronous = true;
      Dispatcher& there = tree.other(here);
      co_await resumeOn(there);
      Future<int> future = child(there, tree, me, dice, depth);
      auto wrapped = asTry(std::move(future));
      const Try<int> result = co_await std::move(wrapped);
      co_await resumeOn(here);
      Future<int> second = child(here, tree, me, dice, depth);
      const int value = co_await std::move(second);
      co_return value + (result.hasValue() ? *result : 0);
    }
    case 14: {
      Promise<int> promise;
      Future<int> future = promise.future(here);
      child(here, tree, me, dice, depth).forwardTo(std::move(promise));
      const int value = co_await std::move(future);
      co_return value;
    }
    case 15: {
      Future<int> future = child(here, tree, me, dice, depth).semi().via(here);
      const int value = co_await std::move(future);
      co_return value;
    }
    case 16: {
      Future<int> future = doUntil(
          here,
          [&here, &tree, depth, seed = dice.seed(), probe = Probe(tree, me)] {
            return grow(here, tree, Probe(tree, probe.id()), probe.id(), seed, depth + 1);
          },
          [](int) { return true; });
      const int value = co_await std::move(future);
      co_return value;
    }
    case 17: {
      auto future = collectN(children(here, tree, me, dice, depth), 1);
      auto wrapped = asTry(std::move(future));
      const auto result = co_await std::move(wrapped);
      co_return result.hasValue() ? 1 : 0;
    }
    case 18: {
      Future<AsyncMutex::Guard> future = within(tree.mutex.lock(), microseconds(200));
      const Holding holding(tree, co_await std::move(future));
      Future<int> step = child(here, tree, holding.probe.id(), dice, depth);
      const int value = co_await std::move(step);
      co_return value;
    }
    case 19: {
      Future<int> future = tree.gate.with([&] { return child(here, tree, me, dice, depth); });
      const int value = co_await std::move(future);
      co_return value;
    }
    default: {
      auto future = anyOf(tree.queue.pop(), child(here, tree, me, dice, depth));
      const auto first = co_await std::move(future);
      co_return static_cast<int>(first.index());
    }
  }
}

class CancellationTreeTest : public testing::Test {
protected:
  CancellationTreeTest()
      : seed_(fromEnvironment("NUNCIO_TEST_SEED", std::random_device()())),
        trees_(fromEnvironment("NUNCIO_CANCELLATION_TREES", kTrees)) {
    std::cout << "NUNCIO_TEST_SEED=" << seed_ << ", " << trees_ << " trees\n";
    setDroppedFailureHandler([](const absl::Status&, const std::source_location&) {});
  }
  ~CancellationTreeTest() override { setDroppedFailureHandler(nullptr); }

  const uint64_t seed_;
  const uint64_t trees_;
};

// Both dispatchers are this thread's, on simulated time: the same each time.
void growOnOneThread(uint64_t seed) {
  Dice dice(seed);
  SimulatedTimeSystem time;
  DispatcherPtr home = createDispatcher({.name = "home", .time_system = &time});
  DispatcherPtr away = createDispatcher({.name = "away", .time_system = &time});
  home->run(RunType::NonBlock);
  away->run(RunType::NonBlock);
  auto tree = std::make_unique<Tree>(*home, *away);
  Future<int> root = grow(*home, *tree, Probe(*tree, -1), -1, dice.seed(), 0);
  bool home_is_over = false;
  for (unsigned left = dice.roll(12); left > 0; --left) {
    switch (dice.roll(6)) {
      case 0:
      case 1:
        time.advanceTimeAndRun(microseconds(dice.roll(200)));
        break;
      case 2:
        home->run(RunType::NonBlock);
        break;
      case 3:
        away->run(RunType::NonBlock);
        break;
      default:
        tree->fulfil(dice.roll(64), dice.roll(4) == 0);
    }
  }
  switch (dice.roll(5)) {
    case 0: {  // an owner that cancels: when it is all on this dispatcher, it is over when cancel() returns
      const bool at_once = !tree->asynchronous;
      root.cancel();
      if (at_once) {
        tree->check(tree->living() == 0, "something is left after cancel()", tree->living(), 0);
      }
      break;
    }
    case 1:
      home->shutdown();
      home_is_over = true;
      break;
    case 2:
      away->shutdown();
      root.cancel();
      break;
    case 3:
      root = within(std::move(root), microseconds(dice.roll(200)));
      time.advanceTimeAndRun(microseconds(200));
      break;
    default:
      break;
  }
  for (unsigned left = dice.roll(20); left > 0 && !home_is_over; --left) {
    time.advanceTimeAndRun(microseconds(50));
    tree->fulfil(dice.roll(64), false);
  }
  std::move(root).detach();
  tree->ending = true;
  if (dice.roll(2) == 0) {
    home.reset();
    away.reset();
  } else {
    away.reset();
    home.reset();
  }
  tree->check(tree->living() == 0, "something is left in the end", tree->living(), 0);
  tree->checkEnsures();
  EXPECT_EQ(tree->error(), "") << "seed of this tree: " << seed;
}

TEST_F(CancellationTreeTest, WhatAnOperationRefersToOutlivesItOnOneThread) {
  if (const uint64_t tree = fromEnvironment("NUNCIO_CANCELLATION_TREE", 0); tree != 0) {
    growOnOneThread(tree);
    return;
  }
  std::mt19937_64 random(seed_);
  for (uint64_t i = 0; i < trees_ && !HasFailure(); ++i) {
    growOnOneThread(random());
  }
}

// The other dispatcher runs on a thread of its own.
void growOnTwoThreads(uint64_t seed) {
  Dice dice(seed);
  DispatcherPtr home = createDispatcher({.name = "home"});
  DispatcherPtr away = createDispatcher({.name = "away"});
  home->run(RunType::NonBlock);
  auto tree = std::make_unique<Tree>(*home, *away);
  auto thread = std::make_unique<DispatcherThread>(*away);
  Future<int> root = grow(*home, *tree, Probe(*tree, -1), -1, dice.seed(), 0);
  const unsigned turns = dice.roll(30);
  for (unsigned left = turns; left > 0; --left) {
    home->run(RunType::NonBlock);
    tree->fulfil(dice.roll(64), dice.roll(4) == 0);
  }
  switch (dice.roll(4)) {
    case 0:
      root.cancel();
      break;
    case 1:
      home->shutdown();
      break;
    case 2: {  // by another thread, at any moment
      std::thread canceller([future = std::move(root)]() mutable {
        future.cancel();
        std::move(future).detach();
      });
      for (unsigned left = dice.roll(10); left > 0; --left) {
        home->run(RunType::NonBlock);
      }
      canceller.join();
      break;
    }
    default:
      root = within(std::move(root), microseconds(dice.roll(100)));
  }
  for (unsigned left = dice.roll(20); left > 0; --left) {
    home->run(RunType::NonBlock);
  }
  std::move(root).detach();
  tree->ending = true;
  if (dice.roll(2) == 0) {
    home->shutdown();
    thread.reset();
    away->shutdown();
  } else {
    thread.reset();
    away->shutdown();
    home->shutdown();
  }
  tree->check(tree->living() == 0, "something is left in the end", tree->living(), 0);
  tree->checkEnsures();
  EXPECT_EQ(tree->error(), "") << "seed of this tree: " << seed;
}

TEST_F(CancellationTreeTest, WhatAnOperationRefersToOutlivesItOnTwoThreads) {
  std::mt19937_64 random(seed_ + 1);
  for (uint64_t i = 0; i < trees_ / 10 && !HasFailure(); ++i) {
    growOnTwoThreads(random());
  }
}

}  // namespace
}  // namespace nuncio::test
