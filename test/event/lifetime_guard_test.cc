#include "nuncio/event/lifetime_guard.h"

#include <any>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

class LifetimeGuardTest : public testing::Test {
protected:
  LifetimeGuardTest() { dispatcher_->run(RunType::NonBlock); }

  auto countCalls() {
    return guard_->wrap([this] { ++calls_; });
  }

  SimulatedTimeSystem time_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "test", .time_system = &time_});
  int calls_ = 0;
  std::optional<LifetimeGuard> guard_{std::in_place};
};

TEST_F(LifetimeGuardTest, CallsWhileTheOwnerLives) {
  auto callback = countCalls();
  callback();
  callback();
  EXPECT_EQ(2, calls_);
}

TEST_F(LifetimeGuardTest, DoesNothingOnceTheOwnerIsDestroyed) {
  auto callback = countCalls();
  guard_.reset();
  callback();
  EXPECT_EQ(0, calls_);
}

TEST_F(LifetimeGuardTest, ResetEndsWhatWasWrappedBeforeAndNotWhatIsWrappedAfter) {
  auto before = countCalls();
  guard_->reset();
  auto after = countCalls();
  before();
  EXPECT_EQ(0, calls_);
  after();
  EXPECT_EQ(1, calls_);
  guard_->reset();
  after();
  EXPECT_EQ(1, calls_);
}

TEST_F(LifetimeGuardTest, CopiesAreGuarded) {
  std::function<void()> callback = countCalls();
  std::function<void()> copy = callback;
  callback = nullptr;
  copy();
  guard_.reset();
  copy();
  EXPECT_EQ(1, calls_);
}

TEST_F(LifetimeGuardTest, LambdaWithThisFitsIntoATimerCallback) {
  auto callback = countCalls();
  static_assert(sizeof(callback) == kEventCaptureBytes);
  static_assert(std::is_nothrow_move_constructible_v<decltype(callback)>);
}

TEST_F(LifetimeGuardTest, GuardsPosts) {
  dispatcher_->post(countCalls());
  dispatcher_->run(RunType::NonBlock);
  dispatcher_->post(countCalls());
  guard_.reset();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
}

TEST_F(LifetimeGuardTest, GuardsTimers) {
  TimerPtr timer = dispatcher_->createTimer(countCalls());
  timer->enableTimer(1ms);
  time_.advanceTimeAndRun(2ms);
  EXPECT_EQ(1, calls_);
  timer->enableTimer(1ms);
  guard_.reset();
  time_.advanceTimeAndRun(2ms);
  EXPECT_EQ(1, calls_);
}

TEST_F(LifetimeGuardTest, GuardsFileEventsAndPassesTheirArguments) {
  Pair pair = makeSocketPair();
  uint32_t seen = 0;
  auto event = dispatcher_->createFileEvent(pair.watched.get(), guard_->wrap([&](uint32_t events) {
    ++calls_;
    seen = events;
  }),
                                            FileTriggerType::Level, FileReadyType::Read);
  ASSERT_TRUE(event.ok());
  writeText(pair.peer.get(), "x");
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
  EXPECT_EQ(FileReadyType::Read, seen);
  guard_.reset();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
}

TEST_F(LifetimeGuardTest, PassesArgumentsThatOnlyMoveAndReferences) {
  auto take = guard_->wrap([](std::unique_ptr<int> value, int& sum) { sum += *value; });
  int sum = 1;
  take(std::make_unique<int>(2), sum);
  EXPECT_EQ(3, sum);
  guard_.reset();
  take(std::make_unique<int>(2), sum);
  EXPECT_EQ(3, sum);
}

TEST_F(LifetimeGuardTest, StatusFunctionsReturnCancelled) {
  auto status = guard_->wrap([] { return absl::InternalError("mine"); });
  auto status_or = guard_->wrap([]() -> absl::StatusOr<int> { return 1; });
  static_assert(std::is_same_v<absl::Status, decltype(status())>);
  static_assert(std::is_same_v<absl::StatusOr<int>, decltype(status_or())>);
  EXPECT_EQ(absl::StatusCode::kInternal, status().code());
  EXPECT_EQ(1, *status_or());
  guard_.reset();
  EXPECT_EQ(absl::StatusCode::kCancelled, status().code());
  EXPECT_EQ(absl::StatusCode::kCancelled, status_or().status().code());
}

TEST_F(LifetimeGuardTest, FunctionsWithAPlainValueReturnItOrCancelled) {
  auto value = guard_->wrap([] { return std::string("value"); });
  static_assert(std::is_same_v<absl::StatusOr<std::string>, decltype(value())>);
  EXPECT_EQ("value", *value());
  guard_.reset();
  EXPECT_EQ(absl::StatusCode::kCancelled, value().status().code());
}

TEST_F(LifetimeGuardTest, AFunctionWhoseValueCouldHoldAStatusReturnsCancelledAllTheSame) {
  auto value = guard_->wrap([] { return std::any(1); });
  static_assert(std::is_same_v<absl::StatusOr<std::any>, decltype(value())>);
  guard_.reset();
  EXPECT_TRUE(absl::IsCancelled(value().status()));
}

TEST_F(LifetimeGuardTest, AFunctionThatReturnsAReferenceToAStatusReturnsACopyOrCancelled) {
  const absl::Status mine = absl::InternalError("mine");
  auto status = guard_->wrap([&]() -> const absl::Status& { return mine; });
  static_assert(std::is_same_v<absl::Status, decltype(status())>);
  EXPECT_EQ(mine, status());
  guard_.reset();
  EXPECT_TRUE(absl::IsCancelled(status()));
}

TEST_F(LifetimeGuardTest, GuardsThenOnAValue) {
  Promise<int> promise;
  Future<int> doubled = promise.future(*dispatcher_).then(guard_->wrap([](int value) { return 2 * value; }));
  promise.setValue(4);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(8, *doubled.result());

  Promise<int> late;
  Future<int> cancelled = late.future(*dispatcher_).then(guard_->wrap([this](int value) {
    ++calls_;
    return value;
  }));
  guard_.reset();
  late.setValue(4);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_TRUE(absl::IsCancelled(cancelled.result().status()));
  EXPECT_EQ(0, calls_);
}

TEST_F(LifetimeGuardTest, GuardsThenWhoseFunctionReturnsAFuture) {
  auto fetch = guard_->wrap([this](int value) {
    ++calls_;
    return makeReadyFuture(value);
  });
  EXPECT_EQ(3, *makeReadyFuture(3).then(fetch).get());
  guard_.reset();
  EXPECT_TRUE(absl::IsCancelled(makeReadyFuture(3).then(fetch).get().status()));
  EXPECT_EQ(1, calls_);
}

TEST_F(LifetimeGuardTest, GuardsThenThatTakesATry) {
  auto look = guard_->wrap([this](Try<int> result) { calls_ += result.failed() ? 1 : 10; });
  Future<void> failed = makeFailedFuture<int>(absl::InternalError("failed")).then(look);
  EXPECT_TRUE(failed.result().hasValue());
  EXPECT_EQ(1, calls_);
  guard_.reset();
  Future<void> ignored = makeReadyFuture(1).then(look);
  EXPECT_TRUE(ignored.result().hasValue());
  EXPECT_EQ(1, calls_);
}

TEST_F(LifetimeGuardTest, GuardsThenErrorAndEnsure) {
  Future<int> handled =
      makeFailedFuture<int>(absl::InternalError("failed")).thenError(guard_->wrap([](const absl::Status&) {
        return 7;
      }));
  EXPECT_EQ(7, *handled.result());
  Future<int> ensured = makeReadyFuture(1).ensure(countCalls());
  EXPECT_EQ(1, calls_);
  auto ensure = countCalls();
  guard_.reset();
  Future<int> unguarded = makeReadyFuture(1).ensure(std::move(ensure));
  EXPECT_EQ(1, calls_);
  EXPECT_EQ(1, *unguarded.result());
}

TEST_F(LifetimeGuardTest, OwnerMayBeDestroyedInItsOwnCallback) {
  dispatcher_->post(guard_->wrap([this] {
    guard_.reset();
    ++calls_;
  }));
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls_);
  EXPECT_FALSE(guard_.has_value());
}

TEST_F(LifetimeGuardTest, CapturesGoWithTheCallback) {
  bool destroyed = false;
  {
    auto callback = guard_->wrap([probe = OnDestroy([&destroyed] { destroyed = true; })] {});
    guard_.reset();
    callback();
    EXPECT_FALSE(destroyed);
  }
  EXPECT_TRUE(destroyed);
}

TEST(LifetimeGuardThreadsTest, CallbackGoesToAnotherThreadAndComesBack) {
  DispatcherPtr dispatcher = createDispatcher({.name = "owner"});
  DispatcherThread owner_thread(*dispatcher);
  struct Owner {
    int calls = 0;
    LifetimeGuard guard;
  };
  for (int round = 0; round < 100; ++round) {
    auto owner = std::make_unique<Owner>();
    PostCb callback;
    PostCb unused;
    owner_thread.call([&] {
      callback = owner->guard.wrap([o = owner.get()] { ++o->calls; });
      unused = owner->guard.wrap([o = owner.get()] { ++o->calls; });
    });
    int calls = 0;
    std::thread worker([&dispatcher, callback = std::move(callback), unused = std::move(unused)]() mutable {
      unused = nullptr;
      dispatcher->post(std::move(callback));
    });
    owner_thread.call([&] {
      calls = owner->calls;
      owner.reset();
    });
    worker.join();
    owner_thread.call([] {});  // the callback has run, or found its owner gone
    EXPECT_LE(calls, 1);
  }
}

}  // namespace
}  // namespace nuncio::test
