// Buffers without memory: of each call its first allocation fails, then its second, and so on. What throws has changed
// nothing, and what may not fail does what it has to. A sanitizer's allocations cannot fail: all succeed there.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/network/buffer.h"
#include "source/network/scratch.h"
#include "source/network/slice_pool.h"
#include "test/network/test_bytes.h"
#include "test/test_support/count_allocations.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::network {
namespace {

using buffer_internal::emptySlicePool;
using test::failAllocation;
using test::Fails;
using test::kSanitizer;
using test::stopFailing;
using testing::ElementsAre;
using testing::IsEmpty;

class BufferNoMemoryTest : public testing::Test {
protected:
  ~BufferNoMemoryTest() override { stopFailing(); }

  // What a call has to work on: two buffers with slices of all kinds, and trackers.
  struct Buffers {
    Buffers() {
      one.append(bytes(4090));
      one.appendFragment(kFragment, [this] { ++released; });
      one.append(bytes(600));
      one.addDrainTracker([this](DrainResult) { ++tracked; });
      other.append("other");
      text = one.toString();
    }
    static const std::string kFragment;
    int released = 0;
    int tracked = 0;
    std::string text;
    Buffer one;
    Buffer other;
  };

  // `result`: what the two hold together when the call succeeds.
  void expectAllOrNothing(const std::function<void(Buffers&)>& call,
                          const std::function<std::string(const Buffers&)>& result) {
    bool failed = true;
    int64_t n = 0;
    for (; failed; ++n) {
      ASSERT_LT(n, 100);
      SCOPED_TRACE(n);
      Buffers buffers;
      emptySlicePool();
      bool threw = false;
      failAllocation(n, Fails::One);
      try {
        call(buffers);
      } catch (const std::bad_alloc&) {
        threw = true;
      }
      failed = stopFailing();
      EXPECT_EQ(threw, failed && !kSanitizer);
      if (threw) {
        EXPECT_EQ(buffers.one.toString(), buffers.text);
        EXPECT_EQ(buffers.other.toString(), "other");
        EXPECT_EQ(buffers.released + buffers.tracked, 0);
      } else {
        EXPECT_EQ(buffers.one.toString() + buffers.other.toString(), result(buffers));
      }
      // All goes on.
      buffers.one.append("more");
      buffers.one.drain(buffers.one.length());
      buffers.other.drain(buffers.other.length());
      EXPECT_EQ(buffers.released, 1);
      EXPECT_EQ(buffers.tracked, 1);
    }
    EXPECT_GT(n, 1) << "it allocates nothing";
  }
};
const std::string BufferNoMemoryTest::Buffers::kFragment = bytes(3000);

TEST_F(BufferNoMemoryTest, AppendAddsAllOrNothing) {
  const std::string text = bytes(50'000);
  expectAllOrNothing([&](Buffers& b) { b.one.append(text); },
                     [&](const Buffers& b) { return b.text + text + "other"; });
}

TEST_F(BufferNoMemoryTest, PrependAddsAllOrNothing) {
  const std::string text = bytes(50'000);
  expectAllOrNothing([&](Buffers& b) { b.one.prepend(text); },
                     [&](const Buffers& b) { return text + b.text + "other"; });
}

TEST_F(BufferNoMemoryTest, MoveMovesAllOrNothing) {
  expectAllOrNothing([](Buffers& b) { b.other.move(b.one, 5000); },
                     [](const Buffers& b) { return b.text.substr(5000) + "other" + b.text.substr(0, 5000); });
}

TEST_F(BufferNoMemoryTest, MoveOfLentBytesMovesAllOrNothing) {
  expectAllOrNothing(
      [](Buffers& b) {
        int64_t failing = test::allocations_until_failure;
        stopFailing();
        Buffer read;
        Scratch scratch;
        const absl::Span<char> memory = scratch.memory();
        std::fill(memory.begin(), memory.end(), 'l');
        scratch.lend(read, 30'000);
        failAllocation(failing, Fails::One);
        try {
          b.other.move(read);
        } catch (const std::bad_alloc&) {
          EXPECT_EQ(read.toString(), std::string(30'000, 'l'));
          throw;
        }
      },
      [](const Buffers& b) { return b.text + "other" + std::string(30'000, 'l'); });
}

TEST_F(BufferNoMemoryTest, AppendFragmentAddsItOrDoesNotCallItsRelease) {
  int released = 0;
  expectAllOrNothing(
      [&](Buffers& b) {
        released = 0;
        try {
          b.other.appendFragment("fragment", [&] { ++released; });
        } catch (const std::bad_alloc&) {
          EXPECT_EQ(released, 0);
          throw;
        }
      },
      [](const Buffers& b) { return b.text + "otherfragment"; });
  EXPECT_EQ(released, 1);
}

TEST_F(BufferNoMemoryTest, AddDrainTrackerAddsItOrDoesNotCallIt) {
  int calls = 0;
  expectAllOrNothing(
      [&](Buffers& b) {
        calls = 0;
        try {
          b.other.addDrainTracker([&](DrainResult) { ++calls; });
        } catch (const std::bad_alloc&) {
          EXPECT_EQ(calls, 0);
          throw;
        }
      },
      [](const Buffers& b) { return b.text + "other"; });
  EXPECT_EQ(calls, 1);
}

TEST_F(BufferNoMemoryTest, ReserveReservesAllOrNothing) {
  expectAllOrNothing(
      [](Buffers& b) {
        Reservation room = b.one.reserve(60'000);
        std::fill(room.front().begin(), room.front().end(), 'r');
        room.commit(10);
      },
      [](const Buffers& b) { return b.text + "rrrrrrrrrrother"; });
}

TEST_F(BufferNoMemoryTest, ReserveContiguousReservesAllOrNothing) {
  expectAllOrNothing(
      [](Buffers& b) {
        Reservation room = b.one.reserveContiguous(60'000);
        std::fill(room.front().begin(), room.front().end(), 'r');
        room.commit(10);
      },
      [](const Buffers& b) { return b.text + "rrrrrrrrrrother"; });
}

TEST_F(BufferNoMemoryTest, LinearizeLeavesTheBytesAsTheyWere) {
  expectAllOrNothing([](Buffers& b) { b.one.linearize(7000); }, [](const Buffers& b) { return b.text + "other"; });
}

TEST_F(BufferNoMemoryTest, ConstructorThrows) {
  emptySlicePool();
  failAllocation(0, Fails::One);
  if (kSanitizer) {
    const Buffer buffer("x");
  } else {
    EXPECT_THROW(Buffer("x"), std::bad_alloc);
  }
}

TEST_F(BufferNoMemoryTest, WhatIsWithinTheRoomThereIsNeedsNone) {
  Buffer from("from");
  Buffer to("to");
  failAllocation(0, Fails::AllFromThere);
  to.append("!");
  to.move(from, 2);
  to.move(from);
  to.drain(1);
  to.prepend("T");
  const Buffer moved(std::move(to));
  EXPECT_FALSE(stopFailing());
  EXPECT_EQ(moved.toString(), "To!from");
}

// --- What is lent, where there is no memory for a copy: the buffer keeps the slice itself.

class ScratchNoMemoryTest : public BufferNoMemoryTest {
protected:
  void lend(std::size_t size) {
    const absl::Span<char> memory = scratch_.memory();
    bytes(size).copy(memory.data(), size);
    scratch_.lend(buffer_, size);
    emptySlicePool();
  }
  // The buffer's bytes are no scratch memory any more.
  void spoil() {
    const absl::Span<char> memory = scratch_.memory();
    std::fill(memory.begin(), memory.end(), '!');
  }

  std::vector<std::string> events_;
  Buffer buffer_;
  Scratch scratch_;
};

TEST_F(ScratchNoMemoryTest, TakeBackLeavesTheSliceToTheBuffer) {
  lend(50'000);
  buffer_.drain(1000);
  for (int64_t n = 0; n < 3; ++n) {
    failAllocation(n, Fails::AllFromThere);
    scratch_.takeBack();
    stopFailing();
    spoil();
    EXPECT_EQ(buffer_.toString(), bytes(50'000).substr(1000));
    buffer_.append("behind");
    EXPECT_EQ(buffer_.toString(), bytes(50'000).substr(1000) + "behind");
    if (!kSanitizer) {
      EXPECT_EQ(sliceCount(buffer_), 1);  // with all of its room
    }
    buffer_.clear();
    lend(50'000);
    buffer_.drain(1000);
  }
}

TEST_F(ScratchNoMemoryTest, MemoryThrowsUntilThereIsSome) {
  if (kSanitizer) {
    return;  // no allocation can fail
  }
  lend(100);
  failAllocation(0, Fails::AllFromThere);
  scratch_.takeBack();
  EXPECT_THROW(scratch_.memory(), std::bad_alloc);
  EXPECT_THROW(scratch_.memory(), std::bad_alloc);
  EXPECT_THROW(Scratch(), std::bad_alloc);
  stopFailing();
  spoil();
  EXPECT_EQ(buffer_.toString(), bytes(100));
}

TEST_F(ScratchNoMemoryTest, MovedBufferTakesTheSliceAlong) {
  lend(30'000);
  buffer_.prepend("before ");
  buffer_.addDrainTracker([this](DrainResult) { events_.emplace_back("drained"); });
  buffer_.append(" behind");
  emptySlicePool();
  failAllocation(0, Fails::AllFromThere);
  Buffer moved(std::move(buffer_));
  Buffer assigned;
  assigned = std::move(moved);
  assigned.swap(moved);
  stopFailing();
  EXPECT_TRUE(buffer_.empty());  // NOLINT(bugprone-use-after-move)
  spoil();
  EXPECT_EQ(moved.toString(), "before " + bytes(30'000) + " behind");
  moved.drain(7 + 29'999);
  EXPECT_THAT(events_, IsEmpty());
  moved.drain(1);
  EXPECT_THAT(events_, ElementsAre("drained"));
}

TEST_F(ScratchNoMemoryTest, NestedReadGoesWithoutAndTheOuterOneGoesOn) {
  if (kSanitizer) {
    return;
  }
  lend(100);
  failAllocation(0, Fails::AllFromThere);
  EXPECT_THROW(Scratch(), std::bad_alloc);
  stopFailing();
  EXPECT_EQ(buffer_.toString(), bytes(100));
  scratch_.takeBack();
  EXPECT_EQ(buffer_.toString(), bytes(100));
}

}  // namespace
}  // namespace nuncio::network
