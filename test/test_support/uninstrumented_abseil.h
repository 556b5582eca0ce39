#pragma once

#include "test/test_support/sanitizers.h"

// For tests that hand an absl::Status from thread to thread, in one source file of a program. The system's abseil is
// not compiled for ThreadSanitizer, which therefore does not see that a Status is counted with atomics, and takes the
// end of one for a race.
#ifdef NUNCIO_TEST_THREAD_SANITIZER
extern "C" const char* __tsan_default_suppressions();  // NOLINT(bugprone-reserved-identifier): the sanitizer's name
const char* __tsan_default_suppressions() { return "race:Status::Unref\n"; }
#endif
