#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <event2/thread.h>

#include "test/benchmark/peers/echo.h"
#include "test/benchmark/support.h"

// The peer `envoy`: plain libevent with the algorithms of Envoy's dispatcher (source/common/event/dispatcher_impl.cc,
// libevent_scheduler.cc, timer_impl.cc, file_event_impl.cc), without its statistics, watchdog and tracing, which would
// only slow it down: a mutex and a std::list of std::function, woken by event_active(); one libevent timer for each
// timer; two vectors for deferred deletion.
namespace nuncio::bench {

struct EnvoyDeletable {
  virtual ~EnvoyDeletable() = default;
};

class EnvoyLoop {
public:
  using Deletable = EnvoyDeletable;

  EnvoyLoop() : EnvoyLoop(Wake::Active) {}
  ~EnvoyLoop() {
    clearDeferredDeleteList();
    event_del(&post_event_);
    event_del(&delete_event_);
    event_base_free(base_);
  }
  EnvoyLoop(const EnvoyLoop&) = delete;
  EnvoyLoop& operator=(const EnvoyLoop&) = delete;

  void run() { event_base_loop(base_, EVLOOP_NO_EXIT_ON_EMPTY); }
  void runUntilIdle() { event_base_loop(base_, 0); }
  void stop() { event_base_loopbreak(base_); }

  // As costly to call as Envoy's, which are virtual functions of another library; so is nuncio's.
  [[gnu::noinline]] void post(std::function<void()> callback) {
    bool wake = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      wake = posts_.empty();
      posts_.push_back(std::move(callback));
    }
    if (wake) {
      schedule(&post_event_, wake_);
    }
  }

  [[gnu::noinline]] void deferredDelete(std::unique_ptr<EnvoyDeletable> object) {
    current_to_delete_->push_back(std::move(object));
    if (current_to_delete_->size() == 1) {
      schedule(&delete_event_, Wake::Active);
    }
  }

  // Calls `f` once in each of `count` iterations. A zero-delay timer, as Envoy's scheduleCallbackNextIteration: an
  // active event would run again before the poll.
  template <class F>
  void runIterations(std::size_t count, F f) {
    struct Context {
      EnvoyLoop* loop;
      std::size_t left;
      F* f;
      event timer;
    } context{this, count, &f, {}};
    evtimer_assign(
        &context.timer, base_,
        [](evutil_socket_t, short, void* argument) {
          auto& self = *static_cast<Context*>(argument);
          (*self.f)();
          if (--self.left == 0) {
            self.loop->stop();
          } else {
            schedule(&self.timer, Wake::ZeroTimer);
          }
        },
        &context);
    schedule(&context.timer, Wake::ZeroTimer);
    run();
  }

  event_base* base() { return base_; }

protected:
  enum class Wake { Active, ZeroTimer };

  explicit EnvoyLoop(Wake wake) : wake_(wake) {
    static const int threads = evthread_use_pthreads();
    require(threads == 0, "evthread_use_pthreads");
    base_ = event_base_new();
    require(base_ != nullptr, "event_base_new");
    const auto run_posts = [](evutil_socket_t, short, void* self) { static_cast<EnvoyLoop*>(self)->runPosts(); };
    evtimer_assign(&post_event_, base_, run_posts, this);
    const auto clear = [](evutil_socket_t, short, void* self) {
      static_cast<EnvoyLoop*>(self)->clearDeferredDeleteList();
    };
    evtimer_assign(&delete_event_, base_, clear, this);
  }

private:
  static void schedule(event* what, Wake how) {
    if (how == Wake::Active) {
      event_active(what, EV_TIMEOUT, 0);
    } else {
      const timeval zero{};
      event_add(what, &zero);
    }
  }

  void runPosts() {
    clearDeferredDeleteList();
    std::list<std::function<void()>> batch;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      batch = std::move(posts_);
      posts_.clear();
    }
    while (!batch.empty()) {
      batch.front()();
      batch.pop_front();
    }
  }

  void clearDeferredDeleteList() {
    auto* const to_delete = current_to_delete_;
    if (deleting_ || to_delete->empty()) {
      return;
    }
    current_to_delete_ = to_delete == &to_delete_[0] ? &to_delete_[1] : &to_delete_[0];
    deleting_ = true;
    for (auto& object : *to_delete) {  // first in, first out: clear() promises no order
      object.reset();
    }
    to_delete->clear();
    deleting_ = false;
  }

  const Wake wake_;
  event_base* base_ = nullptr;
  event post_event_{};
  event delete_event_{};
  std::mutex mutex_;
  std::list<std::function<void()>> posts_;
  std::array<std::vector<std::unique_ptr<EnvoyDeletable>>, 2> to_delete_;
  std::vector<std::unique_ptr<EnvoyDeletable>>* current_to_delete_ = to_delete_.data();
  bool deleting_ = false;
};

// The same, but another thread wakes the loop by evtimer_add() with a delay of zero, as Envoy did until 2020.
class EvtimerZeroLoop : public EnvoyLoop {
public:
  EvtimerZeroLoop() : EnvoyLoop(Wake::ZeroTimer) {}
};

class EnvoyTimers {
public:
  EnvoyTimers(EnvoyLoop& loop, std::size_t count, uint64_t* fired) : timers_(count) {
    for (auto& timer : timers_) {
      timer = std::make_unique<Timer>(loop, [fired] { ++*fired; });
    }
  }
  void arm(std::size_t index, uint64_t micros) {
    const timeval delay{static_cast<time_t>(micros / 1000000), static_cast<suseconds_t>(micros % 1000000)};
    event_add(&timers_[index]->raw_event, &delay);
  }

private:
  struct Timer {
    Timer(EnvoyLoop& loop, std::function<void()> callback) : cb(std::move(callback)) {
      evtimer_assign(
          &raw_event, loop.base(), [](evutil_socket_t, short, void* self) { static_cast<Timer*>(self)->cb(); }, this);
    }
    ~Timer() { event_del(&raw_event); }
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    event raw_event{};
    std::function<void()> cb;
  };
  std::vector<std::unique_ptr<Timer>> timers_;
};

class EnvoyFileEvent {
public:
  EnvoyFileEvent(EnvoyLoop& loop, int fd, std::function<void(uint32_t)> callback) : cb_(std::move(callback)) {
    event_assign(
        &raw_event_, loop.base(), fd, EV_READ | EV_PERSIST,
        [](evutil_socket_t, short what, void* self) {
          static_cast<EnvoyFileEvent*>(self)->cb_(static_cast<uint32_t>(what));
        },
        this);
    event_add(&raw_event_, nullptr);
  }
  ~EnvoyFileEvent() { event_del(&raw_event_); }
  EnvoyFileEvent(const EnvoyFileEvent&) = delete;
  EnvoyFileEvent& operator=(const EnvoyFileEvent&) = delete;

private:
  event raw_event_{};
  std::function<void(uint32_t)> cb_;
};

// Watches descriptors for reading, and counts.
class EnvoyFileEvents {
public:
  EnvoyFileEvents(EnvoyLoop& loop, const std::vector<int>& fds, uint64_t* ready) : events_(fds.size()) {
    for (std::size_t i = 0; i < fds.size(); ++i) {
      events_[i] = std::make_unique<EnvoyFileEvent>(loop, fds[i], [ready](uint32_t) { ++*ready; });
    }
  }

private:
  std::vector<std::unique_ptr<EnvoyFileEvent>> events_;
};

class EnvoyEcho {
public:
  EnvoyEcho(EnvoyLoop& loop, const std::vector<int>& fds) {
    for (const int fd : fds) {
      events_.push_back(std::make_unique<EnvoyFileEvent>(loop, fd, [fd](uint32_t) { echoOnce(fd); }));
    }
  }

private:
  std::vector<std::unique_ptr<EnvoyFileEvent>> events_;
};

}  // namespace nuncio::bench
