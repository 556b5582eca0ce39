#pragma once

#include <cstddef>
#include <cstdint>

#include "nuncio/common/inline_function.h"

namespace nuncio {

// The callables that a dispatcher runs: move-only, and without an allocation for captures up to these sizes. A larger
// capture costs one allocation when the callback is made.
inline constexpr std::size_t kPostCaptureBytes = 48;
inline constexpr std::size_t kEventCaptureBytes = 24;

using PostCb = InlineFunction<void(), kPostCaptureBytes>;
using TimerCb = InlineFunction<void(), kEventCaptureBytes>;
using SchedulableCb = InlineFunction<void(), kEventCaptureBytes>;
using FileReadyCb = InlineFunction<void(uint32_t events), kEventCaptureBytes>;  // FileReadyType bits
using SignalCb = InlineFunction<void(), kEventCaptureBytes>;

}  // namespace nuncio
