#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <new>
#include <utility>

#include "absl/status/status.h"

#include "nuncio/future/internal/node.h"
#include "nuncio/future/try.h"

namespace nuncio::future_internal {

// What a Try that failed points to. Does not change while it is shared.
class Failure {
public:
  explicit Failure(absl::Status error) : status(std::move(error)) {}
  // An exception that is no StatusError.
  // NOLINTNEXTLINE(bugprone-throw-keyword-missing): it is kept, not thrown
  explicit Failure(std::exception_ptr error) : exception(std::move(error)) {}
  // A StatusError, or derived from it, with its status, which is not OK.
  // NOLINTNEXTLINE(bugprone-throw-keyword-missing): as above
  Failure(std::exception_ptr error, absl::Status of) : status(std::move(of)), exception(std::move(error)) {}

  std::atomic<uint32_t> references{1};  // released and acquired, as counts of owners are
  const absl::Status status;            // OK: only an exception
  const std::exception_ptr exception;   // null: only a status
};

// The failure for `reason` itself, without a reference: failureFor() makes one.
Failure& keptFailure(Reason reason) noexcept;

// A failure with the status that `describe` returns, which needs memory; where there is none, ResourceExhausted.
template <class F>
Failure* makeFailureOf(F describe) noexcept {
  try {
    return makeFailure(describe());
  } catch (const std::bad_alloc&) {
    return failureFor(Reason::NoMemoryForFailure);
  }
}

}  // namespace nuncio::future_internal
