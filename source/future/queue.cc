#include "nuncio/future/queue.h"

#include "absl/status/status.h"

#include "source/future/failure.h"

namespace nuncio::future_internal {

Failure* closedToPush() noexcept {
  return makeFailureOf([] { return absl::FailedPreconditionError("the queue is closed"); });
}
Failure* closedToPop() noexcept {
  return makeFailureOf([] { return absl::OutOfRangeError("the queue is closed, and empty"); });
}

}  // namespace nuncio::future_internal
