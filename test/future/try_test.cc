// What failures are: statuses, exceptions, and StatusErrors, which are both.

#include "nuncio/future/try.h"

#include <exception>
#include <stdexcept>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/status_error.h"

namespace nuncio::test {
namespace {

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
