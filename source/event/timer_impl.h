#pragma once

#include <new>

#include "nuncio/event/callback.h"
#include "nuncio/event/timer.h"
#include "source/event/loop.h"

namespace nuncio {

// What a timer needs beside its node to be armed; a base class, so that the two lie side by side in one cache line,
// which is all that pushing a timer back touches.
class TimerBase : public Timer {
protected:
  explicit TimerBase(Loop& loop) : loop_(loop.countHandle()) {}
  Loop* const loop_;
};
static_assert(sizeof(TimerBase) == 2 * sizeof(void*), "the node comes right behind the two pointers");

class TimerImpl final : public TimerBase, public TimerQueue::Node {
public:
  // Throws std::bad_alloc.
  static TimerPtr create(Loop& loop, TimerCb cb);
  ~TimerImpl() override = default;
  static void operator delete(TimerImpl* timer, std::destroying_delete_t) { Loop::destroyHandle(timer); }

  // Timer
  void enableTimer(std::chrono::milliseconds delay) override;
  void enableHRTimer(std::chrono::microseconds delay) override;
  void enableTimerAt(MonotonicTime when) override;
  void disableTimer() override;
  bool enabled() const override {
    loop_->checkThread("Timer::enabled");
    return armed();
  }

  // Called by the dispatcher, when it has disarmed the timer.
  void fire() { loop_->callOwned("timer", *this); }

private:
  friend class Loop;
  TimerImpl(Loop& loop, TimerCb cb) : TimerBase(loop), cb_(std::move(cb)) {}
  void leaveLoop();
  // Gives the memory back to the loop's pool.
  static void freeMemory(Loop& loop, TimerImpl* timer) { loop.timer_memory.give(timer); }
  void armAfter(uint64_t nanoseconds, uint64_t now, bool is_precise);
  void arm(int64_t delay, int64_t nanoseconds_per_unit, const char* unit, const char* operation, bool is_precise);

  TimerCb cb_;
};

}  // namespace nuncio
