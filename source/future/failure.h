#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <new>
#include <utility>

#include "absl/status/status.h"

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

// Failures that are made when the program starts, since there may be no memory when they are needed: those of Reason,
// first, and these.
enum class Kept : uint8_t { NoMemory = 7, OkStatus, NullException, NoResult };
// Not a reference: shareFailure() makes one.
Failure& kept(Kept which) noexcept;

// A failure with the status that `describe` returns, which needs memory; where there is none, ResourceExhausted.
template <class F>
Failure* makeFailureOf(F describe) noexcept {
  try {
    return makeFailure(describe());
  } catch (const std::bad_alloc&) {
    return shareFailure(&kept(Kept::NoMemory));
  }
}

}  // namespace nuncio::future_internal
