#include <cstdint>
#include <memory>

#include "test/benchmark/peers/envoy_peer.h"
#include "test/benchmark/peers/nuncio_peer.h"
#include "test/benchmark/support.h"

namespace nuncio::bench {
namespace {

constexpr std::size_t kObjects = 1000000;
constexpr std::size_t kPerIteration = 100;

// 64 bytes with the pointer to the virtual functions.
template <class Base>
struct Object : Base {
  explicit Object(uint64_t* counter) : destroyed(counter) {}
  ~Object() override { ++*destroyed; }
  uint64_t* destroyed;
  uint64_t payload[6] = {};
};

// Creates objects, defers their deletion, and runs the loop that deletes them. CPU time.
template <class Loop>
void deferDelete(::benchmark::State& state) {
  using Deferred = Object<typename Loop::Deletable>;
  static_assert(sizeof(Deferred) == 64);
  const std::size_t iterations = sized(kObjects, kPerIteration) / kPerIteration;
  const ScopedCpu bound(0);
  while (state.KeepRunningBatch(static_cast<int64_t>(iterations * kPerIteration))) {
    uint64_t destroyed = 0;
    auto loop = std::make_unique<Loop>();
    const double start = cpuSeconds();
    loop->runIterations(iterations, [&] {
      for (std::size_t i = 0; i < kPerIteration; ++i) {
        loop->deferredDelete(std::make_unique<Deferred>(&destroyed));
      }
    });
    state.SetIterationTime(cpuSeconds() - start);
    loop.reset();  // the last iteration's, where the loop stopped before it deleted them
    expectCount(state, iterations * kPerIteration, destroyed);
  }
}

BENCHMARK(deferDelete<NuncioLoop>)->Name("defer_delete/nuncio")->UseManualTime();
BENCHMARK(deferDelete<EnvoyLoop>)->Name("defer_delete/envoy")->UseManualTime();

}  // namespace
}  // namespace nuncio::bench
