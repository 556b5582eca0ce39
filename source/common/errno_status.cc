#include "source/common/errno_status.h"

#include <cerrno>
#include <new>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace nuncio {

absl::Status errnoStatus(int error, absl::string_view what) {
  const std::string message = absl::StrCat(what, ": ", std::generic_category().message(error));
  switch (error) {
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(absl::StrCat(message, "; raise the limit of open files (ulimit -n)"));
    case ENOSPC:
    case ENOMEM:
    case ENOBUFS:
    case EAGAIN:
      return absl::ResourceExhaustedError(message);
    case EBADF:
    case EINVAL:
    case EPERM:
      return absl::InvalidArgumentError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::Status noMemoryStatus(absl::string_view what) noexcept {
  try {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", what));
  } catch (const std::bad_alloc&) {
    return absl::Status(absl::StatusCode::kResourceExhausted, "");  // allocates nothing
  }
}

}  // namespace nuncio
