// Promises about allocations: in steady state bytes come and go without one.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <sys/uio.h>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"

#include "nuncio/network/buffer.h"
#include "source/network/scratch.h"
#include "source/network/slice_pool.h"
#include "test/test_support/count_allocations.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::network {
namespace {

using test::allocations;
using test::allocationsOf;
using test::frees;

class BufferAllocationTest : public testing::Test {
protected:
  const std::string text_ = std::string(100'000, 'x');
};

TEST_F(BufferAllocationTest, AreCounted) {
  buffer_internal::emptySlicePool();
  EXPECT_EQ(1, allocationsOf([&] { const Buffer buffer("x"); }, 0));
}

TEST_F(BufferAllocationTest, NoneForAnEmptyBuffer) {
  EXPECT_EQ(0, allocationsOf(
                   [] {
                     Buffer buffer;
                     Buffer other(std::move(buffer));
                     other.append("");
                     other.clear();
                     other.drain(0);
                     other.linearize(0);
                   },
                   0));
}

TEST_F(BufferAllocationTest, NoneForAppendAndDrain) {
  Buffer buffer;
  for (const std::size_t size : {64, 4096, 16'384, 100'000}) {
    EXPECT_EQ(0, allocationsOf([&] {
                for (int i = 0; i < 100; ++i) {
                  buffer.append(absl::string_view(text_).substr(0, size));
                  buffer.prepend("length");
                  buffer.drain(6 + size);
                }
              }));
  }
}

TEST_F(BufferAllocationTest, NoneForMoving) {
  Buffer from;
  Buffer to;
  EXPECT_EQ(0, allocationsOf([&] {
              from.append(text_);
              to.move(from, 7000);
              to.move(from);
              Buffer last(std::move(to));
              last.swap(from);
              from.clear();
            }));
}

TEST_F(BufferAllocationTest, NoneForReserveAndCommit) {
  Buffer buffer;
  EXPECT_EQ(0, allocationsOf([&] {
              for (const std::size_t size : {100, 5000, 60'000}) {
                {
                  const Reservation abandoned = buffer.reserve(size);
                }
                Reservation room = buffer.reserve(size);
                room.commit(size);
              }
              {
                Reservation room = buffer.reserveContiguous(10'000);
                room.commit(10'000);
              }
              buffer.drain(75'100);
            }));
}

TEST_F(BufferAllocationTest, NoneForReading) {
  Buffer buffer(text_);
  std::array<iovec, 16> spans{};
  std::array<char, 100> out{};
  EXPECT_EQ(0, allocationsOf(
                   [&] {
                     EXPECT_GT(buffer.fill(absl::MakeSpan(spans)), 0);
                     EXPECT_EQ(buffer.copyOut(50'000, absl::MakeSpan(out)), 100);
                     EXPECT_EQ(buffer.search("y"), std::nullopt);
                     EXPECT_TRUE(buffer.startsWith("xxx"));
                     EXPECT_EQ(buffer.peekBigEndian<uint16_t>(99'998), 0x7878);
                   },
                   0));
}

TEST_F(BufferAllocationTest, NoneForAHandlerThatDrainsWhatWasRead) {
  Buffer buffer;
  EXPECT_EQ(0, allocationsOf([&] {
              Scratch scratch;
              const absl::Span<char> memory = scratch.memory();
              std::fill(memory.begin(), memory.end(), 'x');
              scratch.lend(buffer, memory.size());
              buffer.drain(1000);
              buffer.drain(memory.size() - 1000);
            }));
}

TEST_F(BufferAllocationTest, NoneForAHandlerThatLeavesOrMovesWhatWasRead) {
  Buffer buffer;
  Buffer other;
  EXPECT_EQ(0, allocationsOf([&] {
              {
                Scratch scratch;
                const absl::Span<char> memory = scratch.memory();
                std::fill(memory.begin(), memory.end(), 'x');
                scratch.lend(buffer, 10'000);
                other.move(buffer, 5000);
              }
              buffer.drain(5000);
              other.drain(5000);
            }));
}

TEST_F(BufferAllocationTest, OneForAFragmentAndOneForATracker) {
  Buffer buffer;
  int calls = 0;
  EXPECT_EQ(1, allocationsOf([&] {
              buffer.appendFragment(text_, [&] { ++calls; });
              buffer.drain(100'000);
            }));
  EXPECT_EQ(1, allocationsOf([&] {
              buffer.append("x");
              buffer.addDrainTracker([&](DrainResult) { ++calls; });
              buffer.drain(1);
            }));
  EXPECT_EQ(calls, 2 * (test::kWarmUpRounds + 1));
}

// The buffer has given all back: to the pool, and so to the system.
TEST_F(BufferAllocationTest, ADrainedBufferOwnsNothing) {
  if (test::kSanitizer) {
    return;  // frees are not counted
  }
  buffer_internal::emptySlicePool();
  const int64_t before = allocations - frees;
  Buffer buffer(text_);
  buffer.linearize(50'000);
  EXPECT_GT(allocations - frees, before);
  buffer.drain(100'000);
  buffer_internal::emptySlicePool();
  EXPECT_EQ(allocations - frees, before);
}

}  // namespace
}  // namespace nuncio::network
