#include "nuncio/future/hold_while.h"

#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "test/future/loop_fixture.h"

namespace nuncio {
namespace {

using test::codeOf;

class HoldWhileTest : public test::LoopFixture {
protected:
  // The object that is held; `alive_` watches it.
  std::shared_ptr<int> object() {
    auto object = std::make_shared<int>(7);
    alive_ = object;
    return object;
  }
  bool alive() const { return !alive_.expired(); }

  std::weak_ptr<int> alive_;
};

TEST_F(HoldWhileTest, KeepsTheObjectUntilTheResultIsThereAndPassesItOn) {
  Promise<std::unique_ptr<int>> promise;
  Future<std::unique_ptr<int>> future = holdWhile(object(), promise.future(*dispatcher_));
  turn();
  EXPECT_TRUE(alive());
  promise.setValue(std::make_unique<int>(1));
  turn();
  EXPECT_FALSE(alive());
  ASSERT_TRUE(future.isReady());
  EXPECT_EQ(**future.result(), 1);
}

TEST_F(HoldWhileTest, TheObjectIsGoneWhenWhatWaitsForTheResultGoesOn) {
  Promise<void> promise;
  bool was_alive = true;
  Future<void> future = holdWhile(object(), promise.future(*dispatcher_)).then([&] { was_alive = alive(); });
  promise.setValue();
  turn();
  EXPECT_TRUE(future.isReady());
  EXPECT_FALSE(was_alive);
}

TEST_F(HoldWhileTest, KeepsTheObjectForAFailureAsWell) {
  Promise<void> promise;
  Future<void> future = holdWhile(object(), promise.future(*dispatcher_));
  promise.setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_FALSE(alive());
  EXPECT_EQ(codeOf(future), absl::StatusCode::kNotFound);
}

TEST_F(HoldWhileTest, AReadyFutureNeedsTheObjectNoMore) {
  Future<int> future = holdWhile(object(), makeReadyFuture(3));
  EXPECT_FALSE(alive());
  ASSERT_TRUE(future.isReady());
  EXPECT_EQ(*future.result(), 3);
}

TEST_F(HoldWhileTest, CancellingItKeepsTheObjectUntilTheWorkHasEnded) {
  Promise<void> promise;
  Promise<void> cleanup;
  Future<void> work = promise.future(*dispatcher_).ensure([&] { return cleanup.future(*dispatcher_); });
  Future<void> future = holdWhile(object(), std::move(work));
  future.cancel();
  turn();
  EXPECT_TRUE(promise.done());
  EXPECT_TRUE(alive());
  cleanup.setValue();
  turn();
  EXPECT_FALSE(alive());
  EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
}

TEST_F(HoldWhileTest, DroppingItKeepsTheObjectAsLongAsTheWorkGoesOn) {
  Promise<void> promise;
  holdWhile(object(), promise.future(*dispatcher_)).detach();
  turn();
  EXPECT_TRUE(alive());
  promise.setValue();
  turn();
  EXPECT_FALSE(alive());
}

TEST_F(HoldWhileTest, AShutDownDispatcherFreesTheObject) {
  Promise<void> promise;
  Future<void> future = holdWhile(object(), promise.future(*dispatcher_));
  dispatcher_->shutdown();
  EXPECT_FALSE(alive());
  EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace nuncio
