#include <cstdint>

#include "test/benchmark/peers/asio_peer.h"
#include "test/benchmark/peers/envoy_peer.h"
#include "test/benchmark/peers/libuv_peer.h"
#include "test/benchmark/peers/nuncio_peer.h"
#include "test/benchmark/rss.h"
#include "test/benchmark/support.h"

namespace nuncio::bench {
namespace {

constexpr uint64_t kSecond = 1000000;  // microseconds
constexpr std::size_t kRearms = 2000000;
constexpr std::size_t kPerIteration = 1000;  // re-arms in one iteration of the loop
constexpr std::size_t kTimers = 1000000;     // timer_fire, timer_rss

uint64_t tenToSixtySeconds(uint32_t bits) { return 10 * kSecond + Random::below(bits, 50 * kSecond); }

// M armed timers; then again and again a random one is re-armed with a fresh random duration. That happens on the loop,
// as in a server, so that peers which cache the time, or leave work for the next iteration, do so here. CPU time.
template <class Loop, class Timers>
void rearm(::benchmark::State& state) {
  const std::size_t armed = sized(static_cast<std::size_t>(state.range(0)));
  const std::size_t iterations = sized(kRearms, kPerIteration) / kPerIteration;
  const ScopedCpu bound(0);
  while (state.KeepRunningBatch(static_cast<int64_t>(iterations * kPerIteration))) {
    uint64_t fired = 0;
    Random random;
    Loop loop;
    Timers timers(loop, armed, &fired);
    loop.runIterations(1, [&] {
      for (std::size_t i = 0; i < armed; ++i) {
        timers.arm(i, tenToSixtySeconds(static_cast<uint32_t>(random.next())));
      }
    });
    const double start = cpuSeconds();
    loop.runIterations(iterations, [&] {
      for (std::size_t i = 0; i < kPerIteration; ++i) {
        const uint64_t bits = random.next();
        timers.arm(Random::below(static_cast<uint32_t>(bits >> 32U), armed),
                   tenToSixtySeconds(static_cast<uint32_t>(bits)));
      }
    });
    state.SetIterationTime(cpuSeconds() - start);
    expectCount(state, 0, fired);
  }
}

// One-shot timers with random durations up to a second; the time is the CPU time, user and system, of arming them all
// in one callback and of running the loop until they have fired.
template <class Loop, class Timers>
void fire(::benchmark::State& state) {
  const std::size_t count = sized(kTimers);
  const uint64_t longest = sized(kSecond, kSecond / 100);
  const ScopedCpu bound(0);
  while (state.KeepRunningBatch(static_cast<int64_t>(count))) {
    uint64_t fired = 0;
    Random random;
    Loop loop;
    Timers timers(loop, count, &fired);
    const double start = cpuSeconds();
    loop.runIterations(1, [&] {
      for (std::size_t i = 0; i < count; ++i) {
        timers.arm(i, Random::below(static_cast<uint32_t>(random.next()), longest));
      }
    });
    loop.runUntilIdle();
    state.SetIterationTime(cpuSeconds() - start);
    expectCount(state, count, fired);
  }
}

// Resident memory of an armed timer with its callback; the time is that of creating and arming it. The user's handle
// (a pointer, for peers that hand one out) is not counted, the timer itself is, wherever it lives.
template <class Loop, class Timers>
void rss(::benchmark::State& state) {
  const std::size_t count = sized(kTimers);
  while (state.KeepRunningBatch(static_cast<int64_t>(count))) {
    uint64_t fired = 0;
    Random random;
    Loop loop;
    Timers(loop, 1, &fired).arm(0, kSecond);
    const std::size_t handles = count * sizeof(void*) * (sizeof(Timers) == sizeof(std::vector<void*>) ? 1 : 0);
    const RssGrowth growth;
    const auto start = Clock::now();
    Timers timers(loop, count, &fired);
    loop.runIterations(1, [&] {
      for (std::size_t i = 0; i < count; ++i) {
        timers.arm(i, 10 * 60 * kSecond + tenToSixtySeconds(static_cast<uint32_t>(random.next())));
      }
    });
    state.SetIterationTime(secondsSince(start));
    state.counters["bytes"] = (growth.bytes() - static_cast<double>(handles)) / static_cast<double>(count);
    expectCount(state, 0, fired);
  }
}

#define NUNCIO_TIMER_BENCHMARKS(peer, Loop, Timers)                                                                 \
  BENCHMARK(rearm<Loop, Timers>)->Name("timer_rearm/" peer)->Arg(1000)->Arg(100000)->Arg(1000000)->UseManualTime(); \
  BENCHMARK(fire<Loop, Timers>)->Name("timer_fire/" peer)->UseManualTime();                                         \
  BENCHMARK(rss<Loop, Timers>)->Name("timer_rss/" peer)->UseManualTime()

NUNCIO_TIMER_BENCHMARKS("nuncio", NuncioLoop, NuncioTimers);
NUNCIO_TIMER_BENCHMARKS("nuncio_hr", NuncioLoop, NuncioHighResolutionTimers);
NUNCIO_TIMER_BENCHMARKS("envoy", EnvoyLoop, EnvoyTimers);
NUNCIO_TIMER_BENCHMARKS("asio", AsioLoop, AsioTimers);
NUNCIO_TIMER_BENCHMARKS("libuv", LibuvLoop, LibuvTimers);

}  // namespace
}  // namespace nuncio::bench
