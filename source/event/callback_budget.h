#pragma once

#include <chrono>
#include <cstdint>

namespace nuncio {

// CallbackBudget: how long an iteration may go on with one kind of work.
//
//   CallbackBudget<Loop> budget(max_time, loop);
//   while (!list.empty() && !budget.spent()) {
//     list.takeFirst().runWork();
//     budget.countCallback();
//   }
//
// A look at the clock costs as much as a short callback does. So there is one for every 8th callback only, of which the
// first starts the time: a short iteration never looks twice. Where a look shows that callbacks took less than a
// microsecond each, the next one comes 32 callbacks later, until one shows otherwise. In simulated time, which does not
// pass meanwhile, and where a run is to be the same each time, callbacks are counted instead.
//
// `Clock`, a Loop: timePasses(), and deadlineClock() in nanoseconds. Threads: the loop's.
template <class Clock>
class CallbackBudget {
public:
  CallbackBudget(std::chrono::nanoseconds limit, Clock& clock)
      : limit_(static_cast<uint64_t>(limit.count())),
        clock_(clock),
        until_look_(clock.timePasses() ? kCallbacksPerLook : kMaxCallbacksSimulated) {}

  void countCallback() {
    if (--until_look_ == 0) [[unlikely]] {
      look();
    }
  }
  bool spent() const { return spent_; }

private:
  static constexpr uint32_t kCallbacksPerLook = 8;
  static constexpr uint32_t kShortCallbacksPerLook = 32;
  static constexpr uint64_t kShort = 1'000;  // nanoseconds
  static constexpr uint32_t kMaxCallbacksSimulated = 10'000;

  [[gnu::noinline]] void look() {
    const uint32_t counted = counting_;
    until_look_ = counting_ = kCallbacksPerLook;
    if (!clock_.timePasses()) {
      spent_ = true;
      return;
    }
    const uint64_t now = clock_.deadlineClock();
    if (end_ == 0) {
      end_ = now + limit_;
    } else {
      spent_ = now >= end_;
      if (now - looked_at_ < kShort * counted) {
        until_look_ = counting_ = kShortCallbacksPerLook;
      }
    }
    looked_at_ = now;
  }

  const uint64_t limit_;  // nanoseconds
  Clock& clock_;
  uint64_t end_ = 0;  // by deadlineClock(), as looked_at_; 0: not looked yet
  uint64_t looked_at_ = 0;
  uint32_t counting_ = kCallbacksPerLook;  // from the last look to the next
  uint32_t until_look_;                    // how many of those are left
  bool spent_ = false;
};

}  // namespace nuncio
