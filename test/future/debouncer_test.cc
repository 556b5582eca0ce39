#include "nuncio/future/debouncer.h"

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "test/future/primitive_fixture.h"
#include "test/test_support/contract.h"
#include "test/test_support/log_capture.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

class DebouncerTest : public PrimitiveTest {
protected:
  using Times = std::vector<std::chrono::milliseconds>;

  void make(DebouncerOptions options = {}, std::chrono::nanoseconds quiet = 10ms) {
    debouncer_.emplace(*dispatcher_, quiet, [this] { calls_.push_back(now()); }, options);
  }
  // Requests so many times, `apart` from each other; the last one is now.
  void request(int times, std::chrono::milliseconds apart) {
    for (int i = 0; i < times; ++i) {
      if (i > 0) {
        advance(apart);
      }
      debouncer_->request();
    }
  }
  void advance(std::chrono::milliseconds duration) { time_.advanceTimeAndRun(duration); }
  std::chrono::milliseconds now() const {
    return std::chrono::duration_cast<std::chrono::milliseconds>(time_.monotonicTime() - start_);
  }

  const MonotonicTime start_ = time_.monotonicTime();
  std::optional<Debouncer> debouncer_;
  Times calls_;  // when it called
};

TEST_F(DebouncerTest, CallsOnceAfterThingsWereQuiet) {
  make();
  request(5, 9ms);
  EXPECT_TRUE(debouncer_->pending());
  advance(9ms);
  EXPECT_THAT(calls_, IsEmpty());
  advance(1ms);
  EXPECT_THAT(calls_, ElementsAre(46ms));
  EXPECT_FALSE(debouncer_->pending());
  advance(1s);
  EXPECT_EQ(1u, calls_.size());
}

TEST_F(DebouncerTest, CallsAgainForTheNextBurst) {
  make();
  request(2, 5ms);
  advance(10ms);
  request(2, 5ms);
  advance(10ms);
  EXPECT_THAT(calls_, ElementsAre(15ms, 30ms));
}

TEST_F(DebouncerTest, AQuietOfZeroCallsInTheNextIteration) {
  make({}, 0ms);
  debouncer_->request();
  debouncer_->request();
  EXPECT_THAT(calls_, IsEmpty());
  advance(0ms);
  EXPECT_EQ(1u, calls_.size());
}

TEST_F(DebouncerTest, LeadingCallsAtTheFirstRequestAndOnceMoreForThoseThatFollow) {
  make({.leading = true});
  request(1, 0ms);
  EXPECT_THAT(calls_, ElementsAre(0ms));
  EXPECT_FALSE(debouncer_->pending());
  advance(5ms);
  request(2, 5ms);
  advance(10ms);
  EXPECT_THAT(calls_, ElementsAre(0ms, 20ms));
}

TEST_F(DebouncerTest, ALoneRequestWithLeadingIsAnsweredOnce) {
  make({.leading = true});
  request(1, 0ms);
  advance(1s);
  request(1, 0ms);
  EXPECT_THAT(calls_, ElementsAre(0ms, 1s));
}

TEST_F(DebouncerTest, NoRequestWaitsLongerThanTheMaximumDelay) {
  make({.max_delay = 25ms});
  request(8, 5ms);  // 0 to 35 ms
  EXPECT_THAT(calls_, ElementsAre(25ms));
  advance(10ms);
  EXPECT_THAT(calls_, ElementsAre(25ms, 45ms));
}

TEST_F(DebouncerTest, TheMaximumDelayCountsFromTheFirstRequestThatWasNotAnswered) {
  make({.max_delay = 25ms});
  request(40, 1ms);  // 0 to 39 ms; those before 25 ms are answered then, the first one after that is made at 25 ms
  advance(9ms);
  request(8, 2ms);  // 48 to 62 ms
  advance(100ms);
  EXPECT_THAT(calls_, ElementsAre(25ms, 50ms, 72ms));
}

TEST_F(DebouncerTest, AMaximumDelayBelowTheQuietIsAllThatCounts) {
  make({.max_delay = 4ms});
  request(1, 0ms);
  advance(4ms);
  EXPECT_THAT(calls_, ElementsAre(4ms));
  advance(100ms);
  EXPECT_EQ(1u, calls_.size());
}

TEST_F(DebouncerTest, LeadingWithAMaximumDelayAnswersALongBurstNowAndThen) {
  make({.leading = true, .max_delay = 20ms});
  request(10,
          5ms);  // 0 to 45 ms: the first at once, that of 5 ms by 25 ms, that of 25 ms by 45 ms, the last when quiet
  advance(100ms);
  EXPECT_THAT(calls_, ElementsAre(0ms, 25ms, 45ms, 55ms));
}

TEST_F(DebouncerTest, FlushMakesTheCallThatIsDue) {
  make({.max_delay = 50ms});
  debouncer_->flush();
  EXPECT_THAT(calls_, IsEmpty());
  request(2, 5ms);
  debouncer_->flush();
  EXPECT_THAT(calls_, ElementsAre(5ms));
  advance(1s);
  EXPECT_EQ(1u, calls_.size());
}

TEST_F(DebouncerTest, CancelForgetsWhatWasRequested) {
  make({.max_delay = 50ms});
  request(2, 5ms);
  debouncer_->cancel();
  EXPECT_FALSE(debouncer_->pending());
  advance(1s);
  EXPECT_THAT(calls_, IsEmpty());
  request(1, 0ms);
  advance(10ms);
  EXPECT_EQ(1u, calls_.size());
}

TEST_F(DebouncerTest, AfterACancelTheNextRequestLeads) {
  make({.leading = true});
  request(2, 1ms);
  debouncer_->cancel();
  request(1, 0ms);
  EXPECT_THAT(calls_, ElementsAre(0ms, 1ms));
}

TEST_F(DebouncerTest, DestroyingItForgetsWhatWasRequested) {
  make({.max_delay = 50ms});
  request(1, 0ms);
  debouncer_.reset();
  advance(1s);
  EXPECT_THAT(calls_, IsEmpty());
}

TEST_F(DebouncerTest, WhatTheFunctionRequestsIsForALaterCall) {
  for (const bool leading : {false, true}) {
    int calls = 0;
    int depth = 0;
    std::optional<Debouncer> debouncer;
    debouncer.emplace(
        *dispatcher_, 10ms,
        [&] {
          EXPECT_EQ(0, depth++);
          if (++calls < 3) {
            debouncer->request();
            debouncer->flush();
          }
          --depth;
        },
        DebouncerOptions{.leading = leading});
    debouncer->request();
    EXPECT_EQ(leading ? 1 : 0, calls);
    advance(100ms);
    EXPECT_EQ(3, calls);
  }
}

TEST_F(DebouncerTest, TheFunctionMayDestroyIt) {
  for (const bool leading : {false, true}) {
    auto held = std::make_shared<int>(1);
    std::optional<Debouncer> debouncer;
    debouncer.emplace(
        *dispatcher_, 10ms,
        [&debouncer, held] {
          debouncer.reset();
          EXPECT_EQ(2, held.use_count()) << "it is there until it returns";
        },
        DebouncerOptions{.leading = leading, .max_delay = 10ms});
    debouncer->request();
    advance(10ms);
    EXPECT_FALSE(debouncer.has_value());
    EXPECT_EQ(1, held.use_count());
  }
}

TEST_F(DebouncerTest, AnExceptionOfTheFunctionLeavesItUsable) {
  const LogCapture log(LogLayer::Event);
  int calls = 0;
  Debouncer debouncer(*dispatcher_, 10ms,
                      [&calls] {
                        ++calls;
                        throw std::runtime_error("thrown");
                      },
                      {.leading = true});
  EXPECT_THROW(debouncer.request(), std::runtime_error);
  debouncer.request();
  advance(10ms);
  EXPECT_EQ(2, calls);
  EXPECT_TRUE(log.contains("thrown")) << log.text();
  EXPECT_THROW(debouncer.request(), std::runtime_error);
}

TEST_F(DebouncerTest, ShutdownOfTheDispatcherForgetsWhatWasRequested) {
  make({.leading = true, .max_delay = 50ms});
  request(2, 1ms);
  dispatcher_->shutdown();
  debouncer_->request();
  EXPECT_THAT(calls_, ElementsAre(0ms));
  dispatcher_.reset();
  debouncer_->request();
  debouncer_.reset();
  EXPECT_EQ(1u, calls_.size());
}

TEST_F(DebouncerTest, ImpossibleOnesAreRefused) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_CONTRACT_VIOLATION(Debouncer(*dispatcher_, -1ms, [] {}).request(), testing::HasSubstr("negative duration"));
  EXPECT_CONTRACT_VIOLATION(Debouncer(*dispatcher_, 1ms, [] {}, {.max_delay = -1ms}).request(),
                            testing::HasSubstr("negative duration"));
  EXPECT_CONTRACT_VIOLATION(Debouncer(*dispatcher_, 1ms, nullptr).request(),
                            testing::HasSubstr("the function is null"));
}

#ifndef NDEBUG  // undefined in a release build
TEST_F(DebouncerTest, UseOnAnotherThreadIsCaughtInDebugBuilds) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  make();
  EXPECT_DEATH(std::thread([this] { debouncer_->request(); }).join(), "Debouncer::request");
}
#endif

}  // namespace
}  // namespace nuncio::test
