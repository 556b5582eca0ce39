#include "nuncio/future/retry.h"

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"

#include "nuncio/future/time.h"
#include "test/future/loop_fixture.h"
#include "test/test_support/dispatcher_thread.h"

namespace nuncio {
namespace {

using namespace std::chrono_literals;
using test::codeOf;
using test::statusOf;

class RetryTest : public test::LoopFixture {
protected:
  // Fails with Unavailable so many times, and notes when it was called.
  auto failing(int times) {
    return [this, times]() -> absl::StatusOr<int> {
      called_at_.push_back(now());
      if (static_cast<int>(called_at_.size()) <= times) {
        return absl::UnavailableError("x");
      }
      return 7;
    };
  }
  static RetryPolicy exact(int attempts) {
    return {.max_attempts = attempts, .initial_backoff = 10ms, .max_backoff = 50ms, .multiplier = 2, .jitter = 0};
  }

  std::vector<std::chrono::microseconds> called_at_;
};

TEST_F(RetryTest, ASuccessAtOnceIsReadyAtOnce) {
  Future<int> value = retrying(*dispatcher_, exact(3), failing(0));
  ASSERT_TRUE(value.isReady());
  EXPECT_EQ(*value.result(), 7);
  EXPECT_EQ(called_at_.size(), 1U);
}

TEST_F(RetryTest, BackoffGrowsExactlyUpToItsBound) {
  Future<int> value = retrying(*dispatcher_, exact(10), failing(5));
  advance(1s);
  ASSERT_TRUE(value.isReady());
  EXPECT_EQ(*value.result(), 7);
  EXPECT_EQ(called_at_, (std::vector<std::chrono::microseconds>{0ms, 10ms, 30ms, 70ms, 120ms, 170ms}));
}

TEST_F(RetryTest, TheLastFailureIsTheResultWhenAttemptsRunOut) {
  int calls = 0;
  Future<int> value = retrying(
      *dispatcher_, exact(3), [&]() -> absl::StatusOr<int> { return absl::UnavailableError(std::to_string(++calls)); });
  advance(1s);
  ASSERT_TRUE(value.isReady());
  EXPECT_EQ(statusOf(value).ToString(), "UNAVAILABLE: 3");
  EXPECT_EQ(calls, 3);
}

TEST_F(RetryTest, OneAttemptIsNoRetry) {
  Future<int> value = retrying(*dispatcher_, exact(1), failing(1));
  EXPECT_EQ(codeOf(value), absl::StatusCode::kUnavailable);
  advance(1s);
  EXPECT_EQ(called_at_.size(), 1U);
}

TEST_F(RetryTest, AFailureThatIsNotRetryableEndsIt) {
  int calls = 0;
  Future<void> value = retrying(*dispatcher_, exact(5),
                                [&] { return ++calls == 2 ? absl::NotFoundError("x") : absl::UnavailableError("x"); });
  advance(1s);
  EXPECT_EQ(codeOf(value), absl::StatusCode::kNotFound);
  EXPECT_EQ(calls, 2);
}

TEST_F(RetryTest, TheDefaultRetriesWhatMayPass) {
  using absl::StatusCode;
  for (int code = 1; code <= 16; ++code) {
    int calls = 0;
    Future<void> value =
        retrying(*dispatcher_, exact(2), [&] { return ++calls, absl::Status(static_cast<StatusCode>(code), "x"); });
    advance(1s);
    EXPECT_EQ(codeOf(value), static_cast<StatusCode>(code));
    const auto which = static_cast<StatusCode>(code);
    const bool passes = which == StatusCode::kUnavailable || which == StatusCode::kDeadlineExceeded ||
                        which == StatusCode::kResourceExhausted || which == StatusCode::kAborted;
    EXPECT_EQ(calls, passes ? 2 : 1) << code;
  }
}

TEST_F(RetryTest, ThePredicateDecides) {
  RetryPolicy policy = exact(5);
  std::vector<std::string> asked;
  policy.retryable = [&](const absl::Status& status) {
    asked.push_back(status.ToString());
    return status.code() == absl::StatusCode::kUnknown;
  };
  int calls = 0;
  Future<int> value = retrying(*dispatcher_, policy, [&]() -> int {
    if (++calls < 3) {
      throw std::runtime_error("thrown");
    }
    throw std::out_of_range("thrown");
  });
  policy.retryable = nullptr;  // it has its own
  advance(1s);
  EXPECT_EQ(calls, 5);
  ASSERT_TRUE(value.isReady());
  EXPECT_THROW(std::move(value).get().throwIfFailed(), std::out_of_range) << "the exception itself is kept";
  EXPECT_EQ(asked, (std::vector<std::string>(4, "UNKNOWN: exception: thrown")));
}

TEST_F(RetryTest, APredicateThatThrowsFailsIt) {
  RetryPolicy policy = exact(5);
  policy.retryable = [](const absl::Status&) -> bool { throw std::logic_error("predicate"); };
  Future<int> value = retrying(*dispatcher_, policy, failing(3));
  ASSERT_TRUE(value.isReady());
  EXPECT_THROW(std::move(value).get().throwIfFailed(), std::logic_error);
}

TEST_F(RetryTest, AnAttemptMayTakeTime) {
  int calls = 0;
  Future<void> value = retrying(*dispatcher_, exact(5), [&] {
    ++calls;
    return within(sleepFor(*dispatcher_, calls < 3 ? 1h : 1ms), 100ms);
  });
  advance(100ms + 10ms + 100ms + 20ms);
  EXPECT_EQ(calls, 3);
  EXPECT_FALSE(value.isReady());
  advance(1ms);
  ASSERT_TRUE(value.isReady());
  EXPECT_TRUE(value.result().hasValue());
}

TEST_F(RetryTest, FunctionsMayReturnSemiFuturesAndTries) {
  Promise<std::unique_ptr<int>> promise;
  Future<std::unique_ptr<int>> semi = retrying(*dispatcher_, exact(2), [&] { return promise.semiFuture(); });
  Future<int> tried = retrying(*dispatcher_, exact(2), [] { return Try<int>(2); });
  promise.setValue(std::make_unique<int>(1));
  turn();
  ASSERT_TRUE(semi.isReady());
  ASSERT_TRUE(tried.isReady());
  EXPECT_EQ(**semi.result(), 1);
  EXPECT_EQ(*tried.result(), 2);
}

TEST_F(RetryTest, ALambdaThatIsACoroutineKeepsItsCaptures) {
  auto calls = std::make_shared<int>(0);
  Future<int> value = retrying(*dispatcher_, exact(5), [calls]() -> Future<int> {
    co_await 1ms;
    if (++*calls < 3) {
      co_return absl::UnavailableError("x");
    }
    co_return *calls;
  });
  advance(1s);
  ASSERT_TRUE(value.isReady());
  EXPECT_EQ(*value.result(), 3);
  EXPECT_EQ(calls.use_count(), 1) << "the function is destroyed";
}

TEST_F(RetryTest, CancelBetweenAttemptsEndsItAtOnce) {
  auto alive = std::make_shared<int>(0);
  Future<int> value = retrying(*dispatcher_, exact(5), [alive, f = failing(9)]() mutable { return f(); });
  advance(5ms);
  EXPECT_EQ(called_at_.size(), 1U);
  value.cancel();
  EXPECT_EQ(codeOf(value), absl::StatusCode::kCancelled);
  EXPECT_EQ(alive.use_count(), 1);
  const uint64_t fired = dispatcher_->stats().timers_fired;
  advance(1s);
  EXPECT_EQ(called_at_.size(), 1U);
  EXPECT_EQ(dispatcher_->stats().timers_fired, fired);
}

TEST_F(RetryTest, CancelDuringAnAttemptReachesIt) {
  Promise<int> promise;
  Future<int> value = retrying(*dispatcher_, exact(5), [&] { return promise.future(*dispatcher_); });
  value.cancel();
  EXPECT_TRUE(promise.done());
  EXPECT_EQ(codeOf(value), absl::StatusCode::kCancelled);
}

TEST_F(RetryTest, AnAttemptMayCancelTheWhole) {
  Future<int> value;
  int calls = 0;
  Promise<void> start;
  value = retrying(*dispatcher_, exact(5), [&]() -> Future<int> {
    if (++calls == 2) {
      value.cancel();
      EXPECT_EQ(calls, 2) << "what it captured is still there";
    }
    return makeFailedFuture<int>(absl::UnavailableError("x"));
  });
  advance(1s);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(codeOf(value), absl::StatusCode::kCancelled);
}

TEST_F(RetryTest, ADroppedRetryGoesOn) {
  retrying(*dispatcher_, exact(5), failing(2)).detach();
  advance(1s);
  EXPECT_EQ(called_at_.size(), 3U);
}

TEST_F(RetryTest, AShutDownDispatcherEndsItBetweenAttempts) {
  Future<int> value = retrying(*dispatcher_, exact(5), failing(9));
  dispatcher_->shutdown();
  EXPECT_EQ(codeOf(value), absl::StatusCode::kCancelled);
  EXPECT_EQ(called_at_.size(), 1U);
}

TEST_F(RetryTest, NoBackoffNeitherRecursesNorStarves) {
  RetryPolicy policy{.max_attempts = 1'000'000, .initial_backoff = 0ms, .max_backoff = 0ms, .jitter = 0};
  int calls = 0;
  bool ran = false;
  dispatcher_->post([&] { ran = true; });
  Future<void> value = retrying(*dispatcher_, policy, [&] { return ++calls, absl::UnavailableError("x"); });
  EXPECT_LT(calls, 1'000'000) << "it yields now and then";
  turn();
  EXPECT_TRUE(ran);
  while (!value.isReady()) {
    turn();
  }
  EXPECT_EQ(calls, 1'000'000);
  EXPECT_EQ(codeOf(value), absl::StatusCode::kUnavailable);
}

TEST_F(RetryTest, JitterComesFromTheSeed) {
  SplitMix64 random(42);
  RetryPolicy policy{.max_attempts = 4, .initial_backoff = 1s, .max_backoff = 1s, .jitter = 0.5, .random = &random};
  Future<int> value = retrying(*dispatcher_, policy, failing(3));
  advance(10s);
  ASSERT_TRUE(value.isReady());
  SplitMix64 same(42);
  std::chrono::microseconds expected{0};
  for (size_t i = 1; i < 4; ++i) {
    const auto left_out = static_cast<int64_t>(0.5 * same.fraction() * 1e9);
    expected += std::chrono::ceil<std::chrono::microseconds>(1s - std::chrono::nanoseconds(left_out));
    EXPECT_EQ(called_at_[i], expected);
  }
}

TEST(RetryPolicyTest, JitterStaysWithinItsPart) {
  SplitMix64 random(1);
  for (const double jitter : {0.2, 0.5, 1.0}) {
    const RetryPolicy policy{.initial_backoff = 1s, .max_backoff = 1s, .jitter = jitter, .random = &random};
    auto least = std::chrono::nanoseconds::max();
    auto most = std::chrono::nanoseconds::min();
    for (int i = 0; i < 10'000; ++i) {
      const std::chrono::nanoseconds backoff = backoffAfter(policy, 1);
      least = std::min(least, backoff);
      most = std::max(most, backoff);
    }
    EXPECT_LE(most, 1s);
    EXPECT_GT(most, 1s - 10ms) << "it uses all of its part";
    const auto lowest = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(1 - jitter));
    EXPECT_GE(least, lowest - 1ns);
    EXPECT_LT(least, lowest + 10ms);
  }
}

TEST(RetryPolicyTest, WithoutAGeneratorTheJitterIsOfTheThreadsOwn) {
  const RetryPolicy policy{.initial_backoff = 1h, .max_backoff = 1h, .jitter = 1};
  EXPECT_NE(backoffAfter(policy, 1), backoffAfter(policy, 1));
}

TEST(RetryPolicyTest, BackoffSaturates) {
  const RetryPolicy policy{
      .initial_backoff = 1ns, .max_backoff = std::chrono::nanoseconds::max(), .multiplier = 1e300, .jitter = 0};
  EXPECT_EQ(backoffAfter(policy, 1), 1ns);
  EXPECT_EQ(backoffAfter(policy, 2), std::chrono::nanoseconds::max());
  EXPECT_EQ(backoffAfter(policy, std::numeric_limits<int>::max()), std::chrono::nanoseconds::max());
  const RetryPolicy none{.initial_backoff = 0ns, .max_backoff = 1s, .multiplier = 1e300, .jitter = 0};
  EXPECT_EQ(backoffAfter(none, 1000), 0ns);
}

TEST(RetryPolicyTest, TheGeneratorIsThePublishedOne) {
  SplitMix64 random(1234567);  // the values of the algorithm's reference implementation
  EXPECT_EQ(random(), 6457827717110365317U);
  EXPECT_EQ(random(), 3203168211198807973U);
  EXPECT_EQ(random(), 9817491932198370423U);
}

TEST_F(RetryTest, PoliciesThatAreNotValidAreRefusedAndNamed) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinite = std::numeric_limits<double>::infinity();
  const std::vector<std::pair<RetryPolicy, std::string>> policies = {
      {{.max_attempts = 0}, "RetryPolicy: max_attempts must be at least 1, not 0"},
      {{.initial_backoff = -1ns}, "RetryPolicy: initial_backoff must not be negative, not -1 ns"},
      {{.initial_backoff = 2ns, .max_backoff = 1ns},
       "RetryPolicy: max_backoff must be at least initial_backoff, 2 ns, not 1 ns"},
      {{.multiplier = 0.5}, "RetryPolicy: multiplier must be at least 1, and finite, not 0.5"},
      {{.multiplier = nan}, "RetryPolicy: multiplier must be at least 1, and finite, not nan"},
      {{.multiplier = infinite}, "RetryPolicy: multiplier must be at least 1, and finite, not inf"},
      {{.jitter = -0.5}, "RetryPolicy: jitter must be between 0 and 1, not -0.5"},
      {{.jitter = 1.5}, "RetryPolicy: jitter must be between 0 and 1, not 1.5"},
      {{.jitter = nan}, "RetryPolicy: jitter must be between 0 and 1, not nan"},
  };
  for (const auto& [policy, message] : policies) {
    Future<int> value = retrying(*dispatcher_, policy, failing(0));
    EXPECT_EQ(statusOf(value), absl::InvalidArgumentError(message));
  }
  EXPECT_TRUE(called_at_.empty());
}

TEST(RetryThreadTest, AttemptsRunOnTheDispatchersThreadWhereverItIsCalled) {
  DispatcherPtr dispatcher = createDispatcher({.name = "test"});
  test::DispatcherThread thread(*dispatcher);
  const RetryPolicy policy{.initial_backoff = 1us, .max_backoff = 1us};
  int calls = 0;
  Future<int> value = retrying(*dispatcher, policy, [&]() -> absl::StatusOr<int> {
    EXPECT_EQ(std::this_thread::get_id(), thread.id());
    if (++calls < 3) {
      return absl::UnavailableError("x");
    }
    return calls;
  });
  EXPECT_EQ(*std::move(value).get(), 3);
}

TEST(RetryThreadTest, ADispatcherThatIsShutDownRefuses) {
  DispatcherPtr dispatcher = createDispatcher({.name = "test"});
  dispatcher->run(RunType::NonBlock);
  dispatcher->shutdown();
  int calls = 0;
  Future<int> value = retrying(*dispatcher, {}, [&] { return ++calls; });
  EXPECT_EQ(codeOf(value), absl::StatusCode::kCancelled);
  EXPECT_EQ(calls, 0);
}

}  // namespace
}  // namespace nuncio
