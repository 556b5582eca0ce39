#include "nuncio/common/assert.h"

#include <cstdio>
#include <cstdlib>
#include <sys/syscall.h>
#include <unistd.h>

#include "nuncio/common/logging.h"

namespace nuncio {
namespace {

thread_local const char* current_dispatcher_name = nullptr;

long threadId() { return syscall(SYS_gettid); }

}  // namespace

void setCurrentDispatcherName(const char* name) noexcept { current_dispatcher_name = name; }

const char* currentDispatcherName() noexcept {
  return current_dispatcher_name == nullptr ? "-" : current_dispatcher_name;
}

namespace assert_internal {

void fail(const char* file, int line, const char* condition, absl::string_view operation, absl::string_view details) {
  const std::string message =
      absl::StrCat(file, ":", line, ": assertion failed: ", condition, ": ", details, " (dispatcher ",
                   currentDispatcherName(), ", thread ", threadId(), ", operation ", operation, ")\n");
  std::fputs(message.c_str(), stderr);
  std::abort();
}

bool refuse(bool fatal, const char* condition, absl::string_view dispatcher, absl::string_view operation,
            absl::string_view details) {
  const std::string message =
      absl::StrCat(operation, " refused: ", details, " (dispatcher ", dispatcher, ", thread ", threadId(),
                   ", on the thread of dispatcher ", currentDispatcherName(), ", violates: ", condition, ")");
  if (fatal) {
    std::fprintf(stderr, "contract violated: %s\n", message.c_str());
    std::abort();
  }
  NUNCIO_LOG(Common, err, "contract violated: {}", message);
  return false;
}

}  // namespace assert_internal
}  // namespace nuncio
