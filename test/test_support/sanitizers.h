#pragma once

// Which sanitizer this is compiled for: tests do less where they would take too long, or leave out what a sanitizer
// does in its own way. NUNCIO_TEST_SANITIZER is defined for any of the two that replace malloc.

#if defined(__SANITIZE_THREAD__)
#define NUNCIO_TEST_THREAD_SANITIZER 1
#elif defined(__SANITIZE_ADDRESS__)
#define NUNCIO_TEST_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NUNCIO_TEST_THREAD_SANITIZER 1
#elif __has_feature(address_sanitizer)
#define NUNCIO_TEST_ADDRESS_SANITIZER 1
#endif
#endif

#if defined(NUNCIO_TEST_THREAD_SANITIZER) || defined(NUNCIO_TEST_ADDRESS_SANITIZER)
#define NUNCIO_TEST_SANITIZER 1
#endif

namespace nuncio::test {

#ifdef NUNCIO_TEST_SANITIZER
inline constexpr bool kSanitizer = true;
#else
inline constexpr bool kSanitizer = false;
#endif

}  // namespace nuncio::test
