#include "source/event/loop.h"

#include <pthread.h>

#include "nuncio/common/logging.h"
#include "source/event/timer_impl.h"

namespace nuncio {
namespace {

std::atomic<uint32_t> fork_generation{0};  // relaxed: it changes only in a child that has one thread

}  // namespace

uint32_t Loop::currentForkGeneration() { return fork_generation.load(std::memory_order_relaxed); }

Loop::Loop(std::shared_ptr<PostQueue> post_queue, TimeSystem& time_system, EventBasePtr base,
           bool terminate_on_exception)
    : posts(std::move(post_queue)),
      timer_memory(sizeof(TimerImpl)),
      time_system_(time_system),
      terminate_on_exception_(terminate_on_exception),
      real_time_(&time_system == &realTimeSystem()),
      base_(std::move(base)),
      fork_generation_(currentForkGeneration()) {
  [[maybe_unused]] static const int registered =
      pthread_atfork(nullptr, nullptr, [] { fork_generation.fetch_add(1, std::memory_order_relaxed); });
}

void Loop::callbackThrew(const char* kind, const char* message) {
  ++callback_exceptions;
  if (terminate_on_exception_) {
    NUNCIO_LOG(Event, critical, "dispatcher {}: {} callback threw: {}; terminating, as its options say", name(), kind,
               message);
    std::terminate();
  }
  const uint64_t now = deadlineClock();
  if (now < log_exceptions_at_) {
    ++exceptions_not_logged_;
    return;
  }
  constexpr uint64_t kOneSecond = 1'000'000'000;
  log_exceptions_at_ = now + kOneSecond;
  NUNCIO_LOG(Event, err, "dispatcher {}: {} callback threw: {}; the loop goes on ({} more since the last such line)",
             name(), kind, message, std::exchange(exceptions_not_logged_, 0));
}

void Loop::breakPoll() {
  poll_broken_off = true;
  event_base_loopbreak(base_.get());
}

bool Loop::addWatcher(int fd, bool edge) {
  const auto index = static_cast<std::size_t>(fd);
  if (index >= watchers_.size()) {
    watchers_.resize(index + 1);
  }
  uint16_t& watchers = watchers_[index];
  if (watchers >= 2 && (watchers & 1) != (edge ? 1 : 0)) {
    return false;
  }
  watchers = static_cast<uint16_t>((watchers & ~1) + 2 + (edge ? 1 : 0));
  return true;
}

void Loop::reinitAfterFork() {
  fork_generation_ = currentForkGeneration();
  if (!reinitEventBase(base_.get())) {
    NUNCIO_LOG(Event, err, "dispatcher {}: cannot watch all its descriptors in the child of a fork", name());
  }
}

}  // namespace nuncio
