#pragma once

#include <exception>
#include <string>
#include <utility>

#include "absl/status/status.h"

namespace nuncio {

// StatusError: a failed absl::Status where an exception is asked for: Try::value(), and co_await of a failed future.
//
//   class QuotaError : public StatusError { ... };                        // with what else there is to say
//   throw QuotaError(absl::ResourceExhaustedError("no room"), user);
//
// When it, or what is derived from it, escapes from a continuation or a coroutine, the result has its status, and is
// the same exception for who throws it again (Try::value(), co_await) or asks for it (thenError<QuotaError>). It has to
// have a status that is not OK.
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
