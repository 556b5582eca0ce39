#include "nuncio/future/queue.h"

#include "absl/status/status.h"

namespace nuncio::future_internal {

Failure* closedToPush() noexcept { return makeFailure(absl::FailedPreconditionError("the queue is closed")); }
Failure* closedToPop() noexcept { return makeFailure(absl::OutOfRangeError("the queue is closed, and empty")); }

}  // namespace nuncio::future_internal
