#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace nuncio {

// "<what>: <the system's words for error>": ResourceExhausted for a lack of descriptors, memory or the like,
// InvalidArgument for what the caller passed, Internal for the rest. (absl::ErrnoToStatus is too new for Ubuntu 22.04.)
absl::Status errnoStatus(int error, absl::string_view what);

// ResourceExhausted: "no memory for <what>", or with no words where there is no memory for those either.
absl::Status noMemoryStatus(absl::string_view what) noexcept;

}  // namespace nuncio
