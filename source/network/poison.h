#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define NUNCIO_NETWORK_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NUNCIO_NETWORK_ASAN
#endif
#endif

#ifdef NUNCIO_NETWORK_ASAN
#include <sanitizer/asan_interface.h>
#endif

// So that AddressSanitizer sees the use of memory which is kept, and is nobody's for now. Nothing without it.
namespace nuncio::network {

inline void forbid([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) noexcept {
#ifdef NUNCIO_NETWORK_ASAN
  __asan_poison_memory_region(memory, bytes);
#endif
}

inline void allow([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) noexcept {
#ifdef NUNCIO_NETWORK_ASAN
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

}  // namespace nuncio::network
