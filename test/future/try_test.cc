// What a Try is made of, and what failures are: statuses, exceptions, and StatusErrors, which are both.

#include "nuncio/future/try.h"

#include <any>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/queue.h"
#include "nuncio/future/shared_future.h"
#include "nuncio/future/status_error.h"

namespace nuncio::test {
namespace {

// --- Values.

TEST(TryTest, BecomesAStatusOr) {
  EXPECT_EQ(*Try<std::unique_ptr<int>>(std::make_unique<int>(7)).toStatusOr().value(), 7);
  EXPECT_EQ(Try<int>(absl::NotFoundError("gone")).toStatusOr().status(), absl::NotFoundError("gone"));
  EXPECT_EQ(Try<int>(std::make_exception_ptr(std::runtime_error("why"))).toStatusOr().status(),
            absl::UnknownError("exception: why"));
  EXPECT_FALSE(Try<int>().toStatusOr().ok());
  EXPECT_EQ(Try<void>(Unit()).toStatusOr(), absl::OkStatus());
  EXPECT_EQ(Try<void>(absl::AbortedError("no")).toStatusOr(), absl::AbortedError("no"));
}

TEST(TryTest, ConvertsImplicitlyOnly) {
  static_assert(std::is_constructible_v<Try<std::string>, const char*>);
  static_assert(std::is_constructible_v<Try<long>, int>);
  static_assert(std::is_constructible_v<Try<std::unique_ptr<int>>, std::nullptr_t>);
  static_assert(!std::is_constructible_v<Try<std::vector<int>>, int>);
  static_assert(!std::is_constructible_v<Try<std::unique_ptr<int>>, int*>);
  static_assert(!std::is_constructible_v<Try<std::unique_ptr<int>>, absl::StatusOr<int*>>);
  static_assert(!std::is_constructible_v<Try<void>, int>);
  EXPECT_EQ(Try<std::string>("text").value(), "text");
}

TEST(TryTest, OfAMoveOnlyTypeIsNotCopied) {
  static_assert(std::is_nothrow_move_constructible_v<Try<std::unique_ptr<int>>>);
  static_assert(!std::is_copy_constructible_v<Try<std::unique_ptr<int>>>);
  static_assert(!std::is_copy_assignable_v<Try<std::unique_ptr<int>>>);
  static_assert(std::is_copy_constructible_v<Try<std::string>>);
}

TEST(TryTest, AStatusOrIsItsValueOrItsStatusHoweverItIsGiven) {
  const absl::Status error = absl::NotFoundError("no");
  absl::StatusOr<std::string> good = "good";
  absl::StatusOr<std::string> bad = error;
  const absl::StatusOr<std::string> const_good = good;
  EXPECT_EQ(*Try<std::string>(good), "good");
  EXPECT_EQ(*Try<std::string>(const_good), "good");
  EXPECT_EQ(*Try<std::string>(std::move(good)), "good");
  EXPECT_EQ(Try<std::string>(bad).status(), error);
  EXPECT_EQ(Try<std::string>(std::as_const(bad)).status(), error);
  EXPECT_EQ(Try<std::string>(std::move(bad)).status(), error);
  EXPECT_EQ(*Try<std::string>(absl::StatusOr<const char*>("converted")), "converted");
}

TEST(TryTest, NoResultBecomesTheValueOfATypeThatTakesAnything) {
  absl::StatusOr<int> error = absl::NotFoundError("no");
  EXPECT_EQ(Try<std::any>(absl::NotFoundError("no")).status(), absl::NotFoundError("no"));
  EXPECT_EQ(Try<std::any>(error).status(), absl::NotFoundError("no"));
  EXPECT_TRUE(Try<std::any>(std::make_exception_ptr(1)).hasException());
  EXPECT_EQ(std::any_cast<int>(*Try<std::any>(absl::StatusOr<int>(5))), 5);
  static_assert(!std::is_constructible_v<Try<std::any>, Try<int>>);
  static_assert(!std::is_constructible_v<Try<std::any>, Future<int>>);
}

// An operator& that is of no use for the address.
struct Hidden {
  explicit Hidden(int number) : value(number) {}
  void operator&() const = delete;  // NOLINT(google-runtime-operator): what is tested
  int value;
};

TEST(TryTest, AValueMayHaveAnAddressOperatorOfItsOwn) {
  Try<Hidden> result{Hidden(1)};
  Try<Hidden> copy(result);
  EXPECT_EQ(copy->value, 1);
  EXPECT_EQ(std::as_const(copy)->value, 1);
  EXPECT_EQ(Try<Hidden>(absl::StatusOr<Hidden>(Hidden(2)))->value, 2);
}

Future<Hidden> hiddenLater(Future<Hidden> future) {
  Hidden hidden = co_await std::move(future);
  co_return hidden;
}

TEST(TryTest, AValueWithAnAddressOperatorPassesThroughFutures) {
  const DispatcherPtr dispatcher = createDispatcher({.name = "hidden"});
  dispatcher->run(RunType::NonBlock);
  Promise<Hidden> promise;
  Future<Hidden> future = hiddenLater(promise.future(*dispatcher)).then([](Hidden hidden) { return hidden; });
  promise.setValue(Hidden(1));
  dispatcher->run(RunType::NonBlock);
  SharedFuture<Hidden> shared = share(std::move(future));
  EXPECT_EQ((*shared.future().get()).value, 1);

  Queue<Hidden> queue(*dispatcher, 1);
  queue.push(Hidden(2)).detach();
  EXPECT_EQ(queue.pop().get()->value, 2);
}

// --- makeReadyFuture().

TEST(MakeReadyFutureTest, OfAStatusIsAVoidFuture) {
  const absl::Status error = absl::NotFoundError("no");
  Future<void> good = makeReadyFuture(absl::OkStatus());
  Future<void> bad = makeReadyFuture(error);
  EXPECT_TRUE(std::move(good).get().hasValue());
  EXPECT_EQ(std::move(bad).get().status(), error);
}

TEST(MakeReadyFutureTest, OfAStatusOrOrATryIsAFutureOfTheValue) {
  const absl::StatusOr<int> good = 1;
  Future<int> one = makeReadyFuture(good);
  Future<int> bad = makeReadyFuture(absl::StatusOr<int>(absl::NotFoundError("no")));
  Future<int> two = makeReadyFuture(Try<int>(2));
  EXPECT_EQ(*std::move(one).get(), 1);
  EXPECT_EQ(std::move(bad).get().status(), absl::NotFoundError("no"));
  EXPECT_EQ(*std::move(two).get(), 2);
}

// --- Exceptions that have a Status.

class QuotaError : public StatusError {
public:
  explicit QuotaError(int user) : StatusError(absl::ResourceExhaustedError("no room")), user_(user) {}
  int user() const { return user_; }

private:
  int user_;
};
class VirtualQuotaError : public virtual QuotaError {
public:
  explicit VirtualQuotaError(int user) : QuotaError(user) {}
};

Future<int> throwing(auto error) {
  return makeReadyFuture().then([error]() -> int { throw error; });  // NOLINT(misc-throw-by-value-*)
}

TEST(StatusErrorTest, ThatIsThrownHasItsStatus) {
  EXPECT_EQ(throwing(StatusError(absl::DataLossError("lost"))).get().status(), absl::DataLossError("lost"));
  EXPECT_EQ(throwing(QuotaError(7)).get().status(), absl::ResourceExhaustedError("no room"));
  EXPECT_EQ(throwing(VirtualQuotaError(7)).get().status(), absl::ResourceExhaustedError("no room"));
  EXPECT_FALSE(throwing(QuotaError(7)).get().hasException());
}

TEST(StatusErrorTest, WithAnOkStatusIsInternal) {
  EXPECT_EQ(throwing(StatusError(absl::OkStatus())).get().status().code(), absl::StatusCode::kInternal);
}

TEST(StatusErrorTest, IsThrownAgainAsWhatItIs) {
  Try<int> result = throwing(QuotaError(7)).get();
  try {
    result.throwIfFailed();
    FAIL();
  } catch (const QuotaError& e) {
    EXPECT_EQ(e.user(), 7);
  }
  EXPECT_THROW(std::rethrow_exception(result.exception()), QuotaError);
}

Future<int> awaiting(Future<int> future) {
  int value = 0;
  try {
    value = co_await std::move(future);
  } catch (const QuotaError& e) {
    value = e.user();
  }
  co_return value;
}

TEST(StatusErrorTest, IsThrownByCoAwaitAsWhatItIs) { EXPECT_EQ(awaiting(throwing(QuotaError(7))).get().value(), 7); }

TEST(StatusErrorTest, OfADerivedTypeIsCaughtAsThatAndAsAStatusErrorAndAStdException) {
  EXPECT_EQ(throwing(QuotaError(7)).thenError<QuotaError>([](const QuotaError& e) { return e.user(); }).get().value(),
            7);
  EXPECT_EQ(throwing(QuotaError(7)).thenError<const StatusError>([](const StatusError&) { return 1; }).get().value(),
            1);
  EXPECT_EQ(throwing(QuotaError(7)).thenError<std::exception>([](std::exception&) { return 2; }).get().value(), 2);
  EXPECT_TRUE(throwing(QuotaError(7)).thenError<std::logic_error>([](std::exception&) { return 3; }).get().failed());
  EXPECT_EQ(throwing(VirtualQuotaError(7)).thenError<StatusError>([](StatusError&) { return 4; }).get().value(), 4);
}

TEST(StatusErrorTest, ThatWasThrownIsAStdException) {
  EXPECT_EQ(throwing(StatusError(absl::DataLossError("lost")))
                .thenError<std::exception>([](std::exception&) { return 1; })
                .get()
                .value(),
            1);
}

TEST(StatusErrorTest, ThenErrorOfItGetsEveryStatus) {
  const auto code = [](const StatusError& e) { return static_cast<int>(e.status().code()); };
  EXPECT_EQ(throwing(StatusError(absl::DataLossError("lost"))).thenError<StatusError>(code).get().value(),
            static_cast<int>(absl::StatusCode::kDataLoss));
  EXPECT_EQ(makeFailedFuture<int>(absl::NotFoundError("no")).thenError<StatusError>(code).get().value(),
            static_cast<int>(absl::StatusCode::kNotFound));
  EXPECT_TRUE(throwing(std::runtime_error("no status")).thenError<StatusError>(code).get().hasException());
  EXPECT_EQ(makeReadyFuture(1).thenError<StatusError>(code).get().value(), 1);
}

TEST(StatusErrorTest, ThenErrorOfADerivedTypeLeavesAStatusAndAStatusErrorAlone) {
  const auto handler = [](const QuotaError& e) { return e.user(); };
  EXPECT_TRUE(makeFailedFuture<int>(absl::NotFoundError("no")).thenError<QuotaError>(handler).get().failed());
  EXPECT_TRUE(throwing(StatusError(absl::DataLossError("lost"))).thenError<QuotaError>(handler).get().failed());
}

TEST(StatusErrorTest, ThenErrorOfItMayReturnAFuture) {
  EXPECT_EQ(makeFailedFuture<int>(absl::NotFoundError("no"))
                .thenError<StatusError>([](StatusError&) { return makeReadyFuture(1); })
                .get()
                .value(),
            1);
}

// Some that the check for a StatusError must not take for one.
TEST(StatusErrorTest, OtherExceptionsKeepTheirStatus) {
  struct Private : private StatusError {
    Private() : StatusError(absl::NotFoundError("private")) {}
  };
  const absl::Status other = absl::UnknownError("exception that is not a std::exception");
  EXPECT_EQ(throwing(std::runtime_error("x")).get().status(), absl::UnknownError("exception: x"));
  EXPECT_EQ(throwing(5).get().status(), other);
  EXPECT_EQ(throwing(static_cast<const StatusError*>(nullptr)).get().status(), other);
  EXPECT_EQ(throwing(Private()).get().status(), other);
}

}  // namespace
}  // namespace nuncio::test
