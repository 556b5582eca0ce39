#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <dlfcn.h>
#include <pthread.h>

// A library to preload into a program, which then prints how often it allocated memory and locked a mutex (glibc only):
//
//   LD_PRELOAD=bazel-bin/test/benchmark/libcount_calls.so bazel-bin/test/benchmark/post_benchmark ...
namespace {

std::atomic<uint64_t> allocations{0};
std::atomic<uint64_t> locks{0};

void count(std::atomic<uint64_t>& calls) { calls.fetch_add(1, std::memory_order_relaxed); }  // read at exit only

using MutexCall = int (*)(pthread_mutex_t*);

// The C library's own function. An atomic: the guard of an initialized static might lock.
MutexCall nextOf(std::atomic<MutexCall>& next, const char* name) {
  MutexCall call = next.load(std::memory_order_relaxed);
  if (call == nullptr) {
    call = reinterpret_cast<MutexCall>(dlsym(RTLD_NEXT, name));
    next.store(call, std::memory_order_relaxed);
  }
  return call;
}

struct Report {
  ~Report() {
    std::fprintf(stderr, "count_calls: %ju allocations, %ju locks\n", static_cast<uintmax_t>(allocations.load()),
                 static_cast<uintmax_t>(locks.load()));
  }
} report;

}  // namespace

extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* memory, std::size_t size);
void* __libc_memalign(std::size_t alignment, std::size_t size);

void* malloc(std::size_t size) {
  count(allocations);
  return __libc_malloc(size);
}

void* calloc(std::size_t items, std::size_t size) {
  count(allocations);
  return __libc_calloc(items, size);
}

void* realloc(void* memory, std::size_t size) {
  count(allocations);
  return __libc_realloc(memory, size);
}

void* aligned_alloc(std::size_t alignment, std::size_t size) {
  count(allocations);
  return __libc_memalign(alignment, size);
}

int posix_memalign(void** memory, std::size_t alignment, std::size_t size) {
  count(allocations);
  *memory = __libc_memalign(alignment, size);
  return *memory != nullptr ? 0 : ENOMEM;
}

int pthread_mutex_lock(pthread_mutex_t* mutex) {
  count(locks);
  static std::atomic<MutexCall> next{nullptr};
  return nextOf(next, "pthread_mutex_lock")(mutex);
}

int pthread_mutex_trylock(pthread_mutex_t* mutex) {
  static std::atomic<MutexCall> next{nullptr};
  const int error = nextOf(next, "pthread_mutex_trylock")(mutex);
  if (error == 0) {
    count(locks);
  }
  return error;
}
}
