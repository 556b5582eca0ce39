// Chains of futures on one dispatcher and its thread.

#include "nuncio/future/future.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/status_error.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr int kMany = 1'000'000;

class FutureTest : public testing::Test {
protected:
  // From its first run on, the dispatcher is this thread's.
  FutureTest() { run(); }

  void run() { dispatcher_->run(RunType::NonBlock); }
  // What `future` came to, in words.
  template <class T>
  std::string resultOf(Future<T>& future) {
    if (!future.isReady()) {
      return "pending";
    }
    return future.result().hasValue() ? "value"
                                      : std::string(absl::StatusCodeToString(future.result().status().code()));
  }

  DispatcherPtr dispatcher_ = createDispatcher({.name = "futures"});
};

TEST_F(FutureTest, ThenGetsTheValueOfAReadyFutureInPlace) {
  Future<int> future =
      makeReadyFuture(20).then([](int value) { return value + 1; }).then([](int value) { return 2 * value; });
  ASSERT_TRUE(future.isReady());
  EXPECT_EQ(*future.result(), 42);
}

TEST_F(FutureTest, ThenOnAPendingFutureRunsOnceThePromiseIsSet) {
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_).then([](int value) { return value + 1; });
  run();
  EXPECT_EQ(resultOf(future), "pending");
  EXPECT_TRUE(promise.setValue(41));
  run();
  ASSERT_TRUE(future.isReady());
  EXPECT_EQ(*future.result(), 42);
}

TEST_F(FutureTest, FulfillingAPromiseNeverRunsAContinuationInsideSetValue) {
  Promise<int> promise;
  bool ran = false;
  Future<void> future = promise.future(*dispatcher_).then([&](int) { ran = true; });
  promise.setValue(1);
  EXPECT_FALSE(ran);
  run();
  EXPECT_TRUE(ran);
}

TEST_F(FutureTest, ThenOnATryGetsFailuresToo) {
  Future<std::string> future = makeFailedFuture<int>(absl::NotFoundError("no")).then([](Try<int> result) {
    return std::string(result.status().message());
  });
  EXPECT_EQ(*future.result(), "no");
}

TEST_F(FutureTest, AFailureSkipsThenAndReachesThenError) {
  bool skipped = true;
  Future<int> future = makeFailedFuture<int>(absl::NotFoundError("no"))
                           .then([&](int value) {
                             skipped = false;
                             return value;
                           })
                           .thenError([](absl::Status status) { return absl::IsNotFound(status) ? 7 : 8; });
  EXPECT_TRUE(skipped);
  EXPECT_EQ(*future.result(), 7);
}

TEST_F(FutureTest, AValueSkipsThenError) {
  Future<int> future = makeReadyFuture(1).thenError([](absl::Status) { return 2; });
  EXPECT_EQ(*future.result(), 1);
}

TEST_F(FutureTest, AGenericFunctionGetsTheValueAndIsSkippedByAFailure) {
  Future<void> value = makeReadyFuture(1).then([](auto&& v) { static_assert(std::is_same_v<decltype(v), int&&>); });
  Future<void> failure = makeFailedFuture<int>(absl::NotFoundError("no")).then([](auto&&) {});
  EXPECT_TRUE(value.result().hasValue());
  EXPECT_EQ(std::move(failure).get().status(), absl::NotFoundError("no"));
}

TEST_F(FutureTest, ThenErrorMayFailOnceMore) {
  Future<int> future = makeFailedFuture<int>(absl::NotFoundError("no")).thenError([](absl::Status status) {
    return absl::StatusOr<int>(absl::InternalError(status.message()));
  });
  EXPECT_EQ(future.result().status(), absl::InternalError("no"));
}

TEST_F(FutureTest, AnExceptionOfAContinuationIsTheResult) {
  Promise<int> promise;
  Future<int> pending = promise.future(*dispatcher_).then([](int) -> int { throw std::runtime_error("later"); });
  Future<int> ready = makeReadyFuture(1).then([](int) -> int { throw std::runtime_error("at once"); });
  promise.setValue(1);
  run();
  EXPECT_THROW(ready.result().throwIfFailed(), std::runtime_error);
  EXPECT_EQ(ready.result().status(), absl::UnknownError("exception: at once"));
  EXPECT_THROW(pending.result().throwIfFailed(), std::runtime_error);
  EXPECT_EQ(pending.result().status(), absl::UnknownError("exception: later"));
}

TEST_F(FutureTest, AStatusErrorThatEscapesIsItsStatusAgain) {
  Future<int> future = makeReadyFuture(1).then([](int) -> int { throw StatusError(absl::DataLossError("thrown")); });
  EXPECT_FALSE(future.result().hasException());
  EXPECT_EQ(future.result().status(), absl::DataLossError("thrown"));
}

TEST_F(FutureTest, ThenErrorOfATypeGetsThatTypeAndItsHeirsOnly) {
  const auto failing = [](std::exception_ptr exception) {
    return makeFailedFuture<std::string>(std::move(exception))
        .thenError<std::logic_error>([](std::logic_error& e) { return std::string("logic: ") + e.what(); })
        .thenError<std::runtime_error>([](const std::runtime_error& e) { return std::string("runtime: ") + e.what(); });
  };
  EXPECT_EQ(*failing(std::make_exception_ptr(std::invalid_argument("a"))).get(), "logic: a");
  EXPECT_EQ(*failing(std::make_exception_ptr(std::range_error("b"))).get(), "runtime: b");
  EXPECT_EQ(failing(std::make_exception_ptr(5)).get().status(),
            absl::UnknownError("exception that is not a std::exception"));
}

TEST_F(FutureTest, ThenErrorOfATypeLeavesAStatusAlone) {
  Future<int> future =
      makeFailedFuture<int>(absl::NotFoundError("no")).thenError<std::exception>([](std::exception&) { return 1; });
  EXPECT_EQ(future.result().status(), absl::NotFoundError("no"));
}

TEST_F(FutureTest, AnExceptionPassesThroughALongChainUntouched) {
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_);
  for (int i = 0; i < 100; ++i) {
    future = std::move(future).then([](int value) { return value; });
  }
  promise.setException(std::make_exception_ptr(std::out_of_range("far")));
  run();
  EXPECT_THROW(future.result().throwIfFailed(), std::out_of_range);
}

TEST_F(FutureTest, EnsureRunsOnBothAndPassesTheResultOn) {
  int ran = 0;
  Future<int> value = makeReadyFuture(1).ensure([&] { ++ran; });
  Future<int> failure = makeFailedFuture<int>(absl::NotFoundError("no")).ensure([&] { ++ran; });
  EXPECT_EQ(ran, 2);
  EXPECT_EQ(*value.result(), 1);
  EXPECT_EQ(resultOf(failure), "NOT_FOUND");
}

TEST_F(FutureTest, EnsureKeepsItsCapturesUntilTheResultIsThere) {
  auto object = std::make_shared<int>(1);
  const std::weak_ptr<int> watched = object;
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_).ensure([object = std::move(object)] {});
  EXPECT_FALSE(watched.expired());
  promise.setValue(1);
  run();
  EXPECT_TRUE(watched.expired());
  EXPECT_EQ(*future.result(), 1);
}

TEST_F(FutureTest, AFailureOfEnsureWinsOverAValueNotOverAFailure) {
  const auto fail = [] { return absl::AbortedError("ensure"); };
  const auto raise = [] { throw std::runtime_error("ensure"); };
  EXPECT_EQ(makeReadyFuture(1).ensure(fail).get().status(), absl::AbortedError("ensure"));
  EXPECT_TRUE(makeReadyFuture(1).ensure(raise).get().hasException());
  EXPECT_EQ(makeFailedFuture<int>(absl::NotFoundError("first")).ensure(fail).get().status(),
            absl::NotFoundError("first"));
  EXPECT_EQ(makeFailedFuture<int>(absl::NotFoundError("first")).ensure(raise).get().status(),
            absl::NotFoundError("first"));
}

TEST_F(FutureTest, EnsureWaitsForTheFutureThatItReturns) {
  Promise<void> closed;
  Future<int> future = makeReadyFuture(1).ensure([&] { return closed.future(*dispatcher_); });
  run();
  EXPECT_EQ(resultOf(future), "pending");
  closed.setValue();
  run();
  EXPECT_EQ(*future.result(), 1);
}

TEST_F(FutureTest, AFailedFutureOfEnsureWinsOverAValueNotOverAFailure) {
  const auto fail = [] { return makeFailedFuture<void>(absl::AbortedError("ensure")); };
  const auto raise = []() -> Future<void> { throw std::runtime_error("ensure"); };
  EXPECT_EQ(makeReadyFuture(1).ensure(fail).get().status(), absl::AbortedError("ensure"));
  EXPECT_TRUE(makeReadyFuture(1).ensure(raise).get().hasException());
  EXPECT_EQ(makeFailedFuture<int>(absl::NotFoundError("first")).ensure(fail).get().status(),
            absl::NotFoundError("first"));
  EXPECT_EQ(makeFailedFuture<int>(absl::NotFoundError("first")).ensure(raise).get().status(),
            absl::NotFoundError("first"));
}

// --- What a continuation may return.

TEST_F(FutureTest, EveryKindOfResultIsUnwrapped) {
  Promise<int> promise;
  promise.setValue(6);
  EXPECT_EQ(*makeReadyFuture().then([] { return 1; }).get(), 1);
  EXPECT_EQ(*makeReadyFuture().then([] { return makeReadyFuture(2); }).get(), 2);
  EXPECT_EQ(*makeReadyFuture().then([] { return absl::StatusOr<int>(3); }).get(), 3);
  EXPECT_EQ(*makeReadyFuture().then([] { return Try<int>(4); }).get(), 4);
  EXPECT_TRUE(makeReadyFuture().then([] {}).get().hasValue());
  EXPECT_TRUE(makeReadyFuture().then([] { return absl::OkStatus(); }).get().hasValue());
  EXPECT_EQ(makeReadyFuture().then([] { return absl::DataLossError("5"); }).get().status(), absl::DataLossError("5"));
  EXPECT_EQ(makeReadyFuture().then([] { return absl::StatusOr<int>(absl::DataLossError("5")); }).get().status(),
            absl::DataLossError("5"));
  EXPECT_EQ(*makeReadyFuture().then([&] { return promise.semiFuture(); }).get(), 6);
}

TEST_F(FutureTest, APendingFutureThatAContinuationReturnsIsUnwrapped) {
  Promise<void> start;
  Promise<int> inner;
  Promise<int> semi;
  Future<int> future = start.future(*dispatcher_)
                           .then([&] { return inner.future(*dispatcher_); })
                           .then([&](int) { return semi.semiFuture(); })
                           .then([](int value) { return value + 1; });
  start.setValue();
  run();
  inner.setValue(1);
  run();
  EXPECT_EQ(resultOf(future), "pending");
  semi.setValue(41);
  run();
  EXPECT_EQ(*future.result(), 42);
}

TEST_F(FutureTest, ThenAfterTheContinuationReturnedAPendingFutureWaitsForThatFuture) {
  Promise<void> start;
  Promise<int> inner;
  Future<int> outer = start.future(*dispatcher_).then([&] { return inner.future(*dispatcher_); });
  start.setValue();
  run();
  Future<int> future = std::move(outer).then([](int value) { return value + 1; });
  inner.setValue(41);
  run();
  EXPECT_EQ(*future.result(), 42);
}

TEST_F(FutureTest, AReturnedFutureThatIsNoneFailsWithFailedPrecondition) {
  Promise<void> start;
  Future<int> pending = start.future(*dispatcher_).then([] { return Future<int>(); });
  Future<int> ready = makeReadyFuture().then([] { return Future<int>(); }).then([](int value) { return value; });
  start.setValue();
  run();
  EXPECT_EQ(resultOf(pending), "FAILED_PRECONDITION");
  EXPECT_EQ(resultOf(ready), "FAILED_PRECONDITION");
}

TEST_F(FutureTest, MoveOnlyValuesMoveThrough) {
  Promise<std::unique_ptr<int>> promise;
  Future<std::unique_ptr<int>> future = promise.future(*dispatcher_)
                                            .then([](std::unique_ptr<int> value) { return value; })
                                            .ensure([] {})
                                            .then([](Try<std::unique_ptr<int>> value) { return value; })
                                            .thenError([](absl::Status) { return std::unique_ptr<int>(); });
  promise.setValue(std::make_unique<int>(42));
  run();
  Try<std::unique_ptr<int>> result = std::move(future).semi().get();
  EXPECT_EQ(**result, 42);
}

TEST_F(FutureTest, AReferenceWrapperRefersToTheSameObject) {
  int object = 1;
  Future<std::reference_wrapper<int>> future =
      makeReadyFuture(std::ref(object)).then([](std::reference_wrapper<int> reference) {
        ++reference.get();
        return reference;
      });
  EXPECT_EQ(&future.result()->get(), &object);
  EXPECT_EQ(object, 2);
}

TEST_F(FutureTest, MemberFunctionsOfPointersAreContinuations) {
  struct Account {
    int deposit(int amount) { return balance += amount; }
    Future<int> later(int amount) { return makeReadyFuture(amount); }
    int read() const { return balance; }
    int balance = 0;
  };
  Account account;
  const auto shared = std::make_shared<Account>();
  EXPECT_EQ(*makeReadyFuture(5).then(&Account::deposit, &account).get(), 5);
  EXPECT_EQ(*makeReadyFuture(6).then(&Account::deposit, shared).then(&Account::later, &account).get(), 6);
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_).then(&Account::deposit, &account);
  promise.setValue(10);
  run();
  EXPECT_EQ(*future.result(), 15);
  EXPECT_EQ(shared.use_count(), 1);  // the continuation has let go of it
}

TEST_F(FutureTest, AContinuationIsDestroyedRightAfterItRan) {
  Promise<void> promise;
  bool destroyed = false;
  bool seen = false;
  Future<void> future = promise.future(*dispatcher_).then([probe = OnDestroy([&] { destroyed = true; })] {}).then([&] {
    seen = destroyed;
  });
  promise.setValue();
  run();
  EXPECT_TRUE(seen);
}

// --- Order.

TEST_F(FutureTest, ContinuationsRunInTheOrderInWhichTheirFuturesBecameReady) {
  std::vector<int> order;
  std::vector<Promise<void>> promises(4);
  std::vector<Future<void>> futures;
  for (int i = 0; i < 4; ++i) {
    futures.push_back(promises[i].future(*dispatcher_).then([&order, i] { order.push_back(i); }));
  }
  for (int i : {2, 0, 3, 1}) {
    promises[i].setValue();
  }
  run();
  EXPECT_THAT(order, ElementsAre(2, 0, 3, 1));
}

TEST_F(FutureTest, ThenBeforeAndAfterFulfilmentGiveTheSameOrder) {
  for (const bool attach_before : {true, false}) {
    std::vector<int> order;
    std::vector<Promise<void>> promises(3);
    std::vector<Future<void>> futures;
    for (Promise<void>& promise : promises) {
      futures.push_back(promise.future(*dispatcher_));
    }
    const auto attach = [&] {
      for (int i = 0; i < 3; ++i) {
        futures[i] = std::move(futures[i]).then([&order, i] { order.push_back(i); });
      }
    };
    if (attach_before) {
      attach();
    }
    for (Promise<void>& promise : promises) {
      promise.setValue();
    }
    if (!attach_before) {
      attach();
    }
    run();
    EXPECT_THAT(order, ElementsAre(0, 1, 2));
  }
}

TEST_F(FutureTest, AContinuationOfAReadyFutureDoesNotOvertakeOnesThatWait) {
  std::vector<int> order;
  Promise<void> promise;
  Future<void> ready = promise.future(*dispatcher_).then([] {});
  promise.setValue();
  run();
  ASSERT_TRUE(ready.isReady());
  Promise<void> other;
  Future<void> waiting = other.future(*dispatcher_).then([&] { order.push_back(1); });
  other.setValue();
  Future<void> late = std::move(ready).then([&] { order.push_back(2); });
  run();
  EXPECT_THAT(order, ElementsAre(1, 2));
}

// --- In place.

// A ready future of `dispatcher`.
Future<int> readyOf(Dispatcher& dispatcher) {
  Promise<int> promise;
  promise.setValue(1);
  return promise.future(dispatcher);
}

// Continuations on many ready futures within one callback.
struct ManyInPlace {
  ManyInPlace(Dispatcher& dispatcher, int count) {
    dispatcher.post([this, &dispatcher, count] {
      for (int i = 0; i < count; ++i) {
        readyOf(dispatcher).then([this, i](int) { order.push_back(i); }).detach();
      }
      in_place = order.size();
    });
    dispatcher.run(RunType::NonBlock);
    in_the_iteration = order.size();
  }

  std::vector<int> order;
  std::size_t in_place = 0;
  std::size_t in_the_iteration = 0;
};

TEST_F(FutureTest, ALongCallbackRunsNotAllOfItsContinuationsInPlaceAndTheRestLaterInOrder) {
  constexpr std::size_t kCount = kSanitizer ? 50'000 : 200'000;
  ManyInPlace many(*dispatcher_, kCount);
  EXPECT_GT(many.in_place, 0U);
  EXPECT_LT(many.in_place, kCount);
  while (many.order.size() < kCount) {
    run();
  }
  EXPECT_TRUE(std::is_sorted(many.order.begin(), many.order.end()));
}

TEST_F(FutureTest, InSimulatedTimeTheSameNumberRunsInPlaceInEachIteration) {
  constexpr std::size_t kCount = 30'000;
  SimulatedTimeSystem time;
  std::optional<ManyInPlace> first;
  for (int round = 0; round < 3; ++round) {
    DispatcherPtr dispatcher = createDispatcher({.name = "simulated", .time_system = &time});
    for (int iteration = 0; iteration < 3; ++iteration) {
      ManyInPlace many(*dispatcher, kCount);
      dispatcher->run(RunType::Block);
      ASSERT_EQ(many.order.size(), kCount);
      if (!first.has_value()) {
        first = many;
        EXPECT_GT(many.in_place, 0U);
        EXPECT_LT(many.in_place, kCount);
      }
      EXPECT_EQ(many.in_place, first->in_place);
      EXPECT_EQ(many.in_the_iteration, first->in_the_iteration);
      EXPECT_EQ(many.order, first->order);
    }
  }
}

// Calls itself in place again and again, each time with a larger frame; notes how deep the stack was.
struct Recursion {
  Future<int> operator()(int calls) {
    volatile std::byte frame[2'000];
    frame[0] = std::byte{1};
    frame[sizeof(frame) - 1] = std::byte{1};
    deepest = std::min(deepest, reinterpret_cast<uintptr_t>(__builtin_frame_address(0)));
    if (calls == 0) {
      return makeReadyFuture(static_cast<int>(frame[0]));
    }
    return ready().then([this, calls](int) { return (*this)(calls - 1); });
  }

  std::function<Future<int>()> ready;
  uintptr_t deepest = UINTPTR_MAX;
};

TEST_F(FutureTest, ARecursionInPlaceUsesABoundedStackWhateverItsFunctions) {
  constexpr uintptr_t kMaxStack = (kSanitizer ? 3 : 1) * 16 * 1024 + 64 * 1024;  // and the last call
  for (const bool with_dispatcher : {true, false}) {
    Recursion recursion{.ready = [&] { return with_dispatcher ? readyOf(*dispatcher_) : makeReadyFuture(1); }};
    Future<int> future;
    uintptr_t start = 0;
    dispatcher_->post([&] {
      start = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
      future = recursion(10'000);
    });
    do {
      run();
    } while (!future.isReady());
    EXPECT_TRUE(future.result().hasValue());
    EXPECT_LT(start - recursion.deepest, kMaxStack) << with_dispatcher;
  }
}

TEST_F(FutureTest, OneWithoutADispatcherRunsItsContinuationsInPlaceHoweverMany) {
  int ran = 0;
  bool all_in_place = false;
  dispatcher_->post([&] {
    for (int i = 0; i < 100'000; ++i) {
      makeReadyFuture(1).then([&](int) { ++ran; }).detach();
    }
    all_in_place = ran == 100'000;
  });
  run();
  EXPECT_TRUE(all_in_place);
}

// --- Cancelling, dropping.

TEST_F(FutureTest, CancelBeforeTheStartKeepsTheContinuationFromRunning) {
  Promise<int> promise;
  bool ran = false;
  bool destroyed = false;
  Future<void> future =
      promise.future(*dispatcher_).then([&ran, probe = OnDestroy([&] { destroyed = true; })](int) { ran = true; });
  future.cancel();
  run();
  EXPECT_EQ(resultOf(future), "CANCELLED");
  EXPECT_FALSE(promise.setValue(1));
  run();
  EXPECT_FALSE(ran);
  EXPECT_TRUE(destroyed);
}

TEST_F(FutureTest, CancelAfterFulfilmentKeepsTheContinuationThatHasNotRunFromRunning) {
  Promise<int> promise;
  bool ran = false;
  Future<void> future = promise.future(*dispatcher_).then([&](int) { ran = true; });
  EXPECT_TRUE(promise.setValue(1));
  future.cancel();
  run();
  EXPECT_FALSE(ran);
  EXPECT_EQ(resultOf(future), "CANCELLED");
}

TEST_F(FutureTest, CancelOfAReadyFutureLeavesItsValue) {
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_);
  promise.setValue(1);
  future.cancel();
  EXPECT_EQ(*future.result(), 1);
}

TEST_F(FutureTest, CancelReachesThePromiseOfAFutureThatAContinuationReturned) {
  Promise<void> start;
  Promise<int> inner;
  bool told = false;
  inner.onCancel([&] { told = true; });
  Future<int> future = start.future(*dispatcher_).then([&] { return inner.future(*dispatcher_); });
  start.setValue();
  run();
  future.cancel();
  run();
  EXPECT_TRUE(told);
  EXPECT_TRUE(inner.done());
  EXPECT_EQ(resultOf(future), "CANCELLED");
}

TEST_F(FutureTest, ThenErrorDoesNotRunForACancelThatCameFromItsOwnFuture) {
  Promise<int> promise;
  bool ran = false;
  Future<int> future = promise.future(*dispatcher_).thenError([&](absl::Status) {
    ran = true;
    return 1;
  });
  future.cancel();
  run();
  EXPECT_FALSE(ran);
  EXPECT_EQ(resultOf(future), "CANCELLED");
}

TEST_F(FutureTest, EnsureRunsAlsoWhenItWasCancelled) {
  Promise<int> promise;
  int ran = 0;
  Future<int> future = promise.future(*dispatcher_).ensure([&] { ++ran; }).ensure([&] { ++ran; });
  future.cancel();
  run();
  EXPECT_EQ(ran, 2);
  EXPECT_EQ(resultOf(future), "CANCELLED");
}

TEST_F(FutureTest, TheFutureOfAnEnsureIsWaitedForAlsoWhenItWasCancelledBefore) {
  Promise<int> promise;
  Promise<void> closed;
  Future<int> future = promise.future(*dispatcher_).ensure([&] { return closed.future(*dispatcher_); });
  future.cancel();
  run();
  EXPECT_EQ(resultOf(future), "pending");
  EXPECT_FALSE(closed.done());
  closed.setValue();
  run();
  EXPECT_EQ(resultOf(future), "CANCELLED");
}

TEST_F(FutureTest, AContinuationThatCancelsItsOwnFutureEndsTheChainAfterIt) {
  Promise<void> promise;
  Future<void> future;
  bool ran = false;
  future = promise.future(*dispatcher_).then([&] { future.cancel(); }).then([&] { ran = true; });
  promise.setValue();
  run();
  EXPECT_FALSE(ran);
  EXPECT_EQ(resultOf(future), "CANCELLED");
}

TEST_F(FutureTest, AContinuationMayDestroyItsOwnFuture) {
  Promise<void> promise;
  auto future = std::make_unique<Future<std::string>>();
  int ran = 0;
  *future = promise.future(*dispatcher_).then([&] {
    future.reset();
    ++ran;
    return std::string("nobody wants it");
  });
  promise.setValue();
  run();
  auto ready = std::make_unique<Future<int>>(makeReadyFuture(1));
  Future<void> in_place = std::move(*ready).then([&](int) {
    ready.reset();
    ++ran;
  });
  EXPECT_EQ(ran, 2);
}

TEST_F(FutureTest, AContinuationMayFulfilOtherPromisesOfItsDispatcher) {
  Promise<void> first;
  Promise<int> second;
  bool nested = false;
  Future<int> answer = second.future(*dispatcher_).then([&](int value) {
    nested = true;
    return value;
  });
  Future<void> start = first.future(*dispatcher_).then([&] {
    second.setValue(42);
    EXPECT_FALSE(nested);
  });
  first.setValue();
  run();
  EXPECT_EQ(*answer.result(), 42);
}

TEST_F(FutureTest, AContinuationMayDestroyTheLastHandleOfAnotherDispatcher) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  other->run(RunType::NonBlock);
  Promise<void> there;
  Future<void> pending = there.future(*other).then([] {});
  Promise<void> promise;
  Future<void> future = promise.future(*dispatcher_).then([&] { other.reset(); });
  promise.setValue();
  run();
  EXPECT_TRUE(future.result().hasValue());
  EXPECT_EQ(resultOf(pending), "CANCELLED");
  EXPECT_TRUE(there.done());
}

#ifndef NDEBUG  // undefined in a release build
void destroyDispatcherInContinuation() {
  DispatcherPtr dispatcher = createDispatcher({.name = "suicidal"});
  Promise<void> promise;
  Future<void> future = promise.future(*dispatcher).then([&] { dispatcher.reset(); });
  promise.setValue();
  dispatcher->run(RunType::NonBlock);
}

TEST_F(FutureTest, AContinuationThatDestroysItsOwnDispatcherBreaksTheContract) {
  EXPECT_DEATH(destroyDispatcherInContinuation(), HasSubstr("suicidal"));
}
#endif

TEST_F(FutureTest, ADroppedFutureGoesOn) {
  Promise<int> promise;
  bool ran = false;
  {
    Future<void> future = promise.future(*dispatcher_).then([&](int) { ran = true; });
  }
  EXPECT_FALSE(promise.done());
  promise.setValue(1);
  run();
  EXPECT_TRUE(ran);
}

TEST_F(FutureTest, ADroppedFutureThatReturnsAFutureGoesOnWithThat) {
  Promise<void> start;
  Promise<void> inner;
  bool ran = false;
  {
    Future<void> future =
        start.future(*dispatcher_).then([&] { return inner.future(*dispatcher_).then([&] { ran = true; }); });
  }
  start.setValue();
  run();
  inner.setValue();
  run();
  EXPECT_TRUE(ran);
}

TEST_F(FutureTest, AMovedFromFutureFailsWithFailedPrecondition) {
  Future<int> future = makeReadyFuture(1);
  Future<int> taken = std::move(future);
  EXPECT_FALSE(future.valid());  // NOLINT(bugprone-use-after-move): that is what is tested
  Future<int> after = std::move(future).then([](int value) { return value; });
  EXPECT_EQ(resultOf(after), "FAILED_PRECONDITION");
  EXPECT_EQ(Future<int>().get().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(*taken.result(), 1);
}

TEST_F(FutureTest, ForwardToSettlesThePromiseAndCarriesCancelsBack) {
  Promise<int> source;
  Promise<int> target;
  SemiFuture<int> answer = target.semiFuture();
  source.future(*dispatcher_).forwardTo(std::move(target));
  source.setValue(42);
  run();
  EXPECT_EQ(*answer.result(), 42);

  Promise<int> second;
  Promise<int> second_target;
  SemiFuture<int> unwanted = second_target.semiFuture();
  second.future(*dispatcher_).forwardTo(std::move(second_target));
  unwanted.cancel();
  run();
  EXPECT_TRUE(second.done());
}

TEST_F(FutureTest, GetAndWaitOnTheLoopsOwnThreadAreRefused) {
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_);
  SemiFuture<int> semi;
  Promise<int> other;
  semi = other.semiFuture();
  dispatcher_->post([&] {
    EXPECT_EQ(future.wait(std::chrono::hours(1)).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(semi.wait(std::chrono::hours(1)).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(std::move(future).get().status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(std::move(semi).get().status().code(), absl::StatusCode::kFailedPrecondition);
  });
  run();
}

TEST_F(FutureTest, GetOfAReadyFutureIsAllowedOnTheLoopsThread) {
  Promise<int> promise;
  promise.setValue(1);
  Future<int> future = promise.future(*dispatcher_);
  EXPECT_TRUE(future.wait(std::chrono::seconds(0)).ok());
  EXPECT_EQ(*std::move(future).get(), 1);
}

// --- Many.

TEST_F(FutureTest, AMillionNestedThensCompleteWithABoundedStack) {
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_);
  for (int i = 0; i < kMany; ++i) {
    future = std::move(future).then([](int value) { return value + 1; });
  }
  promise.setValue(0);
  while (!future.isReady()) {
    run();
  }
  EXPECT_EQ(*future.result(), kMany);
}

TEST_F(FutureTest, AMillionNestedThensAreCancelledAndDestroyedWithABoundedStack) {
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_);
  int destroyed = 0;
  for (int i = 0; i < kMany; ++i) {
    future = std::move(future).then([probe = OnDestroy([&] { ++destroyed; })](int value) { return value; });
  }
  future.cancel();
  while (!future.isReady()) {
    run();
  }
  EXPECT_EQ(destroyed, kMany);
  EXPECT_EQ(resultOf(future), "CANCELLED");
}

TEST_F(FutureTest, ALoopOfAMillionReadyFuturesRuns) {
  Future<int> future = makeReadyFuture(0);
  dispatcher_->post([&] {
    for (int i = 0; i < kMany; ++i) {
      future = std::move(future).then([](int value) { return makeReadyFuture(value + 1); });
    }
  });
  do {
    run();
  } while (!future.isReady());
  EXPECT_EQ(*future.result(), kMany);
}

// A function that goes on by returning its own future.
struct Loop {
  Future<int> operator()() {
    if (count == kMany) {
      return makeReadyFuture(count);
    }
    ++count;
    return step().then([this] { return (*this)(); });
  }

  std::function<Future<void>()> step;
  int count = 0;
};

TEST_F(FutureTest, AFunctionThatReturnsItsOwnFutureAMillionTimesRunsWithABoundedStack) {
  Loop loop{.step = [] { return makeReadyFuture(); }};
  Future<int> future;
  dispatcher_->post([&] { future = loop(); });
  do {
    run();
  } while (!future.isReady());
  EXPECT_EQ(*future.result(), kMany);
}

TEST_F(FutureTest, AFunctionThatReturnsItsOwnPendingFutureAMillionTimesRunsWithABoundedStack) {
  Promise<void> next;
  Loop loop{.step = [&] {
    next = Promise<void>();
    return next.future(*dispatcher_);
  }};
  Future<int> future = loop();
  while (!future.isReady()) {
    next.setValue();
    run();
  }
  EXPECT_EQ(*future.result(), kMany);
}

}  // namespace
}  // namespace nuncio::test
