#include "nuncio/future/internal/wait_list.h"

#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/event/dispatcher.h"
#include "source/future/failure.h"

namespace nuncio::future_internal {

void checkThreadSlow(const LoopCore& loop, const char* operation) {
  if constexpr (assert_internal::kDebug) {
    if (!loop.ended() && loop.dispatcher() != nullptr) {
      NUNCIO_CONTRACT(loop.dispatcher()->isThreadSafe(), loop.dispatcher()->name(), operation,
                      "called on another thread than the dispatcher's");
    }
  }
}

Failure* destroyedFailure(const char* name) noexcept {
  return makeFailureOf([name] { return absl::CancelledError(absl::StrCat("the ", name, " was destroyed")); });
}

}  // namespace nuncio::future_internal
