#include "nuncio/future/collect.h"

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/future/coroutine.h"
#include "nuncio/future/time.h"
#include "test/future/loop_fixture.h"
#include "test/test_support/dispatcher_thread.h"

namespace nuncio {
namespace {

using namespace std::chrono_literals;
using std::size_t;
using test::codeOf;
using test::Inputs;
using test::statusOf;

class CollectTest : public test::LoopFixture {};

TEST_F(CollectTest, CollectGivesAllValuesInInputOrder) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  inputs.promises[2].setValue(2);
  inputs.promises[0].setValue(0);
  turn();
  EXPECT_FALSE(all.isReady());
  inputs.promises[1].setValue(1);
  turn();
  ASSERT_TRUE(all.isReady());
  EXPECT_EQ(*all.result(), (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0, 0}));
}

TEST_F(CollectTest, CollectContinuesOnceOnTheDispatcher) {
  Inputs<int> inputs(*dispatcher_, 100);
  int calls = 0;
  int sum = 0;
  collect(std::move(inputs.futures))
      .then([&](std::vector<int> values) {
        ++calls;
        for (const int value : values) {
          sum += value;
        }
      })
      .detach();
  for (Promise<int>& promise : inputs.promises) {
    promise.setValue(2);
  }
  EXPECT_EQ(calls, 0);
  turn();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(sum, 200);
}

TEST_F(CollectTest, CollectOfNothingIsReady) {
  Future<std::vector<int>> none = collect(std::vector<Future<int>>());
  ASSERT_TRUE(none.isReady());
  EXPECT_TRUE((*none.result()).empty());
  Future<void> nothing = collect(std::vector<Future<void>>());
  ASSERT_TRUE(nothing.isReady());
  EXPECT_TRUE(nothing.result().hasValue());
}

TEST_F(CollectTest, CollectOfReadyFuturesIsReady) {
  std::vector<Future<std::string>> futures;
  futures.push_back(makeReadyFuture(std::string("a")));
  futures.push_back(makeReadyFuture(std::string("b")).via(*dispatcher_));
  Future<std::vector<std::string>> all = collect(std::move(futures));
  ASSERT_TRUE(all.isReady());
  EXPECT_EQ(*all.result(), (std::vector<std::string>{"a", "b"}));
}

TEST_F(CollectTest, CollectOfReadyAndPendingFuturesKeepsTheOrder) {
  Promise<std::unique_ptr<int>> promise;
  std::vector<Future<std::unique_ptr<int>>> futures;
  futures.push_back(makeReadyFuture(std::make_unique<int>(0)));
  futures.push_back(promise.future(*dispatcher_));
  futures.push_back(makeReadyFuture(std::make_unique<int>(2)));
  Future<std::vector<std::unique_ptr<int>>> all = collect(std::move(futures));
  EXPECT_FALSE(all.isReady());
  promise.setValue(std::make_unique<int>(1));
  turn();
  ASSERT_TRUE(all.isReady());
  const std::vector<std::unique_ptr<int>>& values = *all.result();
  EXPECT_EQ(*values[0] + 10 * *values[1] + 100 * *values[2], 210);
}

TEST_F(CollectTest, CollectOfVoidFuturesIsVoid) {
  Inputs<void> inputs(*dispatcher_, 2);
  Future<void> all = collect(std::move(inputs.futures));
  inputs.promises[0].setValue();
  turn();
  EXPECT_FALSE(all.isReady());
  inputs.promises[1].setValue();
  turn();
  ASSERT_TRUE(all.isReady());
  EXPECT_TRUE(all.result().hasValue());
}

TEST_F(CollectTest, CollectOfBoolsGivesBools) {
  Inputs<bool> inputs(*dispatcher_, 2);
  Future<std::vector<bool>> all = collect(std::move(inputs.futures));
  inputs.promises[0].setValue(true);
  inputs.promises[1].setValue(false);
  turn();
  EXPECT_EQ(*all.result(), (std::vector<bool>{true, false}));
}

TEST_F(CollectTest, TheFirstFailureIsTheResultOfCollectAndCancelsTheRest) {
  Inputs<int> inputs(*dispatcher_, 4);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  inputs.promises[3].setValue(3);
  inputs.promises[1].setStatus(absl::NotFoundError("x"));
  turn();
  ASSERT_TRUE(all.isReady());
  EXPECT_EQ(statusOf(all).ToString(), "NOT_FOUND: x");
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 0, 1, 0}));
}

TEST_F(CollectTest, AnExceptionPassesThroughCollect) {
  Inputs<int> inputs(*dispatcher_, 2);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  inputs.promises[1].setException(std::make_exception_ptr(std::out_of_range("x")));
  turn();
  ASSERT_TRUE(all.isReady());
  EXPECT_THROW(std::move(all).get().throwIfFailed(), std::out_of_range);
}

TEST_F(CollectTest, AReadyFailureDecidesCollectAtOnce) {
  Inputs<int> inputs(*dispatcher_, 2);
  inputs.futures.insert(inputs.futures.begin() + 1, makeFailedFuture<int>(absl::NotFoundError("x")));
  inputs.futures.push_back(makeFailedFuture<int>(absl::DataLossError("not logged")));
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  EXPECT_EQ(codeOf(all), absl::StatusCode::kNotFound);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 1}));
}

TEST_F(CollectTest, AFutureThatIsNoneFailsCollect) {
  std::vector<Future<int>> futures(2);
  Future<std::vector<int>> all = collect(std::move(futures));
  EXPECT_EQ(codeOf(all), absl::StatusCode::kFailedPrecondition);
}

TEST_F(CollectTest, FailuresAfterTheFirstAreNotLogged) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  for (Promise<int>& promise : inputs.promises) {
    promise.setStatus(absl::NotFoundError("x"));
  }
  turn();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kNotFound);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0, 0}));
}

TEST_F(CollectTest, CancellingCollectCancelsAllInputsAndEndsItAtOnce) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  inputs.promises[1].setValue(1);
  turn();
  all.cancel();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 0, 1}));
}

TEST_F(CollectTest, CancellingCollectWhileResultsAreOnTheirWayDropsThem) {
  Inputs<std::shared_ptr<int>> inputs(*dispatcher_, 3);
  auto value = std::make_shared<int>(1);
  auto all = collect(std::move(inputs.futures));
  inputs.promises[0].setValue(value);
  inputs.promises[2].setValue(value);
  all.cancel();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 1, 0}));
  turn();
  EXPECT_EQ(value.use_count(), 1);
}

TEST_F(CollectTest, ADroppedCollectGoesOn) {
  Inputs<std::shared_ptr<int>> inputs(*dispatcher_, 2);
  auto value = std::make_shared<int>(1);
  {
    const auto dropped = collect(std::move(inputs.futures));
  }
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0}));
  inputs.promises[0].setValue(value);
  turn();
  EXPECT_EQ(value.use_count(), 2);
  inputs.promises[1].setValue(value);
  turn();
  EXPECT_EQ(value.use_count(), 1);
}

TEST_F(CollectTest, ADroppedCollectThatFailsIsLoggedWithItsPlace) {
  Inputs<int> inputs(*dispatcher_, 2);
  {
    const auto dropped = collect(std::move(inputs.futures));
  }
  inputs.promises[0].setStatus(absl::NotFoundError("x"));
  const test::LogCapture log(LogLayer::Future);
  turn();
  EXPECT_TRUE(log.contains("NOT_FOUND: x")) << log.text();
  EXPECT_TRUE(log.contains("collect_test.cc")) << log.text();
}

TEST_F(CollectTest, AShutDownDispatcherCancelsCollect) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  inputs.promises[1].setValue(1);
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 0, 1}));
}

TEST_F(CollectTest, AShutDownDispatcherCancelsEvenCollectAll) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::vector<Try<int>>> all = collectAll(std::move(inputs.futures));
  bool ran = false;
  Future<void> after = std::move(all).then([&](std::vector<Try<int>>) { ran = true; });
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(after), absl::StatusCode::kCancelled);
  EXPECT_FALSE(ran);
}

TEST_F(CollectTest, AnInputThatIsCancelledMayCompleteTheOthersAndDropTheResult) {
  std::vector<Promise<int>> promises(4);
  std::vector<Future<int>> futures;
  for (Promise<int>& promise : promises) {
    futures.push_back(promise.future(*dispatcher_));
  }
  auto all = std::make_unique<Future<std::vector<int>>>();
  promises[0].onCancel([&] {
    promises[1].setValue(1);
    promises[2].setStatus(absl::NotFoundError("not logged"));
    all->cancel();
    all.reset();
  });
  *all = collect(std::move(futures));
  all->cancel();
  EXPECT_EQ(all, nullptr);
  EXPECT_TRUE(promises[3].done());
  turn();
}

TEST_F(CollectTest, AnInputThatFailsMayDropEverything) {
  std::vector<Promise<int>> promises(3);
  std::vector<Future<int>> futures;
  for (Promise<int>& promise : promises) {
    futures.push_back(promise.future(*dispatcher_));
  }
  auto all = std::make_unique<Future<std::vector<int>>>();
  promises[2].onCancel([&] {
    std::move(*all).detach();
    all.reset();
    promises.clear();
  });
  *all = collect(std::move(futures));
  promises[0].setValue(0);
  promises[1].setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(all, nullptr);
  EXPECT_TRUE(promises.empty());
}

// A value that runs a function when it is destroyed, moved from or not.
struct OnDestruction {
  OnDestruction() = default;
  explicit OnDestruction(std::function<void()>* f) : function(f) {}
  OnDestruction(OnDestruction&& other) noexcept : function(other.function) {}
  OnDestruction& operator=(OnDestruction&& other) noexcept = default;
  ~OnDestruction() {
    if (function != nullptr && *function != nullptr) {
      std::exchange(*function, nullptr)();
    }
  }
  std::function<void()>* function = nullptr;
};

TEST_F(CollectTest, AValueMayCancelAndDropCollectWhileItIsMovedThere) {
  for (const bool last : {false, true}) {
    Inputs<OnDestruction> inputs(*dispatcher_, 2);
    auto all = std::make_unique<Future<std::vector<OnDestruction>>>(collect(std::move(inputs.futures)));
    std::function<void()> function;
    if (last) {
      inputs.promises[1].setValue(OnDestruction());
      turn();
    }
    inputs.promises[0].setValue(OnDestruction(&function));
    function = [&] {
      all->cancel();
      all.reset();
    };
    turn();
    EXPECT_EQ(all, nullptr);
    EXPECT_EQ(inputs.cancelled[1], last ? 0 : 1);
  }
}

TEST_F(CollectTest, FuturesOfOtherDispatchersAreBroughtToTheFirstOnes) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  test::DispatcherThread thread(*other);
  Promise<int> here;
  Promise<int> there;
  std::vector<Future<int>> futures;
  futures.push_back(here.future(*dispatcher_));
  futures.push_back(there.future(*other));
  const auto test_thread = std::this_thread::get_id();
  int sum = 0;
  collect(std::move(futures))
      .then([&](std::vector<int> values) {
        EXPECT_EQ(std::this_thread::get_id(), test_thread);
        sum = values[0] + 10 * values[1];
        dispatcher_->exit();
      })
      .detach();
  here.setValue(1);
  thread.call([&] { there.setValue(2); });
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_EQ(sum, 21);
}

TEST_F(CollectTest, CancelReachesInputsOfOtherDispatchers) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  test::DispatcherThread thread(*other);
  Promise<int> here;
  Promise<int> there;
  test::Notification cancelled;
  there.onCancel([&] { cancelled.notify(); });
  std::vector<Future<int>> futures;
  futures.push_back(here.future(*dispatcher_));
  futures.push_back(there.future(*other));
  Future<std::vector<int>> all = collect(std::move(futures));
  all.cancel();
  EXPECT_FALSE(all.isReady());  // the other dispatcher has not answered
  EXPECT_TRUE(cancelled.wait());
  while (!all.isReady()) {
    turn();
  }
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
  thread.stop();
}

TEST_F(CollectTest, AMillionInputs) {
  constexpr size_t kCount = 1'000'000;
  std::vector<Promise<int>> promises(kCount);
  std::vector<Future<int>> futures;
  futures.reserve(kCount);
  for (Promise<int>& promise : promises) {
    futures.push_back(promise.future(*dispatcher_));
  }
  Future<std::vector<int>> all = collect(std::move(futures));
  for (size_t i = 0; i < kCount; ++i) {
    promises[i].setValue(static_cast<int>(i));
  }
  while (!all.isReady()) {
    turn();
  }
  const std::vector<int>& values = *all.result();
  ASSERT_EQ(values.size(), kCount);
  for (size_t i = 0; i < kCount; ++i) {
    ASSERT_EQ(values[i], static_cast<int>(i));
  }
}

TEST_F(CollectTest, AMillionInputsAreCancelled) {
  constexpr size_t kCount = 1'000'000;
  std::vector<Promise<int>> promises(kCount);
  std::vector<Future<int>> futures;
  for (Promise<int>& promise : promises) {
    futures.push_back(promise.future(*dispatcher_));
  }
  Future<std::vector<int>> all = collect(std::move(futures));
  all.cancel();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
  for (const Promise<int>& promise : promises) {
    ASSERT_TRUE(promise.done());
  }
}

TEST_F(CollectTest, CollectsThatWaitForCollectsMayStandInEachOtherDeeply) {
  for (const bool shutdown : {false, true}) {
    Promise<void> promise;
    Future<void> all = promise.future(*dispatcher_);
    for (int i = 0; i < 100'000; ++i) {
      std::vector<Future<void>> one;
      one.push_back(std::move(all));
      all = collect(std::move(one));
    }
    if (shutdown) {
      dispatcher_->shutdown();
    } else {
      all.cancel();
      while (!promise.done()) {
        turn();
      }
    }
    EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
    EXPECT_TRUE(promise.done());
  }
}

TEST_F(CollectTest, ATupleOfValuesOfSeveralTypes) {
  Promise<int> number;
  Promise<std::unique_ptr<int>> pointer;
  Promise<void> nothing;
  Future<std::tuple<int, std::unique_ptr<int>, Unit, std::string>> all =
      collect(number.future(*dispatcher_), pointer.future(*dispatcher_), nothing.future(*dispatcher_),
              makeReadyFuture(std::string("text")));
  nothing.setValue();
  pointer.setValue(std::make_unique<int>(2));
  turn();
  EXPECT_FALSE(all.isReady());
  number.setValue(1);
  turn();
  ASSERT_TRUE(all.isReady());
  const auto& [one, two, unit, text] = *all.result();
  EXPECT_EQ(one, 1);
  EXPECT_EQ(*two, 2);
  EXPECT_EQ(unit, Unit());
  EXPECT_EQ(text, "text");
}

TEST_F(CollectTest, TheFirstFailureOfATupleCancelsTheRest) {
  Promise<int> number;
  Promise<void> nothing;
  int cancelled = 0;
  number.onCancel([&] { ++cancelled; });
  auto all = collect(number.future(*dispatcher_), nothing.future(*dispatcher_));
  nothing.setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kNotFound);
  EXPECT_EQ(cancelled, 1);
}

TEST_F(CollectTest, ATupleOfReadyFuturesIsReady) {
  Future<std::tuple<int, Unit>> all = collect(makeReadyFuture(1), makeReadyFuture());
  ASSERT_TRUE(all.isReady());
  EXPECT_EQ(std::get<0>(*all.result()), 1);
}

TEST_F(CollectTest, CollectAllGivesWhateverCameOfEach) {
  Inputs<int> inputs(*dispatcher_, 3);
  inputs.futures.push_back(makeReadyFuture(3));
  Future<std::vector<Try<int>>> all = collectAll(std::move(inputs.futures));
  inputs.promises[2].setStatus(absl::NotFoundError("x"));
  inputs.promises[0].setValue(0);
  turn();
  EXPECT_FALSE(all.isReady());
  inputs.promises[1].setException(std::make_exception_ptr(std::out_of_range("x")));
  turn();
  ASSERT_TRUE(all.isReady());
  const std::vector<Try<int>>& results = *all.result();
  EXPECT_EQ(*results[0], 0);
  EXPECT_TRUE(results[1].hasException());
  EXPECT_EQ(results[2].status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(*results[3], 3);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0, 0}));
}

TEST_F(CollectTest, CollectAllOfNothingIsReady) {
  Future<std::vector<Try<int>>> none = collectAll(std::vector<Future<int>>());
  ASSERT_TRUE(none.isReady());
  EXPECT_TRUE((*none.result()).empty());
}

TEST_F(CollectTest, CollectAllOfVoidAndOfSeveralTypes) {
  Promise<int> number;
  Promise<void> nothing;
  Future<std::tuple<Try<int>, Try<void>>> all = collectAll(number.future(*dispatcher_), nothing.future(*dispatcher_));
  number.setStatus(absl::NotFoundError("x"));
  nothing.setValue();
  turn();
  ASSERT_TRUE(all.isReady());
  EXPECT_TRUE(std::get<0>(*all.result()).failed());
  EXPECT_TRUE(std::get<1>(*all.result()).hasValue());
}

TEST_F(CollectTest, CancellingCollectAllCancelsAllInputs) {
  Inputs<void> inputs(*dispatcher_, 2);
  Future<std::vector<Try<void>>> all = collectAll(std::move(inputs.futures));
  all.cancel();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 1}));
}

TEST_F(CollectTest, CollectAnyGivesTheFirstAndCancelsTheLosers) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::pair<size_t, Try<int>>> any = collectAny(std::move(inputs.futures));
  turn();
  EXPECT_FALSE(any.isReady());
  inputs.promises[1].setValue(7);
  turn();
  ASSERT_TRUE(any.isReady());
  EXPECT_EQ((*any.result()).first, 1U);
  EXPECT_EQ(*(*any.result()).second, 7);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 0, 1}));
}

TEST_F(CollectTest, AFailureMayBeTheFirstOfCollectAny) {
  Inputs<int> inputs(*dispatcher_, 2);
  Future<std::pair<size_t, Try<int>>> any = collectAny(std::move(inputs.futures));
  inputs.promises[1].setStatus(absl::NotFoundError("x"));
  inputs.promises[0].setStatus(absl::DataLossError("not logged"));
  turn();
  ASSERT_TRUE(any.isReady());
  EXPECT_EQ((*any.result()).first, 1U);
  EXPECT_EQ((*any.result()).second.status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CollectTest, TheFirstReadyFutureInOrderWinsCollectAny) {
  Inputs<int> inputs(*dispatcher_, 1);
  inputs.futures.push_back(makeReadyFuture(1));
  inputs.futures.push_back(makeFailedFuture<int>(absl::NotFoundError("not logged")));
  Future<std::pair<size_t, Try<int>>> any = collectAny(std::move(inputs.futures));
  ASSERT_TRUE(any.isReady());
  EXPECT_EQ((*any.result()).first, 1U);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1}));
}

TEST_F(CollectTest, CollectAnyOfNothingIsInvalid) {
  Future<std::pair<size_t, Try<int>>> any = collectAny(std::vector<Future<int>>());
  EXPECT_EQ(codeOf(any), absl::StatusCode::kInvalidArgument);
}

TEST_F(CollectTest, CollectAnyOfSeveralTypesGivesATryAtTheIndexOfTheFirst) {
  Promise<int> number;
  Promise<void> nothing;
  Future<std::variant<Try<int>, Try<void>>> any = collectAny(number.future(*dispatcher_), nothing.future(*dispatcher_));
  nothing.setStatus(absl::NotFoundError("x"));
  turn();
  ASSERT_TRUE(any.isReady());
  ASSERT_EQ((*any.result()).index(), 1U);
  EXPECT_EQ(std::get<1>(*any.result()).status().code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(number.done());
}

TEST_F(CollectTest, CollectNIsReadyWithTheFirstNValuesInTheOrderTheyCame) {
  Inputs<int> inputs(*dispatcher_, 4);
  Future<std::vector<std::pair<size_t, int>>> quorum = collectN(std::move(inputs.futures), 2);
  inputs.promises[3].setValue(30);
  inputs.promises[1].setStatus(absl::NotFoundError("not logged"));
  turn();
  EXPECT_FALSE(quorum.isReady());
  inputs.promises[0].setValue(0);
  turn();
  ASSERT_TRUE(quorum.isReady());
  EXPECT_EQ(*quorum.result(), (std::vector<std::pair<size_t, int>>{{3, 30}, {0, 0}}));
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0, 1, 0}));
}

TEST_F(CollectTest, CollectNFailsAsSoonAsNValuesAreOutOfReach) {
  Inputs<int> inputs(*dispatcher_, 4);
  Future<std::vector<std::pair<size_t, int>>> quorum = collectN(std::move(inputs.futures), 3);
  inputs.promises[0].setStatus(absl::NotFoundError("first"));
  inputs.promises[1].setValue(1);
  turn();
  EXPECT_FALSE(quorum.isReady());
  inputs.promises[2].setStatus(absl::DataLossError("second"));
  turn();
  EXPECT_EQ(codeOf(quorum), absl::StatusCode::kDataLoss);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 0, 0, 1}));
}

TEST_F(CollectTest, CollectNOfOneIsTheFirstValueWhateverFailedBefore) {
  Inputs<int> inputs(*dispatcher_, 4);
  auto first = collectN(std::move(inputs.futures), 1);
  inputs.promises[0].setStatus(absl::NotFoundError("not logged"));
  inputs.promises[2].setStatus(absl::DataLossError("not logged"));
  turn();
  EXPECT_FALSE(first.isReady());
  inputs.promises[3].setValue(30);
  turn();
  ASSERT_TRUE(first.isReady());
  EXPECT_EQ(*first.result(), (std::vector<std::pair<size_t, int>>{{3, 30}}));
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 1, 0, 0}));
}

TEST_F(CollectTest, CollectNOfOneFailsWithTheLastFailureWhenAllFail) {
  Inputs<int> inputs(*dispatcher_, 2);
  auto first = collectN(std::move(inputs.futures), 1);
  inputs.promises[1].setStatus(absl::NotFoundError("not logged"));
  inputs.promises[0].setStatus(absl::DataLossError("the last"));
  turn();
  EXPECT_EQ(statusOf(first), absl::DataLossError("the last"));
}

TEST_F(CollectTest, CollectNOfMoreThanThereAreIsInvalid) {
  Inputs<int> inputs(*dispatcher_, 2);
  auto quorum = collectN(std::move(inputs.futures), 3);
  ASSERT_TRUE(quorum.isReady());
  EXPECT_EQ(statusOf(quorum).ToString(), "INVALID_ARGUMENT: collectN was asked for 3 values of 2 futures");
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 1}));
}

TEST_F(CollectTest, CollectNOfNoneIsReadyAndCancelsAll) {
  Inputs<int> inputs(*dispatcher_, 2);
  auto quorum = collectN(std::move(inputs.futures), 0);
  ASSERT_TRUE(quorum.isReady());
  EXPECT_TRUE((*quorum.result()).empty());
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 1}));
}

TEST_F(CollectTest, CollectNOfVoidGivesIndices) {
  Inputs<void> inputs(*dispatcher_, 3);
  Future<std::vector<size_t>> quorum = collectN(std::move(inputs.futures), 2);
  inputs.promises[2].setValue();
  inputs.promises[1].setValue();
  turn();
  ASSERT_TRUE(quorum.isReady());
  EXPECT_EQ(*quorum.result(), (std::vector<size_t>{2, 1}));
}

TEST_F(CollectTest, CancellingCollectNReachesEveryInput) {
  Inputs<int> inputs(*dispatcher_, 3);
  auto quorum = collectN(std::move(inputs.futures), 2);
  quorum.cancel();
  EXPECT_EQ(codeOf(quorum), absl::StatusCode::kCancelled);
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 1, 1}));
}

TEST_F(CollectTest, CancelReachesTheTimersOfCoroutinesThatAreCollected) {
  int destroyed = 0;
  auto sleeper = [](Dispatcher& /*dispatcher*/, int& count) -> Future<int> {
    const std::shared_ptr<void> frame(nullptr, [&count](void*) { ++count; });
    co_await 1h;
    co_return 1;
  };
  auto all = collect(sleeper(*dispatcher_, destroyed), sleeper(*dispatcher_, destroyed));
  EXPECT_EQ(destroyed, 0);
  all.cancel();
  EXPECT_EQ(destroyed, 2);
  EXPECT_EQ(codeOf(all), absl::StatusCode::kCancelled);
}

TEST_F(CollectTest, TheInputsThatAreWaitedForCanBeListed) {
  Inputs<int> inputs(*dispatcher_, 3);
  Future<std::vector<int>> all = collect(std::move(inputs.futures));
  inputs.promises[1].setValue(1);
  turn();
  using future_internal::Access;
  const future_internal::Node* const node = Access::node(all);
  ASSERT_NE(node, nullptr);
  EXPECT_STREQ(node->kind(), "collect");
  ASSERT_NE(node->waitsFor(0), nullptr);
  EXPECT_STREQ(node->waitsFor(0)->kind(), "promise");
  EXPECT_NE(node->waitsFor(1), nullptr);
  EXPECT_NE(node->waitsFor(0), node->waitsFor(1));
  EXPECT_EQ(node->waitsFor(2), nullptr);
}

class CollectThreadTest : public ::testing::Test {
protected:
  DispatcherPtr dispatcher_ = createDispatcher({.name = "test"});
};

TEST_F(CollectThreadTest, AllMayBeCalledOnAnotherThread) {
  test::DispatcherThread thread(*dispatcher_);
  Inputs<int> inputs(*dispatcher_, 3);
  auto all = collect(std::move(inputs.futures));
  for (Promise<int>& promise : inputs.promises) {
    promise.setValue(2);
  }
  EXPECT_EQ(*std::move(all).get(), (std::vector<int>{2, 2, 2}));
}

TEST_F(CollectThreadTest, ThreadsMayFulfilAndCancelAtOnce) {
  test::DispatcherThread thread(*dispatcher_);
  constexpr int kThreads = 3;
  for (int round = 0; round < 200; ++round) {
    std::vector<Promise<int>> promises(30);
    std::vector<Future<int>> futures;
    for (Promise<int>& promise : promises) {
      futures.push_back(promise.future(*dispatcher_));
    }
    Future<std::vector<Try<int>>> all = collectAll(std::move(futures));
    std::atomic<bool> go{false};
    std::vector<std::thread> threads;
    threads.reserve(kThreads);
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&, i] {
        while (!go) {
        }
        for (size_t j = static_cast<size_t>(i); j < promises.size(); j += kThreads) {
          promises[j].setValue(1);
        }
      });
    }
    go = true;
    if (round % 2 == 0) {
      all.cancel();
    }
    if (round % 5 == 0) {
      std::move(all).detach();
    } else {
      const Try<std::vector<Try<int>>> results = std::move(all).get();
      if (round % 2 != 0) {
        EXPECT_EQ((*results).size(), 30U);
      } else if (results.failed()) {
        EXPECT_EQ(results.status().code(), absl::StatusCode::kCancelled);
      }
    }
    for (std::thread& each : threads) {
      each.join();
    }
  }
}

TEST_F(CollectThreadTest, ShutdownWhileThreadsFulfilLeavesNothing) {
  for (int round = 0; round < 100; ++round) {
    DispatcherPtr dispatcher = createDispatcher({.name = "round"});
    std::vector<Promise<std::shared_ptr<int>>> promises(20);
    std::vector<Future<std::shared_ptr<int>>> futures;
    auto value = std::make_shared<int>(1);
    for (auto& promise : promises) {
      futures.push_back(promise.future(*dispatcher));
    }
    test::DispatcherThread thread(*dispatcher);
    auto all = collect(std::move(futures));
    std::thread setter([&] {
      for (auto& promise : promises) {
        promise.setValue(value);
      }
    });
    thread.stop();
    dispatcher.reset();
    setter.join();
    promises.clear();
    {
      const auto result = std::move(all).get();
      EXPECT_TRUE(result.hasValue() || result.status().code() == absl::StatusCode::kCancelled);
    }
    EXPECT_EQ(value.use_count(), 1);
  }
}

}  // namespace
}  // namespace nuncio
