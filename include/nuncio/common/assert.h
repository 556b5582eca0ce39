#pragma once

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

// Assertions that say where they failed: the dispatcher, the thread and the operation.
//
//   NUNCIO_ASSERT(index < size_, "index out of range");             // debug builds only
//   NUNCIO_RELEASE_ASSERT(base != nullptr, "no event base");        // every build
//   if (!NUNCIO_CONTRACT(delay >= 0, name(), "Timer::enableTimer", absl::StrCat("negative delay ", delay))) {
//     return; // a release build refuses; a debug build has aborted
//   }
//
// The first two are for the library's own mistakes, NUNCIO_CONTRACT for its caller's: fatal in a debug build, an error
// in the log and `false` in a release build (NDEBUG). The details are evaluated only on failure. Threads: any.
namespace nuncio {

// Names the dispatcher that runs on this thread, for messages. `name` must stay valid until the next call; null: none.
void setCurrentDispatcherName(const char* name) noexcept;
// "-" when no dispatcher runs on this thread.
const char* currentDispatcherName() noexcept;

namespace assert_internal {
#ifdef NDEBUG
constexpr bool kDebug = false;  // not inline: it may differ between a program and the library
#else
constexpr bool kDebug = true;
#endif

[[noreturn]] void fail(const char* file, int line, const char* condition, absl::string_view operation,
                       absl::string_view details);
// Aborts when `fatal`, else logs an error and returns false.
bool refuse(bool fatal, const char* condition, absl::string_view dispatcher, absl::string_view operation,
            absl::string_view details);
}  // namespace assert_internal
}  // namespace nuncio

#define NUNCIO_RELEASE_ASSERT(condition, details)                                                 \
  (static_cast<bool>(condition) ? void(0)                                                         \
                                : ::nuncio::assert_internal::fail(__FILE__, __LINE__, #condition, \
                                                                  static_cast<const char*>(__func__), (details)))

#define NUNCIO_ASSERT(condition, details) \
  (!::nuncio::assert_internal::kDebug ? void(0) : NUNCIO_RELEASE_ASSERT(condition, details))

#define NUNCIO_CONTRACT(condition, dispatcher, operation, details)                                                  \
  (static_cast<bool>(condition) || ::nuncio::assert_internal::refuse(::nuncio::assert_internal::kDebug, #condition, \
                                                                     (dispatcher), (operation), (details)))
