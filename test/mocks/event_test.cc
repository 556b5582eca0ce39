#include "test/mocks/event.h"

#include <chrono>
#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "test/test_support/lifetime_probe.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::NiceMock;
using testing::Return;

// Code as a user writes it: closes an idle connection.
class IdleCloser {
public:
  explicit IdleCloser(Dispatcher& dispatcher)
      : dispatcher_(dispatcher),
        timer_(dispatcher.createTimer([this] { close(); })),
        flush_(dispatcher.createSchedulableCallback([this] { ++flushes_; })) {
    auto event =
        dispatcher.createFileEvent(5, [this](uint32_t) { onReady(); }, FileTriggerType::Edge, FileReadyType::Read);
    if (event.ok()) {
      event_ = *std::move(event);
    }
    timer_->enableTimer(30s);
  }
  bool watching() const { return event_ != nullptr; }
  bool closed() const { return closed_; }
  int flushes() const { return flushes_; }

private:
  void onReady() {
    timer_->enableTimer(30s);
    flush_->scheduleCurrentIteration();
  }
  void close() {
    event_->setEnabled(0);
    dispatcher_.post([this] { closed_ = true; });
  }

  Dispatcher& dispatcher_;
  TimerPtr timer_;
  SchedulableCallbackPtr flush_;
  FileEventPtr event_;
  bool closed_ = false;
  int flushes_ = 0;
};

class MockDispatcherTest : public testing::Test {
protected:
  NiceMock<MockDispatcher> dispatcher_;
};

TEST_F(MockDispatcherTest, HandlesOfTheTestAreGivenOutAndTheirCallbacksInvoked) {
  auto* timer = new NiceMock<MockTimer>(&dispatcher_);
  auto* flush = new NiceMock<MockSchedulableCallback>(&dispatcher_);
  auto* event = new NiceMock<MockFileEvent>(&dispatcher_);
  EXPECT_CALL(*timer, enableTimer(std::chrono::milliseconds(30s))).Times(2);
  IdleCloser closer(dispatcher_);
  EXPECT_TRUE(timer->enabled());
  event->invokeCallback(FileReadyType::Read);
  EXPECT_TRUE(flush->enabled());
  flush->invokeCallback();
  EXPECT_EQ(1, closer.flushes());
  EXPECT_FALSE(flush->enabled());
  EXPECT_CALL(*event, setEnabled(0));
  timer->invokeCallback();
  EXPECT_FALSE(timer->enabled());
  EXPECT_FALSE(closer.closed());
  dispatcher_.runPosts();
  EXPECT_TRUE(closer.closed());
}

TEST_F(MockDispatcherTest, TwoTimersAreGivenOutInTheReverseOrderOfTheirExpectations) {
  auto* second = new NiceMock<MockTimer>(&dispatcher_);
  auto* first = new NiceMock<MockTimer>(&dispatcher_);
  TimerPtr a = dispatcher_.createTimer([] {});
  TimerPtr b = dispatcher_.createTimer([] {});
  EXPECT_EQ(first, a.get());
  EXPECT_EQ(second, b.get());
}

TEST_F(MockDispatcherTest, ErrorsAreSimulated) {
  EXPECT_CALL(dispatcher_, createFileEvent(5, testing::_, FileTriggerType::Edge, FileReadyType::Read))
      .WillOnce([](int, FileReadyCb, FileTriggerType, uint32_t) -> absl::StatusOr<FileEventPtr> {
        return absl::ResourceExhaustedError("no more watches");
      });
  IdleCloser closer(dispatcher_);
  EXPECT_FALSE(closer.watching());
}

TEST_F(MockDispatcherTest, DefaultsAreOfUse) {
  EXPECT_NE(nullptr, dispatcher_.createTimer([] {}));
  EXPECT_NE(nullptr, dispatcher_.createSchedulableCallback([] {}));
  EXPECT_TRUE(dispatcher_.listenForSignal(1, [] {}).ok());
  EXPECT_TRUE(dispatcher_.isThreadSafe());
  EXPECT_EQ("mock", dispatcher_.name());
  EXPECT_FALSE(dispatcher_.handle().alive());
  EXPECT_FALSE(dispatcher_.handle().post([] {}));
  EXPECT_CALL(dispatcher_.time_source_, monotonicTime()).WillOnce(Return(MonotonicTime(7s)));
  EXPECT_EQ(MonotonicTime(7s), dispatcher_.approximateMonotonicTime());
  EXPECT_EQ(0u, dispatcher_.stats().iterations);
  EXPECT_EQ(0u, dispatcher_.figures().iterations);
}

TEST_F(MockDispatcherTest, SignalsAreInvoked) {
  int calls = 0;
  auto* signal = new NiceMock<MockSignalEvent>(&dispatcher_);
  auto event = dispatcher_.listenForSignal(1, [&] { ++calls; });
  ASSERT_TRUE(event.ok());
  signal->invokeCallback();
  EXPECT_EQ(1, calls);
}

TEST_F(MockDispatcherTest, DeferredObjectsAreDestroyedByClear) {
  int destroyed = 0;
  dispatcher_.deferredDelete(makeDeferred([&] { ++destroyed; }));
  EXPECT_EQ(0, destroyed);
  dispatcher_.clearDeferredDeleteList();
  EXPECT_EQ(1, destroyed);
}

TEST(MockTimeSystemTest, DispatcherTakesItsTimeFromIt) {
  NiceMock<MockTimeSystem> time;
  ON_CALL(time, monotonicTime()).WillByDefault(Return(MonotonicTime(5s)));
  DispatcherPtr dispatcher = createDispatcher({.time_system = &time});
  ASSERT_NE(nullptr, dispatcher);
  EXPECT_EQ(MonotonicTime(5s), dispatcher->approximateMonotonicTime());
}

TEST(MockTimeSystemTest, AlarmThatCannotBeMadeFailsTheCreation) {
  NiceMock<MockTimeSystem> time;
  EXPECT_CALL(time, createAlarm(testing::_)).WillOnce([](Dispatcher&) -> absl::StatusOr<AlarmPtr> {
    return absl::ResourceExhaustedError("no alarm");
  });
  EXPECT_TRUE(absl::IsResourceExhausted(tryCreateDispatcher({.time_system = &time}).status()));
}

}  // namespace
}  // namespace nuncio::test
