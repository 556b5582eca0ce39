#include "source/event/fast_clock.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "absl/strings/string_view.h"

#include "nuncio/common/file_descriptor.h"

namespace nuncio {
namespace {

// While the counter's rate is only bounded, the bound is used for 2 us; once it is measured, for about a millisecond.
constexpr uint64_t kTicksUnmeasured = uint64_t{1} << 11;
constexpr uint64_t kTicksMeasured = uint64_t{1} << 21;
constexpr uint64_t kMeasureNanoseconds = 10'000'000;
constexpr int kReadAttempts = 4;

#ifdef __x86_64__
uint64_t readCounter() { return __builtin_ia32_rdtsc(); }

// Asked once, or by each of the threads that ask first: a static variable of a function has a lock, which the child of
// a fork might find taken.
bool counterIsTrusted() {
  enum class Trusted : uint8_t { Unknown, No, Yes };
  static constinit std::atomic<Trusted> trusted{Trusted::Unknown};  // relaxed: it says nothing about other memory
  Trusted known = trusted.load(std::memory_order_relaxed);
  if (known == Trusted::Unknown) {
    // No stream of the C++ library, whose locale is made once, under a lock; nor open(), where a thread can be
    // cancelled.
    const auto fd = static_cast<int>(::syscall(SYS_openat, AT_FDCWD,
                                               "/sys/devices/system/clocksource/clocksource0/current_clocksource",
                                               O_RDONLY | O_CLOEXEC));
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
      return false;  // for now
    }
    const FileDescriptor file(fd);
    std::array<char, 8> name{};
    const auto size = ::syscall(SYS_read, file.get(), name.data(), name.size());
    known = size > 0 && absl::string_view(name.data(), static_cast<std::size_t>(size)) == "tsc\n" ? Trusted::Yes
                                                                                                  : Trusted::No;
    trusted.store(known, std::memory_order_relaxed);
  }
  return known == Trusted::Yes;
}
#else
uint64_t readCounter() { return 0; }
bool counterIsTrusted() { return false; }
#endif

}  // namespace

// Which clock it is stays as it was found at first, also where that was for want of a descriptor: times are compared.
uint64_t TickClock::now() {
  enum class Clock : uint8_t { Unknown, Counter, Steady };
  static constinit std::atomic<Clock> clock{Clock::Unknown};  // relaxed: it says nothing about other memory
  Clock known = clock.load(std::memory_order_relaxed);
  if (known == Clock::Unknown) [[unlikely]] {
    const Clock found = counterIsTrusted() ? Clock::Counter : Clock::Steady;
    known = clock.compare_exchange_strong(known, found, std::memory_order_relaxed) ? found : known;
  }
  return known == Clock::Counter ? readCounter() : steadyNanoseconds();
}

uint64_t FastClock::now() {
  const uint64_t passed = readCounter() - base_.ticks;
  if (passed < max_ticks_) {
    latest_ = std::max(latest_, base_.nanoseconds + (passed * scale_ >> 32) + 1);
  } else {
    refresh();
  }
  return latest_;
}

FastClock::Reading FastClock::read() {
  Reading reading;
  for (int attempt = 0; attempt < kReadAttempts && !reading.exact; ++attempt) {
    reading.ticks = readCounter();  // before the time, so that what passes between the two counts twice
    reading.nanoseconds = steadyNanoseconds();
    reading.exact = readCounter() - reading.ticks < kTicksUnmeasured;
  }
  return reading;
}

void FastClock::refresh() {
  if (!counterIsTrusted()) {
    latest_ = steadyNanoseconds();
    return;
  }
  base_ = read();
  latest_ = std::max(latest_, base_.nanoseconds);
  if (!first_.exact) {
    first_ = base_;
  }
  const uint64_t nanoseconds = base_.nanoseconds - first_.nanoseconds;
  const uint64_t ticks = base_.ticks - first_.ticks;
  if (max_ticks_ == kTicksMeasured) {
    return;
  }
  max_ticks_ = kTicksUnmeasured;
  if (first_.exact && base_.exact && nanoseconds >= kMeasureNanoseconds && ticks > 0) {
    // Readings are exact to 2 us in 10 ms, which is less than the thousandth that is added here.
    const double per_tick = static_cast<double>(nanoseconds) / static_cast<double>(ticks);
    scale_ = std::min(scale_, static_cast<uint64_t>(per_tick * 1.001 * 4294967296.0));
    max_ticks_ = kTicksMeasured;
  }
}

}  // namespace nuncio
