#include "source/network/slice_pool.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <new>
#include <pthread.h>

#include "source/network/poison.h"

namespace nuncio::network::buffer_internal {
namespace {

using Kind = Slice::Kind;

constexpr std::array<std::size_t, 3> kBytes = {kSmallBytes, kLargeBytes, kScratchBytes};
constexpr std::array<std::size_t, 3> kKept = {kSmallKept, kLargeKept, kScratchKept};
static_assert(static_cast<std::size_t>(Kind::Scratch) == kBytes.size() - 1);

struct Shelf {
  Slice* first;
  std::size_t count;
};
// Trivial to destroy, so that it can be used until the very end of a thread.
struct Pool {
  enum class State : uint8_t { Unused, Open, Closed };
  std::array<Shelf, kBytes.size()> shelves;
  State state;
};
thread_local constinit Pool pool{};

void closePool(void* /*not null*/) {
  pool.state = Pool::State::Closed;
  emptySlicePool();
}

// Has closePool() called when a thread ends, after the destructors of its thread_local objects. Such an object of our
// own would not do, here as in the crash handler: where there is no memory to note its destructor, glibc aborts. Made
// before main; whoever uses buffers earlier than that does without a pool.
pthread_key_t pool_key;
const bool kHavePoolKey = pthread_key_create(&pool_key, &closePool) == 0;

// Whether the calling thread's pool takes slices.
bool openPool() noexcept {
  if (pool.state == Pool::State::Unused && kHavePoolKey && pthread_setspecific(pool_key, &pool) == 0) {
    pool.state = Pool::State::Open;
  }
  return pool.state == Pool::State::Open;
}

Slice& allocateSlice(Kind kind, std::size_t bytes) {
  void* const memory = bytes <= std::numeric_limits<std::ptrdiff_t>::max() - sizeof(Slice)
                           ? std::malloc(sizeof(Slice) + bytes)
                           : nullptr;
  if (memory == nullptr) {
    throw std::bad_alloc();
  }
  return *::new (memory) Slice(kind, static_cast<char*>(memory) + sizeof(Slice), 0, bytes);
}

void freeSlice(Slice& slice) noexcept {
  slice.~Slice();
  std::free(&slice);
}

Slice& takeSlice(Kind kind) {
  const auto index = static_cast<std::size_t>(kind);
  Shelf& shelf = pool.shelves[index];
  if (shelf.first == nullptr) {
    return allocateSlice(kind, kBytes[index]);
  }
  Slice& slice = *shelf.first;
  shelf.first = std::exchange(slice.next, nullptr);
  --shelf.count;
  allow(slice.storage(), kBytes[index]);
  slice.begin = slice.end = slice.storage();
  slice.limit = slice.begin + kBytes[index];
  return slice;
}

}  // namespace

Slice& takeSliceFor(std::size_t bytes) {
  if (bytes > kLargeBytes) {
    return allocateSlice(Kind::Odd, bytes);
  }
  return takeSlice(bytes <= kSmallBytes ? Kind::Small : Kind::Large);
}

Slice& takeScratchSlice() { return takeSlice(Kind::Scratch); }

void giveSlice(Slice& slice) noexcept {
  const auto index = static_cast<std::size_t>(slice.kind);
  if (slice.kind == Kind::Odd || pool.shelves[index].count == kKept[index] || !openPool()) {
    freeSlice(slice);
    return;
  }
  Shelf& shelf = pool.shelves[index];
  slice.next = std::exchange(shelf.first, &slice);
  ++shelf.count;
  forbid(slice.storage(), kBytes[index]);
}

void emptySlicePool() noexcept {
  for (std::size_t index = 0; index < kBytes.size(); ++index) {
    Shelf& shelf = pool.shelves[index];
    while (shelf.first != nullptr) {
      Slice& slice = *std::exchange(shelf.first, shelf.first->next);
      allow(slice.storage(), kBytes[index]);
      freeSlice(slice);
    }
    shelf.count = 0;
  }
}

}  // namespace nuncio::network::buffer_internal
