#pragma once

#include <chrono>
#include <cstdint>
#include <utility>
#include <vector>

#include "nuncio/event/dispatcher.h"
#include "test/benchmark/peers/echo.h"
#include "test/benchmark/support.h"

namespace nuncio::bench {

class NuncioLoop {
public:
  using Deletable = DeferredDeletable;

  explicit NuncioLoop(std::chrono::microseconds busy_poll = {})
      : dispatcher_(createDispatcher({.name = "benchmark", .busy_poll = busy_poll})) {
    require(dispatcher_ != nullptr, "createDispatcher");
  }

  void run() { dispatcher_->run(RunType::RunUntilExit); }
  void runUntilIdle() { dispatcher_->run(RunType::Block); }
  void stop() { dispatcher_->exit(); }
  template <class F>
  void post(F&& callback) {
    dispatcher_->post(std::forward<F>(callback));
  }
  void deferredDelete(DeferredDeletablePtr object) { dispatcher_->deferredDelete(std::move(object)); }

  // Calls `f` once in each of `count` iterations.
  template <class F>
  void runIterations(std::size_t count, F f) {
    SchedulableCallbackPtr next;
    const auto step = [&] {
      f();
      if (--count == 0) {
        stop();
      } else {
        next->scheduleNextIteration();
      }
    };
    next = dispatcher_->createSchedulableCallback([&step] { step(); });
    next->scheduleNextIteration();
    run();
  }

  Dispatcher& dispatcher() { return *dispatcher_; }

private:
  DispatcherPtr dispatcher_;
};

// Spins before it blocks.
class BusyPollLoop : public NuncioLoop {
public:
  BusyPollLoop() : NuncioLoop(std::chrono::microseconds(100)) {}
};

// Timers armed with enableTimer(), in whole milliseconds.
class NuncioTimers {
public:
  NuncioTimers(NuncioLoop& loop, std::size_t count, uint64_t* fired) : timers_(count) {
    for (auto& timer : timers_) {
      timer = loop.dispatcher().createTimer([fired] { ++*fired; });
    }
  }
  void arm(std::size_t index, uint64_t micros) {
    timers_[index]->enableTimer(std::chrono::milliseconds(micros / 1000));
  }

protected:
  std::vector<TimerPtr> timers_;
};

// Timers armed with enableHRTimer(), in microseconds.
class NuncioHighResolutionTimers : public NuncioTimers {
public:
  using NuncioTimers::NuncioTimers;
  void arm(std::size_t index, uint64_t micros) { timers_[index]->enableHRTimer(std::chrono::microseconds(micros)); }
};

// Watches descriptors for reading, and counts.
class NuncioFileEvents {
public:
  NuncioFileEvents(NuncioLoop& loop, const std::vector<int>& fds, uint64_t* ready) : events_(fds.size()) {
    for (std::size_t i = 0; i < fds.size(); ++i) {
      events_[i] = make(loop, fds[i], [ready](uint32_t) { ++*ready; });
    }
  }

protected:
  NuncioFileEvents() = default;

  static FileEventPtr make(NuncioLoop& loop, int fd, FileReadyCb callback) {
    auto event =
        loop.dispatcher().createFileEvent(fd, std::move(callback), FileTriggerType::Level, FileReadyType::Read);
    require(event.ok(), "createFileEvent");
    return *std::move(event);
  }

  std::vector<FileEventPtr> events_;
};

class NuncioEcho : NuncioFileEvents {
public:
  NuncioEcho(NuncioLoop& loop, const std::vector<int>& fds) {
    for (const int fd : fds) {
      events_.push_back(make(loop, fd, [fd](uint32_t) { echoOnce(fd); }));
    }
  }
};

}  // namespace nuncio::bench
