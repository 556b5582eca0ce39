// A connection for coroutines, over sockets and in memory.

#include "nuncio/network/byte_stream.h"

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/future/coroutine.h"
#include "nuncio/future/time.h"
#include "test/network/connection_pair.h"
#include "test/test_support/contract.h"

namespace nuncio::network::test {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

class ByteStreamTest : public ConnectionPairTest {
protected:
  void openStream(const ConnectionOptions& near_options = {}, const ByteStreamOptions& options = {}) {
    open(near_options);
    far_->start(far_end_);
    stream_.emplace(std::move(near_), options);
  }
  void TearDown() override {
    stream_.reset();
    settle();
    ConnectionPairTest::TearDown();
  }
  // The bytes of a read that is done.
  static std::string bytesOf(Future<Buffer>& read) {
    const Try<Buffer>& result = read.result();
    return result.failed() ? result.status().ToString() : result.value().toString();
  }
  std::string waitFor(Future<Buffer> read) {
    EXPECT_TRUE(runUntil([&] { return read.isReady(); }));
    return read.isReady() ? bytesOf(read) : "it never came";
  }

  std::optional<ByteStream> stream_;
};

TEST_P(ByteStreamTest, ReadsSomeOfWhatHasCome) {
  openStream();
  far_->write("abcdef");
  EXPECT_EQ("abc", waitFor(stream_->readExactly(3)));
  EXPECT_EQ("d", waitFor(stream_->readSome(1)));
  EXPECT_EQ("ef", waitFor(stream_->readExactly(2)));
}

TEST_P(ByteStreamTest, ReadsExactlySoManyHoweverTheyCome) {
  openStream();
  Future<Buffer> read = stream_->readExactly(300'000);
  for (int i = 0; i < 30; ++i) {
    far_->write(std::string(10'000, static_cast<char>('a' + i % 26)));
    settle();
  }
  const std::string bytes = waitFor(std::move(read));
  ASSERT_EQ(300'000U, bytes.size());
  EXPECT_EQ('b', bytes[10'000]);
}

TEST_P(ByteStreamTest, ReadsUpToADelimiterThatComesInPieces) {
  openStream();
  Future<Buffer> read = stream_->readUntil("\r\n", 100);
  for (const char* const piece : {"he", "llo", "\r", "\nnext"}) {
    EXPECT_FALSE(read.isReady());
    far_->write(piece);
    settle();
  }
  EXPECT_EQ("hello\r\n", waitFor(std::move(read)));
  EXPECT_EQ("next", waitFor(stream_->readExactly(4)));
}

TEST_P(ByteStreamTest, WithoutADelimiterWithinTheLimitTheBytesStay) {
  openStream();
  far_->write("0123456789");
  EXPECT_THAT(waitFor(stream_->readUntil("\n", 10)), HasSubstr("RESOURCE_EXHAUSTED"));
  EXPECT_EQ("0123456789", waitFor(stream_->readExactly(10)));
}

TEST_P(ByteStreamTest, TheEndIsAnEmptyBufferAndNotLost) {
  openStream();
  far_->write("last");
  far_->shutdownWrite();
  EXPECT_EQ("last", waitFor(stream_->readSome()));
  EXPECT_EQ("", waitFor(stream_->readSome()));
  EXPECT_EQ("", waitFor(stream_->readExactly(1)));
  EXPECT_EQ("", waitFor(stream_->readUntil("\n", 10)));
}

TEST_P(ByteStreamTest, AnEndInTheMidstIsToldAndTheBytesStay) {
  openStream();
  far_->write("half");
  far_->shutdownWrite();
  EXPECT_THAT(waitFor(stream_->readExactly(8)), HasSubstr("OUT_OF_RANGE"));
  EXPECT_THAT(waitFor(stream_->readUntil("\n", 100)), HasSubstr("after 4 bytes"));
  EXPECT_EQ("half", waitFor(stream_->readSome()));
}

TEST_P(ByteStreamTest, CancellingAReadLosesNoByte) {
  openStream();
  {
    Future<Buffer> read = stream_->readExactly(4);
    far_->write("ab");
    settle();
    read.cancel();
    settle();
    EXPECT_TRUE(absl::IsCancelled(read.result().status()));
  }
  {
    Future<Buffer> dropped = stream_->readExactly(4);
  }
  settle();
  far_->write("cd");
  EXPECT_EQ("abcd", waitFor(stream_->readExactly(4)));
}

TEST_P(ByteStreamTest, OneReadAtATime) {
  openStream();
  Future<Buffer> first = stream_->readSome();
  EXPECT_THAT(waitFor(stream_->readSome()), HasSubstr("FAILED_PRECONDITION"));
  far_->write("x");
  EXPECT_EQ("x", waitFor(std::move(first)));
}

TEST_P(ByteStreamTest, ReadsNoFurtherAheadThanItMay) {
  openStream({}, {.read_ahead = 1000});
  far_->write(std::string(1'000'000, 'x'));
  settle();
  EXPECT_LT(stream_->connection().counters().bytes_received, 200'000U);
  std::size_t all = 0;
  while (all < 1'000'000) {
    const std::string some = waitFor(stream_->readSome());
    ASSERT_FALSE(some.empty());
    all += some.size();
  }
  EXPECT_EQ(1'000'000U, all);
}

TEST_P(ByteStreamTest, AReadThatWantsMoreThanMayBeReadAheadGetsIt) {
  openStream({}, {.read_ahead = 10});
  far_->write(std::string(500'000, 'x'));
  EXPECT_EQ(500'000U, waitFor(stream_->readExactly(500'000)).size());
}

TEST_P(ByteStreamTest, AWriteWaitsUntilThereIsRoom) {
  openStream({.write_limit = 1U << 26});
  ReadPause pause = far_->pauseReading();
  std::string bytes;
  bytes.resize(20'000'000, 'x');
  Future<void> write = stream_->write(bytes);
  settle();
  ASSERT_FALSE(write.isReady());
  Future<void> second = stream_->write("y");
  ASSERT_TRUE(second.isReady());
  EXPECT_TRUE(absl::IsFailedPrecondition(second.result().status()));
  pause.resume();
  ASSERT_TRUE(runUntil([&] { return write.isReady(); }));
  EXPECT_FALSE(write.result().failed());
  ASSERT_TRUE(runUntil([&] { return far_end_.received.size() == bytes.size(); }));
}

TEST_P(ByteStreamTest, AResetIsToldAfterWhatHadCome) {
  openStream();
  far_->write("before");
  settle();
  ASSERT_TRUE(runUntil([&] { return stream_->connection().counters().bytes_received == 6; }));
  far_->abort();
  ASSERT_TRUE(runUntil([&] { return far_end_.closes == 1; }));
  settle();
  EXPECT_EQ("before", waitFor(stream_->readSome()));
  const std::string next = waitFor(stream_->readSome());
  if (knowsResets()) {
    EXPECT_THAT(next, HasSubstr("reset"));
  }
}

TEST_P(ByteStreamTest, CloseIsDoneWhenTheConnectionIsOver) {
  openStream();
  Future<void> written = stream_->write("bye");
  EXPECT_TRUE(written.isReady());
  far_end_.on_end = [&] { far_->close(); };
  Future<void> closed = stream_->close();
  ASSERT_TRUE(runUntil([&] { return closed.isReady(); }));
  EXPECT_FALSE(closed.result().failed());
  ASSERT_TRUE(runUntil([&] { return far_end_.closes == 1; }));
  EXPECT_EQ("bye", far_end_.received);
  EXPECT_THAT(waitFor(stream_->readSome()), HasSubstr("CANCELLED"));
  EXPECT_TRUE(stream_->close().isReady());
}

TEST_P(ByteStreamTest, DestroyedItAbortsAndWhoWaitsIsCancelled) {
  openStream();
  Future<Buffer> read = stream_->readSome();
  far_end_.on_end = [&] { far_->close(); };
  stream_.reset();
  ASSERT_TRUE(runUntil([&] { return read.isReady(); }));
  EXPECT_TRUE(absl::IsCancelled(read.result().status()));
  ASSERT_TRUE(runUntil([&] { return far_end_.closes == 1; }));
  if (knowsResets()) {
    EXPECT_EQ(EndReason::Reset, far_end_.closed->reason);
  }
}

Future<int> echoLines(ByteStream stream) {
  int lines = 0;
  for (;;) {
    Future<Buffer> reading = stream.readUntil("\n", 1000);
    const Buffer line = co_await std::move(reading);
    if (line.empty()) {
      break;
    }
    ++lines;
    Future<void> writing = stream.write(line.toString());
    co_await std::move(writing);
  }
  Future<void> closing = stream.close();
  co_await std::move(closing);
  co_return lines;
}

TEST_P(ByteStreamTest, ACoroutineServesLines) {
  open();
  far_->start(far_end_);
  Future<int> served = echoLines(ByteStream(std::move(near_)));
  std::string expected;
  for (int i = 0; i < 100; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    expected += line;
    far_->write(line);
  }
  far_->shutdownWrite();
  ASSERT_TRUE(runUntil([&] { return served.isReady() && far_end_.ends == 1; }));
  EXPECT_EQ(100, served.result().value());
  EXPECT_EQ(expected, far_end_.received);
}

TEST_P(ByteStreamTest, ACancelledCoroutineEndsItsConnection) {
  open();
  far_->start(far_end_);
  Future<int> served = echoLines(ByteStream(std::move(near_)));
  settle();
  served.cancel();
  ASSERT_TRUE(runUntil([&] { return served.isReady(); }));
  far_end_.on_end = [&] { far_->close(); };
  ASSERT_TRUE(runUntil([&] { return far_end_.closes == 1; }));
}

TEST_P(ByteStreamTest, ADispatcherThatShutsDownEndsIt) {
  open();
  far_->start(far_end_);
  Future<int> served = echoLines(ByteStream(std::move(near_)));
  settle();
  far_->abort();
  far_.reset();
  dispatcher_->shutdown();
}

INSTANTIATE_TEST_SUITE_P(Media, ByteStreamTest,
                         ::testing::Values(Medium::Tcp, Medium::Unix, Medium::Memory, Medium::FaultyMemory,
                                           Medium::DelayedMemory),
                         [](const auto& medium) { return nameOf(medium.param); });

}  // namespace
}  // namespace nuncio::network::test
