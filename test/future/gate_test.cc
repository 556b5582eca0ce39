#include "nuncio/future/gate.h"

#include <memory>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"

#include "nuncio/future/coroutine.h"
#include "nuncio/future/time.h"
#include "test/future/primitive_fixture.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;
using testing::StartsWith;
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

// Of a line of this file.
auto enteredAt(uint32_t line) { return StartsWith(absl::StrCat("entered at ", __FILE__, ":", line, " in ")); }
uint32_t here(std::source_location place = std::source_location::current()) { return place.line(); }

TEST_F(GateTest, WhoIsInsideNamesThePlacesInTheOrderOfEntering) {
  Gate gate(*dispatcher_);
  EXPECT_THAT(gate.whoIsInside(), IsEmpty());
  Holder first = *gate.enter();
  Holder second = *gate.enter();
  Holder third = *gate.enter();
  const uint32_t line = here();
  EXPECT_THAT(gate.whoIsInside(), ElementsAre(enteredAt(line - 3), enteredAt(line - 2), enteredAt(line - 1)));
  second.leave();
  EXPECT_THAT(gate.whoIsInside(), ElementsAre(enteredAt(line - 3), enteredAt(line - 1)));
  third.leave();
  first.leave();
  EXPECT_THAT(gate.whoIsInside(), IsEmpty());
}

TEST_F(GateTest, HoldersThatAreMovedKeepTheirPlace) {
  Gate gate(*dispatcher_);
  Holder first = *gate.enter();
  Holder second = *gate.enter();
  Holder third = *gate.enter();
  const uint32_t line = here();
  Holder moved = std::move(second);
  second = std::move(third);
  third = std::move(first);
  Holder& same = second;
  second = std::move(same);  // nothing comes of it
  EXPECT_THAT(gate.whoIsInside(), ElementsAre(enteredAt(line - 3), enteredAt(line - 2), enteredAt(line - 1)));
  moved = std::move(third);
  EXPECT_THAT(gate.whoIsInside(), ElementsAre(enteredAt(line - 3), enteredAt(line - 1)));
  moved = Holder();
  EXPECT_THAT(gate.whoIsInside(), ElementsAre(enteredAt(line - 1)));
  EXPECT_EQ(1u, gate.inside());
}

TEST_F(GateTest, WhoIsInsideSaysWhatTheFutureWaitsFor) {
  Gate gate(*dispatcher_);
  Promise<void> never;
  const auto serve = [&]() -> Future<void> { co_await never.future(*dispatcher_); };
  Future<void> served = gate.with([&] {
    Future<void> inner = gate.with([&] { return sleepFor(*dispatcher_, 1s); });
    return serve().ensure([inner = std::move(inner)] {});
  });
  Future<int> later = gate.with([] { return 1; }).then([](int one) { return one + 1; });
  EXPECT_EQ(2, *later.result()) << "it has left, and gone on";
  const std::vector<std::string> inside = gate.whoIsInside();
  ASSERT_THAT(inside, SizeIs(2));
  EXPECT_THAT(inside[0], AllOf(HasSubstr("\n  ensure at "), HasSubstr("\n  coroutine at "),
                               HasSubstr("\n  promise at "), Not(EndsWith("\n"))));
  EXPECT_THAT(inside[1], AllOf(HasSubstr("\n  sleep at "), Not(HasSubstr("promise"))));
  never.setValue();
  time_.advanceTimeAndRun(1s);
  EXPECT_THAT(gate.whoIsInside(), IsEmpty());
}

TEST_F(GateTest, OfManyInsideTheFirstThousandAreNamed) {
  Gate gate(*dispatcher_);
  std::vector<Holder> holders;
  for (int i = 0; i < 1005; ++i) {
    holders.push_back(*gate.enter());
  }
  EXPECT_THAT(gate.whoIsInside(), SizeIs(1001));
  EXPECT_EQ("... and 5 more", gate.whoIsInside().back());
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
