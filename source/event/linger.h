#pragma once

#include <algorithm>
#include <cstdint>

#include "nuncio/event/internal/counter.h"

namespace nuncio {

// Linger: for how long a loop that has nothing to do looks for more posts before it sleeps.
//
// To be woken costs a post some microseconds and its caller some 20; so a loop that has run posts of another CPU looks
// for as long as that would take, as one rents for the price of buying and then buys (Karlin, Manasse, McGeoch and
// Owicki, "Competitive randomized algorithms for nonuniform problems", 1994). Where the last of them came from this
// CPU, looking would keep that thread from its next post: there, only a burst has it look, and only for a moment. Where
// looking was in vain four times in a row it is done every second time, then every fourth, and so on up to every 16th,
// until posts come while it looks: a loop that is posted to now and then spends next to nothing on it.
//
// All of this is the loop thread's. Times are nanoseconds of one clock.
class Linger {
public:
  // How long a look takes. It makes batches: who posts meanwhile shares one taking of the lock. Looking every 150 was
  // measured to be slower for many calls in flight, and no faster for one.
  static constexpr uint64_t kLook = 300;
  // So many posts are a burst, after which it looks for so long in any case.
  static constexpr uint64_t kBurst = 4;
  static constexpr uint64_t kBurstTime = 2 * kLook;

  // `longest`: 0: never.
  explicit Linger(uint64_t longest) : longest_(longest) {}

  // Posts of other threads have run, so many in a batch; `elsewhere`: from another CPU. Before the next sleep...
  void ranBatch(uint64_t posts, bool elsewhere) {
    if (end_ != 0) {
      hit();
    }
    counted_ = elsewhere && pays();
    time_ = counted_ ? longest_ : posts >= kBurst ? std::min(kBurstTime, longest_) : 0;
  }
  // ... is it to look for more?
  bool wanted() const { return time_ != 0; }
  // It looks. Returns until when, at most.
  uint64_t begin(uint64_t now) {
    if (end_ == 0) {
      end_ = now + time_;
      lingers_.add(counted_ ? 1 : 0);
    }
    return end_;
  }
  // Posts have come.
  void hit() {
    hits_.add(counted_ ? 1 : 0);
    vain_ = 0;
    stop();
  }
  // None have.
  void inVain() {
    vain_ += counted_ ? 1 : 0;
    stop();
  }
  void stop() { time_ = end_ = 0; }

  // Those after posts of other CPUs, and those of them in which posts came. Any thread.
  uint64_t lingers() const { return lingers_.get(); }
  uint64_t hits() const { return hits_.get(); }

private:
  static constexpr uint32_t kPatience = 4;
  static constexpr uint32_t kLongestPause = 16;

  bool pays() {
    if (longest_ == 0 || vain_ < kPatience) {
      skipped_ = 0;
      return longest_ != 0;
    }
    const uint32_t every = vain_ - kPatience < 4 ? 2U << (vain_ - kPatience) : kLongestPause;
    if (++skipped_ < every) {
      return false;
    }
    skipped_ = 0;
    return true;
  }

  const uint64_t longest_;
  uint64_t time_ = 0;  // 0: it is not to look
  uint64_t end_ = 0;   // 0: it has not begun
  bool counted_ = false;
  uint32_t vain_ = 0;     // in a row
  uint32_t skipped_ = 0;  // since the last
  Counter lingers_;
  Counter hits_;
};

}  // namespace nuncio
