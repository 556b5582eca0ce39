// A dispatcher under random work, against a model that knows what must run, in which order, and what never may.
//
// The seed is printed; NUNCIO_MODEL_SEED repeats a run, NUNCIO_MODEL_OPERATIONS sets its length.

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

uint64_t fromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// What is checked, at each step:
//   - a timer fires only while it is armed, at or after its deadline, in the order of (deadline, arming); one that is
//     armed in an iteration does not fire in it; all that were due at its start fire in it;
//   - a callback scheduled for this iteration runs in it, in order; one for the next runs in the next, in order;
//   - posts run once each, in order, and their captures are destroyed before the next runs;
//   - deferred objects are destroyed in order, and before any post that was made after they were deferred, but for
//   those
//     that another's destructor deferred;
//   - nothing runs after it was cancelled or destroyed.
class Model {
public:
  Model(uint64_t seed, uint64_t operations) : random_(seed), limit_(operations) {
    for (size_t i = 0; i < kTimers; ++i) {
      makeTimer(i);
    }
    for (size_t i = 0; i < kCallbacks; ++i) {
      makeCallback(i);
    }
  }

  void run() {
    while (operations_ < limit_ && !testing::Test::HasFailure()) {
      for (uint64_t i = below(8); i > 0; --i) {
        operate();
      }
      switch (below(8)) {
        case 0:
          time_.advanceTimeAndRun(microseconds(below(3000)));
          expectNothingOverdue();
          break;
        case 1:
          time_.advanceTimeAndRun(microseconds(1000 * below(2000)));
          expectNothingOverdue();
          break;
        default:
          time_.advanceTimeAsync(microseconds(below(4) == 0 ? below(5000) : 0));
          iterate();
      }
    }
    finish();
  }

private:
  using microseconds = std::chrono::microseconds;
  static constexpr size_t kTimers = 48;
  static constexpr size_t kCallbacks = 16;
  static constexpr size_t kMostPending = 200;  // posts and deferred objects, so that work does not breed without end

  struct TimerState {
    TimerPtr timer;
    bool armed = false;
    bool high_resolution = false;
    MonotonicTime deadline;
    uint64_t order = 0;
    uint64_t armed_in = 0;  // the iteration; 0: outside of the loop
  };
  struct CallbackState {
    SchedulableCallbackPtr callback;
    enum { kIdle, kCurrent, kNext } state = kIdle;
    uint64_t order = 0;
    uint64_t scheduled_in = 0;
  };
  struct Post {
    uint64_t id;
    uint64_t made_at;
  };
  struct Deferred {
    uint64_t id;
    uint64_t deferred_at;
    bool by_destructor;  // of another deferred object: it waits for the next round of deletions
  };

  uint64_t below(uint64_t n) { return random_() % n; }
  uint64_t iteration() const { return inside_ > 0 ? dispatcher_->stats().iterations : 0; }

  // One random call; any of them may come from a callback or a destructor.
  void operate() {
    ++operations_;
    ++clock_;
    const size_t t = below(kTimers);
    const size_t c = below(kCallbacks);
    switch (below(24)) {
      case 0:
      case 1:
      case 2:
      case 3:
      case 4:
        arm(t, false);
        break;
      case 5:
      case 6:
        arm(t, true);
        break;
      case 7:
      case 8:
        timers_[t].timer->disableTimer();
        timers_[t].armed = false;
        break;
      case 9:
        makeTimer(t);
        break;
      case 10:
      case 11:
        schedule(c, CallbackState::kCurrent);
        break;
      case 12:
      case 13:
        schedule(c, CallbackState::kNext);
        break;
      case 14:
        callbacks_[c].callback->cancel();
        callbacks_[c].state = CallbackState::kIdle;
        break;
      case 15:
        makeCallback(c);
        break;
      case 16:
      case 17:
      case 18:
        post();
        break;
      case 19:
      case 20:
        defer();
        break;
      case 21:
        if (inside_ == 0) {
          dispatcher_->clearDeferredDeleteList();
        }
        break;
      case 22:
        EXPECT_EQ(timers_[t].armed, timers_[t].timer->enabled());
        break;
      default:
        EXPECT_EQ(callbacks_[c].state != CallbackState::kIdle, callbacks_[c].callback->enabled());
    }
  }

  // What a callback or destructor does: less than one operation on average that makes more work.
  void operateInside() {
    ++inside_;
    if (operations_ < limit_) {
      for (uint64_t i = below(4) == 0 ? below(4) : 0; i > 0; --i) {
        operate();
      }
    }
    --inside_;
  }

  void makeTimer(size_t i) {
    timers_[i] = TimerState();
    timers_[i].timer = dispatcher_->createTimer([this, i] { fired(i); });
  }

  void arm(size_t i, bool high_resolution) {
    TimerState& state = timers_[i];
    const auto delay = microseconds(below(8) == 0     ? 0
                                    : below(8) == 0   ? 1000 * below(100'000)
                                    : high_resolution ? below(5000)
                                                      : 1000 * below(20));
    state.armed = true;
    state.high_resolution = high_resolution;
    state.deadline = time_.monotonicTime() + delay;
    state.order = ++clock_;
    state.armed_in = iteration();
    if (high_resolution) {
      state.timer->enableHRTimer(delay);
    } else {
      state.timer->enableTimer(std::chrono::duration_cast<std::chrono::milliseconds>(delay));
    }
  }

  // The latest time at which a timer may be: those of milliseconds share wake-ups.
  static MonotonicTime latest(const TimerState& state) {
    return state.high_resolution ? state.deadline : state.deadline + 1100us;
  }

  void fired(size_t i) {
    TimerState& state = timers_[i];
    const MonotonicTime now = time_.monotonicTime();
    ASSERT_TRUE(state.armed) << "timer " << i << " fired while it was not armed";
    ASSERT_GE(now, state.deadline) << "timer " << i << " is early";
    ASSERT_NE(dispatcher_->stats().iterations, state.armed_in) << "timer " << i << " fired where it was armed";
    for (const TimerState& other : timers_) {
      if (!other.armed || &other == &state || other.armed_in == dispatcher_->stats().iterations) {
        continue;
      }
      const bool same_kind = other.high_resolution == state.high_resolution;
      const bool before = same_kind ? std::tie(other.deadline, other.order) < std::tie(state.deadline, state.order)
                                    : latest(other) < state.deadline;
      ASSERT_FALSE(before) << "timer " << i << " overtook timer " << (&other - timers_.data());
    }
    state.armed = false;
    EXPECT_FALSE(state.timer->enabled());
    operateInside();
  }

  void expectNothingOverdue() {
    const MonotonicTime now = time_.monotonicTime();
    for (size_t i = 0; i < kTimers; ++i) {
      ASSERT_FALSE(timers_[i].armed && latest(timers_[i]) < now) << "timer " << i << " was forgotten";
    }
  }

  void makeCallback(size_t i) {
    callbacks_[i] = CallbackState();
    callbacks_[i].callback = dispatcher_->createSchedulableCallback([this, i] { called(i); });
  }

  void schedule(size_t i, decltype(CallbackState::state) when) {
    CallbackState& state = callbacks_[i];
    if (state.state == CallbackState::kIdle) {  // else the first schedule stands
      state.state = when;
      state.order = ++clock_;
      state.scheduled_in = iteration();
    }
    if (when == CallbackState::kCurrent) {
      state.callback->scheduleCurrentIteration();
    } else {
      state.callback->scheduleNextIteration();
    }
  }

  void called(size_t i) {
    CallbackState& state = callbacks_[i];
    const uint64_t now = dispatcher_->stats().iterations;
    ASSERT_NE(CallbackState::kIdle, state.state) << "callback " << i << " ran unscheduled";
    if (state.scheduled_in != 0) {
      ASSERT_EQ(state.scheduled_in + (state.state == CallbackState::kNext ? 1 : 0), now) << "callback " << i;
    }
    for (const CallbackState& other : callbacks_) {
      ASSERT_FALSE(other.state == state.state && other.order < state.order)
          << "callback " << i << " overtook callback " << (&other - callbacks_.data());
    }
    state.state = CallbackState::kIdle;
    EXPECT_FALSE(state.callback->enabled());
    operateInside();
  }

  void post() {
    if (posts_.size() >= kMostPending) {
      return;
    }
    const uint64_t id = ++clock_;
    posts_.push_back({id, id});
    auto probe = OnDestroy([this, id] {
      EXPECT_EQ(id, running_post_) << "captures were not destroyed right after the callback";
      running_post_ = 0;
      operateInside();
    });
    if (below(4) == 0) {  // too large to be kept inline
      ASSERT_TRUE(dispatcher_->post([this, id, probe = std::move(probe), padding = std::array<char, 100>()] {
        (void)padding;
        posted(id);
      }));
    } else {
      ASSERT_TRUE(dispatcher_->post([this, id, probe = std::make_unique<OnDestroy>(std::move(probe))] { posted(id); }));
    }
  }

  void posted(uint64_t id) {
    ASSERT_EQ(0u, running_post_) << "the captures of a post outlived it";
    running_post_ = id;
    ASSERT_FALSE(posts_.empty());
    ASSERT_EQ(posts_.front().id, id) << "posts ran out of order";
    for (const Deferred& deferred : deferred_) {
      ASSERT_TRUE(deferred.by_destructor || deferred.deferred_at > posts_.front().made_at)
          << "a post ran before an object that was deferred before";
    }
    posts_.pop_front();
    operateInside();
  }

  void defer() {
    if (deferred_.size() >= kMostPending) {
      return;
    }
    const uint64_t id = ++clock_;
    deferred_.push_back({id, id, destroying_});
    dispatcher_->deferredDelete(makeDeferred([this, id] {
      EXPECT_FALSE(deferred_.empty());
      EXPECT_EQ(deferred_.front().id, id) << "deferred objects were destroyed out of order";
      deferred_.pop_front();
      destroying_ = true;
      operateInside();
      destroying_ = false;
    }));
  }

  void iterate() {
    // What this iteration owes: everything that is due when it starts.
    struct Due {
      size_t timer;
      uint64_t order;
    };
    std::vector<Due> due;
    for (size_t i = 0; i < kTimers; ++i) {
      if (timers_[i].armed && latest(timers_[i]) <= time_.monotonicTime()) {
        due.push_back({i, timers_[i].order});
      }
    }
    dispatcher_->run(RunType::NonBlock);
    for (const Due& d : due) {
      ASSERT_FALSE(timers_[d.timer].armed && timers_[d.timer].order == d.order)
          << "timer " << d.timer << " did not fire in the iteration in which it was due";
    }
    for (const CallbackState& callback : callbacks_) {
      ASSERT_NE(CallbackState::kCurrent, callback.state) << "an iteration ended without a callback scheduled for it";
    }
    ASSERT_TRUE(posts_.empty()) << "an iteration ended with posts";
    ASSERT_TRUE(deferred_.empty()) << "an iteration ended with deferred objects";
  }

  void finish() {
    for (TimerState& state : timers_) {
      state.timer->disableTimer();
      state.armed = false;
    }
    dispatcher_->run(RunType::Block);
    for (const CallbackState& callback : callbacks_) {
      EXPECT_EQ(CallbackState::kIdle, callback.state);
    }
    EXPECT_TRUE(posts_.empty());
    EXPECT_TRUE(deferred_.empty());
    EXPECT_EQ(0u, running_post_);
  }

  std::mt19937_64 random_;
  const uint64_t limit_;
  uint64_t operations_ = 0;
  uint64_t clock_ = 0;       // orders all that happens
  int inside_ = 0;           // callbacks and destructors on the stack
  bool destroying_ = false;  // within the destructor of a deferred object
  uint64_t running_post_ = 0;
  std::deque<Post> posts_;
  std::deque<Deferred> deferred_;
  SimulatedTimeSystem time_;
  // No limit of time or batches: the model knows of none.
  DispatcherPtr dispatcher_ = createDispatcher({.name = "model",
                                                .time_system = &time_,
                                                .max_post_batches_per_iteration = 1'000'000,
                                                .max_callback_time_per_iteration = std::chrono::hours(1)});
  std::array<TimerState, kTimers> timers_;
  std::array<CallbackState, kCallbacks> callbacks_;
};

TEST(DispatcherModelTest, RandomWorkBehavesAsTheModelSays) {
  const uint64_t seed = fromEnvironment("NUNCIO_MODEL_SEED", std::random_device()());
  const uint64_t operations = fromEnvironment("NUNCIO_MODEL_OPERATIONS", kSanitizer ? 300'000 : 1'200'000);
  std::printf("NUNCIO_MODEL_SEED=%llu\n", static_cast<unsigned long long>(seed));
  SCOPED_TRACE("NUNCIO_MODEL_SEED=" + std::to_string(seed));
  Model(seed, operations).run();
}

TEST(DispatcherModelTest, SeedsThatAreAlwaysTried) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Model(seed, 10'000).run();
  }
}

}  // namespace
}  // namespace nuncio::test
