#pragma once

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>

#include "test/test_support/sanitizers.h"

// Counts the calls to malloc and its kin, and with them those to operator new, and lets one of them fail; for one
// source file of a program. It takes the place of the C library's functions, or, where a sanitizer has done that
// already, uses the sanitizer's hook, which can only count.

namespace nuncio::test {

inline std::atomic<int64_t> allocations{0};
inline std::atomic<int64_t> frees{0};                                  // not under a sanitizer
inline thread_local constinit int64_t allocations_until_failure = -1;  // negative: none fails
inline void* volatile allocation_sink = nullptr;                       // keeps an allocation from being optimised away

// False when this one is to fail.
inline bool countAllocation() {
  const int64_t until_failure = allocations_until_failure;
  allocations_until_failure -= until_failure >= 0 ? 1 : 0;
  if (until_failure == 0) {
    errno = ENOMEM;
    return false;
  }
  allocations.fetch_add(1, std::memory_order_relaxed);
  return true;
}

inline constexpr int kWarmUpRounds = 3;
// Allocations of `work`, once memory has grown to its size in the rounds before.
template <class F>
int64_t allocationsOf(F work, int rounds_before = kWarmUpRounds) {
  for (int i = 0; i < rounds_before; ++i) {
    work();
  }
  const int64_t before = allocations;
  work();
  return allocations - before;
}

}  // namespace nuncio::test

#ifdef NUNCIO_TEST_SANITIZER
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*, std::size_t),
                                                         void (*on_free)(const volatile void*));
namespace nuncio::test {
[[maybe_unused]] static const int allocation_hooks = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t) { countAllocation(); }, [](const volatile void*) {});
}  // namespace nuncio::test
#else
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t number, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);
void __libc_free(void* memory);

void* malloc(std::size_t size) { return nuncio::test::countAllocation() ? __libc_malloc(size) : nullptr; }
void* calloc(std::size_t number, std::size_t size) {
  return nuncio::test::countAllocation() ? __libc_calloc(number, size) : nullptr;
}
void* realloc(void* memory, std::size_t size) {
  return nuncio::test::countAllocation() ? __libc_realloc(memory, size) : nullptr;
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  *memory = nuncio::test::countAllocation() ? __libc_memalign(alignment, size) : nullptr;
  return *memory != nullptr ? 0 : ENOMEM;
}
void* aligned_alloc(std::size_t alignment, std::size_t size) {
  return nuncio::test::countAllocation() ? __libc_memalign(alignment, size) : nullptr;
}
void free(void* memory) {
  if (memory != nullptr) {
    nuncio::test::frees.fetch_add(1, std::memory_order_relaxed);
    __libc_free(memory);
  }
}
}
#endif
