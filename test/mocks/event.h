#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "gmock/gmock.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/internal/loop_core.h"

// GoogleMock classes for the interfaces of the event layer, for the tests of code that uses dispatchers.
//
//   NiceMock<MockDispatcher> dispatcher;
//   auto* timer = new NiceMock<MockTimer>(&dispatcher);             // what the next createTimer() gives out
//   Connection connection(dispatcher);                              // arms it
//   EXPECT_CALL(*timer, disableTimer());
//   timer->invokeCallback();                                        // time is up
//
// Where a test wants a loop that really runs, a Dispatcher on a SimulatedTimeSystem is the better choice: it is as
// deterministic, and cannot disagree with the library.
namespace nuncio {

class MockDispatcher;

// Each takes part in one expectation: the next call of the dispatcher's create function returns it, and makes it the
// caller's. The pointer stays valid for as long as the code under test keeps the handle.
class MockTimer : public Timer {
public:
  MockTimer();
  explicit MockTimer(MockDispatcher* dispatcher);
  ~MockTimer() override;

  // As the dispatcher would: disarms, and calls back.
  void invokeCallback();

  MOCK_METHOD(void, enableTimer, (std::chrono::milliseconds delay), (override));
  MOCK_METHOD(void, enableHRTimer, (std::chrono::microseconds delay), (override));
  MOCK_METHOD(void, enableTimerAt, (MonotonicTime when), (override));
  MOCK_METHOD(void, disableTimer, (), (override));
  MOCK_METHOD(bool, enabled, (), (const, override));

  bool enabled_ = false;
  TimerCb callback_;
};

class MockSchedulableCallback : public SchedulableCallback {
public:
  MockSchedulableCallback();
  explicit MockSchedulableCallback(MockDispatcher* dispatcher);
  ~MockSchedulableCallback() override;

  void invokeCallback();

  MOCK_METHOD(void, scheduleCurrentIteration, (), (override));
  MOCK_METHOD(void, scheduleNextIteration, (), (override));
  MOCK_METHOD(void, cancel, (), (override));
  MOCK_METHOD(bool, enabled, (), (const, override));

  bool enabled_ = false;
  SchedulableCb callback_;
};

class MockFileEvent : public FileEvent {
public:
  MockFileEvent();
  explicit MockFileEvent(MockDispatcher* dispatcher);
  ~MockFileEvent() override;

  void invokeCallback(uint32_t events);

  MOCK_METHOD(void, activate, (uint32_t events), (override));
  MOCK_METHOD(bool, setEnabled, (uint32_t events), (override));  // true by default

  FileReadyCb callback_;
};

class MockSignalEvent : public SignalEvent {
public:
  MockSignalEvent();
  explicit MockSignalEvent(MockDispatcher* dispatcher);
  ~MockSignalEvent() override;

  void invokeCallback();

  SignalCb callback_;
};

class MockAlarm : public Alarm {
public:
  MockAlarm();
  ~MockAlarm() override;

  MOCK_METHOD(void, set, (MonotonicTime due, MonotonicTime latest), (override));
  MOCK_METHOD(void, setRunning, (bool running), (override));
  MOCK_METHOD(bool, rang, (), (override));
};

class MockTimeSource : public TimeSource {
public:
  MockTimeSource();
  ~MockTimeSource() override;

  MOCK_METHOD(MonotonicTime, monotonicTime, (), (const, override));
  MOCK_METHOD(SystemTime, systemTime, (), (const, override));
};

class MockTimeSystem : public TimeSystem {
public:
  MockTimeSystem();
  ~MockTimeSystem() override;

  MOCK_METHOD(MonotonicTime, monotonicTime, (), (const, override));
  MOCK_METHOD(SystemTime, systemTime, (), (const, override));
  MOCK_METHOD(absl::StatusOr<AlarmPtr>, createAlarm, (Dispatcher & dispatcher), (override));
  bool passesByItself() const override { return false; }
};

class MockTrackedObject : public TrackedObject {
public:
  MockTrackedObject();
  ~MockTrackedObject() override;

  MOCK_METHOD(void, dumpState, (CrashOutput & out), (const, override));
};

// By default: posts run when the test calls runPosts(), deferred objects are destroyed by clearDeferredDeleteList(),
// created handles are NiceMocks that nobody invokes, and any thread is the right one.
class MockDispatcher : public Dispatcher {
public:
  MockDispatcher();
  ~MockDispatcher() override;

  // Runs what has been posted and the continuations of futures, and what those add.
  void runPosts();

  MOCK_METHOD(absl::StatusOr<FileEventPtr>, createFileEvent,
              (int fd, FileReadyCb cb, FileTriggerType trigger, uint32_t events), (override));
  MOCK_METHOD(TimerPtr, createTimer, (TimerCb cb), (override));
  MOCK_METHOD(SchedulableCallbackPtr, createSchedulableCallback, (SchedulableCb cb), (override));
  MOCK_METHOD(absl::StatusOr<SignalEventPtr>, listenForSignal, (int signal, SignalCb cb), (override));
  MOCK_METHOD(bool, post, (PostCb cb), (override));
  MOCK_METHOD(void, deferredDelete, (DeferredDeletablePtr object), (override));
  MOCK_METHOD(void, deleteInDispatcherThread, (DeferredDeletablePtr object), (override));
  MOCK_METHOD(void, clearDeferredDeleteList, (), (override));
  MOCK_METHOD(void, run, (RunType type), (override));
  MOCK_METHOD(void, exit, (), (override));
  MOCK_METHOD(KeepRunning, keepRunning, (), (override));
  MOCK_METHOD(void, shutdown, (), (override));
  MOCK_METHOD(bool, isThreadSafe, (), (const, override));
  MOCK_METHOD(absl::string_view, name, (), (const, override));
  MOCK_METHOD(TimeSource&, timeSource, (), (override));
  MOCK_METHOD(MonotonicTime, approximateMonotonicTime, (), (override));
  MOCK_METHOD(void, updateApproximateMonotonicTime, (), (override));
  MOCK_METHOD(bool, shouldYield, (), (override));
  MOCK_METHOD(PostHandle, handle, (), (override));  // of a dispatcher that is gone, unless a test says otherwise
  MOCK_METHOD(LoopCore&, loop, (), (override));
  MOCK_METHOD(void, pushTrackedObject, (const TrackedObject* object), (override));
  MOCK_METHOD(void, popTrackedObject, (const TrackedObject* object), (override));
  MOCK_METHOD(DispatcherStats, stats, (), (const, override));
  MOCK_METHOD(LoopFigures, figures, (), (const, override));

  testing::NiceMock<MockTimeSource> time_source_;
  std::deque<PostCb> posts_;
  std::vector<DeferredDeletablePtr> deferred_;
  const LoopCore::Detached loop_{*this};
};

}  // namespace nuncio
