// Whom a Buffer tells that bytes have left: the owners of fragments, and drain trackers.

#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/network/buffer.h"
#include "test/network/test_bytes.h"
#include "test/test_support/contract.h"
#include "test/test_support/log_capture.h"

namespace nuncio::network {
namespace {

using test::LogCapture;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class BufferCallbacksTest : public testing::Test {
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

// --- Fragments.

TEST_F(BufferCallbacksTest, FragmentIsNotCopied) {
  const std::string memory = "somebody else's";
  Buffer buffer("mine, and ");
  buffer.appendFragment(memory, nullptr);
  buffer.append(" and mine");
  EXPECT_EQ(buffer.toString(), "mine, and somebody else's and mine");
  buffer.drain(10);
  EXPECT_EQ(buffer.frontSlice().data(), memory.data());
  EXPECT_EQ(memory, "somebody else's");
}

TEST_F(BufferCallbacksTest, FragmentIsReleasedWithItsLastByte) {
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

TEST_F(BufferCallbacksTest, FragmentsAreReleasedInOrderAndOnceHoweverTheyLeave) {
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

TEST_F(BufferCallbacksTest, FragmentWithoutAReleaseIsMemoryThatStays) {
  Buffer buffer;
  buffer.appendFragment("static", nullptr);
  buffer.drain(6);
  EXPECT_TRUE(buffer.empty());
}

TEST_F(BufferCallbacksTest, FragmentOfNoBytesIsReleasedAtOnce) {
  Buffer buffer;
  buffer.appendFragment("", release("nothing"));
  EXPECT_THAT(events_, ElementsAre("nothing released"));
  EXPECT_TRUE(buffer.empty());
}

TEST_F(BufferCallbacksTest, LargeFragmentTravelsAndIsReleasedWhereItIsDrained) {
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

TEST_F(BufferCallbacksTest, SmallFragmentThatIsCopiedTogetherIsReleasedThen) {
  auto memory = std::make_unique<std::string>("small");
  Buffer from;
  from.appendFragment(*memory, [&] { memory.reset(); });
  Buffer to("x");
  to.move(from);
  EXPECT_EQ(memory, nullptr);
  EXPECT_EQ(sliceCount(to), 1);
  EXPECT_EQ(to.toString(), "xsmall");
}

TEST_F(BufferCallbacksTest, FragmentThatIsMovedInPartsIsReleasedWithTheLastOfThem) {
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

TEST_F(BufferCallbacksTest, ReleaseMayUseTheBuffer) {
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

TEST_F(BufferCallbacksTest, ReleaseMayDestroyTheBuffer) {
  auto buffer = std::make_unique<Buffer>();
  buffer->appendFragment("first", [&] { buffer.reset(); });
  buffer->appendFragment("second", release("second"));
  buffer->drain(5);
  EXPECT_EQ(buffer, nullptr);
  EXPECT_THAT(events_, ElementsAre("second released"));
}

TEST_F(BufferCallbacksTest, ReleaseMayDestroyBothBuffersOfAMove) {
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

TEST_F(BufferCallbacksTest, WhatAReleaseThrowsIsLoggedAndTheNextOnesRun) {
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

TEST_F(BufferCallbacksTest, CallbackThatAddsToTheBufferWhichIsDestroyedBreaksTheContract) {
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

TEST_F(BufferCallbacksTest, TrackerIsCalledWhenWhatWasThereIsDrained) {
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

TEST_F(BufferCallbacksTest, TrackersAreCalledInTheOrderInWhichTheyWereAdded) {
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

TEST_F(BufferCallbacksTest, TrackerOnAnEmptyBufferIsCalledNow) {
  Buffer buffer;
  buffer.addDrainTracker(track("nothing"));
  EXPECT_THAT(events_, ElementsAre("nothing drained"));
}

TEST_F(BufferCallbacksTest, TrackerIsToldThatTheBytesWereDropped) {
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

TEST_F(BufferCallbacksTest, TrackerTravelsWithItsByteWhetherCopiedOrRelinked) {
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

TEST_F(BufferCallbacksTest, TrackerStaysWhereItsByteStays) {
  Buffer from("12345");
  from.addDrainTracker(track("five"));
  Buffer to;
  to.move(from, 4);
  to.drain(4);
  EXPECT_THAT(events_, IsEmpty());
  from.drain(1);
  EXPECT_THAT(events_, ElementsAre("five drained"));
}

TEST_F(BufferCallbacksTest, TrackersStayExactWhenTheBufferIsLinearized) {
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

TEST_F(BufferCallbacksTest, TrackerMayUseMoveAndDestroyTheBuffer) {
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

TEST_F(BufferCallbacksTest, TrackerMayTrackAgain) {
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

TEST_F(BufferCallbacksTest, NullTrackerBreaksTheContract) {
  Buffer buffer("x");
  EXPECT_CONTRACT_VIOLATION(buffer.addDrainTracker(nullptr), HasSubstr("no callback"));
  buffer.drain(1);
}

}  // namespace
}  // namespace nuncio::network
