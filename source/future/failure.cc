#include "source/future/failure.h"

#include <atomic>
#include <cstddef>
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
#include "source/common/place_text.h"

namespace nuncio::future_internal {
namespace {

struct Text {
  absl::StatusCode code;
  absl::string_view message;
};
Text textOf(Reason reason) {
  using absl::StatusCode;
  switch (reason) {
    case Reason::Cancelled:
      return {StatusCode::kCancelled, "the future was cancelled"};
    case Reason::LoopGone:
      return {StatusCode::kCancelled, "the future's dispatcher has been shut down"};
    case Reason::NoMemory:
      return {StatusCode::kResourceExhausted, "no memory for a continuation"};
    case Reason::Invalid:
      return {StatusCode::kFailedPrecondition, "the future was moved from, or never made"};
    case Reason::OnLoop:
      return {StatusCode::kFailedPrecondition,
              "waiting for a future on a dispatcher's thread would block it; use then() or co_await"};
    case Reason::Retrieved:
      return {StatusCode::kFailedPrecondition, "the promise's future was taken before"};
    case Reason::NoDispatcher:
      return {StatusCode::kFailedPrecondition,
              "no dispatcher: start the coroutine on a dispatcher's thread, or give it a Dispatcher& as a parameter"};
    case Reason::NoMemoryForFailure:
      return {StatusCode::kResourceExhausted, "no memory for the failure of a future"};
    case Reason::OkStatus:
      return {StatusCode::kInternal, "an OK status was given where a value or an error is needed"};
    case Reason::NullException:
      return {StatusCode::kInternal, "a null exception_ptr was given for an error"};
    case Reason::NoResult:
      return {StatusCode::kFailedPrecondition, "there is no result yet"};
  }
  return {StatusCode::kUnknown, ""};
}

// Made as the program starts, where nothing may be thrown: without memory for the message, the status has none.
absl::Status statusFor(Reason reason) noexcept {
  const Text text = textOf(reason);
  try {
    return absl::Status(text.code, text.message);
  } catch (const std::bad_alloc&) {
    return absl::Status(text.code, "");
  }
}

constexpr std::size_t kReasons = static_cast<std::size_t>(Reason::NoResult) + 1;

// Never destroyed: futures may outlive main().
union KeptFailures {
  template <std::size_t... kIndex>
  explicit KeptFailures(std::index_sequence<kIndex...> /*reasons*/)
      : of{Failure(statusFor(static_cast<Reason>(kIndex)))...} {}
  KeptFailures(const KeptFailures&) = delete;
  KeptFailures& operator=(const KeptFailures&) = delete;
  ~KeptFailures() {}

  Failure of[kReasons];
};

[[maybe_unused]] const Failure& made_at_start = keptFailure(Reason::Cancelled);

Failure* orNoMemory(Failure* failure) noexcept {
  return failure != nullptr ? failure : failureFor(Reason::NoMemoryForFailure);
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

Failure& keptFailure(Reason reason) noexcept {
  static KeptFailures failures{std::make_index_sequence<kReasons>()};
  return failures.of[static_cast<std::size_t>(reason)];
}

Failure* makeFailure(const absl::Status& status) noexcept {
  return status.ok() ? failureFor(Reason::OkStatus) : orNoMemory(new (std::nothrow) Failure(status));
}

Failure* makeFailure(std::exception_ptr exception) noexcept {
  if (exception == nullptr) {
    return failureFor(Reason::NullException);
  }
  if (const StatusError* const error = statusErrorIn(exception); error != nullptr) {
    absl::Status status = error->status().ok() ? keptFailure(Reason::OkStatus).status : error->status();
    return orNoMemory(new (std::nothrow) Failure(std::move(exception), std::move(status)));
  }
  return orNoMemory(new (std::nothrow) Failure(std::move(exception)));
}

Failure* failureFor(Reason reason) noexcept { return shareFailure(&keptFailure(reason)); }

Failure* brokenPromise(const std::source_location& place) noexcept {
  return makeFailureOf([&] {
    return absl::AbortedError(
        absl::StrCat("broken promise: the one made at ", placeText(place), " was destroyed without a result"));
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
