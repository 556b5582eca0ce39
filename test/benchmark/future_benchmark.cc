#include <cstdint>
#include <future>
#include <vector>

#include "test/benchmark/peers/asio_coroutines.h"
#include "test/benchmark/peers/kj_peer.h"
#include "test/benchmark/peers/nuncio_futures.h"
#include "test/benchmark/peers/std_futures.h"
#include "test/benchmark/round_trips.h"
#include "test/benchmark/support.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::bench {
namespace {

constexpr std::size_t kReadyChains = 1000000;
constexpr std::size_t kPendingChains = 300000;
constexpr std::size_t kCalls = 200000;
constexpr std::size_t kCallsOfMany = 2000000;
constexpr std::size_t kCollections = 1000;
constexpr std::size_t kCollected = 1000;
constexpr std::size_t kStdFewer = 100;  // threads are slow

// A ready future, ten thens, and its value. CPU time.
template <class Futures>
void readyThens(::benchmark::State& state) {
  const std::size_t chains = sized(kReadyChains);
  const ScopedCpu bound(0);
  while (state.KeepRunningBatch(static_cast<int64_t>(chains) * kThens)) {
    Futures futures;
    uint64_t sum = 0;
    const double start = cpuSeconds();
    for (std::size_t i = 0; i < chains; ++i) {
      sum += static_cast<uint64_t>(futures.addToReady());
    }
    state.SetIterationTime(cpuSeconds() - start);
    expectCount(state, chains * (1 + kThens), sum);
  }
}

// A promise, its future, ten thens; fulfilled, and run to completion on the loop of one thread. CPU time.
template <class Futures>
void pendingThens(::benchmark::State& state) {
  const std::size_t chains = sized(kPendingChains);
  const ScopedCpu bound(0);
  while (state.KeepRunningBatch(static_cast<int64_t>(chains) * kThens)) {
    Futures futures;
    uint64_t sum = 0;
    const double start = cpuSeconds();
    futures.addToPending(chains, [&sum](int value) { sum += static_cast<uint64_t>(value); });
    state.SetIterationTime(cpuSeconds() - start);
    expectCount(state, chains * (1 + kThens), sum);
  }
}

// A thousand pending futures, made, collected, fulfilled, and continued once. CPU time.
template <class Futures>
void collectPending(::benchmark::State& state) {
  const std::size_t rounds = sized(kCollections);
  const ScopedCpu bound(0);
  while (state.KeepRunningBatch(static_cast<int64_t>(rounds * kCollected))) {
    Futures futures;
    uint64_t values = 0;
    const double start = cpuSeconds();
    futures.collectPending(rounds, kCollected, [&values](const auto& collected) { values += collected.size(); });
    state.SetIterationTime(cpuSeconds() - start);
    expectCount(state, rounds * kCollected, values);
  }
}

// Loop A, on the first CPU, has a function run on loop B, on the second, and goes on with what it returned; one call
// at a time, both sleep in between.
template <class Loop>
void call(::benchmark::State& state) {
  const std::size_t count = sized(kCalls);
  while (state.KeepRunningBatch(static_cast<int64_t>(count))) {
    LoopThread<Loop> a(0);
    LoopThread<Loop> b(1);
    RoundTrips trips(count);
    uint64_t sum = 0;
    std::promise<void> done;
    a.loop().post([&] {
      trips.start();
      callWhile(
          a.loop(), b.loop(), [] { return 1; },
          [&trips, &sum, &done](int one) {
            sum += static_cast<uint64_t>(one);
            if (trips.next()) {
              return true;
            }
            done.set_value();
            return false;
          });
    });
    done.get_future().wait();
    for (Loop* loop : {&a.loop(), &b.loop()}) {
      loop->post([loop] { loop->stop(); });
    }
    a.stopped();
    b.stopped();
    a.join();
    b.join();
    trips.report(state, count);
    expectCount(state, count, sum);
  }
}

// The same with many calls outstanding. From the first to the last.
template <class Loop, std::size_t kOutstanding>
void callMany(::benchmark::State& state) {
  const std::size_t count = sized(kCallsOfMany);
  while (state.KeepRunningBatch(static_cast<int64_t>(count))) {
    LoopThread<Loop> a(0);
    LoopThread<Loop> b(1);
    std::size_t started = 0;
    uint64_t sum = 0;
    double seconds = 0;
    std::promise<void> done;
    Clock::time_point start;
    const auto answer = [&](int one) {
      sum += static_cast<uint64_t>(one);
      if (sum == count) {
        seconds = secondsSince(start);
        done.set_value();
      }
      const bool more = started < count;
      started += more ? 1 : 0;
      return more;
    };
    a.loop().post([&] {
      start = Clock::now();
      while (started < count && started < kOutstanding) {
        ++started;
        callWhile(a.loop(), b.loop(), [] { return 1; }, answer);
      }
    });
    done.get_future().wait();
    for (Loop* loop : {&a.loop(), &b.loop()}) {
      loop->post([loop] { loop->stop(); });
    }
    a.stopped();
    b.stopped();
    a.join();
    b.join();
    state.SetIterationTime(seconds);
    expectCount(state, count, sum);
  }
}

// A hundred outstanding calls of a thread without a loop, which waits for each answer in turn.
template <class Loop>
void callHundredFromOutside(::benchmark::State& state) {
  const std::size_t count = sized(kCallsOfMany);
  const ScopedCpu bound(0);
  while (state.KeepRunningBatch(static_cast<int64_t>(count))) {
    LoopThread<Loop> loop(1);
    const auto f = [] { return 1; };
    std::vector<decltype(callFromOutside(loop.loop(), f))> outstanding(100);
    uint64_t sum = 0;
    const auto start = Clock::now();
    for (std::size_t i = 0; i < count; ++i) {
      auto& future = outstanding[i % outstanding.size()];
      sum += future.valid() ? static_cast<uint64_t>(answerOf(std::move(future))) : 0;
      future = callFromOutside(loop.loop(), f);
    }
    for (auto& future : outstanding) {
      sum += future.valid() ? static_cast<uint64_t>(answerOf(std::move(future))) : 0;
    }
    state.SetIterationTime(secondsSince(start));
    loop.loop().post([&loop] { loop.loop().stop(); });
    loop.stopped();
    loop.join();
    expectCount(state, count, sum);
  }
}

void callStd(::benchmark::State& state) {
  const std::size_t count = sized(kCalls / kStdFewer);
  while (state.KeepRunningBatch(static_cast<int64_t>(count))) {
    RoundTrips trips(count);
    uint64_t sum = 0;
    trips.start();
    do {
      sum += static_cast<uint64_t>(std::async(std::launch::async, [] { return 1; }).get());
    } while (trips.next());
    trips.report(state, count);
    expectCount(state, count, sum);
  }
}

void callHundredStd(::benchmark::State& state) {
  const std::size_t count = sized(kCallsOfMany / kStdFewer);
  while (state.KeepRunningBatch(static_cast<int64_t>(count))) {
    std::vector<std::future<int>> outstanding(100);
    uint64_t sum = 0;
    const auto start = Clock::now();
    for (std::size_t i = 0; i < count; ++i) {
      std::future<int>& future = outstanding[i % outstanding.size()];
      sum += future.valid() ? static_cast<uint64_t>(future.get()) : 0;
      future = std::async(std::launch::async, [] { return 1; });
    }
    for (std::future<int>& future : outstanding) {
      sum += future.valid() ? static_cast<uint64_t>(future.get()) : 0;
    }
    state.SetIterationTime(secondsSince(start));
    expectCount(state, count, sum);
  }
}

BENCHMARK(readyThens<NuncioFutures>)->Name("fut_ready/nuncio")->UseManualTime();
BENCHMARK(readyThens<KjFutures>)->Name("fut_ready/kj")->UseManualTime();
BENCHMARK(readyThens<StdFutures>)->Name("fut_ready/std")->UseManualTime();

BENCHMARK(pendingThens<NuncioFutures>)->Name("fut_chain/nuncio")->UseManualTime();
BENCHMARK(pendingThens<KjFutures>)->Name("fut_chain/kj")->UseManualTime();
BENCHMARK(pendingThens<StdFutures>)->Name("fut_chain/std")->UseManualTime();

BENCHMARK(collectPending<NuncioFutures>)->Name("collect/nuncio")->UseManualTime();
BENCHMARK(collectPending<KjFutures>)->Name("collect/kj")->UseManualTime();
BENCHMARK(collectPending<StdFutures>)->Name("collect/std")->UseManualTime();

BENCHMARK(call<NuncioLoop>)->Name("fut_x/nuncio")->UseManualTime();
BENCHMARK(call<AsioLoop>)->Name("fut_x/asio")->UseManualTime();
BENCHMARK(callStd)->Name("fut_x/std")->UseManualTime();

BENCHMARK(callMany<NuncioLoop, 16>)->Name("fut_x16/nuncio")->UseManualTime();
BENCHMARK(callMany<AsioLoop, 16>)->Name("fut_x16/asio")->UseManualTime();

BENCHMARK(callMany<NuncioLoop, 100>)->Name("fut_x100/nuncio")->UseManualTime();
BENCHMARK(callMany<AsioLoop, 100>)->Name("fut_x100/asio")->UseManualTime();
BENCHMARK(callHundredStd)->Name("fut_x100/std")->UseManualTime();

BENCHMARK(callHundredFromOutside<NuncioLoop>)->Name("fut_x100_outside/nuncio")->UseManualTime();
BENCHMARK(callHundredFromOutside<AsioLoop>)->Name("fut_x100_outside/asio")->UseManualTime();

// KJ is not compiled for ThreadSanitizer, which therefore does not see its locks, and takes what they guard for races.
#ifndef NUNCIO_TEST_THREAD_SANITIZER
BENCHMARK(call<KjLoop>)->Name("fut_x/kj")->UseManualTime();
BENCHMARK(callMany<KjLoop, 16>)->Name("fut_x16/kj")->UseManualTime();
BENCHMARK(callMany<KjLoop, 100>)->Name("fut_x100/kj")->UseManualTime();
#endif

// Only nuncio can spin before it blocks.
BENCHMARK(call<BusyPollLoop>)->Name("fut_x_busy_poll/nuncio")->UseManualTime();
BENCHMARK(callMany<BusyPollLoop, 100>)->Name("fut_x100_busy_poll/nuncio")->UseManualTime();

}  // namespace
}  // namespace nuncio::bench
