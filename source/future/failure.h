#pragma once

#include <atomic>
#include <exception>
#include <utility>

#include "absl/status/status.h"

namespace nuncio::future_internal {

// What a Try that failed points to. Does not change while it is shared.
class Failure {
public:
  explicit Failure(absl::Status error) : status(std::move(error)) {}
  // NOLINTNEXTLINE(bugprone-throw-keyword-missing): it is kept, not thrown
  explicit Failure(std::exception_ptr error) : exception(std::move(error)) {}

  std::atomic<uint32_t> references{1};  // released and acquired, as counts of owners are
  const absl::Status status;
  const std::exception_ptr exception;  // null: status
};

}  // namespace nuncio::future_internal
