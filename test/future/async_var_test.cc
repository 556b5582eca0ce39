#include "nuncio/future/async_var.h"

#include <optional>
#include <string>
#include <vector>

#include "nuncio/future/coroutine.h"
#include "test/future/primitive_fixture.h"

namespace nuncio::test {
namespace {

class AsyncVarTest : public PrimitiveTest {};

TEST_F(AsyncVarTest, HasTheValueThatWasSet) {
  AsyncVar<std::string> variable(*dispatcher_, "first");
  EXPECT_EQ("first", variable.get());
  variable.set("second");
  EXPECT_EQ("second", variable.get());
  EXPECT_EQ(0, AsyncVar<int>(*dispatcher_).get());
}

TEST_F(AsyncVarTest, ChangeWakesAllThatWaitInOrder) {
  AsyncVar<int> variable(*dispatcher_, 1);
  std::string order;
  std::vector<Future<void>> waiters;
  for (const char name : {'a', 'b', 'c'}) {
    waiters.push_back(variable.onChange().then([&order, name] { order += name; }));
  }
  variable.set(2);
  drain();
  EXPECT_EQ("abc", order);
}

TEST_F(AsyncVarTest, SettingTheSameValueWakesNobody) {
  AsyncVar<int> variable(*dispatcher_, 1);
  Future<void> change = variable.onChange();
  variable.set(1);
  EXPECT_FALSE(change.isReady());
}

TEST_F(AsyncVarTest, WaitIsForTheNextChangeOnly) {
  AsyncVar<int> variable(*dispatcher_, 1);
  variable.set(2);
  Future<void> change = variable.onChange();
  EXPECT_FALSE(change.isReady());
  variable.set(3);
  EXPECT_TRUE(change.isReady());
}

TEST_F(AsyncVarTest, CancelledWaitersDoNotConcernTheOthers) {
  AsyncVar<int> variable(*dispatcher_, 1);
  Future<void> head = variable.onChange();
  Future<void> middle = variable.onChange();
  Future<void> tail = variable.onChange();
  head.cancel();
  tail.cancel();
  variable.set(2);
  EXPECT_TRUE(middle.result().hasValue());
  EXPECT_TRUE(failedWith(head, absl::StatusCode::kCancelled, ""));
  EXPECT_TRUE(failedWith(tail, absl::StatusCode::kCancelled, ""));
}

TEST_F(AsyncVarTest, ContinuationMayWaitForTheNextChangeAndSetTheVariable) {
  AsyncVar<int> variable(*dispatcher_, 0);
  std::vector<int> seen;
  Future<void> done = variable.onChange().then([&] {
    seen.push_back(variable.get());
    Future<void> next = variable.onChange();
    variable.set(2);
    return std::move(next).then([&] { seen.push_back(variable.get()); });
  });
  variable.set(1);
  drain();
  EXPECT_EQ((std::vector<int>{1, 2}), seen);
}

Future<void> waitFor(Dispatcher&, AsyncVar<int>& variable, int value, int& turns) {
  while (variable.get() != value) {
    co_await variable.onChange();
    ++turns;
  }
}

TEST_F(AsyncVarTest, CoroutineWaitsForAValueAndMayMissThoseBetween) {
  AsyncVar<int> variable(*dispatcher_, 0);
  int turns = 0;
  Future<void> done = waitFor(*dispatcher_, variable, 3, turns);
  variable.set(1);
  drain();
  variable.set(2);
  variable.set(3);
  drain();
  EXPECT_TRUE(done.isReady());
  EXPECT_EQ(2, turns);
}

TEST_F(AsyncVarTest, DestructionFailsThoseThatWait) {
  std::optional<AsyncVar<int>> variable(std::in_place, *dispatcher_, 1);
  Future<void> waiting = variable->onChange();
  variable.reset();
  EXPECT_TRUE(failedWith(waiting, absl::StatusCode::kCancelled, "the variable was destroyed"));
}

TEST_F(AsyncVarTest, ShutdownOfTheDispatcherFailsThoseThatWait) {
  AsyncVar<int> variable(*dispatcher_, 1);
  Future<void> waiting = variable.onChange();
  dispatcher_->shutdown();
  EXPECT_TRUE(failedWith(waiting, absl::StatusCode::kCancelled, "shut down"));
  variable.set(2);
  EXPECT_EQ(2, variable.get());
}

}  // namespace
}  // namespace nuncio::test
