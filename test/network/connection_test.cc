// What a connection promises, over sockets and over pairs in memory alike.

#include "nuncio/network/connection.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "test/network/connection_pair.h"
#include "test/test_support/contract.h"
#include "test/test_support/log_capture.h"

namespace nuncio::network::test {
namespace {

using namespace std::chrono_literals;
using ::nuncio::test::LogCapture;
using ::testing::HasSubstr;

class ConnectionTest : public ConnectionPairTest {};

std::string manyBytes(std::size_t size) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>('a' + i * 7 % 26 + i / 4096 % 3);
  }
  return bytes;
}

// --- Data

TEST_P(ConnectionTest, CarriesBytesBothWays) {
  openAndStart();
  EXPECT_TRUE(near_->write("ping"));
  EXPECT_TRUE(far_->write("pong"));
  ASSERT_TRUE(runUntil([&] { return far_end_.received == "ping" && near_end_.received == "pong"; }));
  EXPECT_EQ(4U, near_->counters().bytes_sent);
  EXPECT_EQ(4U, near_->counters().bytes_received);
  EXPECT_EQ(0U, near_->unsent());
}

TEST_P(ConnectionTest, WritesArriveInOrderHoweverTheyAreMade) {
  openAndStart();
  std::string expected;
  for (int i = 0; i < 500; ++i) {
    const std::string text = std::to_string(i) + ",";
    expected += text;
    if (i % 3 == 0) {
      Buffer buffer(text);
      EXPECT_TRUE(near_->write(buffer));
      EXPECT_TRUE(buffer.empty());
    } else {
      EXPECT_TRUE(near_->write(text));
    }
    if (i % 50 == 0) {
      settle();
    }
  }
  ASSERT_TRUE(runUntil([&] { return far_end_.received.size() == expected.size(); }));
  EXPECT_EQ(expected, far_end_.received);
}

TEST_P(ConnectionTest, MegabytesArriveAsTheyWere) {
  openAndStart({.write_limit = 1U << 24});
  const std::string bytes = manyBytes(5'000'000);
  EXPECT_TRUE(near_->write(bytes));
  ASSERT_TRUE(runUntil([&] { return far_end_.received.size() == bytes.size(); }));
  EXPECT_TRUE(bytes == far_end_.received);
}

TEST_P(ConnectionTest, AnEmptyWriteDoesNothing) {
  openAndStart();
  EXPECT_TRUE(near_->write(""));
  Buffer empty;
  EXPECT_TRUE(near_->write(empty));
  settle();
  EXPECT_EQ(0, far_end_.data_calls);
}

TEST_P(ConnectionTest, ReadsNothingBeforeItIsStarted) {
  open();
  EXPECT_TRUE(near_->write("early"));
  settle();
  far_->start(far_end_);
  ASSERT_TRUE(runUntil([&] { return far_end_.received == "early"; }));
}

TEST_P(ConnectionTest, WhatOnDataLeavesIsThereAgainInFront) {
  openAndStart();
  std::vector<std::string> seen;
  far_end_.on_data = [&](Buffer& data) {
    seen.push_back(data.toString());
    if (data.length() >= 6) {
      data.drain(4);
    }
  };
  near_->write("abc");
  ASSERT_TRUE(runUntil([&] { return !seen.empty() && seen.back() == "abc"; }));
  near_->write("defg");
  ASSERT_TRUE(runUntil([&] { return seen.back() == "abcdefg" || seen.back() == "efg"; }));
  near_->write("h");
  ASSERT_TRUE(runUntil([&] { return seen.back().back() == 'h'; }));
  EXPECT_EQ("efgh", seen.back());
}

TEST_P(ConnectionTest, ReadAgainShowsWhatWasLeft) {
  openAndStart();
  bool take = false;
  far_end_.on_data = [&](Buffer& data) {
    if (take) {
      far_end_.received += data.toString();
      data.clear();
    }
  };
  near_->write("left");
  ASSERT_TRUE(runUntil([&] { return far_end_.data_calls != 0 && far_->counters().bytes_received == 4; }));
  take = true;
  far_->readAgain();
  EXPECT_EQ("", far_end_.received);  // not from inside the call
  ASSERT_TRUE(runUntil([&] { return far_end_.received == "left"; }));
}

TEST_P(ConnectionTest, StopsReadingAboveTheLimitAndGoesOnAtHalf) {
  openAndStart({.write_limit = 1U << 24}, {.read_limit = 1000});
  far_end_.on_data = [](Buffer&) {};
  near_->write(std::string(1000, 'x'));
  ASSERT_TRUE(runUntil([&] { return far_->counters().bytes_received == 1000; }));
  near_->write("y");  // exactly at the limit it reads on
  ASSERT_TRUE(runUntil([&] { return far_->counters().bytes_received == 1001; }));
  near_->write(std::string(1000, 'z'));
  settle();
  EXPECT_EQ(1001U, far_->counters().bytes_received);
  far_end_.on_data = [](Buffer& data) { data.drain(data.length() > 600 ? 400 : 0); };
  far_->readAgain();
  settle();
  EXPECT_EQ(1001U, far_->counters().bytes_received);  // 601 are left
  far_end_.on_data = [](Buffer& data) { data.drain(data.length() > 500 ? data.length() - 500 : 0); };
  far_->readAgain();
  ASSERT_TRUE(runUntil([&] { return far_->counters().bytes_received == 2001; }));
}

// --- Pauses

TEST_P(ConnectionTest, PausesNest) {
  openAndStart();
  ReadPause first = far_->pauseReading();
  ReadPause second = far_->pauseReading();
  near_->write("held");
  settle();
  first.resume();
  first.resume();
  settle();
  EXPECT_EQ(0, far_end_.data_calls);
  second.resume();
  ASSERT_TRUE(runUntil([&] { return far_end_.received == "held"; }));
}

TEST_P(ConnectionTest, APauseInOnDataHoldsTheRest) {
  openAndStart({.write_limit = 1U << 24});
  ReadPause pause;
  far_end_.on_data = [&](Buffer& data) {
    far_end_.received += data.toString();
    data.clear();
    pause = far_->pauseReading();
  };
  const std::string bytes = manyBytes(600'000);
  near_->write(bytes);
  ASSERT_TRUE(runUntil([&] { return far_end_.data_calls == 1; }));
  settle();
  EXPECT_EQ(1, far_end_.data_calls);
  while (far_end_.received.size() < bytes.size()) {
    const int before = far_end_.data_calls;
    pause.resume();
    ASSERT_TRUE(runUntil([&] { return far_end_.data_calls > before; }));
  }
  EXPECT_TRUE(bytes == far_end_.received);
}

TEST_P(ConnectionTest, APauseOfAConnectionThatIsClosedOrGoneIsHarmless) {
  openAndStart();
  ReadPause one = far_->pauseReading();
  ReadPause other = far_->pauseReading();
  far_->close(CloseKind::Now);
  one.resume();
  ASSERT_TRUE(runUntil([&] { return far_end_.closes == 1; }));
  far_.reset();
  other.resume();
}

// --- Ends

TEST_P(ConnectionTest, CloseSendsAllThenTheEnd) {
  openAndStart({.write_limit = 1U << 24});
  far_end_.on_end = [&] { far_->close(); };
  const std::string bytes = manyBytes(3'000'000);
  near_->write(bytes);
  near_->close();
  EXPECT_EQ(0, near_end_.closes);  // not from inside the call
  EXPECT_FALSE(near_->write("too late"));
  ASSERT_TRUE(runUntil([&] { return near_end_.closes == 1 && far_end_.closes == 1; }));
  EXPECT_TRUE(bytes == far_end_.received);
  EXPECT_EQ(1, far_end_.ends);
  EXPECT_EQ(EndReason::Local, near_end_.closed->reason);
  EXPECT_TRUE(near_end_.closed->status.ok());
  EXPECT_EQ(0U, near_end_.closed->unsent);
  EXPECT_EQ(EndReason::Local, far_end_.closed->reason);
}

// With unread input a close(2) would be an RST that throws away what was sent.
TEST_P(ConnectionTest, CloseLosesNothingThoughThePeerGoesOnSending) {
  openAndStart({.write_limit = 1U << 24, .close_discard_limit = 1U << 24}, {.write_limit = 1U << 24});
  const std::string bytes = manyBytes(3'900'000);
  far_->write(std::string(1'000'000, 'u'));
  near_end_.on_data = [](Buffer&) {};
  near_->write(bytes);
  near_->close();
  far_end_.on_data = [&](Buffer& data) {
    far_end_.received += data.toString();
    data.clear();
    far_->write("more");
  };
  far_end_.on_end = [&] { far_->close(); };
  ASSERT_TRUE(runUntil([&] { return far_end_.ends == 1 && near_end_.closes == 1; }))
      << "received " << far_end_.received.size() << ", ends " << far_end_.ends << ", far closed "
      << (far_end_.closed ? far_end_.closed->status.ToString() : "no") << ", near closed "
      << (near_end_.closed ? near_end_.closed->status.ToString() : "no") << ", unsent " << near_->unsent();
  EXPECT_TRUE(bytes == far_end_.received);
}

TEST_P(ConnectionTest, EndsWithFinWhenBothSidesHaveEnded) {
  openAndStart();
  near_->write("last");
  near_->shutdownWrite();
  near_->shutdownWrite();
  EXPECT_FALSE(near_->write("no more"));
  ASSERT_TRUE(runUntil([&] { return far_end_.ends == 1; }));
  EXPECT_EQ("last", far_end_.received);
  EXPECT_EQ(0, far_end_.closes + near_end_.closes);
  EXPECT_TRUE(far_->write("an answer after the end"));
  ASSERT_TRUE(runUntil([&] { return near_end_.received == "an answer after the end"; }));
  far_->shutdownWrite();
  ASSERT_TRUE(runUntil([&] { return far_end_.closes == 1 && near_end_.closes == 1; }));
  EXPECT_EQ(EndReason::Fin, near_end_.closed->reason);
  EXPECT_EQ(EndReason::Fin, far_end_.closed->reason);
  EXPECT_EQ(1, near_end_.ends);
}

TEST_P(ConnectionTest, AllDataComesBeforeTheEnd) {
  openAndStart({.write_limit = 1U << 24});
  const std::string bytes = manyBytes(1'000'000);
  far_end_.on_end = [&] { EXPECT_EQ(bytes.size(), far_end_.received.size()); };
  near_->write(bytes);
  near_->shutdownWrite();
  ASSERT_TRUE(runUntil([&] { return far_end_.ends == 1; }));
}

TEST_P(ConnectionTest, NoDataIsCalledBackAfterClose) {
  openAndStart();
  near_->write("unwanted");
  far_->close();
  ASSERT_TRUE(runUntil([&] { return far_end_.closes == 1; }));
  EXPECT_EQ(0, far_end_.data_calls);
  EXPECT_EQ(0, far_end_.ends);
}

TEST_P(ConnectionTest, AbortIsAResetForThePeer) {
  openAndStart();
  near_->write("sent before");
  ASSERT_TRUE(runUntil([&] { return !far_end_.received.empty(); }));
  near_->abort();
  EXPECT_EQ(Connection::State::Closed, near_->state());
  EXPECT_EQ(0, near_end_.closes);  // not from inside the call
  far_end_.on_end = [&] { far_->close(); };
  ASSERT_TRUE(runUntil([&] { return near_end_.closes == 1 && far_end_.closes == 1; }));
  EXPECT_EQ(EndReason::Local, near_end_.closed->reason);
  if (knowsResets()) {
    EXPECT_EQ(EndReason::Reset, far_end_.closed->reason);
    EXPECT_FALSE(far_end_.closed->status.ok());
    EXPECT_EQ(0, far_end_.ends);
  }
}

// The kernel reports data and reset at once, and no more after that.
TEST_P(ConnectionTest, AResetThatComesTogetherWithDataIsNoticed) {
  openAndStart();
  settle();
  near_->write("the last");
  near_->abort();
  dispatcher_->deferredDelete(std::move(near_));
  dispatcher_->clearDeferredDeleteList();  // before the far side has its turn
  far_end_.on_end = [&] { far_->close(); };
  ASSERT_TRUE(runUntil([&] { return far_end_.closes == 1; }));
  if (knowsResets()) {
    EXPECT_EQ(EndReason::Reset, far_end_.closed->reason);
  }
  if (GetParam() != Medium::DelayedMemory) {
    EXPECT_EQ("the last", far_end_.received);
  }
}

TEST_P(ConnectionTest, WritingToAPeerThatIsGoneEndsWithReset) {
  openAndStart();
  far_->close(CloseKind::Now);
  near_end_.on_end = [] {};
  ASSERT_TRUE(runUntil([&] { return far_end_.closes == 1 && near_end_.ends == 1; }));
  near_->write("nobody is there");
  ASSERT_TRUE(runUntil([&] {
    near_->write("still nobody");
    return near_end_.closes == 1;
  }));
  EXPECT_EQ(EndReason::Reset, near_end_.closed->reason);
  EXPECT_FALSE(near_->write("closed"));
}

TEST_P(ConnectionTest, CloseNowDoesNotWaitForThePeer) {
  openAndStart({.write_limit = 1U << 24});
  ReadPause pause = far_->pauseReading();
  near_->write(std::string(8'000'000, 'x'));
  near_->close(CloseKind::Now);
  dispatcher_->run(RunType::NonBlock);
  dispatcher_->run(RunType::NonBlock);
  ASSERT_EQ(1, near_end_.closes);
  EXPECT_EQ(EndReason::Local, near_end_.closed->reason);
  EXPECT_GT(near_end_.closed->unsent, 0U);
  pause.resume();
}

TEST_P(ConnectionTest, CloseTwiceIsCloseOnce) {
  openAndStart();
  near_->close();
  near_->close(CloseKind::FlushAndWait);
  near_->close(CloseKind::Now);
  near_->abort();
  settle();
  EXPECT_EQ(1, near_end_.closes);
  near_->close();
  settle();
  EXPECT_EQ(1, near_end_.closes);
}

TEST_P(ConnectionTest, MayBeGivenToDeferredDeletionInEachCallback) {
  for (const char* const when : {"data", "end", "closed"}) {
    openAndStart();
    Recorder& recorder = far_end_;
    recorder = Recorder();
    near_end_ = Recorder();
    const auto give_away = [&] {
      if (far_ == nullptr) {
        return;  // it is told of its end before it goes
      }
      if (far_->state() != Connection::State::Closed) {
        far_->abort();
      }
      dispatcher_->deferredDelete(std::move(far_));
    };
    recorder.on_data = [&](Buffer& data) {
      data.clear();
      if (when == std::string("data")) {
        give_away();
      }
    };
    recorder.on_end = [&] {
      if (when == std::string("end")) {
        give_away();
      } else {
        far_->close();
      }
    };
    recorder.on_closed = give_away;
    near_->write("some");
    near_->shutdownWrite();
    ASSERT_TRUE(runUntil([&] { return far_ == nullptr; })) << when;
    near_->abort();
    settle();
    near_.reset();
  }
}

TEST_P(ConnectionTest, AnUnusedOneMayBeDestroyed) {
  open();
  far_.reset();
  near_->start(near_end_);
  near_end_.on_end = [&] { near_->close(); };
  ASSERT_TRUE(runUntil([&] { return near_end_.closes == 1; }));
}

TEST_P(ConnectionTest, DestroyingOneThatIsOpenBreaksTheContract) {
  openAndStart();
  EXPECT_CONTRACT_VIOLATION(
      {
        dispatcher_->post([&] { far_.reset(); });
        dispatcher_->run(RunType::NonBlock);
        dispatcher_->run(RunType::NonBlock);
      },
      HasSubstr("destroyed while it was open"));
}

TEST_P(ConnectionTest, DestroyingOneInItsCallbackBreaksTheContract) {
  openAndStart();
  far_end_.on_data = [&](Buffer&) {
    far_->abort();
    far_.reset();
  };
  near_->write("x");
  EXPECT_CONTRACT_VIOLATION(runUntil([&] { return far_ == nullptr; }), HasSubstr("deferredDelete"));
}

TEST_P(ConnectionTest, AnExceptionOfACallbackIsLoggedAndItGoesOn) {
  const LogCapture log(LogLayer::Event);
  openAndStart({.write_limit = 1U << 24});
  bool thrown = false;
  far_end_.on_data = [&](Buffer& data) {
    far_end_.received += data.toString();
    data.clear();
    if (!std::exchange(thrown, true)) {
      throw std::runtime_error("oops");
    }
  };
  const std::string bytes = manyBytes(1'000'000);
  near_->write(bytes);
  near_->shutdownWrite();
  ASSERT_TRUE(runUntil([&] { return far_end_.ends == 1; }));
  EXPECT_TRUE(bytes == far_end_.received);
  EXPECT_TRUE(log.contains("oops"));
}

// --- Watermarks

TEST_P(ConnectionTest, WatermarksAreToldOnceEachInTurn) {
  openAndStart({.write_high_watermark = 1000, .write_low_watermark = 100, .write_limit = 1U << 25});
  ReadPause pause = far_->pauseReading();
  // As much as the system takes.
  while (near_->unsent() == 0) {
    ASSERT_TRUE(near_->write(std::string(100'000, 'x')));
  }
  const std::size_t queued = near_->unsent();
  if (queued <= 1000) {
    near_->write(std::string(1000 - queued, 'x'));
    EXPECT_EQ("", near_end_.watermarks);
    near_->write("x");
  }
  EXPECT_EQ("high ", near_end_.watermarks);
  near_->write(std::string(1000, 'x'));
  EXPECT_EQ("high ", near_end_.watermarks);
  pause.resume();
  ASSERT_TRUE(runUntil([&] { return near_->unsent() == 0; }));
  EXPECT_EQ("high low ", near_end_.watermarks);
}

TEST_P(ConnectionTest, BeyondTheLimitOfWritesItEnds) {
  openAndStart({.write_limit = 1'000'000});
  ReadPause pause = far_->pauseReading();
  bool taken = true;
  for (int i = 0; i < 10'000 && taken; ++i) {
    taken = near_->write(std::string(10'000, 'x'));
  }
  EXPECT_FALSE(taken);
  EXPECT_EQ(0, near_end_.closes);  // not from inside the call
  ASSERT_TRUE(runUntil([&] { return near_end_.closes == 1; }));
  EXPECT_EQ(EndReason::Failed, near_end_.closed->reason);
  EXPECT_TRUE(absl::IsResourceExhausted(near_end_.closed->status));
  pause.resume();
}

// --- Options

TEST_P(ConnectionTest, OptionsThatContradictEachOtherAreRefused) {
  auto [one, other] = makeHandles();
  const auto refused = createConnection(*dispatcher_, std::move(one), {.write_high_watermark = 1});
  ASSERT_TRUE(absl::IsInvalidArgument(refused.status()));
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("write_low_watermark"));
  auto [third, fourth] = makeHandles();
  EXPECT_TRUE(absl::IsInvalidArgument(createConnection(*dispatcher_, std::move(third), {.read_limit = 0}).status()));
  auto [fifth, sixth] = makeHandles();
  EXPECT_TRUE(
      absl::IsInvalidArgument(createConnection(*dispatcher_, std::move(fifth), {.idle_timeout = -1ms}).status()));
}

INSTANTIATE_TEST_SUITE_P(Media, ConnectionTest,
                         ::testing::Values(Medium::Tcp, Medium::Unix, Medium::Memory, Medium::FaultyMemory,
                                           Medium::DelayedMemory),
                         [](const auto& medium) { return nameOf(medium.param); });

// --- Time: in memory, where it is simulated

class ConnectionTimeTest : public ConnectionPairTest {};

TEST_P(ConnectionTimeTest, IdleTimeRestartsWithEachByteEitherWay) {
  openAndStart({.idle_timeout = 100ms});
  for (int i = 0; i < 10; ++i) {
    advance(60ms);
    (i % 2 == 0 ? near_ : far_)->write("x");
  }
  advance(60ms);
  EXPECT_EQ(0, near_end_.closes);
  advance(60ms);
  ASSERT_EQ(1, near_end_.closes);
  EXPECT_EQ(EndReason::Timeout, near_end_.closed->reason);
  EXPECT_THAT(std::string(near_end_.closed->status.message()), HasSubstr("idle_timeout"));
}

TEST_P(ConnectionTimeTest, LifetimeEndsItWhateverItDoes) {
  openAndStart({.max_lifetime = 1s});
  for (int i = 0; i < 9; ++i) {
    advance(100ms);
    near_->write("x");
  }
  EXPECT_EQ(0, near_end_.closes);
  advance(101ms);
  ASSERT_EQ(1, near_end_.closes);
  EXPECT_EQ(EndReason::Timeout, near_end_.closed->reason);
}

TEST_P(ConnectionTimeTest, FlushAndWaitEndsAtItsTimeout) {
  openAndStart();
  near_->close(CloseKind::FlushAndWait, 500ms);
  far_end_.on_end = [] {};
  advance(499ms);
  EXPECT_EQ(1, far_end_.ends);
  EXPECT_EQ(0, near_end_.closes);
  advance(2ms);
  ASSERT_EQ(1, near_end_.closes);
  EXPECT_EQ(EndReason::Local, near_end_.closed->reason);
  EXPECT_TRUE(absl::IsDeadlineExceeded(near_end_.closed->status));
}

TEST_P(ConnectionTimeTest, FlushAndWaitEndsWithThePeer) {
  openAndStart();
  near_->close(CloseKind::FlushAndWait);
  far_end_.on_end = [] {};
  advance(1s);
  EXPECT_EQ(0, near_end_.closes);
  far_->close();
  advance(100ms);
  ASSERT_EQ(1, near_end_.closes);
  EXPECT_TRUE(near_end_.closed->status.ok());
}

TEST_P(ConnectionTimeTest, AFlushToAPeerThatDoesNotReadEndsAtItsTimeout) {
  openAndStart({.write_limit = 1U << 24, .close_timeout = 2s});
  const ReadPause pause = far_->pauseReading();
  near_->write(std::string(5'000'000, 'x'));
  near_->close();
  advance(1900ms);
  EXPECT_EQ(0, near_end_.closes);
  advance(200ms);
  ASSERT_EQ(1, near_end_.closes);
  EXPECT_TRUE(absl::IsDeadlineExceeded(near_end_.closed->status));
  EXPECT_GT(near_end_.closed->unsent, 0U);
}

TEST_P(ConnectionTimeTest, NoTimerFiresAfterTheEnd) {
  openAndStart({.idle_timeout = 100ms, .max_lifetime = 200ms});
  near_->close(CloseKind::Now);
  settle();
  ASSERT_EQ(1, near_end_.closes);
  const uint64_t fired = dispatcher_->stats().timers_fired;
  advance(10s);
  EXPECT_EQ(fired, dispatcher_->stats().timers_fired);
  EXPECT_EQ(1, near_end_.closes);
}

TEST_P(ConnectionTimeTest, ACutLinkIsNoticedByIdleTimeAlone) {
  openAndStart({.idle_timeout = 5s});
  link_->cut();
  near_->write("into the void");
  advance(4900ms);
  EXPECT_EQ(0, near_end_.closes);
  EXPECT_EQ("", far_end_.received);
  advance(200ms);
  EXPECT_EQ(1, near_end_.closes);
}

INSTANTIATE_TEST_SUITE_P(Media, ConnectionTimeTest, ::testing::Values(Medium::Memory, Medium::DelayedMemory),
                         [](const auto& medium) { return nameOf(medium.param); });

}  // namespace
}  // namespace nuncio::network::test
