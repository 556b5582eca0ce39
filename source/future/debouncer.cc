#include "nuncio/future/debouncer.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/event/timer.h"
#include "nuncio/future/internal/wait_list.h"

namespace nuncio {
namespace {

using future_internal::checkThread;

bool valid(const Dispatcher& dispatcher, std::chrono::nanoseconds quiet, const TimerCb& f,
           const DebouncerOptions& options) {
  const std::chrono::nanoseconds max_delay = options.max_delay.value_or(std::chrono::nanoseconds(0));
  return NUNCIO_CONTRACT(quiet.count() >= 0 && max_delay.count() >= 0, dispatcher.name(), "Debouncer::Debouncer",
                         absl::StrCat("a negative duration: quiet for ", quiet.count(), " ns, at most ",
                                      max_delay.count(), " ns")) &&
         NUNCIO_CONTRACT(f != nullptr, dispatcher.name(), "Debouncer::Debouncer", "the function is null");
}

void arm(Timer& timer, std::chrono::nanoseconds delay) {
  timer.enableHRTimer(std::chrono::ceil<std::chrono::microseconds>(delay));
}

}  // namespace

class Debouncer::State {
public:
  State(Dispatcher& dispatcher, std::chrono::nanoseconds quiet, TimerCb&& f, const DebouncerOptions& options)
      : loop_(dispatcher),
        valid_(valid(dispatcher, quiet, f, options)),
        quiet_(quiet),
        options_(options),
        f_(std::move(f)),
        quiet_timer_(dispatcher.createTimer([this] { flush(); })),
        limit_timer_(dispatcher.createTimer([this] { call(); })) {}

  LoopCore& loop() const { return *loop_; }
  bool pending() const { return pending_; }

  void request() {
    if (!valid_ || loop_->closing()) {
      return;
    }
    const bool was_quiet = !quiet_timer_->enabled();
    arm(*quiet_timer_, quiet_);
    if (was_quiet && options_.leading && !calling_) {
      call();
      return;
    }
    pending_ = true;
    if (options_.max_delay.has_value() && !limit_timer_->enabled()) {
      arm(*limit_timer_, *options_.max_delay);
    }
  }
  // Things are quiet. Last for this.
  void flush() {
    if (!calling_) {
      quiet_timer_->disableTimer();
      if (pending_) {
        call();
      }
    }
  }
  void cancel() {
    quiet_timer_->disableTimer();
    limit_timer_->disableTimer();
    pending_ = false;
  }
  void removeOwner() {
    cancel();
    owned_ = false;
    if (!calling_) {
      delete this;
    }
  }

private:
  // While the function runs.
  class Calling {
  public:
    explicit Calling(State& state) : state_(state) { state_.calling_ = true; }
    Calling(const Calling&) = delete;
    Calling& operator=(const Calling&) = delete;
    ~Calling() {
      state_.calling_ = false;
      if (!state_.owned_) {
        delete &state_;
      }
    }

  private:
    State& state_;
  };

  // Answers what was requested until now. Last for this.
  void call() {
    limit_timer_->disableTimer();
    pending_ = false;
    const Calling calling(*this);
    f_();
  }

  const LoopRef loop_;
  const bool valid_;
  const std::chrono::nanoseconds quiet_;
  const DebouncerOptions options_;
  bool owned_ = true;
  bool calling_ = false;
  bool pending_ = false;
  TimerCb f_;
  const TimerPtr quiet_timer_;  // armed while things are not quiet
  const TimerPtr limit_timer_;  // armed while a call is due, where there is a limit
};

Debouncer::Debouncer(Dispatcher& dispatcher, std::chrono::nanoseconds quiet, TimerCb f, DebouncerOptions options)
    : state_(new State(dispatcher, quiet, std::move(f), options)) {}

Debouncer::~Debouncer() {
  checkThread(state_->loop(), "Debouncer::~Debouncer");
  state_->removeOwner();
}

void Debouncer::request() {
  checkThread(state_->loop(), "Debouncer::request");
  state_->request();
}

void Debouncer::flush() {
  checkThread(state_->loop(), "Debouncer::flush");
  state_->flush();
}

void Debouncer::cancel() {
  checkThread(state_->loop(), "Debouncer::cancel");
  state_->cancel();
}

bool Debouncer::pending() const { return state_->pending(); }

}  // namespace nuncio
