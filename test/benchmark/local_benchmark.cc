#include <cstdint>
#include <functional>
#include <memory>

#include "nuncio/runtime/sharded.h"
#include "nuncio/runtime/worker_pool.h"
#include "test/benchmark/support.h"

namespace nuncio::bench {
namespace {

constexpr std::size_t kReads = 10'000'000;

struct Counter {
  uint64_t count = 0;
};

// Counts in what `local()` finds, again each time. CPU time of the calling thread.
template <class Local>
double countIn(std::size_t reads, Local local) {
  const double start = cpuSeconds();
  for (std::size_t i = 0; i < reads; ++i) {
    ++local()->count;
    asm volatile("" ::: "memory");  // nothing is known of the next one
  }
  return cpuSeconds() - start;
}

// What a worker has of a Sharded, on its thread.
void nuncioLocal(::benchmark::State& state) {
  const std::size_t reads = sized(kReads);
  auto pool = WorkerPool::create({.threads = 1});
  require(pool.ok(), "WorkerPool::create");
  Sharded<Counter> counters;
  require(counters.start(**pool, [](Dispatcher&, std::size_t) { return std::make_unique<Counter>(); }).get().hasValue(),
          "Sharded::start");
  while (state.KeepRunningBatch(static_cast<int64_t>(reads))) {
    std::promise<double> done;
    (*pool)->dispatcher(0).post([&] { done.set_value(countIn(reads, [&] { return &counters.local(); })); });
    state.SetIterationTime(done.get_future().get());
  }
  require(counters.stop().get().hasValue(), "Sharded::stop");
}

// The limit: a pointer of the thread's own, as a program without a library would have it.
thread_local constinit Counter* own = nullptr;

void threadLocal(::benchmark::State& state) {
  const std::size_t reads = sized(kReads);
  Counter counter;
  own = &counter;
  while (state.KeepRunningBatch(static_cast<int64_t>(reads))) {
    state.SetIterationTime(countIn(reads, [] { return own; }));
  }
}

BENCHMARK(nuncioLocal)->Name("local/nuncio")->UseManualTime();
BENCHMARK(threadLocal)->Name("local/limit")->UseManualTime();

}  // namespace
}  // namespace nuncio::bench
