#include "source/network/slice_pool.h"

#include <climits>
#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <pthread.h>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

#include "nuncio/network/buffer.h"
#include "source/network/scratch.h"
#include "test/test_support/count_allocations.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::network::buffer_internal {
namespace {

using test::allocations;
using test::frees;
using test::kSanitizer;

class SlicePoolTest : public testing::Test {
protected:
  SlicePoolTest() { emptySlicePool(); }

  // How many slices that hold `bytes` the pool has kept of a hundred.
  static std::size_t keptOf(std::size_t bytes) {
    emptySlicePool();
    std::vector<Slice*> slices;
    for (int i = 0; i < 100; ++i) {
      slices.push_back(bytes == kScratchBytes ? &takeScratchSlice() : &takeSliceFor(bytes));
    }
    const std::set<Slice*> known(slices.begin(), slices.end());
    for (Slice* const slice : slices) {
      giveSlice(*slice);
    }
    slices.clear();
    const int64_t before = allocations;
    while (true) {
      Slice& slice = bytes == kScratchBytes ? takeScratchSlice() : takeSliceFor(bytes);
      if (allocations != before) {
        giveSlice(slice);
        break;
      }
      EXPECT_TRUE(known.contains(&slice));
      slices.push_back(&slice);
      if (slices.capacity() == slices.size()) {
        ADD_FAILURE() << "all of them";
        break;
      }
    }
    for (Slice* const slice : slices) {
      giveSlice(*slice);
    }
    return slices.size();
  }
};

TEST_F(SlicePoolTest, SliceHoldsWhatWasAskedFor) {
  for (const std::size_t bytes : {1, 4096, 4097, 16'384, 16'385, 1'000'000}) {
    Slice& slice = takeSliceFor(bytes);
    EXPECT_EQ(slice.size(), 0);
    EXPECT_GE(slice.room(), bytes);
    EXPECT_EQ(slice.headroom(), 0);
    giveSlice(slice);
  }
}

TEST_F(SlicePoolTest, UsesAgainWhatWasGivenBackLastFirst) {
  Slice& a = takeSliceFor(100);
  Slice& b = takeSliceFor(4096);
  giveSlice(a);
  giveSlice(b);
  EXPECT_EQ(&takeSliceFor(1), &b);
  EXPECT_EQ(&takeSliceFor(1), &a);
  giveSlice(a);
  giveSlice(b);
}

TEST_F(SlicePoolTest, ComesBackEmptyHoweverItWasGiven) {
  Slice& slice = takeSliceFor(100);
  slice.write("bytes");
  slice.begin += 3;
  slice.limit = slice.end;
  giveSlice(slice);
  Slice& again = takeSliceFor(100);
  EXPECT_EQ(again.size(), 0);
  EXPECT_EQ(again.room(), kSmallBytes);
  EXPECT_EQ(again.headroom(), 0);
  giveSlice(again);
}

TEST_F(SlicePoolTest, KeepsNoMoreThanItsBound) {
  EXPECT_EQ(keptOf(kSmallBytes), kSmallKept);
  EXPECT_EQ(keptOf(kLargeBytes), kLargeKept);
  EXPECT_EQ(keptOf(kScratchBytes), kScratchKept);
  EXPECT_LE(kSmallKept + kLargeKept + kScratchKept, 64);
  EXPECT_LE(kSmallKept * kSmallBytes + kLargeKept * kLargeBytes + kScratchKept * kScratchBytes, 1 << 20);
}

TEST_F(SlicePoolTest, KeepsNoOddOnes) {
  if (kSanitizer) {
    return;  // frees are not counted
  }
  Slice& odd = takeSliceFor(100'000);
  const int64_t before = frees;
  giveSlice(odd);
  EXPECT_EQ(frees, before + 1);
}

TEST_F(SlicePoolTest, MoreThanThereIsIsRefused) {
  EXPECT_THROW(takeSliceFor(std::numeric_limits<std::size_t>::max()), std::bad_alloc);
  EXPECT_THROW(takeSliceFor(std::numeric_limits<std::size_t>::max() / 2), std::bad_alloc);
}

// --- Threads. What is left of a pool would be a leak to AddressSanitizer; else frees are counted.

TEST_F(SlicePoolTest, IsFreedWhenItsThreadEnds) {
  std::size_t taken = 0;
  const int64_t before = allocations - frees;
  std::thread([&] {
    for (const std::size_t bytes : {kSmallBytes, kLargeBytes}) {
      giveSlice(takeSliceFor(bytes));
      ++taken;
    }
    giveSlice(takeScratchSlice());
  }).join();
  EXPECT_EQ(taken, 2);
  if (!kSanitizer) {
    EXPECT_LE(allocations - frees, before + 1);  // glibc's own for the thread's first use of memory
  }
}

TEST_F(SlicePoolTest, BufferThatIsDestroyedOnAnotherThreadGoesToThatPool) {
  auto buffer = std::make_unique<Buffer>(std::string(50'000, 'x'));
  std::thread([&] {
    buffer.reset();
    const int64_t before = allocations;
    const Buffer again("x");
    giveSlice(takeSliceFor(kLargeBytes));
    EXPECT_EQ(allocations, before + 1);  // the small one
  }).join();
}

TEST_F(SlicePoolTest, ThreadLocalBufferIsDestroyedWithItsThread) {
  int dropped = 0;
  std::thread([&] {
    thread_local Buffer buffer;
    buffer.append(std::string(50'000, 'x'));
    buffer.addDrainTracker([&](DrainResult) { ++dropped; });
  }).join();
  EXPECT_EQ(dropped, 1);
}

// The value of a key may be destroyed after the pool was freed: what it holds, and uses then, is freed at once.
TEST_F(SlicePoolTest, BufferOfAPthreadKeyOutlivesThePool) {
#ifdef NUNCIO_TEST_THREAD_SANITIZER
  constexpr int kRounds = PTHREAD_DESTRUCTOR_ITERATIONS - 1;  // it does not know the thread any more in the last one
#else
  constexpr int kRounds = PTHREAD_DESTRUCTOR_ITERATIONS;
#endif
  static int rounds;
  static pthread_key_t key;
  rounds = 0;
  ASSERT_EQ(pthread_key_create(&key,
                               [](void* value) {
                                 auto* const buffer = static_cast<Buffer*>(value);
                                 buffer->drain(20'000);
                                 buffer->append(std::string(20'000, 'y'));
                                 {
                                   const Scratch scratch;
                                 }
                                 if (++rounds < kRounds) {
                                   pthread_setspecific(key, value);
                                 } else {
                                   delete buffer;
                                 }
                               }),
            0);
  const int64_t before = allocations - frees;
  std::thread([] {
    auto* const buffer = new Buffer(std::string(50'000, 'x'));
    buffer->drain(20'000);
    pthread_setspecific(key, buffer);
  }).join();
  EXPECT_EQ(rounds, kRounds);
  if (!kSanitizer) {
    EXPECT_LE(allocations - frees, before + 1);
  }
  pthread_key_delete(key);
}

}  // namespace
}  // namespace nuncio::network::buffer_internal
