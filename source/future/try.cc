#include "nuncio/future/try.h"

#include <atomic>
#include <new>
#include <typeinfo>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/future/status_error.h"
#include "source/future/failure.h"

namespace nuncio::future_internal {
namespace {

// To find out costs a throw; where the library tells the type of an exception, only a StatusError costs it.
bool maybeStatusError([[maybe_unused]] const std::exception_ptr& exception) {
#ifdef __GLIBCXX__
  return *exception.__cxa_exception_type() == typeid(StatusError);
#else
  return true;
#endif
}

Failure* orNoMemory(Failure* failure) {
  static Failure& no_memory = *new Failure(absl::ResourceExhaustedError("no memory for the failure of a future"));
  return failure != nullptr ? failure : shareFailure(&no_memory);
}

absl::Status statusOf(const Failure* failure) {
  if (failure == nullptr) {
    return absl::FailedPreconditionError("there is no result yet");
  }
  if (failure->exception == nullptr) {
    return failure->status;
  }
  try {
    std::rethrow_exception(failure->exception);
  } catch (const std::exception& e) {
    return absl::UnknownError(absl::StrCat("exception: ", e.what()));
  } catch (...) {
    return absl::UnknownError("exception that is not a std::exception");
  }
}

}  // namespace

Failure* makeFailure(const absl::Status& status) noexcept {
  if (status.ok()) {
    return makeFailure(absl::InternalError("an OK status was given where a value or an error is needed"));
  }
  return orNoMemory(new (std::nothrow) Failure(status));
}

Failure* makeFailure(std::exception_ptr exception) noexcept {
  if (exception == nullptr) {
    return makeFailure(absl::InternalError("a null exception_ptr was given for an error"));
  }
  if (maybeStatusError(exception)) {
    try {
      std::rethrow_exception(exception);
    } catch (const StatusError& e) {
      return makeFailure(e.status());  // a Status that had to be thrown goes on as a Status
    } catch (...) {                    // NOLINT(bugprone-empty-catch): kept as it is, below
    }
  }
  return orNoMemory(new (std::nothrow) Failure(std::move(exception)));
}

Failure* shareFailure(const Failure* failure) noexcept {
  auto* const shared = const_cast<Failure*>(failure);  // NOLINT(cppcoreguidelines-pro-type-const-cast): only the count
  shared->references.fetch_add(1, std::memory_order_relaxed);
  return shared;
}

void releaseFailure(Failure* failure) noexcept {
  if (failure->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    delete failure;
  }
}

bool isException(const Failure* failure) noexcept { return failure->exception != nullptr; }

bool isOk(const absl::Status& status) { return status.ok(); }

void assignStatus(const Failure* failure, absl::Status* status) { *status = statusOf(failure); }

std::exception_ptr exceptionOf(const Failure* failure) {
  return failure != nullptr && failure->exception != nullptr ? failure->exception
                                                             : std::make_exception_ptr(StatusError(statusOf(failure)));
}

void raise(const Failure* failure) {
  if (failure != nullptr && failure->exception != nullptr) {
    std::rethrow_exception(failure->exception);
  }
  throw StatusError(statusOf(failure));
}

}  // namespace nuncio::future_internal
