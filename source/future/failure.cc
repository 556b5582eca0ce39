#include "source/future/failure.h"

#include <atomic>
#include <cstring>
#include <exception>
#include <new>
#include <source_location>
#include <typeinfo>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "nuncio/future/internal/node.h"
#include "nuncio/future/status_error.h"

namespace nuncio::future_internal {
namespace {

// Without a message where there is no memory for it, as the program starts.
absl::Status makeStatus(absl::StatusCode code, absl::string_view message) noexcept {
  try {
    return absl::Status(code, message);
  } catch (const std::bad_alloc&) {
    return absl::Status(code, "");
  }
}

Failure& keptAt(int index) noexcept {
  using absl::StatusCode;
  union Failures {
    ~Failures() {}  // never: futures may outlive main()
    Failure at[static_cast<int>(Kept::NoResult) + 1];
  };
  static Failures failures{{
      Failure(makeStatus(StatusCode::kCancelled, "the future was cancelled")),
      Failure(makeStatus(StatusCode::kCancelled, "the future's dispatcher has been shut down")),
      Failure(makeStatus(StatusCode::kResourceExhausted, "no memory for a continuation")),
      Failure(makeStatus(StatusCode::kFailedPrecondition, "the future was moved from, or never made")),
      Failure(makeStatus(StatusCode::kFailedPrecondition,
                         "waiting for a future on a dispatcher's thread would block it; use then() or co_await")),
      Failure(makeStatus(StatusCode::kFailedPrecondition, "the promise's future was taken before")),
      Failure(makeStatus(StatusCode::kFailedPrecondition,
                         "no dispatcher: start the coroutine on a dispatcher's thread, or give it a Dispatcher& as a "
                         "parameter")),
      Failure(makeStatus(StatusCode::kResourceExhausted, "no memory for the failure of a future")),
      Failure(makeStatus(StatusCode::kInternal, "an OK status was given where a value or an error is needed")),
      Failure(makeStatus(StatusCode::kInternal, "a null exception_ptr was given for an error")),
      Failure(makeStatus(StatusCode::kFailedPrecondition, "there is no result yet")),
  }};
  return failures.at[index];
}
static_assert(static_cast<int>(Reason::NoDispatcher) + 1 == static_cast<int>(Kept::NoMemory));

[[maybe_unused]] const Failure& made_at_start = keptAt(0);

Failure* orNoMemory(Failure* failure) noexcept {
  return failure != nullptr ? failure : shareFailure(&kept(Kept::NoMemory));
}

// The StatusError that it is, or is derived from; null: neither. To throw it to find out costs a microsecond or two;
// where the library can tell what a handler would catch, it does.
const StatusError* statusErrorIn(const std::exception_ptr& exception) noexcept {
#ifdef __GLIBCXX__
  static_assert(sizeof(exception) == sizeof(void*), "a pointer to the exception");
  void* thrown;
  // NOLINTNEXTLINE(bugprone-undefined-memory-manipulation): what it is a pointer to, not shared
  std::memcpy(static_cast<void*>(&thrown), &exception, sizeof(thrown));
  return typeid(StatusError).__do_catch(exception.__cxa_exception_type(), &thrown, 1)
             ? static_cast<const StatusError*>(thrown)
             : nullptr;
#else
  try {
    std::rethrow_exception(exception);
  } catch (const StatusError& e) {
    return &e;  // kept by `exception`
  } catch (...) {
    return nullptr;
  }
#endif
}

}  // namespace

Failure& kept(Kept which) noexcept { return keptAt(static_cast<int>(which)); }

Failure* makeFailure(const absl::Status& status) noexcept {
  return status.ok() ? shareFailure(&kept(Kept::OkStatus)) : orNoMemory(new (std::nothrow) Failure(status));
}

Failure* makeFailure(std::exception_ptr exception) noexcept {
  if (exception == nullptr) {
    return shareFailure(&kept(Kept::NullException));
  }
  if (const StatusError* const error = statusErrorIn(exception); error != nullptr) {
    absl::Status status = error->status().ok() ? kept(Kept::OkStatus).status : error->status();
    return orNoMemory(new (std::nothrow) Failure(std::move(exception), std::move(status)));
  }
  return orNoMemory(new (std::nothrow) Failure(std::move(exception)));
}

Failure* failureFor(Reason reason) noexcept { return shareFailure(&keptAt(static_cast<int>(reason))); }

Failure* brokenPromise(const std::source_location& place) noexcept {
  return makeFailureOf([&] {
    return absl::AbortedError(absl::StrCat("broken promise: the one made at ", place.file_name(), ":", place.line(),
                                           " in ", place.function_name(), " was destroyed without a result"));
  });
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

}  // namespace nuncio::future_internal
