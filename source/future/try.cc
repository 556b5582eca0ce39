#include "nuncio/future/try.h"

#include <exception>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/future/status_error.h"
#include "source/future/failure.h"

namespace nuncio::future_internal {
namespace {

absl::Status statusOfException(const std::exception_ptr& exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const std::bad_alloc&) {
    return keptFailure(Reason::NoMemoryForFailure).status;
  } catch (const std::exception& e) {
    return absl::UnknownError(absl::StrCat("exception: ", e.what()));
  } catch (...) {
    return absl::UnknownError("exception that is not a std::exception");
  }
}

absl::Status statusOf(const Failure* failure) noexcept {
  if (failure == nullptr) {
    return keptFailure(Reason::NoResult).status;
  }
  if (!isException(failure)) {
    return failure->status;
  }
  try {
    return statusOfException(failure->exception);
  } catch (const std::bad_alloc&) {
    return keptFailure(Reason::NoMemoryForFailure).status;
  }
}

}  // namespace

bool isException(const Failure* failure) noexcept { return failure->status.ok(); }

bool wasThrown(const Failure* failure) noexcept { return failure->exception != nullptr; }

bool isOk(const absl::Status& status) { return status.ok(); }

void assignStatus(const Failure* failure, absl::Status* status) noexcept { *status = statusOf(failure); }

std::exception_ptr exceptionOf(const Failure* failure) {
  return failure != nullptr && wasThrown(failure) ? failure->exception
                                                  : std::make_exception_ptr(StatusError(statusOf(failure)));
}

void raise(const Failure* failure) {
  if (failure != nullptr && wasThrown(failure)) {
    std::rethrow_exception(failure->exception);
  }
  throw StatusError(statusOf(failure));
}

}  // namespace nuncio::future_internal
