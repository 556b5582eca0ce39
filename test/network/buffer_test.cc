// What a Buffer does, from outside. Its callbacks, reservations, what is lent to it, and what it does without memory,
// on several threads, and at random: the files beside this one.

#include "nuncio/network/buffer.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
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

#include "test/network/test_bytes.h"
#include "test/test_support/child_process.h"
#include "test/test_support/contract.h"

namespace nuncio::network {
namespace {

using test::kDebugBuild;
using testing::HasSubstr;

static_assert(sizeof(Buffer) <= 32);
static_assert(std::is_nothrow_move_constructible_v<Buffer> && std::is_nothrow_move_assignable_v<Buffer>);
static_assert(std::is_nothrow_swappable_v<Buffer> && !std::is_copy_constructible_v<Buffer>);

// --- Adding and taking away.

TEST(BufferTest, IsEmptyAtFirst) {
  const Buffer buffer;
  EXPECT_TRUE(buffer.empty());
  EXPECT_EQ(buffer.length(), 0);
  EXPECT_EQ(buffer.toString(), "");
  EXPECT_EQ(buffer.frontSlice(), "");
  std::array<iovec, 1> span{};
  EXPECT_EQ(buffer.fill(absl::MakeSpan(span)), 0);
}

TEST(BufferTest, GivesBackInOrderWhatWasAppended) {
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

TEST(BufferTest, AppendsBytesOfItsOwn) {
  Buffer buffer(bytes(5000));
  buffer.append(buffer.linearize(5000));
  buffer.prepend(buffer.frontSlice().substr(0, 3));
  EXPECT_EQ(buffer.toString(), "abc" + bytes(5000) + bytes(5000));
}

TEST(BufferTest, PrependsIntoWhatWasDrainedBefore) {
  Buffer buffer("header: value");
  buffer.drain(8);
  const char* const value = buffer.frontSlice().data();
  buffer.prepend("HEADER: ");
  EXPECT_EQ(buffer.toString(), "HEADER: value");
  EXPECT_EQ(buffer.frontSlice().data(), value - 8);
  EXPECT_EQ(sliceCount(buffer), 1);
}

TEST(BufferTest, PrependsMoreThanThereIsRoomFor) {
  Buffer buffer("....end");
  buffer.drain(4);
  buffer.prepend(bytes(50'000));
  buffer.prepend("begin");
  EXPECT_EQ(buffer.toString(), "begin" + bytes(50'000) + "end");
  EXPECT_EQ(buffer.length(), 50'008);
}

TEST(BufferTest, PrependsToAFragmentWithoutTouchingWhatIsBeforeIt) {
  const std::string memory = "xxhello";
  Buffer buffer;
  buffer.appendFragment(memory, nullptr);
  buffer.drain(2);
  buffer.prepend("oh, ");
  EXPECT_EQ(buffer.toString(), "oh, hello");
  EXPECT_EQ(memory, "xxhello");
}

TEST(BufferTest, PrependToAnEmptyOneLeavesRoomBehind) {
  Buffer buffer;
  buffer.prepend("one");
  buffer.append(" two");
  EXPECT_EQ(sliceCount(buffer), 1);
  EXPECT_EQ(buffer.toString(), "one two");
}

TEST(BufferTest, DrainsPartsOfSlicesAndWholeOnes) {
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

TEST(BufferTest, DrainBeyondTheEndIsAnError) {
  Buffer buffer("12345");
  EXPECT_CONTRACT_VIOLATION(buffer.drain(6), HasSubstr("6 bytes of 5"));
  EXPECT_EQ(buffer.length(), kDebugBuild ? 5 : 0);
}

TEST(BufferTest, ClearDropsAllAndTheBufferGoesOn) {
  Buffer buffer(bytes(100'000));
  buffer.clear();
  EXPECT_TRUE(buffer.empty());
  buffer.append("again");
  EXPECT_EQ(buffer.toString(), "again");
}

// --- From one buffer to another.

TEST(BufferTest, MovedFromIsEmptyAndGoesOn) {
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

TEST(BufferTest, SwapExchangesAll) {
  Buffer a("a");
  Buffer b(bytes(50'000));
  bool drained = false;
  a.addDrainTracker([&](DrainResult) { drained = true; });
  swap(a, b);
  EXPECT_EQ(a.toString(), bytes(50'000));
  EXPECT_EQ(b.toString(), "a");
  b.swap(b);
  b.drain(1);
  EXPECT_TRUE(drained);
}

TEST(BufferTest, RelinksLargeSlicesWhenMoved) {
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

TEST(BufferTest, CopiesSmallSlicesTogetherWhenMoved) {
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

TEST(BufferTest, RelinksASmallSliceWhereTheLastHasNoRoomForIt) {
  Buffer to(bytes(4096 - 10));
  Buffer from("more than ten bytes");
  const char* const memory = from.frontSlice().data();
  to.move(from);
  to.drain(4096 - 10);
  EXPECT_EQ(to.frontSlice().data(), memory);
}

TEST(BufferTest, MovesExactlyAsManyBytesAsAskedFor) {
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

TEST(BufferTest, MovesAPartOfAHugeFragmentByCopyingThatPart) {
  const std::string huge = bytes(200'000);
  Buffer from;
  from.appendFragment(huge, nullptr);
  Buffer to;
  to.move(from, 150'000);
  EXPECT_EQ(to.toString(), huge.substr(0, 150'000));
  EXPECT_EQ(from.frontSlice().data(), huge.data() + 150'000);
}

TEST(BufferTest, MoveOfMoreThanThereIsBreaksTheContract) {
  Buffer from("12345");
  Buffer to;
  EXPECT_CONTRACT_VIOLATION(to.move(from, 6), HasSubstr("6 bytes of 5"));
  EXPECT_EQ(to.toString(), kDebugBuild ? "" : "12345");
}

TEST(BufferTest, MoveIntoItselfBreaksTheContract) {
  Buffer buffer("12345");
  EXPECT_CONTRACT_VIOLATION(buffer.move(buffer), HasSubstr("into itself"));
  EXPECT_CONTRACT_VIOLATION(buffer.move(buffer, 2), HasSubstr("into itself"));
  EXPECT_EQ(buffer.toString(), "12345");
}

// --- Reading.

TEST(BufferTest, FillDescribesTheSlicesUpToALimit) {
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

TEST(BufferTest, GatherWriteSplitAtAnyBoundaryArrivesIdentical) {
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

TEST(BufferTest, CopyOutCopiesWhatThereIs) {
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

TEST(BufferTest, LinearizeMakesTheFirstBytesContiguous) {
  for (std::size_t size = 0; size <= 9; ++size) {
    Buffer buffer = inSlices({"abc", "def", "ghi"});
    EXPECT_EQ(buffer.linearize(size), absl::string_view("abcdefghi").substr(0, size));
    EXPECT_EQ(buffer.toString(), "abcdefghi");
    EXPECT_EQ(buffer.length(), 9);
    buffer.append("jkl");
    EXPECT_EQ(buffer.toString(), "abcdefghijkl");
  }
}

TEST(BufferTest, LinearizeOfWhatIsContiguousCopiesNothing) {
  Buffer buffer = inSlices({"abc", "def"});
  const char* const first = buffer.frontSlice().data();
  EXPECT_EQ(buffer.linearize(3).data(), first);
  EXPECT_EQ(buffer.frontSlice().data(), first);
}

TEST(BufferTest, LinearizeUsesTheRoomOfTheFirstSlice) {
  const std::string memory = bytes(4093);
  Buffer buffer("abc");
  const char* const first = buffer.frontSlice().data();
  int released = 0;
  buffer.appendFragment(memory, [&] { ++released; });
  EXPECT_EQ(buffer.linearize(4095).data(), first);
  EXPECT_EQ(released, 0);  // its last byte is still there
  EXPECT_EQ(buffer.linearize(4096).data(), first);
  EXPECT_EQ(released, 1);
  EXPECT_EQ(buffer.toString(), "abc" + memory);
}

TEST(BufferTest, LinearizeOfAMegabyte) {
  Buffer buffer(bytes(1 << 20));
  EXPECT_EQ(buffer.linearize(1 << 20), bytes(1 << 20));
  EXPECT_EQ(sliceCount(buffer), 1);
}

TEST(BufferTest, LinearizeBeyondTheEndBreaksTheContract) {
  Buffer buffer("12345");
  EXPECT_CONTRACT_VIOLATION(EXPECT_EQ(buffer.linearize(6), "12345"), HasSubstr("6 bytes of 5"));
}

TEST(BufferTest, StartsWithLooksAcrossSlices) {
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

TEST(BufferTest, SearchFindsPatternsWithinAndAcrossSlices) {
  const Buffer buffer = inSlices({"a", "bc", "ab", "ca", "bcabd"});
  EXPECT_EQ(buffer.search("a"), 0);
  EXPECT_EQ(buffer.search("abcabd"), 6);
  EXPECT_EQ(buffer.search("bd"), 10);
  EXPECT_EQ(buffer.search("abcabcabcabd"), 0);
  EXPECT_EQ(buffer.search("abcabcabcabda"), std::nullopt);
  EXPECT_EQ(buffer.search("x"), std::nullopt);
  EXPECT_EQ(Buffer().search("x"), std::nullopt);
}

TEST(BufferTest, SearchHonoursStartAndLimit) {
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

TEST(BufferTest, SearchOfNothingFindsItWhereverTheBufferReaches) {
  const Buffer buffer("abc");
  EXPECT_EQ(buffer.search(""), 0);
  EXPECT_EQ(buffer.search("", 3), 3);
  EXPECT_EQ(buffer.search("", 2, 0), 2);
  EXPECT_EQ(buffer.search("", 4), std::nullopt);
  EXPECT_EQ(buffer.search("a", Buffer::kAll), std::nullopt);
}

TEST(BufferTest, SearchAgreesWithStringFindForEachSplit) {
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

TEST(BufferTest, IntegersAreWrittenAndReadMostSignificantByteFirst) {
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

TEST(BufferTest, IntegersAreReadAcrossSlices) {
  const Buffer buffer =
      inSlices({absl::string_view("\1", 1), absl::string_view("\2\3", 2), absl::string_view("\4", 1)});
  EXPECT_EQ(buffer.peekBigEndian<uint32_t>(), 0x01020304);
}

TEST(BufferTest, IntegerBeyondTheEndBreaksTheContract) {
  const Buffer buffer("1234");
  EXPECT_CONTRACT_VIOLATION(EXPECT_EQ(buffer.peekBigEndian<uint32_t>(1), 0), HasSubstr("4 bytes at 1 of 4"));
  EXPECT_CONTRACT_VIOLATION(EXPECT_EQ(buffer.peekBigEndian<uint16_t>(Buffer::kAll), 0), HasSubstr("2 bytes at"));
}

// --- Forks.

TEST(BufferTest, ChildOfAForkHasACopy) {
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
