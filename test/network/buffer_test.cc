// What a Buffer does, from outside; with no memory, many threads, and at random: the files beside this one.

#include "nuncio/network/buffer.h"

#include <array>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <sys/uio.h>
#include <type_traits>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "test/test_support/child_process.h"
#include "test/test_support/contract.h"
#include "test/test_support/log_capture.h"

namespace nuncio::network {
namespace {

using test::kDebugBuild;
using test::LogCapture;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

static_assert(sizeof(Buffer) <= 32);
static_assert(std::is_nothrow_move_constructible_v<Buffer> && std::is_nothrow_move_assignable_v<Buffer>);
static_assert(std::is_nothrow_swappable_v<Buffer> && !std::is_copy_constructible_v<Buffer>);

// Bytes by which a mistake of place would be seen.
std::string bytes(std::size_t size, char first = 'a') {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    text[i] = static_cast<char>(first + static_cast<char>(i % 23));
  }
  return text;
}

// What a buffer's slices hold, each by itself.
std::vector<std::string> slicesOf(const Buffer& buffer) {
  std::array<iovec, 64> spans{};
  std::vector<std::string> slices;
  const std::size_t count = buffer.fill(absl::MakeSpan(spans));
  for (std::size_t i = 0; i < count; ++i) {
    slices.emplace_back(static_cast<const char*>(spans[i].iov_base), spans[i].iov_len);
  }
  return slices;
}
std::size_t sliceCount(const Buffer& buffer) { return slicesOf(buffer).size(); }

// Made of slices of its own for each part.
Buffer inSlices(std::vector<absl::string_view> parts) {
  Buffer buffer;
  for (const absl::string_view part : parts) {
    buffer.appendFragment(part, nullptr);
  }
  return buffer;
}

class BufferTest : public testing::Test {
protected:
  DrainTrackerCb track(std::string name) {
    return [this, name](DrainResult result) {
      events_.push_back(name + (result == DrainResult::Drained ? " drained" : " dropped"));
    };
  }
  ReleaseCb release(std::string name) {
    return [this, name] { events_.push_back(name + " released"); };
  }

  std::vector<std::string> events_;
};

// --- Adding and taking away.

TEST_F(BufferTest, IsEmptyAtFirst) {
  const Buffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.length(), 0);
  EXPECT_EQ(buffer.toString(), "");
  EXPECT_EQ(buffer.frontSlice(), "");
  std::array<iovec, 1> span{};
  EXPECT_EQ(buffer.fill(absl::MakeSpan(span)), 0);
}

TEST_F(BufferTest, GivesBackInOrderWhatWasAppended) {
  Buffer buffer("one ");
  buffer.append("two ");
  buffer.append("");
  buffer.append(absl::string_view());
  buffer.append(bytes(100'000));
  EXPECT_EQ(buffer.length(), 100'008);
  EXPECT_EQ(buffer.toString(), "one two " + bytes(100'000));
  buffer.drain(4);
  EXPECT_EQ(buffer.frontSlice().substr(0, 4), "two ");
  buffer.drain(100'004);
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.toString(), "");
}

TEST_F(BufferTest, AppendsBytesOfItsOwn) {
  Buffer buffer(bytes(5000));
  buffer.append(buffer.linearize(5000));
  buffer.prepend(buffer.frontSlice().substr(0, 3));
  EXPECT_EQ(buffer.toString(), "abc" + bytes(5000) + bytes(5000));
}

TEST_F(BufferTest, PrependsIntoWhatWasDrainedBefore) {
  Buffer buffer("header: value");
  buffer.drain(8);
  const char* const value = buffer.frontSlice().data();
  buffer.prepend("HEADER: ");
  EXPECT_EQ(buffer.toString(), "HEADER: value");
  EXPECT_EQ(buffer.frontSlice().data(), value - 8);
  EXPECT_EQ(sliceCount(buffer), 1);
}

TEST_F(BufferTest, PrependsMoreThanThereIsRoomFor) {
  Buffer buffer("....end");
  buffer.drain(4);
  buffer.prepend(bytes(50'000));
  buffer.prepend("begin");
  EXPECT_EQ(buffer.toString(), "begin" + bytes(50'000) + "end");
  EXPECT_EQ(buffer.length(), 50'008);
}

TEST_F(BufferTest, PrependsToAFragmentWithoutTouchingWhatIsBeforeIt) {
  const std::string memory = "xxhello";
  Buffer buffer;
  buffer.appendFragment(memory, nullptr);
  buffer.drain(2);
  buffer.prepend("oh, ");
  EXPECT_EQ(buffer.toString(), "oh, hello");
  EXPECT_EQ(memory, "xxhello");
}

TEST_F(BufferTest, PrependToAnEmptyOneLeavesRoomBehind) {
  Buffer buffer;
  buffer.prepend("one");
  buffer.append(" two");
  EXPECT_EQ(sliceCount(buffer), 1);
  EXPECT_EQ(buffer.toString(), "one two");
}

TEST_F(BufferTest, DrainsPartsOfSlicesAndWholeOnes) {
  const std::string text = bytes(60'000);
  for (const std::size_t first : {1, 4095, 4096, 4097, 16'384, 20'480, 59'999, 60'000}) {
    Buffer buffer(text);
    buffer.drain(first);
    EXPECT_EQ(buffer.length(), text.size() - first);
    EXPECT_EQ(buffer.toString(), text.substr(first));
    buffer.append("more");
    EXPECT_EQ(buffer.toString(), text.substr(first) + "more");
  }
}

TEST_F(BufferTest, DrainBeyondTheEndIsAnError) {
  Buffer buffer("12345");
  EXPECT_CONTRACT_VIOLATION(buffer.drain(6), HasSubstr("6 bytes of 5"));
  EXPECT_EQ(buffer.length(), kDebugBuild ? 5 : 0);
}

TEST_F(BufferTest, ClearDropsAllAndTheBufferGoesOn) {
  Buffer buffer(bytes(100'000));
  buffer.clear();
  EXPECT_TRUE(buffer.empty());
  buffer.append("again");
  EXPECT_EQ(buffer.toString(), "again");
}

// --- From one buffer to another.

TEST_F(BufferTest, MovedFromIsEmptyAndGoesOn) {
  Buffer from("bytes");
  Buffer to(std::move(from));
  EXPECT_TRUE(from.empty());  // NOLINT(bugprone-use-after-move): that is what this is about
  from.append("others");
  EXPECT_EQ(to.toString(), "bytes");
  to = std::move(from);
  EXPECT_EQ(to.toString(), "others");
  EXPECT_TRUE(from.empty());  // NOLINT(bugprone-use-after-move)
  Buffer& same = to;
  to = std::move(same);
  EXPECT_EQ(to.toString(), "others");
}

TEST_F(BufferTest, SwapExchangesAll) {
  Buffer a("a");
  Buffer b(bytes(50'000));
  a.addDrainTracker(track("a"));
  swap(a, b);
  EXPECT_EQ(a.toString(), bytes(50'000));
  EXPECT_EQ(b.toString(), "a");
  b.swap(b);
  b.drain(1);
  EXPECT_THAT(events_, ElementsAre("a drained"));
}

TEST_F(BufferTest, RelinksLargeSlicesWhenMoved) {
  Buffer from(bytes(Buffer::kCopyBelow));
  const char* const memory = from.frontSlice().data();
  Buffer to("some");
  to.append(std::move(from));
  const std::vector<std::string> slices = slicesOf(to);
  ASSERT_EQ(slices.size(), 2);
  to.drain(4);
  EXPECT_EQ(to.frontSlice().data(), memory);
  EXPECT_TRUE(from.empty());  // NOLINT(bugprone-use-after-move)
}

TEST_F(BufferTest, CopiesSmallSlicesTogetherWhenMoved) {
  Buffer to("first");
  std::string all = "first";
  for (int i = 0; i < 7; ++i) {
    Buffer from(bytes(Buffer::kCopyBelow - 1));
    to.move(from);
    EXPECT_TRUE(from.empty());
    all += bytes(Buffer::kCopyBelow - 1);
  }
  EXPECT_EQ(to.toString(), all);
  EXPECT_EQ(sliceCount(to), 1);
}

TEST_F(BufferTest, RelinksASmallSliceWhereTheLastHasNoRoomForIt) {
  Buffer to(bytes(4096 - 10));
  Buffer from("more than ten bytes");
  const char* const memory = from.frontSlice().data();
  to.move(from);
  to.drain(4096 - 10);
  EXPECT_EQ(to.frontSlice().data(), memory);
}

TEST_F(BufferTest, MovesExactlyAsManyBytesAsAskedFor) {
  const std::string text = bytes(50'000);
  for (const std::size_t part : {0, 1, 511, 512, 4096, 16'384, 16'385, 40'000, 49'999, 50'000}) {
    Buffer from(text);
    Buffer to("to:");
    to.move(from, part);
    EXPECT_EQ(to.length(), 3 + part);
    EXPECT_EQ(to.toString(), "to:" + text.substr(0, part));
    EXPECT_EQ(from.length(), text.size() - part);
    EXPECT_EQ(from.toString(), text.substr(part));
    from.append("+");
    to.append("+");
    EXPECT_EQ(to.toString() + from.toString(), "to:" + text.substr(0, part) + "+" + text.substr(part) + "+");
  }
}

TEST_F(BufferTest, MovesAPartOfAHugeFragmentByCopyingThatPart) {
  const std::string huge = bytes(200'000);
  Buffer from;
  from.appendFragment(huge, release("huge"));
  Buffer to;
  to.move(from, 150'000);
  EXPECT_EQ(to.toString(), huge.substr(0, 150'000));
  EXPECT_EQ(from.frontSlice().data(), huge.data() + 150'000);
  EXPECT_THAT(events_, IsEmpty());
}

TEST_F(BufferTest, MoveOfMoreThanThereIsBreaksTheContract) {
  Buffer from("12345");
  Buffer to;
  EXPECT_CONTRACT_VIOLATION(to.move(from, 6), HasSubstr("6 bytes of 5"));
  EXPECT_EQ(to.toString(), kDebugBuild ? "" : "12345");
}

TEST_F(BufferTest, MoveIntoItselfBreaksTheContract) {
  Buffer buffer("12345");
  EXPECT_CONTRACT_VIOLATION(buffer.move(buffer), HasSubstr("into itself"));
  EXPECT_CONTRACT_VIOLATION(buffer.move(buffer, 2), HasSubstr("into itself"));
  EXPECT_EQ(buffer.toString(), "12345");
}

// --- Fragments.

TEST_F(BufferTest, FragmentIsNotCopied) {
  const std::string memory = "somebody else's";
  Buffer buffer("mine, and ");
  buffer.appendFragment(memory, nullptr);
  buffer.append(" and mine");
  EXPECT_EQ(buffer.toString(), "mine, and somebody else's and mine");
  buffer.drain(10);
  EXPECT_EQ(buffer.frontSlice().data(), memory.data());
  EXPECT_EQ(memory, "somebody else's");
}

TEST_F(BufferTest, FragmentIsReleasedWithItsLastByte) {
  Buffer buffer("ab");
  buffer.appendFragment("cdef", release("fragment"));
  buffer.append("gh");
  buffer.drain(5);
  EXPECT_THAT(events_, IsEmpty());
  buffer.drain(1);
  EXPECT_THAT(events_, ElementsAre("fragment released"));
  buffer.drain(2);
  EXPECT_THAT(events_, ElementsAre("fragment released"));
}

TEST_F(BufferTest, FragmentsAreReleasedInOrderAndOnceHoweverTheyLeave) {
  {
    Buffer destroyed;
    destroyed.appendFragment("x", release("1"));
    destroyed.appendFragment("x", release("2"));
    Buffer cleared;
    cleared.appendFragment("x", release("3"));
    cleared.clear();
    Buffer assigned_to;
    assigned_to.appendFragment("x", release("4"));
    assigned_to = Buffer();
    EXPECT_THAT(events_, ElementsAre("3 released", "4 released"));
    events_.clear();
  }
  EXPECT_THAT(events_, ElementsAre("1 released", "2 released"));
}

TEST_F(BufferTest, FragmentWithoutAReleaseIsMemoryThatStays) {
  Buffer buffer;
  buffer.appendFragment("static", nullptr);
  buffer.drain(6);
  EXPECT_TRUE(buffer.empty());
}

TEST_F(BufferTest, FragmentOfNoBytesIsReleasedAtOnce) {
  Buffer buffer;
  buffer.appendFragment("", release("nothing"));
  EXPECT_THAT(events_, ElementsAre("nothing released"));
  EXPECT_TRUE(buffer.empty());
}

TEST_F(BufferTest, LargeFragmentTravelsAndIsReleasedWhereItIsDrained) {
  const std::string memory = bytes(1000);
  Buffer from;
  from.appendFragment(memory, release("fragment"));
  Buffer to("x");
  to.move(from);
  EXPECT_THAT(events_, IsEmpty());
  to.drain(1);
  EXPECT_EQ(to.frontSlice().data(), memory.data());
  to.drain(1000);
  EXPECT_THAT(events_, ElementsAre("fragment released"));
}

TEST_F(BufferTest, SmallFragmentThatIsCopiedTogetherIsReleasedThen) {
  auto memory = std::make_unique<std::string>("small");
  Buffer from;
  from.appendFragment(*memory, [&] { memory.reset(); });
  Buffer to("x");
  to.move(from);
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(sliceCount(to), 1);
  EXPECT_EQ(to.toString(), "xsmall");
}

TEST_F(BufferTest, FragmentThatIsMovedInPartsIsReleasedWithTheLastOfThem) {
  const std::string memory = bytes(1000);
  Buffer from;
  from.appendFragment(memory, release("fragment"));
  Buffer to;
  to.move(from, 600);
  to.move(from, 399);
  EXPECT_THAT(events_, IsEmpty());
  to.move(from, 1);
  EXPECT_THAT(events_, ElementsAre("fragment released"));
  EXPECT_EQ(to.toString(), memory);
}

TEST_F(BufferTest, ReleaseMayUseTheBuffer) {
  Buffer buffer;
  buffer.appendFragment("old", [&] {
    EXPECT_EQ(buffer.toString(), "rest");
    buffer.append(" and new");
    buffer.drain(4);
  });
  buffer.append("rest");
  buffer.drain(3);
  EXPECT_EQ(buffer.toString(), " and new");
}

TEST_F(BufferTest, ReleaseMayDestroyTheBuffer) {
  auto buffer = std::make_unique<Buffer>();
  buffer->appendFragment("first", [&] { buffer.reset(); });
  buffer->appendFragment("second", release("second"));
  buffer->drain(5);
  EXPECT_EQ(buffer, nullptr);
  EXPECT_THAT(events_, ElementsAre("second released"));
}

TEST_F(BufferTest, ReleaseMayDestroyBothBuffersOfAMove) {
  auto from = std::make_unique<Buffer>();
  auto to = std::make_unique<Buffer>("x");
  from->appendFragment("small", [&] {
    EXPECT_EQ(to->toString(), "xsmall");
    from.reset();
    to.reset();
  });
  to->move(*from);
  EXPECT_EQ(to, nullptr);
}

TEST_F(BufferTest, WhatAReleaseThrowsIsLoggedAndTheNextOnesRun) {
  const LogCapture log(LogLayer::Network);
  Buffer buffer;
  buffer.appendFragment("1", [] { throw std::runtime_error("no such memory"); });
  buffer.appendFragment("2", [] { throw 2; });  // NOLINT(hicpp-exception-baseclass): nobody can forbid it
  buffer.appendFragment("3", release("3"));
  buffer.addDrainTracker([](DrainResult) { throw std::runtime_error("tracked in vain"); });
  buffer.drain(3);
  EXPECT_THAT(log.text(), HasSubstr("a buffer's release callback threw: no such memory; it is ignored"));
  EXPECT_THAT(log.text(), HasSubstr("a buffer's release callback threw; it is ignored"));
  EXPECT_THAT(log.text(), HasSubstr("a buffer's drain tracker threw: tracked in vain"));
  EXPECT_THAT(events_, ElementsAre("3 released"));
}

TEST_F(BufferTest, CallbackThatAddsToTheBufferWhichIsDestroyedBreaksTheContract) {
  EXPECT_CONTRACT_VIOLATION(
      {
        auto buffer = std::make_unique<Buffer>();
        Buffer* const raw = buffer.get();
        raw->appendFragment("x", [raw] { raw->appendFragment("y", nullptr); });
        buffer.reset();
      },
      HasSubstr("added to the buffer that is destroyed"));
}

// --- Drain trackers.

TEST_F(BufferTest, TrackerIsCalledWhenWhatWasThereIsDrained) {
  Buffer buffer("12345");
  buffer.addDrainTracker(track("five"));
  buffer.append("678");  // in the same slice, and none of its business
  buffer.drain(4);
  EXPECT_THAT(events_, IsEmpty());
  buffer.drain(1);
  EXPECT_THAT(events_, ElementsAre("five drained"));
  buffer.drain(3);
  EXPECT_EQ(events_.size(), 1);
}

TEST_F(BufferTest, TrackersAreCalledInTheOrderInWhichTheyWereAdded) {
  Buffer buffer;
  for (const char* name : {"1", "2", "3"}) {
    buffer.append(bytes(3000));
    buffer.addDrainTracker(track(name));
    buffer.addDrainTracker(track(std::string(name) + "b"));
  }
  buffer.drain(3000);
  EXPECT_THAT(events_, ElementsAre("1 drained", "1b drained"));
  buffer.drain(6000);
  EXPECT_THAT(events_, ElementsAre("1 drained", "1b drained", "2 drained", "2b drained", "3 drained", "3b drained"));
}

TEST_F(BufferTest, TrackerOnAnEmptyBufferIsCalledNow) {
  Buffer buffer;
  buffer.addDrainTracker(track("nothing"));
  EXPECT_THAT(events_, ElementsAre("nothing drained"));
}

TEST_F(BufferTest, TrackerIsToldThatTheBytesWereDropped) {
  {
    Buffer destroyed("x");
    destroyed.addDrainTracker(track("destroyed"));
    Buffer cleared("x");
    cleared.addDrainTracker(track("cleared"));
    cleared.clear();
    Buffer assigned("x");
    assigned.addDrainTracker(track("assigned"));
    assigned = Buffer("y");
    EXPECT_EQ(assigned.toString(), "y");
  }
  EXPECT_THAT(events_, ElementsAre("cleared dropped", "assigned dropped", "destroyed dropped"));
}

TEST_F(BufferTest, TrackerTravelsWithItsByteWhetherCopiedOrRelinked) {
  for (const std::size_t size : {std::size_t{10}, std::size_t{1000}}) {
    events_.clear();
    Buffer from(bytes(size));
    from.addDrainTracker(track("it"));
    from.append("more");
    Buffer to("x");
    to.move(from, size);
    from.drain(4);
    Buffer last(std::move(to));
    last.append("behind");
    last.prepend("before");
    last.drain(6 + size);
    EXPECT_THAT(events_, IsEmpty());
    last.drain(1);
    EXPECT_THAT(events_, ElementsAre("it drained"));
  }
}

TEST_F(BufferTest, TrackerStaysWhereItsByteStays) {
  Buffer from("12345");
  from.addDrainTracker(track("five"));
  Buffer to;
  to.move(from, 4);
  to.drain(4);
  EXPECT_THAT(events_, IsEmpty());
  from.drain(1);
  EXPECT_THAT(events_, ElementsAre("five drained"));
}

TEST_F(BufferTest, TrackersStayExactWhenTheBufferIsLinearized) {
  Buffer buffer = inSlices({"abc", "def", "ghi"});
  Buffer tracked;
  for (int i = 0; i < 3; ++i) {
    tracked.move(buffer, 3);
    tracked.addDrainTracker(track(std::to_string(i)));
  }
  EXPECT_EQ(tracked.linearize(8), "abcdefgh");
  for (int i = 0; i < 3; ++i) {
    tracked.drain(2);
    EXPECT_EQ(events_.size(), static_cast<std::size_t>(i));
    tracked.drain(1);
    EXPECT_EQ(events_.size(), static_cast<std::size_t>(i + 1));
  }
  EXPECT_THAT(events_, ElementsAre("0 drained", "1 drained", "2 drained"));
}

TEST_F(BufferTest, TrackerMayUseMoveAndDestroyTheBuffer) {
  auto buffer = std::make_unique<Buffer>("ab");
  Buffer rest;
  buffer->addDrainTracker([&](DrainResult) {
    rest.move(*buffer);
    buffer.reset();
  });
  buffer->append("cd");
  buffer->drain(2);
  EXPECT_EQ(rest.toString(), "cd");
}

TEST_F(BufferTest, TrackerMayTrackAgain) {
  Buffer buffer("a");
  int calls = 0;
  buffer.addDrainTracker([&](DrainResult) {
    ++calls;
    buffer.append("b");
    buffer.addDrainTracker([&](DrainResult) { ++calls; });
  });
  buffer.drain(1);
  EXPECT_EQ(calls, 1);
  buffer.drain(1);
  EXPECT_EQ(calls, 2);
}

TEST_F(BufferTest, NullTrackerBreaksTheContract) {
  Buffer buffer("x");
  EXPECT_CONTRACT_VIOLATION(buffer.addDrainTracker(nullptr), HasSubstr("no callback"));
  buffer.drain(1);
}

// --- Reservations.

TEST_F(BufferTest, ReservationIsWrittenToAndCommitted) {
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

TEST_F(BufferTest, ReservationIsReadIntoAcrossItsSpans) {
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

TEST_F(BufferTest, ReserveWithoutCommitLeavesTheBufferUnchanged) {
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

TEST_F(BufferTest, CommitOfNothingAndOfAPartGivesTheRestBack) {
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

TEST_F(BufferTest, ReserveHasNoMoreThanItsSpans) {
  Buffer buffer;
  const Reservation room = buffer.reserve(std::numeric_limits<std::size_t>::max());
  EXPECT_EQ(room.spans().size(), Reservation::kMaxSpans);
  EXPECT_GE(room.size(), 64 * 1024);
}

TEST_F(BufferTest, ReserveOfNothingHasNoSpans) {
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

TEST_F(BufferTest, SmallReservationTakesASmallSlice) {
  Buffer buffer;
  const Reservation room = buffer.reserve(64);
  EXPECT_LE(room.size(), 4096);
}

TEST_F(BufferTest, ContiguousReservationIsOneSpan) {
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

TEST_F(BufferTest, ContiguousReservationUsesWhatTheLastSliceHasLeft) {
  Buffer buffer("abc");
  Reservation room = buffer.reserveContiguous(3);
  EXPECT_EQ(room.front().data(), buffer.frontSlice().data() + 3);
  room.commit(0);
}

TEST_F(BufferTest, CommitOfMoreThanWasReservedBreaksTheContract) {
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

TEST_F(BufferTest, SecondCommitBreaksTheContract) {
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

TEST_F(BufferTest, AnyChangeDuringAReservationBreaksTheContract) {
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

TEST_F(BufferTest, ReservationOfABufferThatWasChangedCommitsNothing) {
  Buffer buffer("x");
  const auto commit = [&] {
    Reservation room = buffer.reserve(10);
    buffer.append("y");
    room.commit(1);
  };
  EXPECT_CONTRACT_VIOLATION(commit(), HasSubstr("there is a Reservation"));
  EXPECT_EQ(buffer.toString(), kDebugBuild ? "x" : "xy");
}

TEST_F(BufferTest, DestroyedDuringAReservationBreaksTheContract) {
  EXPECT_CONTRACT_VIOLATION(
      {
        auto buffer = std::make_unique<Buffer>("x");
        const Reservation room = buffer->reserve(10);
        buffer.reset();
      },
      HasSubstr("there is a Reservation"));
}

// --- Reading.

TEST_F(BufferTest, FillDescribesTheSlicesUpToALimit) {
  const Buffer buffer = inSlices({"abc", "defg", "hi"});
  std::array<iovec, 8> spans{};
  EXPECT_EQ(buffer.fill(absl::MakeSpan(spans)), 3);
  EXPECT_EQ(buffer.fill(absl::MakeSpan(spans).subspan(0, 2)), 2);
  EXPECT_EQ(buffer.fill({}), 0);
  EXPECT_EQ(buffer.fill(absl::MakeSpan(spans), 0), 0);
  EXPECT_EQ(buffer.fill(absl::MakeSpan(spans), 3), 1);
  EXPECT_EQ(buffer.fill(absl::MakeSpan(spans), 5), 2);
  EXPECT_EQ(spans[1].iov_len, 2);
  EXPECT_EQ(absl::string_view(static_cast<char*>(spans[1].iov_base), 2), "de");
}

TEST_F(BufferTest, GatherWriteSplitAtAnyBoundaryArrivesIdentical) {
  const std::string text = bytes(40);
  std::array<int, 2> ends{};
  ASSERT_EQ(pipe(ends.data()), 0);
  for (std::size_t split = 0; split <= text.size(); ++split) {
    const absl::string_view view = text;
    Buffer buffer = inSlices({view.substr(0, 1), view.substr(1, 10), view.substr(11, 2), view.substr(13)});
    for (const std::size_t part : {split, text.size() - split}) {
      std::array<iovec, 8> spans{};
      const std::size_t count = buffer.fill(absl::MakeSpan(spans), part);
      ASSERT_EQ(writev(ends[1], spans.data(), static_cast<int>(count)), static_cast<ssize_t>(part));
      buffer.drain(part);
    }
    std::string arrived(text.size(), '\0');
    ASSERT_EQ(read(ends[0], arrived.data(), arrived.size()), static_cast<ssize_t>(text.size()));
    EXPECT_EQ(arrived, text) << "split at " << split;
  }
  close(ends[0]);
  close(ends[1]);
}

TEST_F(BufferTest, CopyOutCopiesWhatThereIs) {
  const Buffer buffer = inSlices({"abc", "def", "ghi"});
  std::string out(5, '-');
  EXPECT_EQ(buffer.copyOut(2, absl::MakeSpan(out)), 5);
  EXPECT_EQ(out, "cdefg");
  EXPECT_EQ(buffer.copyOut(6, absl::MakeSpan(out)), 3);
  EXPECT_EQ(out, "ghifg");
  EXPECT_EQ(buffer.copyOut(9, absl::MakeSpan(out)), 0);
  EXPECT_EQ(buffer.copyOut(Buffer::kAll, absl::MakeSpan(out)), 0);
  EXPECT_EQ(buffer.copyOut(0, {}), 0);
}

TEST_F(BufferTest, LinearizeMakesTheFirstBytesContiguous) {
  for (std::size_t size = 0; size <= 9; ++size) {
    Buffer buffer = inSlices({"abc", "def", "ghi"});
    EXPECT_EQ(buffer.linearize(size), absl::string_view("abcdefghi").substr(0, size));
    EXPECT_EQ(buffer.toString(), "abcdefghi");
    EXPECT_EQ(buffer.length(), 9);
    buffer.append("jkl");
    EXPECT_EQ(buffer.toString(), "abcdefghijkl");
  }
}

TEST_F(BufferTest, LinearizeOfWhatIsContiguousCopiesNothing) {
  Buffer buffer = inSlices({"abc", "def"});
  const char* const first = buffer.frontSlice().data();
  EXPECT_EQ(buffer.linearize(3).data(), first);
  EXPECT_EQ(buffer.frontSlice().data(), first);
}

TEST_F(BufferTest, LinearizeUsesTheRoomOfTheFirstSlice) {
  Buffer buffer("abc");
  const char* const first = buffer.frontSlice().data();
  buffer.appendFragment("def", release("fragment"));
  EXPECT_EQ(buffer.linearize(5).data(), first);
  EXPECT_THAT(events_, IsEmpty());  // its last byte is still there
  buffer.linearize(6);
  EXPECT_THAT(events_, ElementsAre("fragment released"));
  EXPECT_EQ(buffer.toString(), "abcdef");
}

TEST_F(BufferTest, LinearizeOfAMegabyte) {
  Buffer buffer(bytes(1 << 20));
  EXPECT_EQ(buffer.linearize(1 << 20), bytes(1 << 20));
  EXPECT_EQ(sliceCount(buffer), 1);
}

TEST_F(BufferTest, LinearizeBeyondTheEndBreaksTheContract) {
  Buffer buffer("12345");
  EXPECT_CONTRACT_VIOLATION(EXPECT_EQ(buffer.linearize(6), "12345"), HasSubstr("6 bytes of 5"));
}

TEST_F(BufferTest, StartsWithLooksAcrossSlices) {
  const Buffer buffer = inSlices({"abc", "def"});
  EXPECT_TRUE(buffer.startsWith(""));
  EXPECT_TRUE(buffer.startsWith("ab"));
  EXPECT_TRUE(buffer.startsWith("abcd"));
  EXPECT_TRUE(buffer.startsWith("abcdef"));
  EXPECT_FALSE(buffer.startsWith("abcdefg"));
  EXPECT_FALSE(buffer.startsWith("abd"));
  EXPECT_FALSE(buffer.startsWith("abcdf"));
  EXPECT_TRUE(Buffer().startsWith(""));
  EXPECT_FALSE(Buffer().startsWith("a"));
}

TEST_F(BufferTest, SearchFindsPatternsWithinAndAcrossSlices) {
  const Buffer buffer = inSlices({"a", "bc", "ab", "ca", "bcabd"});
  EXPECT_EQ(buffer.search("a"), 0);
  EXPECT_EQ(buffer.search("abcabd"), 6);
  EXPECT_EQ(buffer.search("bd"), 10);
  EXPECT_EQ(buffer.search("abcabcabcabd"), 0);
  EXPECT_EQ(buffer.search("abcabcabcabda"), std::nullopt);
  EXPECT_EQ(buffer.search("x"), std::nullopt);
  EXPECT_EQ(Buffer().search("x"), std::nullopt);
}

TEST_F(BufferTest, SearchHonoursStartAndLimit) {
  const Buffer buffer = inSlices({"\r\n", "\r", "\nab\r\n"});
  EXPECT_EQ(buffer.search("\r\n", 0), 0);
  EXPECT_EQ(buffer.search("\r\n", 1), 2);
  EXPECT_EQ(buffer.search("\r\n", 3), 6);
  EXPECT_EQ(buffer.search("\r\n", 7), std::nullopt);
  EXPECT_EQ(buffer.search("\r\n", 1, 2), std::nullopt);  // its end is beyond the limit
  EXPECT_EQ(buffer.search("\r\n", 1, 3), 2);
  EXPECT_EQ(buffer.search("\r\n", 3, 4), std::nullopt);
  EXPECT_EQ(buffer.search("\r\n", 3, 5), 6);
  EXPECT_EQ(buffer.search("\r\n", 3, Buffer::kAll), 6);
  EXPECT_EQ(buffer.search("a", 0, 0), std::nullopt);
}

TEST_F(BufferTest, SearchOfNothingFindsItWhereverTheBufferReaches) {
  const Buffer buffer("abc");
  EXPECT_EQ(buffer.search(""), 0);
  EXPECT_EQ(buffer.search("", 3), 3);
  EXPECT_EQ(buffer.search("", 2, 0), 2);
  EXPECT_EQ(buffer.search("", 4), std::nullopt);
  EXPECT_EQ(buffer.search("a", Buffer::kAll), std::nullopt);
}

TEST_F(BufferTest, SearchAgreesWithStringFindForEachSplit) {
  const std::string text = "aabaabaaabaab";
  for (const std::string pattern : {"a", "b", "aa", "aab", "aaab", "abaaab", "aabaabaaabaab", "bb"}) {
    for (std::size_t split = 0; split <= text.size(); ++split) {
      const absl::string_view view = text;
      const Buffer buffer = inSlices({view.substr(0, split), view.substr(split)});
      for (std::size_t start = 0; start <= text.size(); ++start) {
        EXPECT_EQ(buffer.search(pattern, start).value_or(std::string::npos), text.find(pattern, start))
            << pattern << " from " << start << ", split at " << split;
      }
    }
  }
}

// --- Integers.

TEST_F(BufferTest, IntegersAreWrittenAndReadMostSignificantByteFirst) {
  Buffer buffer;
  buffer.appendBigEndian(uint8_t{0x01});
  buffer.appendBigEndian(uint16_t{0x0203});
  buffer.appendBigEndian(uint32_t{0x04050607});
  buffer.appendBigEndian(uint64_t{0x08090a0b0c0d0e0f});
  buffer.appendBigEndian(int32_t{-2});
  EXPECT_EQ(buffer.toString(), absl::string_view("\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\377\377\377\376", 19));
  EXPECT_EQ(buffer.peekBigEndian<uint8_t>(), 0x01);
  EXPECT_EQ(buffer.peekBigEndian<uint16_t>(1), 0x0203);
  EXPECT_EQ(buffer.peekBigEndian<uint32_t>(3), 0x04050607);
  EXPECT_EQ(buffer.peekBigEndian<uint64_t>(7), 0x08090a0b0c0d0e0f);
  EXPECT_EQ(buffer.peekBigEndian<int32_t>(15), -2);
  EXPECT_EQ(buffer.peekBigEndian<int8_t>(18), -2);
}

TEST_F(BufferTest, IntegersAreReadAcrossSlices) {
  const Buffer buffer =
      inSlices({absl::string_view("\1", 1), absl::string_view("\2\3", 2), absl::string_view("\4", 1)});
  EXPECT_EQ(buffer.peekBigEndian<uint32_t>(), 0x01020304);
}

TEST_F(BufferTest, IntegerBeyondTheEndBreaksTheContract) {
  const Buffer buffer("1234");
  EXPECT_CONTRACT_VIOLATION(EXPECT_EQ(buffer.peekBigEndian<uint32_t>(1), 0), HasSubstr("4 bytes at 1 of 4"));
  EXPECT_CONTRACT_VIOLATION(EXPECT_EQ(buffer.peekBigEndian<uint16_t>(Buffer::kAll), 0), HasSubstr("2 bytes at"));
}

// --- Forks.

TEST_F(BufferTest, ChildOfAForkHasACopy) {
  int released = 0;
  Buffer buffer(bytes(20'000));
  buffer.appendFragment("fragment", [&] { ++released; });
  EXPECT_EQ("", test::runInChild([&] {
              buffer.append("child");
              CHILD_CHECK(buffer.length() == 20'013);
              buffer.drain(20'008);
              CHILD_CHECK(buffer.toString() == "child");
              CHILD_CHECK(released == 1);
            }));
  EXPECT_EQ(buffer.toString(), bytes(20'000) + "fragment");
  EXPECT_EQ(released, 0);
}

}  // namespace
}  // namespace nuncio::network
