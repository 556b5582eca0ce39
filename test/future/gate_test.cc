#include "nuncio/future/gate.h"

#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "test/future/primitive_fixture.h"

namespace nuncio::test {
namespace {

using Holder = Gate::Holder;

class GateTest : public PrimitiveTest {};

TEST_F(GateTest, ClosingAnEmptyGateIsDoneAtOnce) {
  Gate gate(*dispatcher_);
  Future<void> closed = gate.close();
  EXPECT_TRUE(closed.isReady());
  EXPECT_TRUE(gate.closed());
}

TEST_F(GateTest, CloseWaitsForAllInside) {
  Gate gate(*dispatcher_);
  absl::StatusOr<Holder> first = gate.enter();
  absl::StatusOr<Holder> second = gate.enter();
  EXPECT_EQ(2u, gate.inside());
  Future<void> closed = gate.close();
  first->leave();
  first->leave();
  EXPECT_EQ(1u, gate.inside());
  EXPECT_FALSE(closed.isReady());
  *second = Holder();
  EXPECT_TRUE(closed.isReady());
}

TEST_F(GateTest, HolderThatWasMovedLeavesOnce) {
  Gate gate(*dispatcher_);
  absl::StatusOr<Holder> first = gate.enter();
  {
    const Holder second = *std::move(first);
    EXPECT_EQ(1u, gate.inside());
  }
  EXPECT_EQ(0u, gate.inside());
}

TEST_F(GateTest, EnteringAClosedGateFails) {
  Gate gate(*dispatcher_);
  absl::StatusOr<Holder> inside = gate.enter();
  Future<void> closed = gate.close();
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, gate.enter().status().code());
  EXPECT_EQ(1u, gate.inside());
}

TEST_F(GateTest, EachCloseIsDoneWhenAllHaveLeft) {
  Gate gate(*dispatcher_);
  absl::StatusOr<Holder> inside = gate.enter();
  Future<void> first = gate.close();
  Future<void> second = gate.close();
  inside->leave();
  EXPECT_TRUE(first.isReady());
  EXPECT_TRUE(second.isReady());
  EXPECT_TRUE(gate.close().isReady());
}

TEST_F(GateTest, CancelledCloseLeavesTheGateClosedAndTheOthersWaiting) {
  Gate gate(*dispatcher_);
  absl::StatusOr<Holder> inside = gate.enter();
  Future<void> first = gate.close();
  Future<void> second = gate.close();
  Future<void> third = gate.close();
  second.cancel();
  EXPECT_TRUE(failedWith(second, absl::StatusCode::kCancelled, ""));
  EXPECT_TRUE(gate.closed());
  EXPECT_FALSE(first.isReady());
  inside->leave();
  EXPECT_TRUE(first.result().hasValue());
  EXPECT_TRUE(third.result().hasValue());
}

TEST_F(GateTest, WithIsInsideUntilTheFutureIsDone) {
  Gate gate(*dispatcher_);
  Promise<int> answer;
  Future<int> result = gate.with([&] { return answer.future(*dispatcher_); });
  EXPECT_EQ(1u, gate.inside());
  Future<void> closed = gate.close();
  answer.setValue(42);
  drain();
  EXPECT_EQ(0u, gate.inside());
  EXPECT_EQ(42, *result.result());
  EXPECT_TRUE(closed.isReady());
}

TEST_F(GateTest, WithTakesPlainFunctions) {
  Gate gate(*dispatcher_);
  EXPECT_EQ(7, *gate.with([] { return 7; }).get());
  Future<void> failed = gate.with([]() -> void { throw std::runtime_error("no"); });
  EXPECT_TRUE(failedWith(failed, absl::StatusCode::kUnknown, "no"));
  std::move(failed).detach();
  EXPECT_EQ(0u, gate.inside());
}

TEST_F(GateTest, WithLeavesWhenItsFutureIsCancelled) {
  Gate gate(*dispatcher_);
  Promise<void> never;
  Future<void> result = gate.with([&] { return never.future(*dispatcher_); });
  result.cancel();
  drain();
  EXPECT_EQ(0u, gate.inside());
}

TEST_F(GateTest, WithDoesNotCallTheFunctionOnceItIsClosed) {
  Gate gate(*dispatcher_);
  gate.close().detach();
  Future<void> result = gate.with([] { ADD_FAILURE(); });
  EXPECT_TRUE(failedWith(result, absl::StatusCode::kFailedPrecondition, "the gate is closed"));
  std::move(result).detach();
}

TEST_F(GateTest, FunctionInsideMayCloseTheGate) {
  Gate gate(*dispatcher_);
  Future<void> closed;
  Future<void> result = gate.with([&] { closed = gate.close(); });
  EXPECT_TRUE(closed.isReady());
}

TEST_F(GateTest, DestructionFailsThoseThatWaitForClose) {
  auto gate = std::make_unique<Gate>(*dispatcher_);
  absl::StatusOr<Holder> inside = gate->enter();
  Future<void> closed = gate->close();
  gate.reset();
  EXPECT_TRUE(failedWith(closed, absl::StatusCode::kCancelled, "the gate was destroyed"));
  inside->leave();  // it may outlive the gate
}

TEST_F(GateTest, ShutdownOfTheDispatcherLetsAllLeave) {
  Gate gate(*dispatcher_);
  Promise<void> never;
  Future<void> work = gate.with([&] { return never.future(*dispatcher_); });
  absl::StatusOr<Holder> inside = gate.enter();
  Future<void> closed = gate.close();
  dispatcher_->shutdown();
  EXPECT_TRUE(failedWith(closed, absl::StatusCode::kCancelled, "shut down"));
  EXPECT_EQ(1u, gate.inside());
}

}  // namespace
}  // namespace nuncio::test
