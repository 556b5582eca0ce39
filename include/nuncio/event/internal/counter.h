#pragma once

#include <atomic>
#include <cstdint>

namespace nuncio {

// Counter: what one thread counts, and any may read at any time. Adding costs what it does with a plain number.
class Counter {
public:
  void add(uint64_t more) {
    // Relaxed: it orders nothing. No read-modify-write: there is one writer.
    value_.store(value_.load(std::memory_order_relaxed) + more, std::memory_order_relaxed);
  }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

private:
  std::atomic<uint64_t> value_{0};
};

}  // namespace nuncio
