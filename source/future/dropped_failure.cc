#include "nuncio/future/dropped_failure.h"

#include <new>
#include <utility>

#include "nuncio/common/logging.h"
#include "nuncio/future/internal/node.h"
#include "source/common/made_once.h"
#include "source/common/place_text.h"

namespace nuncio {
namespace {

constinit MadeOnce<DroppedFailureHandler> handler_now;  // never destroyed: futures may outlive main

DroppedFailureHandler& handlerNow() { return handler_now.get(); }

}  // namespace

DroppedFailureHandler setDroppedFailureHandler(DroppedFailureHandler handler) {
  return std::exchange(handlerNow(), std::move(handler));
}

void future_internal::reportDropped(const Failure* failure, const std::source_location& place) noexcept {
  if (failure == nullptr) {
    return;
  }
  absl::Status status;
  assignStatus(failure, &status);
  if (absl::IsCancelled(status)) {
    return;  // somebody asked for it
  }
  try {
    if (handlerNow() != nullptr) {
      handlerNow()(status, place);
      return;
    }
    NUNCIO_LOG(Future, warn, "a failed future was dropped: {}; it was made at {}; handle the failure, or say detach()",
               status.ToString(), placeText(place));
  } catch (const std::bad_alloc&) {  // NOLINT(bugprone-empty-catch): there is no memory to say so
  }
}

}  // namespace nuncio
