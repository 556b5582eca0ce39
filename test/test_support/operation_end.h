#pragma once

#include <cstdint>

#include "absl/status/status.h"

namespace nuncio::test {

// How an operation ended that lacked descriptors or memory, for the tables that try each of them.
enum class End : uint8_t {
  Done,
  Refused,  // a ResourceExhausted, a null or a false
  Wrong,    // another status, or something that should not be
};

inline End endOf(const absl::Status& status) {
  return status.ok() ? End::Done : absl::IsResourceExhausted(status) ? End::Refused : End::Wrong;
}
inline End endOf(bool good) { return good ? End::Done : End::Refused; }

}  // namespace nuncio::test
