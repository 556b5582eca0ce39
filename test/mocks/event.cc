#include "test/mocks/event.h"

#include <utility>

namespace nuncio {

using testing::_;
using testing::NiceMock;
using testing::Return;
using testing::ReturnPointee;
using testing::ReturnRef;

MockTimer::MockTimer() {
  ON_CALL(*this, enableTimer(_)).WillByDefault([this](std::chrono::milliseconds) { enabled_ = true; });
  ON_CALL(*this, enableHRTimer(_)).WillByDefault([this](std::chrono::microseconds) { enabled_ = true; });
  ON_CALL(*this, enableTimerAt(_)).WillByDefault([this](MonotonicTime) { enabled_ = true; });
  ON_CALL(*this, disableTimer()).WillByDefault([this] { enabled_ = false; });
  ON_CALL(*this, enabled()).WillByDefault(ReturnPointee(&enabled_));
}

MockTimer::MockTimer(MockDispatcher* dispatcher) : MockTimer() {
  EXPECT_CALL(*dispatcher, createTimer(_))
      .WillOnce([this](TimerCb cb) {
        callback_ = std::move(cb);
        return TimerPtr(this);
      })
      .RetiresOnSaturation();
}

MockTimer::~MockTimer() = default;

void MockTimer::invokeCallback() {
  enabled_ = false;
  callback_();
}

MockSchedulableCallback::MockSchedulableCallback() {
  ON_CALL(*this, scheduleCurrentIteration()).WillByDefault([this] { enabled_ = true; });
  ON_CALL(*this, scheduleNextIteration()).WillByDefault([this] { enabled_ = true; });
  ON_CALL(*this, cancel()).WillByDefault([this] { enabled_ = false; });
  ON_CALL(*this, enabled()).WillByDefault(ReturnPointee(&enabled_));
}

MockSchedulableCallback::MockSchedulableCallback(MockDispatcher* dispatcher) : MockSchedulableCallback() {
  EXPECT_CALL(*dispatcher, createSchedulableCallback(_))
      .WillOnce([this](SchedulableCb cb) {
        callback_ = std::move(cb);
        return SchedulableCallbackPtr(this);
      })
      .RetiresOnSaturation();
}

MockSchedulableCallback::~MockSchedulableCallback() = default;

void MockSchedulableCallback::invokeCallback() {
  enabled_ = false;
  callback_();
}

MockFileEvent::MockFileEvent() { ON_CALL(*this, setEnabled(_)).WillByDefault(Return(true)); }

MockFileEvent::MockFileEvent(MockDispatcher* dispatcher) : MockFileEvent() {
  EXPECT_CALL(*dispatcher, createFileEvent(_, _, _, _))
      .WillOnce([this](int, FileReadyCb cb, FileTriggerType, uint32_t) -> absl::StatusOr<FileEventPtr> {
        callback_ = std::move(cb);
        return FileEventPtr(this);
      })
      .RetiresOnSaturation();
}

MockFileEvent::~MockFileEvent() = default;

void MockFileEvent::invokeCallback(uint32_t events) { callback_(events); }

MockSignalEvent::MockSignalEvent() = default;

MockSignalEvent::MockSignalEvent(MockDispatcher* dispatcher) {
  EXPECT_CALL(*dispatcher, listenForSignal(_, _))
      .WillOnce([this](int, SignalCb cb) -> absl::StatusOr<SignalEventPtr> {
        callback_ = std::move(cb);
        return SignalEventPtr(this);
      })
      .RetiresOnSaturation();
}

MockSignalEvent::~MockSignalEvent() = default;

void MockSignalEvent::invokeCallback() { callback_(); }

MockAlarm::MockAlarm() = default;
MockAlarm::~MockAlarm() = default;

MockTimeSource::MockTimeSource() = default;
MockTimeSource::~MockTimeSource() = default;

MockTimeSystem::MockTimeSystem() {
  ON_CALL(*this, createAlarm(_)).WillByDefault([](Dispatcher&) -> absl::StatusOr<AlarmPtr> {
    return std::make_unique<NiceMock<MockAlarm>>();
  });
}
MockTimeSystem::~MockTimeSystem() = default;

MockTrackedObject::MockTrackedObject() = default;
MockTrackedObject::~MockTrackedObject() = default;

MockDispatcher::MockDispatcher() {
  ON_CALL(*this, createFileEvent(_, _, _, _))
      .WillByDefault([](int, FileReadyCb, FileTriggerType, uint32_t) -> absl::StatusOr<FileEventPtr> {
        return std::make_unique<NiceMock<MockFileEvent>>();
      });
  ON_CALL(*this, createTimer(_)).WillByDefault([](TimerCb) -> TimerPtr {
    return std::make_unique<NiceMock<MockTimer>>();
  });
  ON_CALL(*this, createSchedulableCallback(_)).WillByDefault([](SchedulableCb) -> SchedulableCallbackPtr {
    return std::make_unique<NiceMock<MockSchedulableCallback>>();
  });
  ON_CALL(*this, listenForSignal(_, _)).WillByDefault([](int, SignalCb) -> absl::StatusOr<SignalEventPtr> {
    return std::make_unique<NiceMock<MockSignalEvent>>();
  });
  ON_CALL(*this, post(_)).WillByDefault([this](PostCb cb) {
    posts_.push_back(std::move(cb));
    return true;
  });
  const auto defer = [this](DeferredDeletablePtr object) { deferred_.push_back(std::move(object)); };
  ON_CALL(*this, deferredDelete(_)).WillByDefault(defer);
  ON_CALL(*this, deleteInDispatcherThread(_)).WillByDefault(defer);
  ON_CALL(*this, clearDeferredDeleteList()).WillByDefault([this] {
    const std::vector<DeferredDeletablePtr> doomed = std::exchange(deferred_, {});
  });
  ON_CALL(*this, isThreadSafe()).WillByDefault(Return(true));
  ON_CALL(*this, name()).WillByDefault(Return("mock"));
  ON_CALL(*this, timeSource()).WillByDefault(ReturnRef(time_source_));
  ON_CALL(*this, approximateMonotonicTime()).WillByDefault([this] { return time_source_.monotonicTime(); });
  ON_CALL(*this, loop()).WillByDefault(ReturnRef(*loop_));
  ON_CALL(*this, handle()).WillByDefault([] {
    DispatcherPtr gone = createDispatcher({.name = "mock"});
    return gone->handle();
  });
}

MockDispatcher::~MockDispatcher() = default;

void MockDispatcher::runPosts() {
  while (!posts_.empty() || !loop_->empty()) {
    if (!loop_->empty()) {
      loop_->runFirst();
      continue;
    }
    PostCb cb = std::move(posts_.front());
    posts_.pop_front();
    cb();
  }
}

}  // namespace nuncio
