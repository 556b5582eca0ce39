#include "nuncio/future/any_of.h"

#include <chrono>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/future/coroutine.h"
#include "nuncio/future/time.h"
#include "test/future/loop_fixture.h"

namespace nuncio {
namespace {

using namespace std::chrono_literals;
using test::codeOf;

class AnyOfTest : public test::LoopFixture {};

TEST_F(AnyOfTest, AnyOfGivesTheFirstValueAtItsIndexAndCancelsTheLosers) {
  Promise<int> number;
  Promise<std::unique_ptr<int>> pointer;
  int cancelled = 0;
  number.onCancel([&] { ++cancelled; });
  Future<std::variant<int, std::unique_ptr<int>>> any =
      anyOf(number.future(*dispatcher_), pointer.future(*dispatcher_));
  turn();
  EXPECT_FALSE(any.isReady());
  pointer.setValue(std::make_unique<int>(7));
  turn();
  ASSERT_TRUE(any.isReady());
  ASSERT_EQ((*any.result()).index(), 1U);
  EXPECT_EQ(*std::get<1>(*any.result()), 7);
  EXPECT_EQ(cancelled, 1);
}

TEST_F(AnyOfTest, FuturesOfOneTypeAreToldApartByTheIndex) {
  Promise<int> first;
  Promise<int> second;
  Future<std::variant<int, int>> any = anyOf(first.future(*dispatcher_), second.future(*dispatcher_));
  second.setValue(2);
  turn();
  ASSERT_TRUE(any.isReady());
  ASSERT_EQ((*any.result()).index(), 1U);
  EXPECT_EQ(std::get<1>(*any.result()), 2);
}

TEST_F(AnyOfTest, AVoidFutureGivesAUnit) {
  Promise<int> number;
  Future<std::variant<int, Unit>> any = anyOf(number.future(*dispatcher_), sleepFor(*dispatcher_, 5ms));
  advance(5ms);
  ASSERT_TRUE(any.isReady());
  EXPECT_TRUE(std::holds_alternative<Unit>(*any.result()));
  EXPECT_TRUE(number.done());
}

TEST_F(AnyOfTest, AFailureOfTheFirstIsTheResult) {
  Promise<int> number;
  Promise<void> nothing;
  Future<std::variant<int, Unit>> any = anyOf(number.future(*dispatcher_), nothing.future(*dispatcher_));
  nothing.setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(codeOf(any), absl::StatusCode::kNotFound);
  EXPECT_TRUE(number.done());
}

TEST_F(AnyOfTest, OfReadyFuturesTheFirstArgumentWins) {
  Promise<int> number;
  Future<std::variant<int, int, std::string>> any =
      anyOf(number.future(*dispatcher_), makeReadyFuture(2), makeReadyFuture(std::string("3")));
  ASSERT_TRUE(any.isReady());
  EXPECT_EQ((*any.result()).index(), 1U);
  EXPECT_TRUE(number.done());
}

TEST_F(AnyOfTest, CancellingAnyOfReachesAll) {
  Promise<int> number;
  Promise<void> nothing;
  auto any = anyOf(number.future(*dispatcher_), nothing.future(*dispatcher_));
  any.cancel();
  EXPECT_TRUE(number.done());
  EXPECT_TRUE(nothing.done());
  EXPECT_EQ(codeOf(any), absl::StatusCode::kCancelled);
}

TEST_F(AnyOfTest, LosersThatCameInTheSameIterationAreFreed) {
  auto value = std::make_shared<int>(1);
  Promise<std::shared_ptr<int>> first;
  Promise<std::shared_ptr<int>> second;
  {
    auto any = anyOf(first.future(*dispatcher_), second.future(*dispatcher_));
    first.setValue(value);
    second.setValue(value);
    turn();
    ASSERT_TRUE(any.isReady());
    EXPECT_EQ(value.use_count(), 2);
  }
  EXPECT_EQ(value.use_count(), 1);
}

Future<std::string> choose(Dispatcher& dispatcher, Future<int> number) {
  std::variant<int, Unit> first = co_await anyOf(std::move(number), sleepFor(dispatcher, 5ms));
  if (first.index() == 1) {
    co_return "timeout";
  }
  co_return std::to_string(std::get<0>(first));
}

TEST_F(AnyOfTest, ACoroutineChooses) {
  Promise<int> in_time;
  Promise<int> late;
  Future<std::string> value = choose(*dispatcher_, in_time.future(*dispatcher_));
  Future<std::string> timeout = choose(*dispatcher_, late.future(*dispatcher_));
  in_time.setValue(7);
  turn();
  ASSERT_TRUE(value.isReady());
  EXPECT_EQ(*value.result(), "7");
  advance(5ms);
  ASSERT_TRUE(timeout.isReady());
  EXPECT_EQ(*timeout.result(), "timeout");
  EXPECT_TRUE(late.done());
}

TEST_F(AnyOfTest, AFailureIsThrownInTheCoroutine) {
  Promise<int> number;
  Future<std::string> chosen = choose(*dispatcher_, number.future(*dispatcher_));
  number.setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(codeOf(chosen), absl::StatusCode::kNotFound);
}

TEST_F(AnyOfTest, CancellingTheCoroutineCancelsWhatItChoosesFrom) {
  Promise<int> number;
  Future<std::string> chosen = choose(*dispatcher_, number.future(*dispatcher_));
  chosen.cancel();
  EXPECT_TRUE(number.done());
  EXPECT_EQ(codeOf(chosen), absl::StatusCode::kCancelled);
}

Future<int> both(Dispatcher& /*dispatcher*/, Future<int> one, Future<void> two) {
  std::tuple<int, Unit> values = co_await allOf(std::move(one), std::move(two));
  co_return std::get<0>(values);
}

TEST_F(AnyOfTest, ACoroutineWaitsForAll) {
  Promise<int> one;
  Promise<void> two;
  Future<int> all = both(*dispatcher_, one.future(*dispatcher_), two.future(*dispatcher_));
  one.setValue(1);
  turn();
  EXPECT_FALSE(all.isReady());
  two.setValue();
  turn();
  ASSERT_TRUE(all.isReady());
  EXPECT_EQ(*all.result(), 1);
}

TEST_F(AnyOfTest, AFailureOfOneOfAllCancelsTheOthers) {
  Promise<int> one;
  Promise<void> two;
  Future<int> all = both(*dispatcher_, one.future(*dispatcher_), two.future(*dispatcher_));
  two.setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(codeOf(all), absl::StatusCode::kNotFound);
  EXPECT_TRUE(one.done());
}

}  // namespace
}  // namespace nuncio
