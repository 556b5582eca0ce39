#include <chrono>
#include <cstdint>

#include "test/benchmark/peers/asio_peer.h"
#include "test/benchmark/peers/envoy_peer.h"
#include "test/benchmark/peers/libuv_peer.h"
#include "test/benchmark/peers/nuncio_peer.h"
#include "test/benchmark/support.h"

namespace nuncio::bench {
namespace {

constexpr std::size_t kPosts = 2000000;

// Captures one pointer.
struct Increment {
  uint64_t* count;
  void operator()() const { ++*count; }
};

// Captures 32 bytes, all of which are used.
struct Increment32 {
  explicit Increment32(uint64_t* counter) : count(counter) {}
  void operator()() const { *count += step + zeros[0] + zeros[1]; }
  uint64_t* count;
  uint64_t step = 1;
  uint64_t zeros[2] = {0, 0};
};
static_assert(sizeof(Increment) == 8 && sizeof(Increment32) == 32);

// From the first post by one thread to the last callback on another.
template <class Loop, class Callback>
void postAcross(::benchmark::State& state) {
  const std::size_t posts = sized(kPosts);
  const ScopedCpu bound(1);
  while (state.KeepRunningBatch(static_cast<int64_t>(posts))) {
    uint64_t count = 0;
    double seconds = 0;
    LoopThread<Loop> consumer(0);
    Loop& loop = consumer.loop();
    const auto start = Clock::now();
    for (std::size_t i = 0; i < posts; ++i) {
      loop.post(Callback{&count});
    }
    loop.post([&loop, &seconds, start] {
      seconds = secondsSince(start);
      loop.stop();
    });
    consumer.join();
    state.SetIterationTime(seconds);
    expectCount(state, posts, count);
  }
}

// A callback that posts itself again, through the same thread-safe call. CPU time.
template <class Loop>
struct PostItself {
  struct Shared {
    Loop* loop;
    uint64_t count;
    uint64_t last;
  };
  Shared* shared;
  void operator()() const {
    if (++shared->count < shared->last) {
      shared->loop->post(*this);
    } else {
      shared->loop->stop();
    }
  }
};

template <class Loop>
void postSelf(::benchmark::State& state) {
  const std::size_t posts = sized(kPosts);
  const ScopedCpu bound(0);
  while (state.KeepRunningBatch(static_cast<int64_t>(posts))) {
    Loop loop;
    typename PostItself<Loop>::Shared shared{&loop, 0, posts};
    loop.post(PostItself<Loop>{&shared});
    const double start = cpuSeconds();
    loop.run();
    state.SetIterationTime(cpuSeconds() - start);
    expectCount(state, posts, shared.count);
  }
}

BENCHMARK(postAcross<NuncioLoop, Increment>)->Name("post_x/nuncio")->UseManualTime();
BENCHMARK(postAcross<EnvoyLoop, Increment>)->Name("post_x/envoy")->UseManualTime();
BENCHMARK(postAcross<AsioLoop, Increment>)->Name("post_x/asio")->UseManualTime();
BENCHMARK(postAcross<AsioNoIoLoop, Increment>)->Name("post_x/asio_no_io")->UseManualTime();
BENCHMARK(postAcross<LibuvLoop, Increment>)->Name("post_x/libuv")->UseManualTime();

BENCHMARK(postAcross<NuncioLoop, Increment32>)->Name("post_x32/nuncio")->UseManualTime();
BENCHMARK(postAcross<EnvoyLoop, Increment32>)->Name("post_x32/envoy")->UseManualTime();
BENCHMARK(postAcross<AsioLoop, Increment32>)->Name("post_x32/asio")->UseManualTime();
BENCHMARK(postAcross<AsioNoIoLoop, Increment32>)->Name("post_x32/asio_no_io")->UseManualTime();
BENCHMARK(postAcross<LibuvLoop, Increment32>)->Name("post_x32/libuv")->UseManualTime();

BENCHMARK(postSelf<NuncioLoop>)->Name("post_self/nuncio")->UseManualTime();
BENCHMARK(postSelf<EnvoyLoop>)->Name("post_self/envoy")->UseManualTime();
BENCHMARK(postSelf<AsioLoop>)->Name("post_self/asio")->UseManualTime();
BENCHMARK(postSelf<AsioNoIoLoop>)->Name("post_self/asio_no_io")->UseManualTime();
BENCHMARK(postSelf<LibuvLoop>)->Name("post_self/libuv")->UseManualTime();

}  // namespace
}  // namespace nuncio::bench
