#pragma once

#include <exception>
#include <string>
#include <utility>

#include "absl/status/status.h"

namespace nuncio {

// StatusError: a failed absl::Status where an exception is asked for: Try::value(), and co_await of a failed future.
// When it escapes from a continuation or a coroutine, the result is the status again.
class StatusError : public std::exception {
public:
  explicit StatusError(absl::Status status) : status_(std::move(status)), what_(status_.ToString()) {}

  const absl::Status& status() const { return status_; }
  const char* what() const noexcept override { return what_.c_str(); }

private:
  absl::Status status_;
  std::string what_;
};

}  // namespace nuncio
