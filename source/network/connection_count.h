#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace nuncio::network {

// How many connections of a listener are there. Relaxed: it orders nothing.
using ConnectionCount = std::atomic<uint64_t>;

// What one of them holds.
class CountedIn {
public:
  CountedIn() = default;  // not counted
  explicit CountedIn(std::shared_ptr<ConnectionCount> count) : count_(std::move(count)) {
    count_->fetch_add(1, std::memory_order_relaxed);
  }
  CountedIn(CountedIn&& other) noexcept = default;
  CountedIn& operator=(CountedIn&& other) noexcept {
    std::swap(count_, other.count_);
    return *this;
  }
  ~CountedIn() {
    if (count_ != nullptr) {
      count_->fetch_sub(1, std::memory_order_relaxed);
    }
  }

private:
  std::shared_ptr<ConnectionCount> count_;  // shared by the listener and its connections, each of which may go first
};

}  // namespace nuncio::network
