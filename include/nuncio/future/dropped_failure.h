#pragma once

#include <functional>
#include <source_location>

#include "absl/status/status.h"

namespace nuncio {

// What becomes of the failure of a future that was dropped: neither handled nor given to detach(). `place`: where the
// future was made. Any thread.
using DroppedFailureHandler = std::function<void(const absl::Status& status, const std::source_location& place)>;

// Sets the handler, and returns the one before; null: the default, which logs a warning. For tests, mostly; see
// test/mocks/future.h. Any thread, but not while futures are in use on others.
DroppedFailureHandler setDroppedFailureHandler(DroppedFailureHandler handler);

}  // namespace nuncio
