// What becomes of failures that nobody wants, and what a pending future waits for.

#include "nuncio/future/dropped_failure.h"

#include <chrono>
#include <exception>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/debug.h"
#include "nuncio/future/future.h"
#include "test/mocks/future.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/uninstrumented_abseil.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::string placeOf(int line) { return absl::StrCat("dropped_failure_test.cc:", line, " in "); }

// In the order and in the words of the log: "NOT_FOUND: no @ 42".
std::vector<std::string> inWords(const std::vector<DroppedFailure>& failures) {
  std::vector<std::string> words;
  for (const DroppedFailure& failure : failures) {
    words.push_back(absl::StrCat(failure.status.ToString(), " @ ", failure.place.line()));
  }
  return words;
}

class DroppedFailureTest : public testing::Test {
protected:
  DroppedFailureTest() { run(); }

  void run() { dispatcher_->run(RunType::NonBlock); }
  std::vector<std::string> dropped() { return inWords(failures_.take()); }

  NoDroppedFailures failures_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "dropped"});
};

TEST_F(DroppedFailureTest, AReadyFailedFutureIsReportedWithItsPlace) {
  const int line = __LINE__ + 2;
  {
    Future<int> future = makeFailedFuture<int>(absl::NotFoundError("no"));
  }
  EXPECT_THAT(dropped(), ElementsAre(absl::StrCat("NOT_FOUND: no @ ", line)));
}

TEST_F(DroppedFailureTest, AFutureMadeOfAStatusIsReportedWithThePlaceOfTheCaller) {
  const int line = __LINE__ + 2;
  {
    const Future<void> future = makeReadyFuture(absl::NotFoundError("no"));
    const Future<int> other = makeReadyFuture(absl::StatusOr<int>(absl::NotFoundError("no")));
  }
  EXPECT_THAT(dropped(),
              ElementsAre(absl::StrCat("NOT_FOUND: no @ ", line + 1), absl::StrCat("NOT_FOUND: no @ ", line)));
}

TEST_F(DroppedFailureTest, ThePlaceIsThatOfTheLastStage) {
  Promise<int> promise;
  int line = 0;
  {
    line = __LINE__ + 1;
    Future<int> future = promise.future(*dispatcher_).then([](int value) { return value; });
  }
  promise.setStatus(absl::NotFoundError("no"));
  run();
  EXPECT_THAT(dropped(), ElementsAre(absl::StrCat("NOT_FOUND: no @ ", line)));
}

TEST_F(DroppedFailureTest, ADroppedSemiFutureIsReportedBeforeAndAfterFulfilment) {
  Promise<int> before;
  Promise<int> after;
  before.setStatus(absl::NotFoundError("before"));
  {
    const SemiFuture<int> future = before.semiFuture();
  }
  {
    const SemiFuture<int> future = after.semiFuture();
  }
  after.setStatus(absl::NotFoundError("after"));
  const std::vector<DroppedFailure> failures = failures_.take();
  ASSERT_EQ(failures.size(), 2U);
  EXPECT_EQ(failures[0].status, absl::NotFoundError("before"));
  EXPECT_EQ(failures[1].status, absl::NotFoundError("after"));
}

TEST_F(DroppedFailureTest, ADroppedExceptionIsReportedWithItsMessage) {
  {
    const Future<int> future = makeFailedFuture<int>(std::make_exception_ptr(std::runtime_error("boom")));
  }
  const std::vector<DroppedFailure> failures = failures_.take();
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_EQ(failures[0].status, absl::UnknownError("exception: boom"));
}

TEST_F(DroppedFailureTest, ADroppedCoroutinesIsReportedWithItsPlace) {
  Promise<int> promise;
  const int line = __LINE__ + 2;
  const auto failing = [](Dispatcher& /*dispatcher*/, Future<int> future) -> Future<int> {
    co_return co_await std::move(future);
  };
  {
    Future<int> future = failing(*dispatcher_, promise.future(*dispatcher_));
  }
  promise.setStatus(absl::NotFoundError("no"));
  run();
  EXPECT_THAT(dropped(), ElementsAre(absl::StrCat("NOT_FOUND: no @ ", line)));
}

TEST_F(DroppedFailureTest, DetachedHandledAndCancelledOnesAreNot) {
  Promise<int> pending;
  Promise<int> semi;
  Promise<int> cancelled;
  makeFailedFuture<int>(absl::NotFoundError("ready")).detach();
  pending.future(*dispatcher_).then([](int) {}).detach();
  semi.semiFuture().detach();
  makeFailedFuture<int>(absl::NotFoundError("handled")).thenError([](absl::Status) { return 1; }).detach();
  Future<int> future = cancelled.future(*dispatcher_);
  future.cancel();
  pending.setStatus(absl::NotFoundError("pending"));
  semi.setStatus(absl::NotFoundError("semi"));
  run();
  EXPECT_THAT(dropped(), IsEmpty());
}

TEST_F(DroppedFailureTest, AFailureThatComesFromAnotherThreadIsReportedOnce) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  DispatcherThread thread(*other);
  Promise<int> promise;
  {
    const Future<int> future = promise.future(*other);
  }
  promise.setStatus(absl::NotFoundError("no"));
  thread.call([] {});
  thread.call([] {});
  EXPECT_EQ(failures_.take().size(), 1U);
}

// A promise whose future was dropped is not wanted any more, in whatever way that was bound.
class DroppedFutureTest : public DroppedFailureTest,
                          public testing::WithParamInterface<Future<int> (*)(Promise<int>&, Dispatcher&)> {
protected:
  Future<int> take(Promise<int>& promise) { return GetParam()(promise, *dispatcher_); }
};

TEST_P(DroppedFutureTest, LeavesAPromiseThatIsDone) {
  Promise<int> dropped_one;
  Promise<int> detached_one;
  Promise<int> kept_one;
  Future<int> kept = take(kept_one);
  {
    const Future<int> future = take(dropped_one);
    EXPECT_FALSE(dropped_one.done());
  }
  take(detached_one).detach();
  EXPECT_TRUE(dropped_one.done());
  EXPECT_TRUE(detached_one.done());
  EXPECT_FALSE(kept_one.done());
  EXPECT_FALSE(dropped_one.setValue(1));
  EXPECT_FALSE(detached_one.setValue(1));
  EXPECT_TRUE(kept_one.setValue(1));
  EXPECT_EQ(*kept.result(), 1);
}

TEST_P(DroppedFutureTest, StillReportsAFailureUnlessItWasDetached) {
  Promise<int> dropped_one;
  Promise<int> detached_one;
  {
    const Future<int> future = take(dropped_one);
  }
  take(detached_one).detach();
  EXPECT_FALSE(dropped_one.setStatus(absl::NotFoundError("dropped")));
  EXPECT_FALSE(detached_one.setStatus(absl::NotFoundError("detached")));
  run();
  const std::vector<DroppedFailure> failures = failures_.take();
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_EQ(failures[0].status, absl::NotFoundError("dropped"));
}

TEST_P(DroppedFutureTest, ReportsAPromiseThatBreaksUnlessItWasDetached) {
  {
    Promise<int> dropped_one;
    Promise<int> detached_one;
    {
      const Future<int> future = take(dropped_one);
    }
    take(detached_one).detach();
  }
  run();
  EXPECT_EQ(failures_.take().size(), 1U);
}

TEST_P(DroppedFutureTest, LeavesItsPromiseWantedAsLongAsAContinuationWaits) {
  Promise<int> promise;
  int seen = 0;
  take(promise).then([&](int value) { seen = value; }).detach();
  EXPECT_FALSE(promise.done());
  EXPECT_TRUE(promise.setValue(1));
  run();
  EXPECT_EQ(seen, 1);
}

INSTANTIATE_TEST_SUITE_P(EachWay, DroppedFutureTest,
                         testing::Values([](Promise<int>& promise,
                                            Dispatcher& dispatcher) { return promise.future(dispatcher); },
                                         [](Promise<int>& promise, Dispatcher& dispatcher) {
                                           return promise.semiFuture().via(dispatcher);
                                         }));

TEST_F(DroppedFailureTest, ASemiFutureThatIsDroppedLeavesAPromiseThatIsDoneAndStillReportsAFailure) {
  Promise<int> dropped_one;
  Promise<int> detached_one;
  {
    const SemiFuture<int> future = dropped_one.semiFuture();
  }
  detached_one.semiFuture().detach();
  EXPECT_TRUE(dropped_one.done());
  EXPECT_TRUE(detached_one.done());
  EXPECT_FALSE(dropped_one.setStatus(absl::NotFoundError("dropped")));
  EXPECT_FALSE(detached_one.setStatus(absl::NotFoundError("detached")));
  EXPECT_EQ(failures_.take().size(), 1U);
}

TEST_F(DroppedFailureTest, AFutureThatIsDroppedOnAnotherThreadLeavesItsPromiseDoneWhenTheLoopHasHeardOfIt) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  DispatcherThread thread(*other);
  Promise<int> value;
  Promise<int> failure;
  {
    const Future<int> first = value.future(*other);
    const Future<int> second = failure.future(*other);
  }
  thread.call([] {});
  EXPECT_TRUE(value.done());
  EXPECT_TRUE(failure.done());
  EXPECT_FALSE(value.setValue(1));
  EXPECT_FALSE(failure.setStatus(absl::NotFoundError("dropped")));
  thread.call([] {});
  thread.call([] {});
  EXPECT_EQ(failures_.take().size(), 1U);
}

TEST_F(DroppedFailureTest, ABrokenPromiseNamesItsPlaceToo) {
  int line = 0;
  {
    line = __LINE__ + 1;
    Promise<int> promise;
    const SemiFuture<int> future = promise.semiFuture();
  }
  const std::vector<DroppedFailure> failures = failures_.take();
  ASSERT_EQ(failures.size(), 1U);
  EXPECT_THAT(std::string(failures[0].status.message()), HasSubstr(placeOf(line)));
  EXPECT_EQ(failures[0].place.line(), static_cast<uint32_t>(line));
}

TEST(DroppedFailureLogTest, IsAWarningWithThePlaceByDefault) {
  const LogCapture log(LogLayer::Future);
  const int line = __LINE__ + 2;
  {
    Future<int> future = makeFailedFuture<int>(absl::NotFoundError("no"));
  }
  EXPECT_THAT(log.text(), AllOf(StartsWith("[warning] "), HasSubstr("NOT_FOUND: no"), HasSubstr(placeOf(line))));
}

void dropOne() {
  const NoDroppedFailures failures;
  const Future<int> future = makeFailedFuture<int>(absl::NotFoundError("ignored"));
}
void takeOne() {
  NoDroppedFailures failures;
  {
    const Future<int> future = makeFailedFuture<int>(absl::NotFoundError("expected"));
  }
  failures.take();
}

TEST(NoDroppedFailuresTest, FailsTheTestAndNamesStatusAndPlace) {
  EXPECT_NONFATAL_FAILURE(dropOne(), "a failed future was dropped: NOT_FOUND: ignored");
  EXPECT_NONFATAL_FAILURE(dropOne(), "dropOne()");
}

TEST(NoDroppedFailuresTest, WhatATestTakesDoesNotFailIt) {
  takeOne();
  EXPECT_FALSE(testing::Test::HasFailure());
}

TEST(NoDroppedFailuresTest, GivesTheFormerHandlerBack) {
  int reported = 0;
  DroppedFailureHandler before =
      setDroppedFailureHandler([&](const absl::Status&, const std::source_location&) { ++reported; });
  takeOne();
  EXPECT_EQ(reported, 0);
  {
    const Future<int> future = makeFailedFuture<int>(absl::NotFoundError("to the former"));
  }
  EXPECT_EQ(reported, 1);
  setDroppedFailureHandler(std::move(before));
}

// --- asyncTrace.

class AsyncTraceTest : public DroppedFailureTest {
protected:
  static std::vector<std::string> lines(const std::string& trace) {
    return absl::StrSplit(trace, '\n', absl::SkipEmpty());
  }
};

TEST_F(AsyncTraceTest, ListsTheStagesOfAChainInnermostLast) {
  // A line each: of a chain over several lines, g++ names the line of the call, and clang the first one.
  const int line = __LINE__ + 1;
  Promise<int> promise;
  Future<int> bound = promise.future(*dispatcher_);
  Future<int> same = std::move(bound).then([](int value) { return value; });
  Future<int> handled = std::move(same).thenError([](absl::Status) { return 1; });
  Future<int> future = std::move(handled).ensure([] {});
  EXPECT_THAT(lines(asyncTrace(future)), ElementsAre(AllOf(StartsWith("ensure at "), HasSubstr(placeOf(line + 4))),
                                                     AllOf(StartsWith("thenError at "), HasSubstr(placeOf(line + 3))),
                                                     AllOf(StartsWith("then at "), HasSubstr(placeOf(line + 2))),
                                                     AllOf(StartsWith("promise at "), HasSubstr(placeOf(line)))));
}

TEST_F(AsyncTraceTest, OfAReadyFutureAndOfNoneIsEmpty) {
  EXPECT_EQ(asyncTrace(makeReadyFuture(1)), "");
  EXPECT_EQ(asyncTrace(Future<int>()), "");
}

TEST_F(AsyncTraceTest, GoesThroughCoroutinesAndNamesWhereTheyWait) {
  Promise<int> promise;
  const int line = __LINE__ + 2;
  const auto coroutine = [](Dispatcher& /*dispatcher*/, Future<int> future) -> Future<int> {
    co_await makeReadyFuture();
    co_return co_await std::move(future);
  };
  Future<int> future = coroutine(*dispatcher_, coroutine(*dispatcher_, promise.future(*dispatcher_)));
  EXPECT_THAT(lines(asyncTrace(future)),
              ElementsAre(AllOf(StartsWith("coroutine at "), HasSubstr(placeOf(line))),
                          AllOf(StartsWith("co_await at "), HasSubstr(placeOf(line + 1))),
                          AllOf(StartsWith("coroutine at "), HasSubstr(placeOf(line))),
                          AllOf(StartsWith("co_await at "), HasSubstr(placeOf(line + 1))), StartsWith("promise at ")));
}

TEST_F(AsyncTraceTest, NamesTheSleepOfACoroutine) {
  const auto sleeper = [](Dispatcher& /*dispatcher*/) -> Future<void> { co_await 1h; };
  Future<void> future = sleeper(*dispatcher_);
  EXPECT_THAT(lines(asyncTrace(future)),
              ElementsAre(StartsWith("coroutine at "), StartsWith("co_await at "), StartsWith("sleep at ")));
  future.cancel();
}

TEST_F(AsyncTraceTest, GoesIntoTheFutureThatAContinuationReturned) {
  Promise<void> start;
  Promise<int> inner;
  Future<int> future = start.future(*dispatcher_).then([&] { return inner.future(*dispatcher_); });
  start.setValue();
  run();
  EXPECT_THAT(lines(asyncTrace(future)), ElementsAre(StartsWith("returned future at "), StartsWith("promise at ")));
  std::move(future).detach();
}

// A node with two inputs, as combinators make them.
class Pair final : public future_internal::ResultNode<int> {
public:
  Pair(future_internal::Node* first, future_internal::Node* second) : inputs_{first, second} {}
  void runTask() noexcept override {}
  const char* kind() const noexcept override { return "pair"; }
  future_internal::Node* waitsFor(std::size_t index) const noexcept override {
    return index < 2 ? inputs_[index] : nullptr;
  }

private:
  void destroy() noexcept override {}
  future_internal::Node* inputs_[2];
};

TEST_F(AsyncTraceTest, IndentsWhatANodeWithSeveralInputsWaitsFor) {
  Promise<int> first;
  Promise<int> second;
  Future<int> a = first.future(*dispatcher_).then([](int value) { return value; });
  Future<int> b = second.future(*dispatcher_);
  const Pair pair(future_internal::Access::node(a), future_internal::Access::node(b));
  EXPECT_THAT(lines(future_internal::traceNode(&pair)),
              ElementsAre("pair", StartsWith("  then at "), StartsWith("  promise at "), StartsWith("  promise at ")));
  std::move(a).detach();
  std::move(b).detach();
}

TEST_F(AsyncTraceTest, OfALongChainEndsWithTheNumberOfTheOthers) {
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_);
  for (int i = 0; i < 10'000; ++i) {
    future = std::move(future).then([](int value) { return value; });
  }
  const std::vector<std::string> trace = lines(asyncTrace(future));
  EXPECT_EQ(trace.size(), 1001U);
  EXPECT_EQ(trace.back(), "... and 9001 more");
}

TEST_F(AsyncTraceTest, OnAForeignThreadSaysThatItIsOne) {
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_);
  std::string trace;
  std::thread([&] { trace = asyncTrace(future); }).join();
  EXPECT_EQ(trace, "(what it waits for is another thread's)\n");
  std::move(future).detach();
}

}  // namespace
}  // namespace nuncio::test
