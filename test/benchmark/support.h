#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <new>
#include <sched.h>
#include <string>
#include <thread>
#include <time.h>
#include <utility>
#include <vector>

#include "benchmark/benchmark.h"

// What every benchmark here shares: sizes, CPUs, clocks, and a thread that runs a peer's loop.
//
// A case is one Google Benchmark "iteration" for each item: `while (state.KeepRunningBatch(n))` runs n items, and the
// time that it hands to SetIterationTime is divided by n, so that the report is in time per item.
namespace nuncio::bench {

// `full`, or less where only running matters: divided by NUNCIO_BENCHMARK_DIVISOR, and by 1,000 in Bazel's smoke tests.
inline std::size_t sized(std::size_t full, std::size_t least = 1) {
  static const std::size_t divisor = [] {
    if (const char* given = std::getenv("NUNCIO_BENCHMARK_DIVISOR")) {
      return std::max<std::size_t>(std::strtoull(given, nullptr, 10), 1);
    }
    return std::size_t{std::getenv("TEST_SRCDIR") == nullptr ? 1U : 1000U};
  }();
  return std::max(full / divisor, least);
}

// For what a benchmark cannot go on without.
inline void require(bool condition, const char* what) {
  if (!condition) {
    std::perror(what);
    std::abort();
  }
}

using Clock = std::chrono::steady_clock;

inline double secondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// User and system time of this process so far. Where one thread does everything and never sleeps, it is what the wall
// clock would say if nobody else used the CPU.
inline double cpuSeconds() {
  timespec time{};
  require(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time) == 0, "clock_gettime");
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// Binds the calling thread to the `index`-th CPU that the process may use, for a scope. With one CPU that is the same.
class ScopedCpu {
public:
  explicit ScopedCpu(int index) {
    require(sched_getaffinity(0, sizeof(before_), &before_) == 0, "sched_getaffinity");
    static const cpu_set_t usable = before_;  // what the first thread had, before any was bound
    int left = index % CPU_COUNT(&usable);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (CPU_ISSET(cpu, &usable) && left-- == 0) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        require(sched_setaffinity(0, sizeof(one), &one) == 0, "sched_setaffinity");
        return;
      }
    }
  }
  ~ScopedCpu() { (void)sched_setaffinity(0, sizeof(before_), &before_); }
  ScopedCpu(const ScopedCpu&) = delete;
  ScopedCpu& operator=(const ScopedCpu&) = delete;

private:
  cpu_set_t before_{};
};

// A thread on CPU `cpu` that makes a Loop from `args`, runs it until loop().stop(), and destroys it once join() is
// called: whoever posted the stop may still be in that call. Loops are used on the thread that made them: some peers
// ask for it.
template <class Loop>
class LoopThread {
public:
  template <class... Args>
  explicit LoopThread(int cpu, Args... args) {
    std::promise<Loop*> running;
    auto loop = running.get_future();
    thread_ = std::thread([this, running = std::move(running), cpu, args...]() mutable {
      const ScopedCpu bound(cpu);
      Loop made(args...);
      made.post([&running, &made] { running.set_value(&made); });
      made.run();
      stopped_.set_value();
      joining_.get_future().wait();
    });
    loop_ = loop.get();
  }
  ~LoopThread() { join(); }
  LoopThread(const LoopThread&) = delete;
  LoopThread& operator=(const LoopThread&) = delete;

  Loop& loop() { return *loop_; }

  // Waits for a stop() that someone else asks for. Where two loops post to each other, stopped() of both comes before
  // join() of either, which destroys its loop.
  void stopped() {
    if (is_stopped_.valid()) {
      is_stopped_.get();
    }
  }
  void join() {
    stopped();
    if (thread_.joinable()) {
      joining_.set_value();
      thread_.join();
    }
  }

private:
  Loop* loop_ = nullptr;
  std::promise<void> stopped_;
  std::future<void> is_stopped_ = stopped_.get_future();
  std::promise<void> joining_;
  std::thread thread_;
};

// SplitMix64 (Steele, Lea, Flood 2014): 1 ns a number, and the same sequence for each peer.
class Random {
public:
  uint64_t next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15U);
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31U);
  }
  // Below `limit`, from 32 random bits.
  static uint64_t below(uint32_t bits, uint64_t limit) { return (bits * limit) >> 32U; }

private:
  uint64_t state_ = 42;
};

// A fixed number of objects that never move, in one piece of memory that is untouched until they are made.
template <class T>
class Array {
public:
  explicit Array(std::size_t capacity) : items_(static_cast<T*>(::operator new(capacity * sizeof(T)))) {}
  ~Array() {
    for (std::size_t i = size_; i > 0; --i) {
      items_[i - 1].~T();
    }
    ::operator delete(items_);
  }
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;

  template <class... Args>
  T& emplace(Args&&... args) {
    return *new (&items_[size_++]) T(std::forward<Args>(args)...);
  }
  T& operator[](std::size_t index) { return items_[index]; }
  T* begin() { return items_; }
  T* end() { return items_ + size_; }

private:
  T* const items_;
  std::size_t size_ = 0;
};

// Fails the case when callbacks are missing or superfluous.
inline void expectCount(::benchmark::State& state, uint64_t expected, uint64_t actual) {
  if (expected != actual) {
    state.SkipWithError(("ran " + std::to_string(actual) + " callbacks, not " + std::to_string(expected)).c_str());
  }
}

}  // namespace nuncio::bench
