#include "source/event/timer_impl.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace nuncio {
namespace {

constexpr int64_t kMaxDelayNanoseconds = int64_t{68} * 365 * 24 * 3600 * 1'000'000'000;  // 68 years

}  // namespace

TimerPtr TimerImpl::create(Loop& loop, TimerCb cb) {
  if (loop.lost()) [[unlikely]] {
    return TimerPtr(::new (::operator new(sizeof(TimerImpl))) TimerImpl(loop, std::move(cb)));  // never freed
  }
  void* const memory = loop.withEndLock([&loop] {
    loop.timer_memory.reserve(loop.timers.reserved() + 1);
    loop.timers.reserve();
    return loop.timer_memory.take();
  });
  return TimerPtr(::new (memory) TimerImpl(loop, std::move(cb)));
}

void TimerImpl::leaveLoop() {
  loop_->checkThreadOfDestructor("Timer::~Timer");
  loop_->timers.remove(*this);
  loop_->timers.unreserve();
}

void TimerImpl::enableTimer(std::chrono::milliseconds delay) {
  arm(delay.count(), 1'000'000, "ms", "Timer::enableTimer", false);
}

void TimerImpl::enableHRTimer(std::chrono::microseconds delay) {
  arm(delay.count(), 1'000, "us", "Timer::enableHRTimer", true);
}

void TimerImpl::enableTimerAt(MonotonicTime when) {
  loop_->checkThread("Timer::enableTimerAt");
  if (loop_->over()) {
    return;
  }
  const uint64_t now = loop_->deadlineClock();
  const int64_t at = when.time_since_epoch().count();
  const uint64_t delay = at < 0 || static_cast<uint64_t>(at) <= now ? 0 : static_cast<uint64_t>(at) - now;
  armAfter(std::min<uint64_t>(delay, kMaxDelayNanoseconds), now, true);
}

void TimerImpl::disableTimer() {
  loop_->checkThread("Timer::disableTimer");  // not whether it is lost: these are two plain numbers
  loop_->withEndLock([this] { loop_->timers.disarm(*this); });
}

// The sum may lie beyond what a MonotonicTime can be: such a timer never fires.
void TimerImpl::armAfter(uint64_t nanoseconds, uint64_t now, bool is_precise) {
  if (nanoseconds == 0) {
    loop_->timer_due = true;
    loop_->timer_due_at = now;
  }
  loop_->timers.arm(*this, now + nanoseconds, is_precise, now);
}

void TimerImpl::arm(int64_t delay, int64_t nanoseconds_per_unit, const char* unit, const char* operation,
                    bool is_precise) {
  loop_->checkThread(operation);
  if (!NUNCIO_CONTRACT(delay >= 0, loop_->name(), operation, absl::StrCat("negative delay of ", delay, " ", unit)) ||
      loop_->over()) {
    return;
  }
  const int64_t nanoseconds = std::min(delay, kMaxDelayNanoseconds / nanoseconds_per_unit) * nanoseconds_per_unit;
  armAfter(static_cast<uint64_t>(nanoseconds), loop_->deadlineClock(), is_precise);
}

}  // namespace nuncio
