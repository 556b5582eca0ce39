#include <cstdint>

#include "test/benchmark/peers/asio_coroutines.h"
#include "test/benchmark/peers/kj_peer.h"
#include "test/benchmark/peers/nuncio_futures.h"
#include "test/benchmark/support.h"

namespace nuncio::bench {
namespace {

constexpr std::size_t kAwaits = 1000000;

// `start(loop, count, awaited)` starts something that waits `count` times on the loop, counts that, and stops the loop.
// CPU time.
template <class Loop, class Start>
void awaits(::benchmark::State& state, Start start) {
  const std::size_t count = sized(kAwaits);
  const ScopedCpu bound(0);
  while (state.KeepRunningBatch(static_cast<int64_t>(count))) {
    uint64_t awaited = 0;
    Loop loop;
    loop.post([&] { start(loop, count, &awaited); });
    const double before = cpuSeconds();
    loop.run();
    state.SetIterationTime(cpuSeconds() - before);
    expectCount(state, count, awaited);
  }
}

void nuncioYields(::benchmark::State& state) {
  awaits<NuncioLoop>(state, [](auto&&... arguments) { awaitYields(arguments...).detach(); });
}
void nuncioPromises(::benchmark::State& state) {
  awaits<NuncioLoop>(state, [](auto&&... arguments) { awaitPromises(arguments...).detach(); });
}
void nuncioPostedPromises(::benchmark::State& state) {
  awaits<NuncioLoop>(state, [](auto&&... arguments) { awaitPostedPromises(arguments...).detach(); });
}
void asioYields(::benchmark::State& state) {
  awaits<AsioLoop>(state, [](AsioLoop& loop, std::size_t count, uint64_t* awaited) {
    asio::co_spawn(loop.context(), awaitYields(loop, count, awaited), asio::detached);
  });
}
void asioPostedPromises(::benchmark::State& state) {
  awaits<AsioLoop>(state, [](AsioLoop& loop, std::size_t count, uint64_t* awaited) {
    asio::co_spawn(loop.context(), awaitPostedPromises(loop, count, awaited), asio::detached);
  });
}
void kjYields(::benchmark::State& state) {
  awaits<KjLoop>(state, [](KjLoop& loop, std::size_t count, uint64_t* awaited) {
    auto waits = kj::heap<KjAwaits>(loop, count, awaited);
    kj::Promise<void> done = waits->yields();
    done.attach(kj::mv(waits)).detach(KjLoop::fail);
  });
}
void kjPromises(::benchmark::State& state) {
  awaits<KjLoop>(state, [](KjLoop& loop, std::size_t count, uint64_t* awaited) {
    auto waits = kj::heap<KjAwaits>(loop, count, awaited);
    kj::Promise<void> done = waits->promises();
    done.attach(kj::mv(waits)).detach(KjLoop::fail);
  });
}

BENCHMARK(nuncioYields)->Name("coro_yield/nuncio")->UseManualTime();
BENCHMARK(asioYields)->Name("coro_yield/asio")->UseManualTime();
BENCHMARK(kjYields)->Name("coro_yield/kj")->UseManualTime();

BENCHMARK(nuncioPromises)->Name("coro_promise/nuncio")->UseManualTime();
BENCHMARK(kjPromises)->Name("coro_promise/kj")->UseManualTime();

BENCHMARK(nuncioPostedPromises)->Name("coro_promise_post/nuncio")->UseManualTime();
BENCHMARK(asioPostedPromises)->Name("coro_promise_post/asio")->UseManualTime();

}  // namespace
}  // namespace nuncio::bench
