#include "nuncio/future/stream.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "source/common/place_text.h"
#include "source/future/failure.h"

namespace nuncio::future_internal {

Failure* brokenStream(const std::source_location& place) noexcept {
  return makeFailureOf([&] {
    return absl::AbortedError(
        absl::StrCat("broken stream: the PromiseStream made at ", placeText(place), " was destroyed before close()"));
  });
}

}  // namespace nuncio::future_internal
