#include "test/test_support/count_allocations.h"

#include <cerrno>
#include <cstddef>

#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

// False when this one is to fail.
[[maybe_unused]] bool countAllocation() {
  const int64_t until_failure = allocations_until_failure;
  allocations_until_failure -= until_failure >= 0 ? 1 : 0;
  if (until_failure == 0 || (until_failure < 0 && allocations_fail_on)) {
    errno = ENOMEM;
    return false;
  }
  allocations.fetch_add(1, std::memory_order_relaxed);
  return true;
}

}  // namespace
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
  if (!nuncio::test::countAllocation()) {
    return nullptr;
  }
  nuncio::test::frees.fetch_add(memory != nullptr ? 1 : 0, std::memory_order_relaxed);
  return __libc_realloc(memory, size);
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
