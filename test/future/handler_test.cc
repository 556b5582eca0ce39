// Which results the functions of then() get: the type of their parameter says so, through whatever they are wrapped in.

#include <any>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "absl/functional/bind_front.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"

#include "nuncio/common/inline_function.h"
#include "nuncio/event/lifetime_guard.h"
#include "nuncio/future/future.h"

namespace nuncio::test {
namespace {

Future<int> success() { return makeReadyFuture(5); }
Future<int> failure() { return makeFailedFuture<int>(absl::NotFoundError("no")); }

// What `f` made of a future that failed: "skipped", or what it returned.
template <class F>
std::string onFailure(F&& f) {
  Try<std::string> result = failure().then(std::forward<F>(f)).get();
  return result.failed() ? "skipped" : *result;
}
template <class F>
std::string onValue(F&& f) {
  return failure().thenError([](const absl::Status&) { return 5; }).then(std::forward<F>(f)).get().value();
}

std::string ofTry(const Try<int>& result) { return result.hasValue() ? std::to_string(*result) : "failed"; }
std::string ofValue(int value) { return std::to_string(value); }
std::string ofTryNoexcept(Try<int> result) noexcept {
  return ofTry(result);
}  // NOLINT(performance-unnecessary-value-param)

TEST(HandlerTest, AnAnyTakesTheValue) {
  bool ran = false;
  EXPECT_TRUE(failure().then([&](std::any) { ran = true; }).get().failed());
  EXPECT_FALSE(ran);
  EXPECT_TRUE(success().then([](std::any value) { return value.type() == typeid(int); }).get().value());
  EXPECT_TRUE(makeReadyFuture(std::any(5))
                  .then([](const std::any& value) { return value.type() == typeid(int); })
                  .get()
                  .value());
}

TEST(HandlerTest, AVariantThatHoldsATryTakesTheValue) {
  const auto index = [](std::variant<Try<int>, int> value) { return std::to_string(value.index()); };
  EXPECT_EQ(onFailure(index), "skipped");
  EXPECT_EQ(onValue(index), "1");
}

// Made of anything.
struct Greedy {
  template <class U>
  Greedy(U&&) : of_value(std::is_same_v<std::decay_t<U>, int>) {}  // NOLINT: what is tested
  bool of_value;
};

TEST(HandlerTest, AValueThatCouldBeMadeOfATryTakesTheValue) {
  const auto handler = [](const Greedy& value) { return std::to_string(value.of_value ? 1 : 0); };
  EXPECT_EQ(onFailure(handler), "skipped");
  EXPECT_EQ(onValue(handler), "1");
}

TEST(HandlerTest, EveryWayToPassATryTakesTheTry) {
  EXPECT_EQ(onFailure([](Try<int> result) { return ofTry(result); }), "failed");
  EXPECT_EQ(onFailure([](const Try<int> result) { return ofTry(result); }), "failed");
  EXPECT_EQ(onFailure([](const Try<int>& result) { return ofTry(result); }), "failed");
  EXPECT_EQ(onFailure([](Try<int>&& result) mutable { return ofTry(result); }), "failed");
  EXPECT_EQ(onFailure([](Try<int> result) noexcept { return ofTry(result); }), "failed");
  EXPECT_EQ(onFailure([](Try<int> result, int = 0) { return ofTry(result); }), "failed");
}

TEST(HandlerTest, FunctionsAreAsLambdas) {
  EXPECT_EQ(onFailure(ofTry), "failed");
  EXPECT_EQ(onFailure(&ofTryNoexcept), "failed");
  EXPECT_EQ(onFailure(&ofValue), "skipped");
  EXPECT_EQ(onValue(ofValue), "5");
}

TEST(HandlerTest, BehindStdFunction) {
  EXPECT_EQ(onFailure(std::function<std::string(Try<int>)>(ofTry)), "failed");
  EXPECT_EQ(onFailure(std::function<std::string(std::any)>([](const std::any&) { return "ran"; })), "skipped");
  EXPECT_EQ(onFailure(std::function<std::string(int)>(ofValue)), "skipped");
  EXPECT_EQ(onFailure(InlineFunction<std::string(Try<int>), 16>(&ofTry)), "failed");
}

TEST(HandlerTest, BehindStdRef) {
  const auto of_try = [](Try<int> result) { return ofTry(result); };
  std::function<std::string(const Try<int>&)> function = of_try;
  EXPECT_EQ(onFailure(std::ref(of_try)), "failed");
  EXPECT_EQ(onFailure(std::cref(of_try)), "failed");
  EXPECT_EQ(onFailure(std::ref(function)), "failed");
  EXPECT_EQ(onFailure(std::ref(ofTry)), "failed");
  EXPECT_EQ(onFailure(std::ref(ofValue)), "skipped");
  const auto of_any = [](const std::any&) { return std::string("ran"); };
  EXPECT_EQ(onFailure(std::ref(of_any)), "skipped");
}

struct Counter {
  std::string ofTry(Try<int> result) { return ++calls, name + test::ofTryNoexcept(std::move(result)); }
  std::string ofTryConst(const Try<int>& result) const { return name + test::ofTryNoexcept(result); }
  std::string ofValue(int value) const noexcept { return name + std::to_string(value); }
  std::string ofValueLvalue(int value) & { return ++calls, name + std::to_string(value); }
  std::string ofValueRvalue(int value) && { return std::move(name) + std::to_string(value); }
  std::string name = "counter ";
  int calls = 0;
};

// Both kinds of bind_front, which have their own types.
TEST(HandlerTest, BehindBindFront) {
  Counter counter;
  const auto of_int_and_try = [](int, Try<int> result) { return ofTry(result); };
  const auto of_try_and_int = [](Try<int>, int value) { return std::to_string(value); };
  const auto of_value = [](const std::string&, std::unique_ptr<int>, int value) { return std::to_string(value); };
  EXPECT_EQ(onFailure(std::bind_front(of_int_and_try, 1)), "failed");
  EXPECT_EQ(onFailure(absl::bind_front(of_int_and_try, 1)), "failed");
  EXPECT_EQ(onFailure(std::bind_front(of_try_and_int, Try<int>(1))), "skipped");
  EXPECT_EQ(onFailure(absl::bind_front(of_try_and_int, Try<int>(1))), "skipped");
  EXPECT_EQ(onFailure(std::bind_front(ofTry)), "failed");
  EXPECT_EQ(onFailure(std::bind_front(&Counter::ofTry, &counter)), "counter failed");
  EXPECT_EQ(onFailure(absl::bind_front(&Counter::ofTryConst, &counter)), "counter failed");
  EXPECT_EQ(onFailure(absl::bind_front(&Counter::ofTryConst, absl::StatusOr<Counter*>(&counter).value())),
            "counter failed");
  EXPECT_EQ(onFailure(std::bind_front(&Counter::ofValue, &counter)), "skipped");
  EXPECT_EQ(onValue(std::bind_front(&Counter::ofValue, &counter)), "counter 5");
  static_assert(!future_internal::kTakesTry<decltype(std::bind_front(of_value, "a", nullptr)), int>);
}

TEST(HandlerTest, BehindALifetimeGuard) {
  const LifetimeGuard guard;
  EXPECT_EQ(onFailure(guard.wrap([](Try<int> result) -> absl::StatusOr<std::string> { return ofTry(result); })),
            "failed");
  EXPECT_EQ(onFailure(guard.wrap([](const std::any&) -> absl::StatusOr<std::string> { return "ran"; })), "skipped");
  Counter counter;
  EXPECT_EQ(onFailure(guard.wrap(std::bind_front(&Counter::ofTry, &counter))), "counter failed");
}

TEST(HandlerTest, BehindSeveralWrappersAtOnce) {
  const LifetimeGuard guard;
  auto guarded = guard.wrap(std::bind_front([](int, Try<int> result) { return ofTry(result); }, 1));
  auto guarded_value = guard.wrap(std::bind_front([](int, const std::any&) { return std::string("ran"); }, 1));
  EXPECT_EQ(onFailure(std::ref(guarded)), "failed");
  EXPECT_EQ(onFailure(std::ref(guarded_value)), "skipped");
}

TEST(HandlerTest, MemberFunctionsOfEveryKind) {
  Counter counter;
  EXPECT_EQ(failure().then(&Counter::ofTry, &counter).get().value(), "counter failed");
  EXPECT_EQ(failure().then(&Counter::ofTryConst, static_cast<const Counter*>(&counter)).get().value(),
            "counter failed");
  EXPECT_EQ(success().then(&Counter::ofValue, std::make_shared<const Counter>()).get().value(), "counter 5");
  EXPECT_EQ(success().then(&Counter::ofValueLvalue, &counter).get().value(), "counter 5");
  EXPECT_EQ(success().then(&Counter::ofValueRvalue, std::make_unique<Counter>()).get().value(), "counter 5");
  EXPECT_TRUE(failure().then(&Counter::ofValue, &counter).get().failed());
}

TEST(HandlerTest, AMemberFunctionOfABaseIsOne) {
  struct Derived : Counter {};
  Derived derived;
  EXPECT_EQ(failure().then(&Derived::ofTryConst, &derived).get().value(), "counter failed");
}

TEST(HandlerTest, AGenericLambdaTakesTheValue) {
  const auto generic = [](auto value) { return std::to_string(value); };  // does not compile with a Try
  EXPECT_EQ(onFailure(generic), "skipped");
  EXPECT_EQ(onValue(generic), "5");
  EXPECT_EQ(onValue([](auto&&... values) { return std::to_string(sizeof...(values)); }), "1");
}

TEST(HandlerTest, AGenericLambdaThatTakesOnlyTriesTakesTheTry) {
  EXPECT_EQ(onFailure([]<class T>(const Try<T>& result) { return ofTry(result); }), "failed");
}

TEST(HandlerTest, OverloadsTakeTheValueWhereOneOfThemDoes) {
  struct Both {
    std::string operator()(int value) const { return ofValue(value); }
    std::string operator()(const Try<int>& result) const { return ofTry(result); }
  };
  struct Tries {
    std::string operator()(const Try<int>& result) { return ofTry(result); }
    std::string operator()(const Try<std::string>&) { return "another"; }
  };
  EXPECT_EQ(onFailure(Both()), "skipped");
  EXPECT_EQ(onValue(Both()), "5");
  EXPECT_EQ(failure().then(std::bind_front([](int, auto value) { return value; }, 1)).get().status(),
            absl::NotFoundError("no"));
  static_assert(!std::is_invocable_v<Tries&, std::unique_ptr<int>>);
  static_assert(future_internal::kTakesTry<Tries, std::unique_ptr<int>>);
}

TEST(HandlerTest, OfVoidTakesNothingOrTheTry) {
  const auto failed = [] { return makeFailedFuture<void>(absl::NotFoundError("no")); };
  EXPECT_TRUE(failed().then([](const Try<void>& result) { return result.failed(); }).get().value());
  EXPECT_EQ(failed().then([] { return 1; }).get().status(), absl::NotFoundError("no"));
  EXPECT_EQ(makeReadyFuture().then([](int value = 3) { return value; }).get().value(), 3);
}

TEST(HandlerTest, OfVoidAGenericLambdaTakesTheTryOnlyIfItMustHaveSomething) {
  const auto failed = [] { return makeFailedFuture<void>(absl::NotFoundError("no")); };
  EXPECT_TRUE(failed().then([](auto result) { return result.failed(); }).get().value());
  EXPECT_TRUE(failed().then([](auto... results) { return sizeof...(results); }).get().failed());
}

}  // namespace
}  // namespace nuncio::test
