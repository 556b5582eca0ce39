#include "nuncio/event/internal/ending_scope.h"

#include <cstdint>

#include "nuncio/event/internal/loop_core.h"

namespace nuncio {
namespace {

// Of the outermost EndingScope of this thread: nested ones below this address leave their tasks to those above; 0: none
// is open.
thread_local constinit uintptr_t ending_floor = 0;

}  // namespace

EndingScope::EndingScope(LoopCore& loop) noexcept : loop_(loop) {
  loop_.retain();
  ++loop_.ending_scopes_;
}

EndingScope::~EndingScope() {
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const uintptr_t floor = ending_floor;
  if (floor == 0) {
    ending_floor = here - LoopCore::kStackBytes;
  }
  if (loop_.ending_scopes_ == 1 || here >= ending_floor) {
    const CallbackId outer = loop_.callback();  // which goes on afterwards
    while (!loop_.ending_.empty()) {
      loop_.ending_.takeFirst().runTask();
    }
    loop_.nameCallback(outer);
  }
  ending_floor = floor;
  --loop_.ending_scopes_;
  loop_.release();
}

}  // namespace nuncio
