// Room in a Buffer that is written to in place.

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <memory>
#include <string>
#include <sys/uio.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/network/buffer.h"
#include "test/network/test_bytes.h"
#include "test/test_support/contract.h"

namespace nuncio::network {
namespace {

using test::kDebugBuild;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(ReservationTest, ReservationIsWrittenToAndCommitted) {
  Buffer buffer("read: ");
  {
    Reservation room = buffer.reserve(5);
    ASSERT_GE(room.size(), 5);
    const std::string text = "hello";
    text.copy(room.front().data(), 5);
    room.commit(5);
  }
  EXPECT_EQ(buffer.toString(), "read: hello");
  EXPECT_EQ(sliceCount(buffer), 1);
}

TEST(ReservationTest, ReservationIsReadIntoAcrossItsSpans) {
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  const std::string text = bytes(40'000);
  ASSERT_EQ(write(ends[1], text.data(), text.size()), 40'000);
  Buffer buffer("x");
  {
    Reservation room = buffer.reserve(40'000);
    EXPECT_GT(room.spans().size(), 1);
    const ssize_t n = readv(ends[0], room.spans().data(), static_cast<int>(room.spans().size()));
    ASSERT_EQ(n, 40'000);
    room.commit(40'000);
  }
  EXPECT_EQ(buffer.toString(), "x" + text);
  close(ends[0]);
  close(ends[1]);
}

TEST(ReservationTest, ReserveWithoutCommitLeavesTheBufferUnchanged) {
  Buffer buffer("as it was");
  {
    const Reservation room = buffer.reserve(30'000);
    EXPECT_EQ(buffer.toString(), "as it was");  // reading is allowed
    room.front()[0] = '!';
  }
  EXPECT_EQ(buffer.toString(), "as it was");
  EXPECT_EQ(buffer.length(), 9);
  EXPECT_EQ(sliceCount(buffer), 1);
  buffer.append(".");
  EXPECT_EQ(buffer.toString(), "as it was.");
}

TEST(ReservationTest, CommitOfNothingAndOfAPartGivesTheRestBack) {
  Buffer buffer;
  {
    Reservation room = buffer.reserve(50'000);
    room.commit(0);
  }
  EXPECT_TRUE(buffer.empty());
  {
    Reservation room = buffer.reserve(50'000);
    room.front()[0] = 'x';
    room.commit(1);
  }
  EXPECT_EQ(buffer.toString(), "x");
}

TEST(ReservationTest, ReserveHasNoMoreThanItsSpans) {
  Buffer buffer;
  const Reservation room = buffer.reserve(std::numeric_limits<std::size_t>::max());
  EXPECT_EQ(room.spans().size(), Reservation::kMaxSpans);
  EXPECT_GE(room.size(), 64 * 1024);
}

TEST(ReservationTest, ReserveOfNothingHasNoSpans) {
  Buffer buffer("x");
  {
    Reservation room = buffer.reserve(0);
    EXPECT_THAT(room.spans(), IsEmpty());
    EXPECT_THAT(room.front(), IsEmpty());
    room.commit(0);
  }
  Reservation room = buffer.reserveContiguous(0);
  EXPECT_EQ(room.size(), 0);
}

TEST(ReservationTest, SmallReservationTakesASmallSlice) {
  Buffer buffer;
  const Reservation room = buffer.reserve(64);
  EXPECT_LE(room.size(), 4096);
}

TEST(ReservationTest, ContiguousReservationIsOneSpan) {
  for (const std::size_t size : {1, 4096, 4097, 16'384, 16'385, 1'000'000}) {
    Buffer buffer(bytes(4000));
    Reservation room = buffer.reserveContiguous(size);
    EXPECT_EQ(room.spans().size(), 1);
    ASSERT_GE(room.front().size(), size);
    const std::string text = bytes(size, 'A');
    text.copy(room.front().data(), size);
    room.commit(size);
    EXPECT_EQ(buffer.toString(), bytes(4000) + text);
  }
}

TEST(ReservationTest, ContiguousReservationUsesWhatTheLastSliceHasLeft) {
  Buffer buffer("abc");
  Reservation room = buffer.reserveContiguous(3);
  EXPECT_EQ(room.front().data(), buffer.frontSlice().data() + 3);
  room.commit(0);
}

TEST(ReservationTest, CommitOfMoreThanWasReservedBreaksTheContract) {
  Buffer buffer;
  const auto commit = [&] {
    Reservation room = buffer.reserveContiguous(100);
    absl::Span<char> all = room.front();
    std::fill(all.begin(), all.end(), 'x');
    const std::size_t size = room.size();
    room.commit(size + 1);
    EXPECT_EQ(buffer.toString(), std::string(size, 'x'));  // in release
  };
  EXPECT_CONTRACT_VIOLATION(commit(), HasSubstr("Reservation::commit"));
}

TEST(ReservationTest, SecondCommitBreaksTheContract) {
  Buffer buffer;
  const auto commit = [&] {
    Reservation room = buffer.reserve(100);
    room.front()[0] = 'x';
    room.commit(1);
    room.commit(1);
  };
  EXPECT_CONTRACT_VIOLATION(commit(), HasSubstr("committed before"));
  EXPECT_EQ(buffer.toString(), kDebugBuild ? "" : "x");
}

TEST(ReservationTest, AnyChangeDuringAReservationBreaksTheContract) {
  const std::vector<std::pair<const char*, void (*)(Buffer&)>> changes = {
      {"append", [](Buffer& b) { b.append("y"); }},
      {"prepend", [](Buffer& b) { b.prepend("y"); }},
      {"drain", [](Buffer& b) { b.drain(1); }},
      {"clear", [](Buffer& b) { b.clear(); }},
      {"linearize", [](Buffer& b) { b.linearize(1); }},
      {"move to", [](Buffer& b) { Buffer("y").move(b); }},
      {"move from",
       [](Buffer& b) {
         Buffer from("y");
         b.move(from);
       }},
      {"fragment", [](Buffer& b) { b.appendFragment("y", nullptr); }},
      {"tracker", [](Buffer& b) { b.addDrainTracker([](DrainResult) {}); }},
      {"construct", [](Buffer& b) { const Buffer other(std::move(b)); }},
      {"assign", [](Buffer& b) { b = Buffer("y"); }},
      {"swap",
       [](Buffer& b) {
         Buffer other;
         b.swap(other);
       }},
      {"reserve", [](Buffer& b) { const Reservation second = b.reserve(1); }},
      {"reserve contiguous", [](Buffer& b) { const Reservation second = b.reserveContiguous(1); }},
  };
  for (const auto& change : changes) {
    SCOPED_TRACE(change.first);
    Buffer buffer("x");
    EXPECT_CONTRACT_VIOLATION(
        {
          Reservation room = buffer.reserve(10);
          change.second(buffer);
        },
        HasSubstr("there is a Reservation"));
  }
}

TEST(ReservationTest, ReservationOfABufferThatWasChangedCommitsNothing) {
  Buffer buffer("x");
  const auto commit = [&] {
    Reservation room = buffer.reserve(10);
    buffer.append("y");
    room.commit(1);
  };
  EXPECT_CONTRACT_VIOLATION(commit(), HasSubstr("there is a Reservation"));
  EXPECT_EQ(buffer.toString(), kDebugBuild ? "x" : "xy");
}

TEST(ReservationTest, DestroyedDuringAReservationBreaksTheContract) {
  EXPECT_CONTRACT_VIOLATION(
      {
        auto buffer = std::make_unique<Buffer>("x");
        const Reservation room = buffer->reserve(10);
        buffer.reset();
      },
      HasSubstr("there is a Reservation"));
}

}  // namespace
}  // namespace nuncio::network
