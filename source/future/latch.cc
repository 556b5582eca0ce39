#include "nuncio/future/latch.h"

#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"

namespace nuncio {

void Latch::countDown(uint64_t n) {
  future_internal::checkThread(*loop_, "Latch::countDown");
  if (!NUNCIO_CONTRACT(n <= count_, currentDispatcherName(), "Latch::countDown",
                       absl::StrCat("counted down by ", n, " where ", count_, " are left"))) {
    n = count_;
  }
  count_ -= n;
  if (count_ == 0) {
    waiters_.finishAll();
  }
}

Future<void> Latch::wait(std::source_location place) {
  future_internal::checkThread(*loop_, "Latch::wait");
  if (open()) {
    return future_internal::readyOn(*loop_, Try<void>(Unit()), place);
  }
  return waiters_.wait(Unit(), place);
}

}  // namespace nuncio
