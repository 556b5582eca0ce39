// Memory that is lent to a Buffer while a handler runs: none of it may be left in any buffer afterwards.

#include "source/network/scratch.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <sys/uio.h>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/network/buffer.h"
#include "source/network/slice_pool.h"
#include "test/network/test_bytes.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::network {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

class ScratchTest : public testing::Test {
protected:
  // As a connection does: reads `text`, lets the handler see it in `buffer_`, and uses the memory for something else.
  void read(absl::string_view text, const std::function<void(Buffer&)>& handler) {
    Scratch scratch;
    readInto(scratch, text, handler);
    spoil(scratch);
  }
  void readInto(Scratch& scratch, absl::string_view text, const std::function<void(Buffer&)>& handler) {
    const absl::Span<char> memory = scratch.memory();
    text.copy(memory.data(), memory.size());
    memory_ = memory.data();
    scratch.lend(*buffer_, text.size());
    handler(*buffer_);
    scratch.takeBack();
  }
  static void spoil(Scratch& scratch) {
    const absl::Span<char> memory = scratch.memory();
    std::fill(memory.begin(), memory.end(), '!');
  }
  bool lentMemory(absl::string_view view) const { return view.data() >= memory_ && view.data() < memory_ + 65'536; }

  std::vector<std::string> events_;
  std::optional<Buffer> buffer_{std::in_place};
  const char* memory_ = nullptr;
};

TEST_F(ScratchTest, HandlerSeesTheBytesWhereTheyWereRead) {
  read("hello", [this](Buffer& buffer) {
    EXPECT_EQ(buffer.toString(), "hello");
    EXPECT_EQ(buffer.frontSlice().data(), memory_);
    buffer.drain(5);
    EXPECT_TRUE(buffer.empty());
  });
  EXPECT_TRUE(buffer_->empty());
}

TEST_F(ScratchTest, WhatTheHandlerLeavesIsCopied) {
  read(bytes(1000), [](Buffer& buffer) { buffer.drain(900); });
  EXPECT_EQ(buffer_->toString(), bytes(1000).substr(900));
  EXPECT_FALSE(lentMemory(buffer_->frontSlice()));
}

TEST_F(ScratchTest, AllOfItMayBeLeft) {
  read(bytes(65'536), [](Buffer& /*buffer*/) {});
  EXPECT_EQ(buffer_->toString(), bytes(65'536));
}

TEST_F(ScratchTest, WhatIsLeftOfSeveralReadsIsCopiedTogether) {
  for (int i = 0; i < 4; ++i) {
    read("0123456789", [&](Buffer& buffer) { EXPECT_EQ(buffer.length(), 10 * static_cast<std::size_t>(i + 1)); });
  }
  EXPECT_EQ(buffer_->frontSlice(), "0123456789012345678901234567890123456789");
}

TEST_F(ScratchTest, WhatIsLeftFillsTheSliceBeforeAndGoesOnInNewOnes) {
  buffer_->append(bytes(4000));
  read(bytes(40'000), [](Buffer& buffer) { buffer.append("and more"); });
  EXPECT_EQ(buffer_->toString(), bytes(4000) + bytes(40'000) + "and more");
  EXPECT_EQ(buffer_->frontSlice().size(), 4096);
  buffer_->append("!");
  EXPECT_EQ(buffer_->toString(), bytes(4000) + bytes(40'000) + "and more!");
}

TEST_F(ScratchTest, NothingIsLentWhereNothingWasRead) {
  read("", [](Buffer& buffer) {
    EXPECT_TRUE(buffer.empty());
    buffer.append("own");
  });
  EXPECT_EQ(buffer_->toString(), "own");
}

TEST_F(ScratchTest, IsReadIntoAgainAndAgain) {
  Scratch scratch;
  for (int i = 0; i < 3; ++i) {
    readInto(scratch, "abc", [](Buffer& buffer) { buffer.drain(2); });
    EXPECT_EQ(scratch.memory().data(), memory_);
  }
  EXPECT_EQ(buffer_->toString(), "abc");  // c, then bc, then abc
}

TEST_F(ScratchTest, MemoryOfTheNextReadTakesBackWhatIsStillLent) {
  Scratch scratch;
  scratch.memory()[0] = 'a';
  scratch.lend(*buffer_, 1);
  scratch.memory()[0] = 'b';
  EXPECT_EQ(buffer_->toString(), "a");
  scratch.lend(*buffer_, 1);
  EXPECT_EQ(buffer_->toString(), "ab");
}

TEST_F(ScratchTest, DestroyedWhileLentItTakesBack) {
  {
    Scratch scratch;
    bytes(100).copy(scratch.memory().data(), 100);
    scratch.lend(*buffer_, 100);
  }
  EXPECT_EQ(buffer_->toString(), bytes(100));
}

// --- What the handler does with it.

TEST_F(ScratchTest, BytesThatAreMovedElsewhereAreCopiedThen) {
  for (const std::size_t part : {1, 500, 600, 5000, 30'000}) {
    Buffer elsewhere("to:");
    read(bytes(30'000), [&](Buffer& buffer) {
      elsewhere.move(buffer, part);
      EXPECT_EQ(buffer.length(), 30'000 - part);
      buffer.clear();
    });
    EXPECT_EQ(elsewhere.toString(), "to:" + bytes(part));
  }
}

TEST_F(ScratchTest, SmallMessageThatIsMovedFillsTheRoomThereIs) {
  Buffer elsewhere("to:");
  read("message", [&](Buffer& buffer) { elsewhere.move(buffer); });
  EXPECT_EQ(elsewhere.frontSlice(), "to:message");
}

TEST_F(ScratchTest, BytesThatAreMovedBetweenOthersAreCopied) {
  Buffer elsewhere;
  read(bytes(2000), [&](Buffer& buffer) {
    buffer.prepend(bytes(700));
    buffer.append(bytes(800));
    elsewhere.move(buffer, 3000);
  });
  EXPECT_EQ(elsewhere.toString(), bytes(700) + bytes(2000) + bytes(300));
  EXPECT_EQ(buffer_->toString(), bytes(800).substr(300));
}

TEST_F(ScratchTest, WholeBufferMovedAwayHoldsACopy) {
  std::optional<Buffer> constructed;
  Buffer assigned("former");
  Buffer swapped("swapped");
  read(bytes(3000), [&](Buffer& buffer) { constructed.emplace(std::move(buffer)); });
  EXPECT_EQ(constructed->toString(), bytes(3000));
  read(bytes(3000), [&](Buffer& buffer) { assigned = std::move(buffer); });
  EXPECT_EQ(assigned.toString(), bytes(3000));
  read(bytes(3000), [&](Buffer& buffer) { buffer.swap(swapped); });
  EXPECT_EQ(swapped.toString(), bytes(3000));
  EXPECT_EQ(buffer_->toString(), "swapped");
}

TEST_F(ScratchTest, AnotherBufferMayTakeItsPlace) {
  read(bytes(3000), [](Buffer& buffer) { buffer = Buffer("another"); });
  EXPECT_EQ(buffer_->toString(), "another");
}

TEST_F(ScratchTest, BufferMayGoToAnotherThreadMeanwhile) {
  std::thread thread;
  read(bytes(3000), [&](Buffer& buffer) {
    thread = std::thread([mine = std::move(buffer)]() mutable {
      EXPECT_EQ(mine.toString(), bytes(3000));
      mine.clear();
    });
  });
  thread.join();
}

TEST_F(ScratchTest, BufferMayBeDestroyedMeanwhile) {
  read(bytes(3000), [this](Buffer& buffer) {
    buffer.drain(1);
    buffer_.reset();
  });
  EXPECT_FALSE(buffer_.has_value());
}

TEST_F(ScratchTest, LinearizeTakesItOverWhereItHasTo) {
  buffer_->append("head: ");
  read("body", [](Buffer& buffer) { EXPECT_EQ(buffer.linearize(8), "head: bo"); });
  EXPECT_EQ(buffer_->toString(), "head: body");
}

TEST_F(ScratchTest, MayBeReservedBehind) {
  read("read", [](Buffer& buffer) {
    Reservation room = buffer.reserve(4);
    std::string(" one").copy(room.front().data(), 4);
    room.commit(4);
  });
  EXPECT_EQ(buffer_->toString(), "read one");
}

TEST_F(ScratchTest, TrackersOnLentBytesStayExact) {
  read("0123456789", [this](Buffer& buffer) {
    buffer.addDrainTracker([this](DrainResult) { events_.emplace_back("ten"); });
    buffer.drain(3);
    buffer.append("abc");
  });
  buffer_->drain(6);
  EXPECT_THAT(events_, IsEmpty());
  buffer_->drain(1);
  EXPECT_THAT(events_, ElementsAre("ten"));
  EXPECT_EQ(buffer_->toString(), "abc");
}

TEST_F(ScratchTest, TrackerIsCalledWhenLentBytesAreDrained) {
  read("0123456789", [this](Buffer& buffer) {
    buffer.addDrainTracker([this](DrainResult) { events_.emplace_back("ten"); });
    buffer.drain(10);
    EXPECT_THAT(events_, ElementsAre("ten"));
  });
}

TEST_F(ScratchTest, HandlerMayReadByAnotherOne) {
  read("outer", [](Buffer& buffer) {
    Scratch inner;
    const absl::Span<char> memory = inner.memory();
    std::fill(memory.begin(), memory.end(), 'i');
    Buffer other;
    inner.lend(other, 5);
    EXPECT_EQ(other.toString(), "iiiii");
    EXPECT_EQ(buffer.toString(), "outer");
  });
  EXPECT_EQ(buffer_->toString(), "outer");
}

#ifdef NUNCIO_TEST_ADDRESS_SANITIZER
TEST_F(ScratchTest, ViewThatIsKeptBeyondTheHandlerIsFound) {
  absl::string_view kept;
  Scratch scratch;
  readInto(scratch, "gone", [&](Buffer& buffer) {
    kept = buffer.frontSlice();
    buffer.drain(4);
  });
  EXPECT_DEATH(EXPECT_EQ(kept[0], 'g'), "use-after-poison");
}

TEST_F(ScratchTest, MemoryInThePoolIsForbidden) {
  absl::string_view kept;
  read("gone", [&](Buffer& buffer) { kept = buffer.frontSlice(); });
  EXPECT_DEATH(EXPECT_EQ(kept[0], 'g'), "use-after-poison");
}
#endif

}  // namespace
}  // namespace nuncio::network
