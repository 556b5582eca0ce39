#include <chrono>
#include <cstdint>
#include <future>
#include <thread>

#include "test/benchmark/peers/asio_peer.h"
#include "test/benchmark/peers/envoy_peer.h"
#include "test/benchmark/peers/epoll_limit.h"
#include "test/benchmark/peers/libuv_peer.h"
#include "test/benchmark/peers/nuncio_peer.h"
#include "test/benchmark/round_trips.h"
#include "test/benchmark/support.h"

namespace nuncio::bench {
namespace {

constexpr std::size_t kRoundTrips = 200000;
constexpr std::size_t kColdRoundTrips = 5000;
constexpr std::chrono::microseconds kPause{200};

// Two loops that post to each other; A computes for a while before it posts, or does not.
template <class Loop>
struct Players {
  Loop* a;
  Loop* b;
  RoundTrips trips;
  std::chrono::microseconds pause;
  std::promise<void> done;

  void onA() {
    if (trips.next()) {
      if (pause.count() > 0) {
        const auto end = Clock::now() + pause;
        while (Clock::now() < end) {
        }
        trips.restart();
      }
      b->post([this] { onB(); });
    } else {
      done.set_value();
    }
  }
  void onB() {
    a->post([this] { onA(); });
  }
};

// A's thread is on the first CPU, B's on the one with index `kCpuOfB`.
template <class Loop, int kCpuOfB, bool kCold = false>
void pingpong(::benchmark::State& state) {
  const std::size_t count = sized(kCold ? kColdRoundTrips : kRoundTrips);
  while (state.KeepRunningBatch(static_cast<int64_t>(count))) {
    LoopThread<Loop> a(0);
    LoopThread<Loop> b(kCpuOfB);
    Players<Loop> players{&a.loop(), &b.loop(), RoundTrips(count), kCold ? kPause : std::chrono::microseconds(0), {}};
    a.loop().post([&players] {
      players.trips.start();
      players.b->post([&players] { players.onB(); });
    });
    players.done.get_future().wait();
    for (Loop* loop : {players.a, players.b}) {
      loop->post([loop] { loop->stop(); });
    }
    a.stopped();
    b.stopped();
    a.join();
    b.join();
    players.trips.report(state, count);
  }
}

// Nothing but the system calls: each thread wakes the other and sleeps.
template <int kCpuOfB>
void pingpongLimit(::benchmark::State& state) {
  const std::size_t count = sized(kRoundTrips);
  while (state.KeepRunningBatch(static_cast<int64_t>(count))) {
    RoundTrips trips(count);
    EpollWaiter a;
    EpollWaiter b;
    std::thread thread_b([&a, &b, count] {
      const ScopedCpu bound(kCpuOfB);
      for (std::size_t i = 0; i < count; ++i) {
        b.wait();
        a.wake();
      }
    });
    std::thread thread_a([&a, &b, &trips] {
      const ScopedCpu bound(0);
      trips.start();
      do {
        b.wake();
        a.wait();
      } while (trips.next());
    });
    thread_a.join();
    thread_b.join();
    trips.report(state, count);
  }
}

BENCHMARK(pingpong<NuncioLoop, 1>)->Name("pingpong/nuncio")->UseManualTime();
BENCHMARK(pingpongLimit<1>)->Name("pingpong/limit")->UseManualTime();
BENCHMARK(pingpong<EnvoyLoop, 1>)->Name("pingpong/envoy")->UseManualTime();
BENCHMARK(pingpong<EvtimerZeroLoop, 1>)->Name("pingpong/evtimer_zero")->UseManualTime();
BENCHMARK(pingpong<AsioLoop, 1>)->Name("pingpong/asio")->UseManualTime();
BENCHMARK(pingpong<AsioNoIoLoop, 1>)->Name("pingpong/asio_no_io")->UseManualTime();
BENCHMARK(pingpong<LibuvLoop, 1>)->Name("pingpong/libuv")->UseManualTime();

BENCHMARK(pingpong<NuncioLoop, 0>)->Name("pingpong_one_core/nuncio")->UseManualTime();
BENCHMARK(pingpongLimit<0>)->Name("pingpong_one_core/limit")->UseManualTime();
BENCHMARK(pingpong<EnvoyLoop, 0>)->Name("pingpong_one_core/envoy")->UseManualTime();
BENCHMARK(pingpong<EvtimerZeroLoop, 0>)->Name("pingpong_one_core/evtimer_zero")->UseManualTime();
BENCHMARK(pingpong<AsioLoop, 0>)->Name("pingpong_one_core/asio")->UseManualTime();
BENCHMARK(pingpong<AsioNoIoLoop, 0>)->Name("pingpong_one_core/asio_no_io")->UseManualTime();
BENCHMARK(pingpong<LibuvLoop, 0>)->Name("pingpong_one_core/libuv")->UseManualTime();

// With a pause before each trip, B has gone to sleep for good.
BENCHMARK(pingpong<NuncioLoop, 1, true>)->Name("pingpong_cold/nuncio")->UseManualTime();
BENCHMARK(pingpong<EnvoyLoop, 1, true>)->Name("pingpong_cold/envoy")->UseManualTime();
BENCHMARK(pingpong<EvtimerZeroLoop, 1, true>)->Name("pingpong_cold/evtimer_zero")->UseManualTime();
BENCHMARK(pingpong<AsioLoop, 1, true>)->Name("pingpong_cold/asio")->UseManualTime();
BENCHMARK(pingpong<AsioNoIoLoop, 1, true>)->Name("pingpong_cold/asio_no_io")->UseManualTime();
BENCHMARK(pingpong<LibuvLoop, 1, true>)->Name("pingpong_cold/libuv")->UseManualTime();

// Only nuncio can spin before it blocks.
BENCHMARK(pingpong<BusyPollLoop, 1>)->Name("pingpong_busy_poll/nuncio")->UseManualTime();

}  // namespace
}  // namespace nuncio::bench
