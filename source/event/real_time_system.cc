#include <chrono>
#include <new>

#include "absl/status/status.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/time_system.h"
#include "source/common/errno_status.h"
#include "source/common/made_once.h"
#include "source/event/loop.h"

namespace nuncio {
namespace {

class RealTimeSystem final : public TimeSystem {
public:
  MonotonicTime monotonicTime() const override { return std::chrono::steady_clock::now(); }
  SystemTime systemTime() const override { return std::chrono::system_clock::now(); }
  absl::StatusOr<AlarmPtr> createAlarm(Dispatcher& dispatcher) override {
    auto* const loop = dynamic_cast<Loop*>(&dispatcher.loop());
    if (loop == nullptr) {
      return absl::UnimplementedError("an alarm for a dispatcher that has no loop, such as a mock");
    }
    try {
      return loop->backend().createAlarm();
    } catch (const std::bad_alloc&) {
      return noMemoryStatus("an alarm");
    }
  }
};

constinit MadeOnce<RealTimeSystem> real_time_system;

}  // namespace

TimeSystem& realTimeSystem() { return real_time_system.get(); }

}  // namespace nuncio
