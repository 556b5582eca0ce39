// What is destroyed when: cancelling ends an operation from the inside out, before cancel() returns where it can.

#include "nuncio/future/cancellation.h"

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/any_of.h"
#include "nuncio/future/async_mutex.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/gate.h"
#include "nuncio/future/loops.h"
#include "nuncio/future/retry.h"
#include "nuncio/future/semaphore.h"
#include "nuncio/future/shared_future.h"
#include "nuncio/future/submit.h"
#include "nuncio/future/time.h"
#include "test/future/loop_fixture.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/notification.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::IsEmpty;

using Log = std::vector<std::string>;

// Says when it is destroyed.
class Tracer {
public:
  Tracer(Log& log, std::string what) : log_(&log), what_(std::move(what)) {}
  Tracer(Tracer&& other) noexcept : log_(std::exchange(other.log_, nullptr)), what_(std::move(other.what_)) {}
  Tracer& operator=(Tracer&&) = delete;
  ~Tracer() {
    if (log_ != nullptr) {
      log_->push_back(what_);
    }
  }

private:
  Log* log_;
  std::string what_;
};

// How the inner operation is when it is cancelled.
enum class Inner { Sleeps, Yields, IsDue, WaitsForPromise };

Future<int> inner(Dispatcher& dispatcher, Log& log, Inner how, Promise<void>& promise) {
  const Tracer tracer(log, "inner");
  switch (how) {
    case Inner::Sleeps: {
      Future<void> sleep = sleepFor(dispatcher, hours(1));
      co_await std::move(sleep);
      break;
    }
    case Inner::Yields:
      for (;;) {
        co_await yield();
      }
    case Inner::IsDue:
    case Inner::WaitsForPromise: {
      Future<void> future = promise.future(dispatcher);
      co_await std::move(future);
      break;
    }
  }
  co_return 1;
}

// A way in which the outer frame waits for the inner one.
struct Way {
  const char* name;
  std::function<Future<void>(Dispatcher&, Future<int>)> wait;
};
void PrintTo(const Way& way, std::ostream* out) { *out << way.name; }

Future<void> ignore(Future<int> future) {
  return std::move(future).then([](int) {});
}

std::vector<Way> ways() {
  return {
      {"directly", [](Dispatcher&, Future<int> f) { return ignore(std::move(f)); }},
      {"coroutine",
       [](Dispatcher&, Future<int> f) {
         return keepAlive([f = std::move(f)]() mutable -> Future<void> { co_await std::move(f); });
       }},
      {"within", [](Dispatcher&, Future<int> f) { return ignore(within(std::move(f), hours(2))); }},
      {"delayed", [](Dispatcher&, Future<int> f) { return ignore(delayed(std::move(f), hours(2))); }},
      {"repeat",
       [](Dispatcher& d, Future<int> f) {
         return repeat(d, [f = std::move(f)]() mutable { return ignore(std::move(f)); });
       }},
      {"doUntil",
       [](Dispatcher& d, Future<int> f) {
         return ignore(doUntil(d, [f = std::move(f)]() mutable { return std::move(f); }, [](int) { return true; }));
       }},
      {"forEach",
       [](Dispatcher& d, Future<int> f) {
         return forEach(d, std::vector<int>{1, 2}, 2, [f = std::move(f)](int i) mutable {
           return i == 1 ? ignore(std::move(f)) : makeReadyFuture();
         });
       }},
      {"reduce",
       [](Dispatcher& d, Future<int> f) {
         return ignore(
             reduce(d, std::vector<int>{1}, 0, [f = std::move(f)](int, int) mutable { return std::move(f); }));
       }},
      {"retrying",
       [](Dispatcher& d, Future<int> f) {
         return ignore(retrying(d, RetryPolicy(), [f = std::move(f)]() mutable { return std::move(f); }));
       }},
      {"collect", [](Dispatcher& d,
                     Future<int> f) { return collect(std::move(f), sleepFor(d, hours(3))).then([](const auto&) {}); }},
      {"collectAll",
       [](Dispatcher& d, Future<int> f) {
         return collectAll(std::move(f), sleepFor(d, hours(3))).then([](const auto&) {});
       }},
      {"collectAny",
       [](Dispatcher& d, Future<int> f) {
         return collectAny(std::move(f), sleepFor(d, hours(3))).then([](const auto&) {});
       }},
      {"collectN",
       [](Dispatcher&, Future<int> f) {
         std::vector<Future<int>> futures;
         futures.push_back(std::move(f));
         return collectN(std::move(futures), 1).then([](const auto&) {});
       }},
      {"anyOf", [](Dispatcher& d,
                   Future<int> f) { return anyOf(std::move(f), sleepFor(d, hours(3))).then([](const auto&) {}); }},
      {"allOf", [](Dispatcher& d,
                   Future<int> f) { return allOf(std::move(f), sleepFor(d, hours(3))).then([](const auto&) {}); }},
      {"forwardTo",
       [](Dispatcher& d, Future<int> f) {
         Promise<int> promise;
         Future<int> there = promise.future(d);
         std::move(f).forwardTo(std::move(promise));
         return ignore(std::move(there));
       }},
      {"semi", [](Dispatcher& d, Future<int> f) { return ignore(std::move(f).semi().via(d)); }},
      {"thenThatReturnsIt",
       [](Dispatcher& d, Future<int> f) {
         return sleepFor(d, milliseconds(0)).then([f = std::move(f)]() mutable { return ignore(std::move(f)); });
       }},
      {"gate",
       [](Dispatcher& d, Future<int> f) {
         auto gate = std::make_shared<Gate>(d);
         return gate->with([&f] { return ignore(std::move(f)); }).ensure([gate] {});
       }},
  };
}

class CancellationOrderTest : public LoopFixture, public testing::WithParamInterface<std::tuple<Way, Inner>> {
protected:
  // Refers to a variable of its own from the inner operation.
  Future<void> outer(Dispatcher& dispatcher) {
    const Tracer tracer(order_, "outer");
    Future<int> future = inner(dispatcher, order_, std::get<Inner>(GetParam()), promise_);
    Future<void> waits = std::get<Way>(GetParam()).wait(dispatcher, std::move(future));
    co_await std::move(waits);
  }

  Log order_;
  Promise<void> promise_;
};

TEST_P(CancellationOrderTest, TheInnerFrameIsGoneBeforeTheOuterOneAndBothBeforeCancelReturns) {
  Future<void> future = outer(*dispatcher_);
  turn();
  turn();
  EXPECT_THAT(order_, IsEmpty());
  if (std::get<Inner>(GetParam()) == Inner::IsDue) {
    promise_.setValue();
  }
  future.cancel();
  EXPECT_THAT(order_, ElementsAre("inner", "outer"));
  EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
}

TEST_P(CancellationOrderTest, SoItIsWhenTheDispatcherShutsDown) {
  Future<void> future = outer(*dispatcher_);
  turn();
  dispatcher_->shutdown();
  EXPECT_THAT(order_, ElementsAre("inner", "outer"));
  EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
}

TEST_P(CancellationOrderTest, SoItIsAtADeadlineAndTheResultComesAfterwards) {
  Future<void> future = within(outer(*dispatcher_), milliseconds(5)).ensure([this] { order_.emplace_back("result"); });
  for (int i = 0; i < 10; ++i) {
    advance(milliseconds(1));
  }
  EXPECT_THAT(order_, ElementsAre("inner", "outer", "result"));
  EXPECT_EQ(codeOf(future), absl::StatusCode::kDeadlineExceeded);
}

std::string nameOf(const testing::TestParamInfo<std::tuple<Way, Inner>>& info) {
  constexpr const char* kInner[] = {"Sleeps", "Yields", "IsDue", "WaitsForPromise"};
  return std::string(std::get<Way>(info.param).name) + kInner[static_cast<int>(std::get<Inner>(info.param))];
}

INSTANTIATE_TEST_SUITE_P(Ways, CancellationOrderTest,
                         testing::Combine(testing::ValuesIn(ways()),
                                          testing::Values(Inner::Sleeps, Inner::Yields, Inner::IsDue,
                                                          Inner::WaitsForPromise)),
                         nameOf);

class CancellationTest : public LoopFixture {
protected:
  Future<void> innermost(Dispatcher& dispatcher, std::function<void()> run) {
    const Tracer tracer(order_, "inner");
    co_await yield();
    run();
    order_.emplace_back("ran on");
    Future<void> sleep = sleepFor(dispatcher, hours(1));
    co_await std::move(sleep);
  }
  Future<void> around(Dispatcher& /*dispatcher*/, std::function<Future<void>()> start) {
    const Tracer tracer(order_, "outer");
    Future<void> future = start();
    co_await std::move(future);
  }
  Future<void> sleeper(Dispatcher& dispatcher, std::string what) {
    const Tracer tracer(order_, std::move(what));
    Future<void> sleep = sleepFor(dispatcher, hours(1));
    co_await std::move(sleep);
  }

  Log order_;
  Future<void> root_;
};

TEST_F(CancellationTest, AnInnerFrameThatCancelsItsAncestorRunsToItsNextWait) {
  root_ = around(*dispatcher_, [this] { return innermost(*dispatcher_, [this] { root_.cancel(); }); });
  turn();
  EXPECT_THAT(order_, ElementsAre("ran on", "inner", "outer"));
  EXPECT_EQ(codeOf(root_), absl::StatusCode::kCancelled);
}

TEST_F(CancellationTest, AFrameThatCancelsItselfWaitsForTheEndOfWhatItAwaitsNext) {
  Promise<void> cleaned;
  const auto self = [&](Dispatcher& dispatcher) -> Future<void> {
    const Tracer tracer(order_, "self");
    co_await yield();
    root_.cancel();
    Future<void> next = sleeper(dispatcher, "next").ensure([&] { return cleaned.future(dispatcher); });
    co_await std::move(next);
  };
  root_ = self(*dispatcher_);
  turn();
  EXPECT_THAT(order_, ElementsAre("next"));
  cleaned.setValue();
  turn();
  EXPECT_THAT(order_, ElementsAre("next", "self"));
  EXPECT_EQ(codeOf(root_), absl::StatusCode::kCancelled);
}

TEST_F(CancellationTest, ParametersGoBeforeWhoeverWaits) {
  const auto with_parameter = [](Dispatcher& dispatcher, Tracer /*parameter*/) -> Future<void> {
    Future<void> sleep = sleepFor(dispatcher, hours(1));
    co_await std::move(sleep);
  };
  root_ = around(*dispatcher_, [&] { return with_parameter(*dispatcher_, Tracer(order_, "parameter")); });
  root_.cancel();
  EXPECT_THAT(order_, ElementsAre("parameter", "outer"));
}

TEST_F(CancellationTest, ParametersGoBeforeWhoeverWaitsForAResultToo) {
  Promise<void> promise;
  const auto with_parameter = [](Future<void> future, Tracer /*parameter*/) -> Future<void> {
    co_await std::move(future);
  };
  root_ =
      around(*dispatcher_, [&] { return with_parameter(promise.future(*dispatcher_), Tracer(order_, "parameter")); });
  promise.setValue();
  turn();
  EXPECT_THAT(order_, ElementsAre("parameter", "outer"));
}

TEST_F(CancellationTest, GuardsAreReleasedAfterTheStepInsideIsGone) {
  AsyncMutex mutex(*dispatcher_);
  const auto locked = [&](Dispatcher& dispatcher) -> Future<void> {
    Future<AsyncMutex::Guard> lock = mutex.lock();
    const AsyncMutex::Guard guard = co_await std::move(lock);
    Future<void> step =
        sleeper(dispatcher, "step").ensure([this, &mutex] { order_.emplace_back(mutex.locked() ? "locked" : "free"); });
    co_await std::move(step);
  };
  root_ = locked(*dispatcher_);
  root_.cancel();
  EXPECT_THAT(order_, ElementsAre("step", "locked"));
  EXPECT_FALSE(mutex.locked());
}

TEST_F(CancellationTest, OnCancelAndEnsureRunBeforeTheVariablesOfTheFrameThatWaits) {
  Promise<void> promise;
  promise.onCancel([this] { order_.emplace_back("onCancel"); });
  root_ = around(*dispatcher_,
                 [&] { return promise.future(*dispatcher_).ensure([this] { order_.emplace_back("ensure"); }); });
  root_.cancel();
  EXPECT_THAT(order_, ElementsAre("onCancel", "ensure", "outer"));
}

TEST_F(CancellationTest, AnOwnerMayBeDestroyedAfterCancel) {
  struct Owner {
    explicit Owner(Dispatcher& dispatcher, Log& log)
        : work(sleepFor(dispatcher, hours(1)).ensure([this, &log] { log.push_back(name); })) {}
    ~Owner() {
      work.cancel();
      std::move(work).detach();
    }
    std::string name = "the owner's name, long enough to be on the heap";
    Future<void> work;
  };
  {
    const Owner owner(*dispatcher_, order_);
  }
  EXPECT_THAT(order_, ElementsAre("the owner's name, long enough to be on the heap"));
}

TEST_F(CancellationTest, TheFrameWaitsForAnEnsureThatTakesItsTime) {
  Promise<void> cleaned;
  root_ = around(*dispatcher_,
                 [&] { return sleeper(*dispatcher_, "inner").ensure([&] { return cleaned.future(*dispatcher_); }); });
  root_.cancel();
  EXPECT_THAT(order_, ElementsAre("inner"));
  EXPECT_FALSE(root_.isReady());
  root_.cancel();  // once more does not disturb the clean-up
  EXPECT_FALSE(cleaned.done());
  cleaned.setValue();
  turn();
  EXPECT_THAT(order_, ElementsAre("inner", "outer"));
}

TEST_F(CancellationTest, AskingAgainDoesNotDisturbAnEnsureThatIsTheLastStage) {
  Promise<void> cleaned;
  Future<void> future = sleeper(*dispatcher_, "inner").ensure([&] { return cleaned.future(*dispatcher_); });
  future.cancel();
  future.cancel();
  EXPECT_FALSE(cleaned.done());
  Future<void> ended = cancelAndWait(std::move(future));
  EXPECT_FALSE(ended.isReady());
  cleaned.setValue();
  turn();
  EXPECT_EQ(codeOf(ended), absl::StatusCode::kOk);
}

TEST_F(CancellationTest, ADeadlineGivesItsResultAfterTheEndOfWhatItCancelled) {
  Promise<void> cleaned;
  Future<void> late =
      within(sleepFor(*dispatcher_, hours(1)).ensure([&] { return cleaned.future(*dispatcher_); }), milliseconds(1));
  advance(milliseconds(2));
  EXPECT_FALSE(late.isReady());
  cleaned.setValue();
  turn();
  EXPECT_EQ(codeOf(late), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(CancellationTest, AFailedCollectWaitsForTheEndOfTheOthers) {
  Promise<void> cleaned;
  Promise<int> fails;
  auto both = collect(fails.future(*dispatcher_),
                      sleepFor(*dispatcher_, hours(1)).ensure([&] { return cleaned.future(*dispatcher_); }));
  fails.setStatus(absl::DataLossError("x"));
  turn();
  EXPECT_FALSE(both.isReady());
  cleaned.setValue();
  turn();
  EXPECT_EQ(codeOf(both), absl::StatusCode::kDataLoss);
}

TEST_F(CancellationTest, TheFirstOfSeveralIsGivenAfterTheEndOfTheLosersAlsoWhenItIsReadyAtOnce) {
  Promise<void> cleaned;
  auto first =
      anyOf(makeReadyFuture(7), sleepFor(*dispatcher_, hours(1)).ensure([&] { return cleaned.future(*dispatcher_); }));
  EXPECT_FALSE(first.isReady());
  cleaned.setValue();
  turn();
  ASSERT_TRUE(first.isReady());
  EXPECT_EQ(std::get<0>(*std::move(first).get()), 7);
}

TEST_F(CancellationTest, AFailedStepOfForEachWaitsForTheEndOfTheOthers) {
  Promise<void> cleaned;
  Future<void> all = forEach(*dispatcher_, std::vector<int>{1, 2}, 2, [&](int i) -> Future<void> {
    if (i == 1) {
      return sleeper(*dispatcher_, "step").ensure([&] { return cleaned.future(*dispatcher_); });
    }
    return makeFailedFuture<void>(absl::DataLossError("x"));
  });
  turn();
  EXPECT_THAT(order_, ElementsAre("step"));
  EXPECT_FALSE(all.isReady());
  cleaned.setValue();
  turn();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kDataLoss);
}

TEST_F(CancellationTest, CancelAndWaitWaitsForAllOfIt) {
  Promise<void> cleaned;
  Future<void> ended =
      cancelAndWait(sleeper(*dispatcher_, "inner").ensure([&] { return cleaned.future(*dispatcher_); }));
  EXPECT_THAT(order_, ElementsAre("inner"));
  EXPECT_FALSE(ended.isReady());
  cleaned.setValue();
  turn();
  EXPECT_EQ(codeOf(ended), absl::StatusCode::kOk);
}

TEST_F(CancellationTest, AConsumerOfASharedFutureGoesAtOnceAndItsSourceGoesOn) {
  SharedFuture<void> shared = share(sleeper(*dispatcher_, "source"));
  root_ = around(*dispatcher_, [&] { return shared.future(); });
  root_.cancel();
  EXPECT_THAT(order_, ElementsAre("outer"));
  shared.cancel();
  EXPECT_THAT(order_, ElementsAre("outer", "source"));
}

// --- abandon() and uncancellable()

TEST_F(CancellationTest, AbandonIsDoneAtOnceAndAsksToStop) {
  Promise<void> cleaned;
  Future<void> future = abandon(sleeper(*dispatcher_, "inner").ensure([&] { return cleaned.future(*dispatcher_); }));
  future.cancel();
  EXPECT_THAT(order_, ElementsAre("inner"));
  EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
  cleaned.setValue();
  turn();
}

TEST_F(CancellationTest, AbandonMakesADeadlineHard) {
  Promise<void> cleaned;
  Future<void> late = within(
      abandon(sleepFor(*dispatcher_, hours(1)).ensure([&] { return cleaned.future(*dispatcher_); })), milliseconds(1));
  advance(milliseconds(1));
  EXPECT_EQ(codeOf(late), absl::StatusCode::kDeadlineExceeded);
  cleaned.setValue();
  turn();
}

TEST_F(CancellationTest, UncancellableGoesOnWhenItIsCancelled) {
  Promise<int> promise;
  int seen = 0;
  Future<int> future = uncancellable(promise.future(*dispatcher_).then([&](int value) { return seen = value; }));
  future.cancel();
  EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
  EXPECT_FALSE(promise.done());
  promise.setValue(5);
  turn();
  EXPECT_EQ(seen, 5);
}

TEST_F(CancellationTest, BothWaitForTheFutureThatAFunctionReturns) {
  for (const bool cancelled : {false, true}) {
    Promise<int> outer;
    Promise<int> inner;
    const auto chain = [&] {
      return outer.future(*dispatcher_).then([&](int) {
        return inner.future(*dispatcher_).then([](int value) { return value; });
      });
    };
    Future<int> uncancelled = uncancellable(chain());
    outer.setValue(1);
    turn();
    if (cancelled) {
      uncancelled.cancel();
      EXPECT_EQ(codeOf(uncancelled), absl::StatusCode::kCancelled);
      EXPECT_FALSE(inner.done());
    }
    inner.setValue(2);
    turn();
    EXPECT_TRUE(cancelled || *uncancelled.result() == 2);

    outer = Promise<int>();
    inner = Promise<int>();
    Future<int> abandoned = abandon(chain());
    outer.setValue(1);
    turn();
    if (cancelled) {
      abandoned.cancel();
      EXPECT_TRUE(inner.done());
    } else {
      inner.setValue(2);
      turn();
      EXPECT_EQ(*abandoned.result(), 2);
    }
  }
}

TEST_F(CancellationTest, BothPassOnResultsAndFailures) {
  Promise<int> value;
  Promise<int> failure;
  Future<int> a = abandon(value.future(*dispatcher_));
  Future<int> u = uncancellable(failure.future(*dispatcher_));
  value.setValue(1);
  failure.setStatus(absl::DataLossError("x"));
  turn();
  EXPECT_EQ(*std::move(a).get(), 1);
  EXPECT_EQ(codeOf(u), absl::StatusCode::kDataLoss);
}

TEST_F(CancellationTest, BothEndWithTheDispatcher) {
  Promise<int> first;
  Promise<int> second;
  Future<int> a = abandon(first.future(*dispatcher_));
  Future<int> u = uncancellable(second.future(*dispatcher_));
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(a), absl::StatusCode::kCancelled);
  EXPECT_EQ(codeOf(u), absl::StatusCode::kCancelled);
  EXPECT_TRUE(first.done());
  EXPECT_TRUE(second.done());
}

// --- cancel(reason)

TEST_F(CancellationTest, TheReasonReachesOnCancelAndIsTheResult) {
  Promise<int> promise;
  absl::Status seen;
  promise.onCancel([&](const absl::Status& reason) { seen = reason; });
  Future<int> future = promise.future(*dispatcher_).then([](int value) { return value; });
  future.cancel(absl::UnavailableError("going down"));
  EXPECT_EQ(seen, absl::UnavailableError("going down"));
  EXPECT_EQ(statusOf(future), absl::UnavailableError("going down"));
}

TEST_F(CancellationTest, TheReasonReachesThroughJoinsAndCoroutines) {
  Promise<void> promise;
  absl::Status seen;
  promise.onCancel([&](const absl::Status& reason) { seen = reason; });
  auto both =
      collect(around(*dispatcher_, [&] { return promise.future(*dispatcher_); }), sleepFor(*dispatcher_, hours(1)));
  both.cancel(absl::UnavailableError("going down"));
  EXPECT_EQ(seen, absl::UnavailableError("going down"));
  EXPECT_EQ(codeOf(both), absl::StatusCode::kUnavailable);
}

TEST_F(CancellationTest, WithoutAReasonItIsCancelled) {
  Promise<int> promise;
  absl::Status seen;
  promise.onCancel([&](const absl::Status& reason) { seen = reason; });
  Future<int> future = promise.future(*dispatcher_);
  future.cancel();
  EXPECT_EQ(seen.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
}

TEST_F(CancellationTest, AReasonLeavesAResultThatIsThere) {
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_);
  promise.setValue(3);
  turn();
  future.cancel(absl::UnavailableError("too late"));
  EXPECT_EQ(*std::move(future).get(), 3);
}

TEST_F(CancellationTest, TheReasonReachesAnotherDispatcher) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  DispatcherThread thread(*other);
  Promise<int> promise;
  absl::Status seen;
  Notification cancelled;
  promise.onCancel([&](const absl::Status& reason) {
    seen = reason;
    cancelled.notify();
  });
  Future<int> future = promise.future(*other).via(*dispatcher_);
  future.cancel(absl::UnavailableError("going down"));
  ASSERT_TRUE(cancelled.wait());
  EXPECT_EQ(seen, absl::UnavailableError("going down"));
  while (!future.isReady()) {
    turn();
  }
  EXPECT_EQ(codeOf(future), absl::StatusCode::kUnavailable);
}

// --- Depth

Future<int> nested(Dispatcher& dispatcher, int depth, std::string& outer, Future<int> bottom) {
  const std::string mine = outer;
  const std::shared_ptr<void> check(nullptr, [&outer, &mine](void*) { EXPECT_EQ(outer, mine); });
  if (depth == 0) {
    co_return co_await std::move(bottom);
  }
  std::string copy = mine;
  Future<std::tuple<int>> joined = collect(nested(dispatcher, depth - 1, copy, std::move(bottom)));
  const std::tuple<int> result = co_await std::move(joined);
  co_return std::get<0>(result) + 1;
}

TEST_F(CancellationTest, ManyJoinsInEachOther) {
  // With a sanitizer, a level of the recursion that builds them takes some 10 KB of stack.
  for (const int depth : {3, 33, kSanitizer ? 200 : 2000}) {
    Promise<int> promise;
    std::string outer(40, 'x');
    Future<int> future = nested(*dispatcher_, depth, outer, promise.future(*dispatcher_));
    future.cancel();
    EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
  }
}

TEST_F(CancellationTest, AHundredThousandAwaits) {
  Promise<int> promise;
  const auto add = [](Future<int> future) -> Future<int> {
    const int value = co_await std::move(future);
    co_return value + 1;
  };
  Future<int> future = promise.future(*dispatcher_);
  for (int i = 0; i < 100'000; ++i) {
    Future<int> next = add(std::move(future));
    future = std::move(next);
  }
  future.cancel();
  EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
}

TEST_F(CancellationTest, AMillionHandlersThatEachCancelTheNext) {
  constexpr std::size_t kCount = 1'000'000;
  std::vector<Promise<void>> promises(kCount);
  std::vector<Future<void>> futures;
  futures.reserve(kCount);
  std::size_t ran = 0;
  for (std::size_t i = 0; i < kCount; ++i) {
    futures.push_back(promises[i].future(*dispatcher_));
    promises[i].onCancel([&futures, &ran, i] {
      ++ran;
      if (i + 1 < futures.size()) {
        futures[i + 1].cancel();
      }
    });
  }
  futures[0].cancel();
  EXPECT_EQ(ran, kCount);
  for (Future<void>& future : futures) {
    EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
  }
}

TEST_F(CancellationTest, AMillionForwardedFutures) {
  Promise<void> first;
  Future<void> future = first.future(*dispatcher_);
  for (int i = 0; i < 1'000'000; ++i) {
    Promise<void> promise;
    Future<void> next = promise.future(*dispatcher_);
    std::move(future).forwardTo(std::move(promise));
    future = std::move(next);
  }
  future.cancel();
  EXPECT_TRUE(first.done());
  EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
}

// --- What users' code does in the midst of it

TEST_F(CancellationTest, ForwardingToAPromiseWhoseFutureWasCancelledLeavesItAlone) {
  Promise<int> promise;
  Future<void> gone = promise.future(*dispatcher_).then([](int) {});
  gone.cancel();
  std::move(gone).detach();
  Promise<int> source;
  source.future(*dispatcher_).forwardTo(std::move(promise));
  source.setValue(1);
  turn();
}

TEST_F(CancellationTest, AnOwnerInTheCaptureOfOnCancelMayCancelWhenThePromiseIsSet) {
  struct Owner {
    Future<int> work;
    ~Owner() { work.cancel(); }
  };
  Promise<int> promise;
  auto owner = std::make_shared<Owner>();
  promise.onCancel([owner] {});
  owner->work = promise.future(*dispatcher_).then([](int value) { return value; });
  owner.reset();
  promise.setValue(1);
  turn();
}

TEST_F(CancellationTest, ADetachedAbandonMayEndWithTheDispatcher) {
  Promise<int> first;
  Promise<int> second;
  abandon(first.future(*dispatcher_)).detach();
  uncancellable(second.future(*dispatcher_)).detach();
  dispatcher_->shutdown();
}

TEST_F(CancellationTest, OnCancelMayCancelTheFutureAndDestroyThePromiseAtShutdown) {
  auto promise = std::make_unique<Promise<int>>();
  Future<int> future = promise->future(*dispatcher_);
  promise->onCancel([&] {
    future.cancel();
    promise.reset();
  });
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(future), absl::StatusCode::kCancelled);
}

TEST_F(CancellationTest, AResultOfSubmitThatIsThereSurvivesCancel) {
  SemiFuture<int> future = submit(*dispatcher_, [] { return 7; });
  turn();
  future.cancel();
  EXPECT_EQ(*future.result(), 7);
}

TEST_F(CancellationTest, TheValueGoesBeforeTheFunctionThatWouldHaveGotIt) {
  Promise<Tracer> promise;
  Future<void> future = promise.future(*dispatcher_).then([capture = Tracer(order_, "function")](const Tracer&) {});
  promise.setValue(Tracer(order_, "value"));
  future.cancel();
  EXPECT_THAT(order_, ElementsAre("value", "function"));
}

TEST_F(CancellationTest, MovingAValueMayCancelItsFuture) {
  struct Mover {
    explicit Mover(Future<Mover>** cancelled) : future(cancelled) {}
    Mover(Mover&& other) noexcept : future(other.future) {
      if (*future != nullptr) {
        (*future)->cancel();
      }
    }
    Mover& operator=(Mover&&) = delete;
    ~Mover() = default;
    Future<Mover>** future;
  };
  Promise<Mover> promise;
  Future<Mover> future = promise.future(*dispatcher_);
  Future<Mover>* target = nullptr;
  promise.setValue(Mover(&target));
  target = &future;
  EXPECT_TRUE(future.result().hasValue());
  target = nullptr;
}

TEST_F(CancellationTest, ACancelAfterOneOfAnotherThreadIsDoneWhenItReturns) {
  Promise<int> promise;
  Future<int> future =
      promise.future(*dispatcher_).then([capture = Tracer(order_, "first")](int value) { return value; });
  std::thread([&] { future.cancel(); }).join();
  Future<int> next = std::move(future).then([capture = Tracer(order_, "second")](int value) { return value; });
  turn();
  next.cancel();
  EXPECT_THAT(order_, ElementsAre("first", "second"));
  EXPECT_EQ(codeOf(next), absl::StatusCode::kCancelled);
}

TEST_F(CancellationTest, CancelAndWaitWaitsAlsoWhenTheDispatcherIsOver) {
  DispatcherPtr other = createDispatcher({.name = "other", .time_system = &time_});
  Future<void> work = submit(*other, [&] { return sleeper(*other, "there"); }).via(*dispatcher_);
  other->run(RunType::NonBlock);
  dispatcher_->shutdown();
  Future<void> ended = cancelAndWait(std::move(work));
  EXPECT_FALSE(ended.isReady());
  other->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("there"));
  EXPECT_EQ(codeOf(ended), absl::StatusCode::kOk);
}

TEST_F(CancellationTest, AnEnsureOfADispatcherThatIsOverRunsWhenWhatItWaitsForHasEnded) {
  DispatcherPtr other = createDispatcher({.name = "other", .time_system = &time_});
  Future<void> work = submit(*other, [&] { return sleeper(*other, "there"); }).via(*dispatcher_);
  Promise<void> promise;
  Future<void> ended = promise.future(*dispatcher_);
  other->run(RunType::NonBlock);
  dispatcher_->shutdown();
  const auto note = [this](const char* what) { return [this, what] { order_.emplace_back(what); }; };
  Future<void> ensured = std::move(work).ensure(note("ensured")).then(note("never"));
  EXPECT_THAT(order_, IsEmpty());
  root_ = std::move(ended).ensure(note("at once"));
  EXPECT_THAT(order_, ElementsAre("at once"));
  EXPECT_EQ(codeOf(root_), absl::StatusCode::kCancelled);
  other->shutdown();
  EXPECT_THAT(order_, ElementsAre("at once", "there", "ensured"));
  EXPECT_EQ(codeOf(ensured), absl::StatusCode::kCancelled);
}

// --- Two dispatchers

TEST_F(CancellationTest, AFrameStaysUntilTheOtherDispatcherHasAnswered) {
  DispatcherPtr other = createDispatcher({.name = "other", .time_system = &time_});
  root_ =
      around(*dispatcher_, [&] { return submit(*other, [&] { return sleeper(*other, "there"); }).via(*dispatcher_); });
  other->run(RunType::NonBlock);
  root_.cancel();
  EXPECT_THAT(order_, IsEmpty());
  EXPECT_FALSE(root_.isReady());
  other->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("there"));
  turn();
  EXPECT_THAT(order_, ElementsAre("there", "outer"));
}

TEST_F(CancellationTest, SubmittedWorkThatHasNotRunIsDestroyedBeforeTheFrameThatWaits) {
  DispatcherPtr other = createDispatcher({.name = "other", .time_system = &time_});
  root_ = around(*dispatcher_, [&] {
    return submit(*other, [this, capture = Tracer(order_, "capture")] { order_.emplace_back("ran"); })
        .via(*dispatcher_);
  });
  root_.cancel();
  other->run(RunType::NonBlock);
  turn();
  EXPECT_THAT(order_, ElementsAre("capture", "outer"));
}

TEST_F(CancellationTest, ACoroutineThatIsElsewhereAnswersFromThere) {
  DispatcherPtr other = createDispatcher({.name = "other", .time_system = &time_});
  const auto traveller = [&](Dispatcher& /*here*/) -> Future<void> {
    const Tracer tracer(order_, "traveller");
    co_await resumeOn(*other);
    Future<void> sleep = sleepFor(*other, hours(1));
    co_await std::move(sleep);
  };
  root_ = around(*dispatcher_, [&] { return traveller(*dispatcher_); });
  other->run(RunType::NonBlock);
  root_.cancel();
  EXPECT_THAT(order_, IsEmpty());
  other->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("traveller"));
  turn();
  EXPECT_THAT(order_, ElementsAre("traveller", "outer"));
}

TEST_F(CancellationTest, AFrameOutlivesItsDispatcherUntilTheOtherOneAnswers) {
  DispatcherPtr other = createDispatcher({.name = "other", .time_system = &time_});
  root_ =
      around(*dispatcher_, [&] { return submit(*other, [&] { return sleeper(*other, "there"); }).via(*dispatcher_); });
  other->run(RunType::NonBlock);
  dispatcher_->shutdown();
  EXPECT_THAT(order_, IsEmpty());
  EXPECT_FALSE(root_.isReady());
  other->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("there", "outer"));
  EXPECT_EQ(codeOf(root_), absl::StatusCode::kCancelled);
}

TEST_F(CancellationTest, TheRefusalOfADispatcherThatShutsDownIsAnAnswerToo) {
  DispatcherPtr other = createDispatcher({.name = "other", .time_system = &time_});
  root_ = around(*dispatcher_, [&] {
    return submit(*other, [this, capture = Tracer(order_, "capture")] { order_.emplace_back("ran"); })
        .via(*dispatcher_);
  });
  dispatcher_->shutdown();
  EXPECT_THAT(order_, IsEmpty());
  other->shutdown();
  EXPECT_THAT(order_, ElementsAre("capture", "outer"));
}

TEST(CancellationThreadsTest, TheThreadThatAnswersDestroysTheFrameOfADispatcherThatIsGone) {
  DispatcherPtr worker = createDispatcher({.name = "worker"});
  DispatcherThread thread(*worker);
  Notification working;
  Notification go_on;
  Notification destroyed;
  std::thread::id destroyed_on;
  Future<void> future;
  {
    DispatcherPtr home = createDispatcher({.name = "home"});
    home->run(RunType::NonBlock);
    const auto frame = [&](Dispatcher& here) -> Future<void> {
      const std::shared_ptr<void> local(nullptr, [&](void*) {
        destroyed_on = std::this_thread::get_id();
        destroyed.notify();
      });
      Future<void> work = submit(*worker, [&] {
                            working.notify();
                            EXPECT_TRUE(go_on.wait());
                          }).via(here);
      co_await std::move(work);
    };
    future = frame(*home);
    EXPECT_TRUE(working.wait());
  }  // does not wait for the worker
  EXPECT_EQ(destroyed_on, std::thread::id());
  go_on.notify();
  EXPECT_TRUE(destroyed.wait());  // before isReady(), whose caller sees to an answer that comes meanwhile
  EXPECT_EQ(destroyed_on, thread.id());
  while (!future.isReady()) {
    std::this_thread::yield();
  }
  EXPECT_EQ(std::move(future).get().status().code(), absl::StatusCode::kCancelled);
}

TEST(CancellationThreadsTest, ADeadlineOfBlockedWorkIsLateButForAbandonedWork) {
  DispatcherPtr worker = createDispatcher({.name = "worker"});
  DispatcherPtr home = createDispatcher({.name = "home"});
  home->run(RunType::NonBlock);
  DispatcherThread thread(*worker);
  Notification go_on;
  Future<void> soft = within(submit(*worker, [&] { EXPECT_TRUE(go_on.wait()); }).via(*home), milliseconds(1));
  Future<void> hard = within(abandon(submit(*worker, [] {}).via(*home)), milliseconds(1));
  while (!hard.isReady()) {
    home->run(RunType::NonBlock);
  }
  EXPECT_EQ(std::move(hard).get().status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_FALSE(soft.isReady());
  go_on.notify();
  while (!soft.isReady()) {
    home->run(RunType::NonBlock);
  }
  EXPECT_EQ(std::move(soft).get().status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(CancellationThreadsTest, AThreadThatWaitsForCancelledWorkWaitsForItsEnd) {
  DispatcherPtr worker = createDispatcher({.name = "worker"});
  DispatcherThread thread(*worker);
  Notification working;
  Notification go_on;
  bool ended = false;
  SemiFuture<void> future = submit(*worker, [&] {
    working.notify();
    EXPECT_TRUE(go_on.wait());
    ended = true;
  });
  ASSERT_TRUE(working.wait());
  future.cancel();
  EXPECT_EQ(future.wait(milliseconds(0)).code(), absl::StatusCode::kDeadlineExceeded);
  go_on.notify();
  EXPECT_EQ(std::move(future).get().status().code(), absl::StatusCode::kCancelled);
  EXPECT_TRUE(ended);
}

}  // namespace
}  // namespace nuncio::test
