#include "nuncio/future/retry.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "absl/strings/str_cat.h"

namespace nuncio {
namespace {

SplitMix64& threadRandom() {
  static thread_local SplitMix64 random = [] {
    std::random_device device;
    return SplitMix64((uint64_t{device()} << 32) | device());
  }();
  return random;
}

absl::Status invalid(absl::string_view what, absl::string_view value) {
  return absl::InvalidArgumentError(absl::StrCat("RetryPolicy: ", what, ", not ", value));
}

}  // namespace

absl::Status validate(const RetryPolicy& policy) {
  if (policy.max_attempts < 1) {
    return invalid("max_attempts must be at least 1", absl::StrCat(policy.max_attempts));
  }
  if (policy.initial_backoff.count() < 0) {
    return invalid("initial_backoff must not be negative", absl::StrCat(policy.initial_backoff.count(), " ns"));
  }
  if (policy.max_backoff < policy.initial_backoff) {
    return invalid(
        absl::StrCat("max_backoff must be at least initial_backoff, ", policy.initial_backoff.count(), " ns"),
        absl::StrCat(policy.max_backoff.count(), " ns"));
  }
  if (!(policy.multiplier >= 1) || std::isinf(policy.multiplier)) {
    return invalid("multiplier must be at least 1, and finite", absl::StrCat(policy.multiplier));
  }
  if (!(policy.jitter >= 0 && policy.jitter <= 1)) {
    return invalid("jitter must be between 0 and 1", absl::StrCat(policy.jitter));
  }
  return absl::OkStatus();
}

std::chrono::nanoseconds backoffAfter(const RetryPolicy& policy, int attempt) {
  const double initial = static_cast<double>(policy.initial_backoff.count());
  // 0 times infinity is not a number.
  const double grown = initial == 0 ? 0 : initial * std::pow(policy.multiplier, attempt - 1);
  std::chrono::nanoseconds backoff = policy.max_backoff;
  if (grown < static_cast<double>(backoff.count())) {
    backoff = std::chrono::nanoseconds(std::llround(grown));
  }
  if (policy.jitter > 0) {
    SplitMix64& random = policy.random != nullptr ? *policy.random : threadRandom();
    const double left_out = policy.jitter * random.fraction() * static_cast<double>(backoff.count());
    backoff -= std::min(backoff, std::chrono::nanoseconds(static_cast<int64_t>(left_out)));
  }
  return backoff;
}

bool future_internal::isRetryable(const RetryPolicy& policy, const absl::Status& failure) {
  if (policy.retryable != nullptr) {
    return policy.retryable(failure);
  }
  switch (failure.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kAborted:
      return true;
    default:
      return false;
  }
}

}  // namespace nuncio
