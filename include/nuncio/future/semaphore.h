#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <utility>

#include "nuncio/future/future.h"

namespace nuncio {

// Semaphore: lets so many units of something be in use at once; who wants more waits.
//
//   Semaphore connections(dispatcher, 100);
//   connections.acquire().then([this](Semaphore::Units units) {
//     return connect().ensure([units = std::move(units)] {}); // given back when that is done
//   });
//
// First in, first out: a large request is not overtaken by small ones that could be served at once. Cancelling an
// acquire() takes it out of the line.
//
// Threads: the dispatcher's only, the units' destructors included. Lifetime: units may outlive the semaphore. When it
// is destroyed, those who wait fail with Cancelled.
// Cost: an acquire() that need not wait allocates nothing, one that waits its future's node; all take constant time.
class Semaphore {
  class State;

public:
  // What was acquired. Gives it back when it is destroyed.
  class [[nodiscard]] Units {
  public:
    Units() = default;  // none
    Units(Units&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)), count_(std::exchange(other.count_, 0)) {}
    Units& operator=(Units&& other) noexcept {
      if (this != &other) {
        release();
        state_ = std::exchange(other.state_, nullptr);
        count_ = std::exchange(other.count_, 0);
      }
      return *this;
    }
    ~Units() { release(); }

    uint64_t count() const { return count_; }
    // Gives them back now.
    void release() noexcept {
      if (state_ != nullptr) {
        giveBack(*std::exchange(state_, nullptr), std::exchange(count_, 0));
      }
    }
    // Does not give them back: somebody else will, with Semaphore::release(). Returns how many.
    uint64_t forget() noexcept;

  private:
    friend class Semaphore;
    Units(State& state, uint64_t count) : state_(&state), count_(count) {}

    State* state_ = nullptr;
    uint64_t count_ = 0;
  };

  Semaphore(Dispatcher& dispatcher, uint64_t units) : Semaphore(dispatcher, units, "semaphore") {}
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;
  ~Semaphore();

  // `n` units, as soon as there are so many and nobody waits who came before. More than there will ever be wait, and
  // hold up those behind them, until release() adds some.
  Future<Units> acquire(uint64_t n = 1, std::source_location place = std::source_location::current());
  // Without waiting: nothing where acquire() would wait or fail.
  std::optional<Units> tryAcquire(uint64_t n = 1);

  // Adds units: those that were forgotten, or new ones. Together with those that are there or out, they must not exceed
  // the maximum of uint64_t: a broken contract, at which a release build adds none.
  void release(uint64_t n);
  // Fails those who wait, and all acquires from now on, with `status`, not OK. Units that are out may come back.
  void close(const absl::Status& status);

  uint64_t available() const;
  std::size_t waiters() const;

private:
  friend class AsyncMutex;
  friend class ReadWriteLock;
  Semaphore(Dispatcher& dispatcher, uint64_t units, const char* name);
  static void giveBack(State& state, uint64_t n) noexcept;

  State* const state_;  // shared with the units that are out
};

}  // namespace nuncio
