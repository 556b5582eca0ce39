#include "nuncio/future/async_scope.h"

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

#include "nuncio/future/dropped_failure.h"
#include "nuncio/future/time.h"
#include "test/future/primitive_fixture.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

class AsyncScopeTest : public PrimitiveTest {
protected:
  AsyncScopeTest() {
    setDroppedFailureHandler([this](const absl::Status& status, const std::source_location& place) {
      dropped_.push_back(std::string(status.message()));
      dropped_at_ = place;
    });
  }
  ~AsyncScopeTest() override { setDroppedFailureHandler(nullptr); }

  // A child that is done when the promise of that number is settled. Notes when it is asked to stop.
  Future<void> child(std::size_t i) {
    promises_[i].onCancel([this, i] { asked_.push_back(i); });
    return promises_[i].future(*dispatcher_);
  }
  void spawnChildren(AsyncScope& scope) {
    for (std::size_t i = 0; i < promises_.size(); ++i) {
      ASSERT_TRUE(scope.spawn(child(i)).ok());
    }
  }
  // A child that takes a while to stop: it ends when `release_` is settled.
  Future<void> slowToStop(Future<void> work) {
    return std::move(work).ensure([this] { return release_.future(*dispatcher_); });
  }

  std::vector<Promise<void>> promises_ = std::vector<Promise<void>>(3);
  std::vector<std::size_t> asked_;
  Promise<void> release_;
  std::vector<std::string> dropped_;
  std::source_location dropped_at_;
};

TEST_F(AsyncScopeTest, JoinIsDoneWhenAllChildrenHaveEnded) {
  AsyncScope scope(*dispatcher_);
  spawnChildren(scope);
  EXPECT_EQ(3u, scope.size());
  Future<void> joined = scope.join();
  for (Promise<void>& promise : promises_) {
    drain();
    EXPECT_FALSE(joined.isReady());
    promise.setValue();
  }
  drain();
  ASSERT_TRUE(joined.isReady());
  EXPECT_TRUE(joined.result().hasValue());
  EXPECT_EQ(0u, scope.size());
}

TEST_F(AsyncScopeTest, JoinOfNoChildrenIsReady) {
  AsyncScope scope(*dispatcher_);
  EXPECT_TRUE(scope.join().isReady());
}

TEST_F(AsyncScopeTest, AReadyChildHasEndedAtOnce) {
  AsyncScope scope(*dispatcher_);
  EXPECT_TRUE(scope.spawn(makeReadyFuture()).ok());
  EXPECT_EQ(0u, scope.size());
  EXPECT_TRUE(scope.join().isReady());
}

TEST_F(AsyncScopeTest, JoinGivesTheFirstFailureAndTheOthersGoOn) {
  AsyncScope scope(*dispatcher_);
  spawnChildren(scope);
  Future<void> joined = scope.join();
  promises_[1].setStatus(absl::DataLossError("one"));
  drain();
  EXPECT_FALSE(joined.isReady());
  EXPECT_THAT(asked_, IsEmpty());
  promises_[0].setValue();
  promises_[2].setValue();
  drain();
  EXPECT_TRUE(failedWith(joined, absl::StatusCode::kDataLoss, "one"));
  EXPECT_THAT(dropped_, IsEmpty());
}

TEST_F(AsyncScopeTest, FailuresBehindTheFirstAreReportedAsDropped) {
  AsyncScope scope(*dispatcher_);
  spawnChildren(scope);
  promises_[1].setStatus(absl::DataLossError("one"));
  promises_[0].setStatus(absl::DataLossError("two"));
  promises_[2].setValue();
  drain();
  EXPECT_THAT(dropped_, ElementsAre("two"));
  EXPECT_TRUE(testing::IsSubstring("", "", "async_scope_test.cc", dropped_at_.file_name()));
  Future<void> joined = scope.join();
  EXPECT_TRUE(failedWith(joined, absl::StatusCode::kDataLoss, "one"));
}

TEST_F(AsyncScopeTest, AFailureThatNobodyJoinsIsReportedAsDropped) {
  {
    AsyncScope scope(*dispatcher_);
    ASSERT_TRUE(scope.spawn(makeFailedFuture<void>(absl::DataLossError("lost"))).ok());
    EXPECT_THAT(dropped_, IsEmpty());
  }
  EXPECT_THAT(dropped_, ElementsAre("lost"));
}

TEST_F(AsyncScopeTest, TheFirstFailureCancelsTheOthersWhereThatIsAskedFor) {
  AsyncScope scope(*dispatcher_, {.cancel_on_failure = true});
  spawnChildren(scope);
  promises_[1].setStatus(absl::DataLossError("one"));
  drain();
  EXPECT_THAT(asked_, ElementsAre(0, 2));
  EXPECT_TRUE(scope.closed());
  Future<void> joined = scope.join();
  EXPECT_TRUE(failedWith(joined, absl::StatusCode::kDataLoss, "one"));
  EXPECT_THAT(dropped_, IsEmpty());
}

TEST_F(AsyncScopeTest, AReadyFailureCancelsTheOthersToo) {
  AsyncScope scope(*dispatcher_, {.cancel_on_failure = true});
  ASSERT_TRUE(scope.spawn(child(0)).ok());
  EXPECT_TRUE(scope.spawn(makeFailedFuture<void>(absl::DataLossError("ready"))).ok());
  EXPECT_THAT(asked_, ElementsAre(0));
  drain();
  Future<void> joined = scope.join();
  EXPECT_TRUE(failedWith(joined, absl::StatusCode::kDataLoss, "ready"));
}

TEST_F(AsyncScopeTest, CancelAsksAllChildrenInTheOrderInWhichTheyCame) {
  AsyncScope scope(*dispatcher_);
  spawnChildren(scope);
  scope.cancel();
  EXPECT_THAT(asked_, ElementsAre(0, 1, 2));
  drain();
  EXPECT_EQ(0u, scope.size());
}

TEST_F(AsyncScopeTest, ChildrenThatWereAskedToStopAreNoFailure) {
  AsyncScope scope(*dispatcher_);
  spawnChildren(scope);
  scope.cancel();
  Future<void> joined = scope.join();
  drain();
  ASSERT_TRUE(joined.isReady());
  EXPECT_TRUE(joined.result().hasValue());
}

TEST_F(AsyncScopeTest, AChildThatEndsWithCancelledUnaskedIsAFailure) {
  AsyncScope scope(*dispatcher_);
  ASSERT_TRUE(scope.spawn(child(0)).ok());
  promises_[0].setStatus(absl::CancelledError("its connection was closed"));
  drain();
  Future<void> joined = scope.join();
  EXPECT_TRUE(failedWith(joined, absl::StatusCode::kCancelled, "its connection was closed"));
}

TEST_F(AsyncScopeTest, JoinWaitsForThoseThatAreSlowToStop) {
  AsyncScope scope(*dispatcher_);
  ASSERT_TRUE(scope.spawn(slowToStop(child(0))).ok());
  scope.cancel();
  Future<void> joined = scope.join();
  drain();
  EXPECT_THAT(asked_, ElementsAre(0));
  EXPECT_FALSE(joined.isReady());
  EXPECT_EQ(1u, scope.size());
  release_.setValue();
  drain();
  EXPECT_TRUE(joined.isReady());
}

TEST_F(AsyncScopeTest, TheFailureIsGivenWhenThoseThatItCancelledHaveEnded) {
  AsyncScope scope(*dispatcher_, {.cancel_on_failure = true});
  ASSERT_TRUE(scope.spawn(slowToStop(child(0))).ok());
  ASSERT_TRUE(scope.spawn(child(1)).ok());
  Future<void> joined = scope.join();
  promises_[1].setStatus(absl::DataLossError("one"));
  drain();
  EXPECT_THAT(asked_, ElementsAre(0));
  EXPECT_FALSE(joined.isReady());
  release_.setValue();
  drain();
  EXPECT_TRUE(failedWith(joined, absl::StatusCode::kDataLoss, "one"));
}

TEST_F(AsyncScopeTest, AClosedScopeAsksALateChildToStopAndSaysSo) {
  AsyncScope joined(*dispatcher_);
  joined.join().detach();
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, joined.spawn(child(0)).code());
  AsyncScope cancelled(*dispatcher_);
  cancelled.cancel();
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, cancelled.spawn(child(1)).code());
  EXPECT_THAT(asked_, ElementsAre(0, 1));
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, cancelled.spawn([] { ADD_FAILURE(); }).code());
}

TEST_F(AsyncScopeTest, AFunctionIsKeptUntilItsChildHasEnded) {
  AsyncScope scope(*dispatcher_);
  auto alive = std::make_shared<std::string>("alive");
  std::string seen;
  ASSERT_TRUE(scope
                  .spawn([this, &seen, alive]() -> Future<void> {
                    Future<void> slept = sleepFor(*dispatcher_, 5ms);
                    co_await std::move(slept);
                    seen = *alive;
                  })
                  .ok());
  EXPECT_EQ(2, alive.use_count());
  time_.advanceTimeAndRun(5ms);
  EXPECT_EQ("alive", seen);
  EXPECT_EQ(1, alive.use_count());
}

TEST_F(AsyncScopeTest, FunctionsMayReturnWhatThenAllows) {
  AsyncScope scope(*dispatcher_);
  int calls = 0;
  EXPECT_TRUE(scope.spawn([&] { ++calls; }).ok());
  EXPECT_TRUE(scope.spawn([&] { return ++calls, absl::OkStatus(); }).ok());
  EXPECT_TRUE(scope.spawn([&] { return ++calls, promises_[0].semiFuture(); }).ok());
  EXPECT_EQ(3, calls);
  EXPECT_EQ(1u, scope.size());
  promises_[0].setValue();
  drain();
  EXPECT_EQ(0u, scope.size());
}

TEST_F(AsyncScopeTest, AnExceptionOfAFunctionIsItsChildsFailure) {
  AsyncScope scope(*dispatcher_);
  EXPECT_TRUE(scope.spawn([]() -> Future<void> { throw std::runtime_error("thrown"); }).ok());
  Future<void> joined = scope.join();
  EXPECT_TRUE(failedWith(joined, absl::StatusCode::kUnknown, "thrown"));
}

TEST_F(AsyncScopeTest, AChildMaySpawnAnother) {
  AsyncScope scope(*dispatcher_);
  ASSERT_TRUE(scope.spawn(child(0).then([&] { return scope.spawn(child(1)); })).ok());
  promises_[0].setValue();
  drain();
  EXPECT_EQ(1u, scope.size());
  promises_[1].setValue();
  drain();
  EXPECT_EQ(0u, scope.size());
}

TEST_F(AsyncScopeTest, AChildMayCancelItsScope) {
  AsyncScope scope(*dispatcher_);
  ASSERT_TRUE(scope.spawn(child(0).then([&] { scope.cancel(); })).ok());
  ASSERT_TRUE(scope.spawn(child(1)).ok());
  promises_[0].setValue();
  drain();
  EXPECT_THAT(asked_, ElementsAre(1));
  EXPECT_EQ(0u, scope.size());
}

TEST_F(AsyncScopeTest, AChildThatIsAskedToStopMayUseTheScope) {
  AsyncScope scope(*dispatcher_);
  promises_[0].onCancel([&] {
    scope.cancel();
    EXPECT_FALSE(scope.spawn(makeReadyFuture()).ok());
    asked_.push_back(0);
  });
  ASSERT_TRUE(scope.spawn(promises_[0].future(*dispatcher_)).ok());
  ASSERT_TRUE(scope.spawn(child(1)).ok());
  scope.cancel();
  EXPECT_THAT(asked_, ElementsAre(0, 1));
  drain();
  EXPECT_EQ(0u, scope.size());
}

TEST_F(AsyncScopeTest, AChildThatIsAskedToStopMayDestroyTheScope) {
  auto scope = std::make_unique<AsyncScope>(*dispatcher_);
  promises_[0].onCancel([&] { scope.reset(); });
  ASSERT_TRUE(scope->spawn(promises_[0].future(*dispatcher_)).ok());
  ASSERT_TRUE(scope->spawn(child(1)).ok());
  scope->cancel();
  drain();
  EXPECT_EQ(nullptr, scope);
  EXPECT_THAT(asked_, ElementsAre(1));
}

TEST_F(AsyncScopeTest, ItsDestructorAsksTheChildrenToStop) {
  {
    AsyncScope scope(*dispatcher_);
    spawnChildren(scope);
  }
  EXPECT_THAT(asked_, ElementsAre(0, 1, 2));
  drain();
}

TEST_F(AsyncScopeTest, DestructionFailsThoseThatJoinWhenAllHaveEnded) {
  std::optional<AsyncScope> scope(std::in_place, *dispatcher_);
  ASSERT_TRUE(scope->spawn(slowToStop(child(0))).ok());
  Future<void> joined = scope->join();
  scope.reset();
  drain();
  EXPECT_FALSE(joined.isReady());
  release_.setValue();
  drain();
  EXPECT_TRUE(failedWith(joined, absl::StatusCode::kCancelled, "the scope was destroyed"));
}

TEST_F(AsyncScopeTest, CancellingAJoinConcernsNeitherTheChildrenNorTheOthers) {
  AsyncScope scope(*dispatcher_);
  ASSERT_TRUE(scope.spawn(child(0)).ok());
  Future<void> first = scope.join();
  Future<void> second = scope.join();
  first.cancel();
  drain();
  EXPECT_TRUE(failedWith(first, absl::StatusCode::kCancelled, ""));
  EXPECT_THAT(asked_, IsEmpty());
  EXPECT_TRUE(scope.closed());
  promises_[0].setValue();
  drain();
  EXPECT_TRUE(second.isReady());
}

TEST_F(AsyncScopeTest, ShutdownOfTheDispatcherEndsAllChildren) {
  AsyncScope scope(*dispatcher_);
  bool ensured = false;
  ASSERT_TRUE(scope.spawn(child(0).ensure([&] { ensured = true; })).ok());
  Future<void> joined = scope.join();
  dispatcher_->shutdown();
  EXPECT_TRUE(ensured);
  EXPECT_TRUE(failedWith(joined, absl::StatusCode::kCancelled, "shut down"));
  EXPECT_EQ(0u, scope.size());
  Future<void> late = scope.join();
  EXPECT_TRUE(failedWith(late, absl::StatusCode::kCancelled, "shut down"));
}

TEST_F(AsyncScopeTest, NothingIsTakenInAfterTheShutdown) {
  AsyncScope scope(*dispatcher_);
  dispatcher_.reset();
  EXPECT_EQ(absl::StatusCode::kCancelled, scope.spawn(makeReadyFuture()).code());
  EXPECT_EQ(absl::StatusCode::kCancelled, scope.spawn([]() -> Future<void> { return makeReadyFuture(); }).code());
}

TEST_F(AsyncScopeTest, NoFutureIsAFailedChild) {
  AsyncScope scope(*dispatcher_);
  EXPECT_TRUE(scope.spawn(Future<void>()).ok());
  Future<void> joined = scope.join();
  EXPECT_TRUE(failedWith(joined, absl::StatusCode::kFailedPrecondition, ""));
}

TEST_F(AsyncScopeTest, MayBeUsedBeforeTheDispatcherFirstRuns) {
  DispatcherPtr fresh = createDispatcher({.name = "fresh", .time_system = &time_});
  AsyncScope scope(*fresh);
  Promise<void> promise;
  ASSERT_TRUE(scope.spawn(promise.future(*fresh)).ok());
  Future<void> joined = scope.join();
  promise.setValue();
  fresh->run(RunType::NonBlock);
  EXPECT_TRUE(joined.isReady());
}

TEST_F(AsyncScopeTest, WhatEndedChildrenHeldIsFreedAtOnce) {
  AsyncScope scope(*dispatcher_);
  auto held = std::make_shared<int>(1);
  ASSERT_TRUE(scope.spawn(child(0).ensure([held] {})).ok());
  ASSERT_TRUE(scope.spawn(child(1)).ok());
  promises_[0].setValue();
  drain();
  EXPECT_EQ(1, held.use_count());
  EXPECT_EQ(1u, scope.size());
}

TEST_F(AsyncScopeTest, ManyChildrenEndAndAreCancelledWithBoundedStack) {
  AsyncScope scope(*dispatcher_);
  std::vector<Promise<void>> promises(kMany);
  int asked = 0;
  for (Promise<void>& promise : promises) {
    promise.onCancel([&asked] { ++asked; });
    ASSERT_TRUE(scope.spawn(promise.future(*dispatcher_)).ok());
  }
  for (int i = 0; i < kMany; i += 2) {
    promises[i].setValue();
  }
  drain();
  EXPECT_EQ(static_cast<std::size_t>(kMany / 2), scope.size());
  scope.cancel();
  drain();
  EXPECT_EQ(kMany / 2, asked);
  EXPECT_EQ(0u, scope.size());
}

TEST_F(AsyncScopeTest, ChildrenThatCancelTheScopeInTurnDoNotRecurse) {
  AsyncScope scope(*dispatcher_);
  std::vector<Promise<void>> promises(kMany);
  int asked = 0;
  for (Promise<void>& promise : promises) {
    promise.onCancel([&] {
      ++asked;
      scope.cancel();
    });
    ASSERT_TRUE(scope.spawn(promise.future(*dispatcher_)).ok());
  }
  scope.cancel();
  drain();
  EXPECT_EQ(kMany, asked);
}

TEST_F(AsyncScopeTest, JoinWaitsForTheEndOfChildrenOfOtherDispatchers) {
  DispatcherPtr other = createDispatcher({.name = "other", .time_system = &time_});
  other->run(RunType::NonBlock);
  AsyncScope scope(*dispatcher_);
  Promise<void> work;
  Promise<void> cleanup;
  bool ended = false;
  ASSERT_TRUE(
      scope.spawn(work.future(*other).ensure([&] { return cleanup.future(*other); }).ensure([&ended] { ended = true; }))
          .ok());
  const auto run = [&] {
    for (int i = 0; i < 3; ++i) {
      other->run(RunType::NonBlock);
      dispatcher_->run(RunType::NonBlock);
    }
  };
  run();
  scope.cancel();
  Future<void> joined = scope.join();
  run();
  EXPECT_TRUE(work.done());
  EXPECT_FALSE(ended);
  EXPECT_FALSE(joined.isReady()) << "it has not ended over there";
  cleanup.setValue();
  run();
  EXPECT_TRUE(ended);
  ASSERT_TRUE(joined.isReady());
  EXPECT_TRUE(joined.result().hasValue());
}

TEST(AsyncScopeThreadTest, ChildrenOfOtherThreadsEndBeforeTheJoin) {
  DispatcherPtr home = createDispatcher({.name = "home"});
  DispatcherPtr away = createDispatcher({.name = "away"});
  DispatcherThread home_thread(*home);
  DispatcherThread away_thread(*away);
  for (int round = 0; round < 200; ++round) {
    std::optional<AsyncScope> scope;
    std::vector<int> ended(8);  // written over there, read when they have been joined
    Notification joined;
    home_thread.call([&] {
      scope.emplace(*home);
      for (std::size_t i = 0; i < ended.size(); ++i) {
        const auto sleep = std::chrono::microseconds(i % 2 == 0 ? 0 : 1'000'000);
        ASSERT_TRUE(scope->spawn(sleepFor(*away, sleep).ensure([&ended, i] { ended[i] = 1; })).ok());
      }
      if (round % 2 == 0) {
        scope->cancel();
      }
    });
    home_thread.call([&] {
      scope->cancel();
      scope->join().then([&] { joined.notify(); }).detach();
    });
    ASSERT_TRUE(joined.wait());
    EXPECT_EQ(std::vector<int>(8, 1), ended);
    home_thread.call([&] { scope.reset(); });
  }
}

}  // namespace
}  // namespace nuncio::test
