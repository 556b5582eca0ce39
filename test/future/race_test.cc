#include "nuncio/future/race.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/future/any_of.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/time.h"
#include "test/future/loop_fixture.h"
#include "test/future/primitive_fixture.h"

namespace nuncio {
namespace {

using namespace std::chrono_literals;
using test::codeOf;
using test::failedWith;
using test::Inputs;

class RaceTest : public test::LoopFixture {
protected:
  using Item = Race<int>::Item;

  // "index:value" of what a next() gave, "end" or "-" when it is pending.
  static std::string read(Future<std::optional<Item>> next) {
    return next.isReady() ? text(*std::move(next).get()) : "-";
  }
  static std::string text(const std::optional<Item>& item) {
    if (!item.has_value()) {
      return "end";
    }
    const Try<int>& result = item->second;
    return std::to_string(item->first) + ":" +
           (result.hasValue() ? std::to_string(*result) : absl::StatusCodeToString(result.status().code()));
  }
};

TEST_F(RaceTest, GivesResultsInTheOrderInWhichTheyComeAndThenTheEnd) {
  Inputs<int> inputs(*dispatcher_, 3);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures));
  EXPECT_EQ(all.pending(), 3U);
  Future<std::optional<Item>> first = all.next();
  EXPECT_FALSE(first.isReady());
  inputs.promises[2].setValue(12);
  turn();
  EXPECT_EQ(read(std::move(first)), "2:12");
  inputs.promises[0].setValue(10);
  inputs.promises[1].setValue(11);
  turn();
  EXPECT_EQ(read(all.next()), "0:10");
  EXPECT_EQ(read(all.next()), "1:11");
  EXPECT_EQ(read(all.next()), "end");
  EXPECT_EQ(read(all.next()), "end");
}

TEST_F(RaceTest, GivesFailuresAsTheyCome) {
  Inputs<int> inputs(*dispatcher_, 2);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures));
  inputs.promises[1].setStatus(absl::NotFoundError("x"));
  turn();
  EXPECT_EQ(read(all.next()), "1:NOT_FOUND");
  inputs.promises[0].setValue(10);
  turn();
  EXPECT_EQ(read(all.next()), "0:10");
}

TEST_F(RaceTest, WhatComesWhileNobodyReadsIsKept) {
  Inputs<int> inputs(*dispatcher_, 4);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures));
  for (const std::size_t i : {3U, 1U, 0U}) {
    inputs.promises[i].setValue(static_cast<int>(i));
    turn();
  }
  EXPECT_EQ(all.buffered(), 3U);
  EXPECT_EQ(all.pending(), 1U);
  EXPECT_EQ(read(all.next()), "3:3");
  EXPECT_EQ(read(all.next()), "1:1");
  EXPECT_EQ(text(all.tryNext()), "0:0");
  EXPECT_EQ(text(all.tryNext()), "end");
  EXPECT_EQ(read(all.next()), "-");
}

TEST_F(RaceTest, ReadyFuturesComeFirstInTheirOrder) {
  Promise<int> promise;
  Race<int> all = race(*dispatcher_, promise.future(*dispatcher_), makeReadyFuture(1), makeReadyFuture(2));
  promise.setValue(0);
  EXPECT_EQ(read(all.next()), "1:1");
  EXPECT_EQ(read(all.next()), "2:2");
  turn();
  EXPECT_EQ(read(all.next()), "0:0");
}

TEST_F(RaceTest, OfNothingIsAtTheEnd) {
  Race<int> all(*dispatcher_);
  EXPECT_EQ(read(all.next()), "end");
  EXPECT_TRUE(all.wait().isReady());
}

TEST_F(RaceTest, TakesMoreWhileItRunsAndAfterTheEnd) {
  Inputs<int> inputs(*dispatcher_, 3);
  Race<int> all(*dispatcher_);
  EXPECT_TRUE(all.add(std::move(inputs.futures[0])));
  Future<std::optional<Item>> next = all.next();
  EXPECT_TRUE(all.add(std::move(inputs.futures[1])));
  inputs.promises[1].setValue(11);
  turn();
  EXPECT_EQ(read(std::move(next)), "1:11");
  inputs.promises[0].setValue(10);
  turn();
  EXPECT_EQ(read(all.next()), "0:10");
  EXPECT_EQ(read(all.next()), "end");
  EXPECT_TRUE(all.add(std::move(inputs.futures[2])));
  inputs.promises[2].setValue(12);
  turn();
  EXPECT_EQ(read(all.next()), "2:12");
}

TEST_F(RaceTest, SeveralReadersAreServedInTurnAndThoseTooManyGetTheEnd) {
  Inputs<int> inputs(*dispatcher_, 2);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures));
  Future<std::optional<Item>> first = all.next();
  Future<std::optional<Item>> second = all.next();
  Future<std::optional<Item>> third = all.next();
  inputs.promises[1].setValue(11);
  turn();
  EXPECT_FALSE(second.isReady());
  inputs.promises[0].setValue(10);
  turn();
  EXPECT_EQ(read(std::move(first)), "1:11");
  EXPECT_EQ(read(std::move(second)), "0:10");
  EXPECT_EQ(read(std::move(third)), "end");
}

TEST_F(RaceTest, CancellingANextLeavesTheResultToTheOthers) {
  Inputs<int> inputs(*dispatcher_, 1);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures));
  Future<std::optional<Item>> first = all.next();
  Future<std::optional<Item>> second = all.next();
  first.cancel();
  turn();
  EXPECT_TRUE(failedWith(first, absl::StatusCode::kCancelled, ""));
  EXPECT_EQ(inputs.cancelled, std::vector<int>{0});
  inputs.promises[0].setValue(10);
  turn();
  EXPECT_EQ(read(std::move(second)), "0:10");
}

TEST_F(RaceTest, ReadersThatGaveUpAndCameBackMissNothing) {
  Inputs<int> inputs(*dispatcher_, 3);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures));
  Future<std::optional<Item>> impatient = within(all.next(), 5ms);
  advance(5ms);
  EXPECT_EQ(codeOf(impatient), absl::StatusCode::kDeadlineExceeded);
  for (std::size_t i = 0; i < 3; ++i) {
    inputs.promises[i].setValue(static_cast<int>(i));
  }
  turn();
  EXPECT_EQ(read(all.next()), "0:0");
  EXPECT_EQ(read(all.next()), "1:1");
  EXPECT_EQ(read(all.next()), "2:2");
}

TEST_F(RaceTest, WaitTakesNothingAway) {
  Inputs<int> inputs(*dispatcher_, 1);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures));
  Future<void> arrival = all.wait();
  EXPECT_FALSE(arrival.isReady());
  inputs.promises[0].setValue(10);
  turn();
  EXPECT_TRUE(arrival.isReady());
  EXPECT_TRUE(all.wait().isReady());
  EXPECT_EQ(text(all.tryNext()), "0:10");
  EXPECT_TRUE(all.wait().isReady()) << "all have come";
}

TEST_F(RaceTest, AWaitThatLosesLosesNoResult) {
  Inputs<int> inputs(*dispatcher_, 1);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures));
  TimerPtr timer = dispatcher_->createTimer([&] { inputs.promises[0].setValue(10); });
  auto first = anyOf(sleepFor(*dispatcher_, 5ms), all.wait());
  timer->enableHRTimer(5ms);
  advance(5ms);
  ASSERT_TRUE(first.isReady());
  EXPECT_EQ((*first.result()).index(), 0U) << "both were there, and the sleep came first";
  EXPECT_EQ(text(all.tryNext()), "0:10");
}

TEST_F(RaceTest, AResultThatNobodyLookedAtIsReadNext) {
  for (const bool there_before : {true, false}) {
    Inputs<int> inputs(*dispatcher_, 3);
    Race<int> all = race(*dispatcher_, std::move(inputs.futures));
    const auto come = [&] {
      inputs.promises[1].setValue(11);
      inputs.promises[0].setValue(10);
      turn();
    };
    if (there_before) {
      come();
    }
    Future<std::optional<Item>> dropped = all.next();
    auto loser = anyOf(makeReadyFuture(), all.next());
    if (!there_before) {
      come();
    }
    EXPECT_EQ(all.buffered(), 1U);
    dropped = Future<std::optional<Item>>();
    EXPECT_EQ(all.buffered(), 2U);
    EXPECT_TRUE(all.wait().isReady());
    EXPECT_EQ(text(all.tryNext()), "1:11");
    EXPECT_EQ(read(all.next()), "0:10");
    inputs.promises[2].setValue(12);
    turn();
    EXPECT_EQ(read(all.next()), "2:12");
    EXPECT_EQ(read(all.next()), "end");
  }
}

TEST_F(RaceTest, AResultThatComesBackWakesWhoWaits) {
  Inputs<int> inputs(*dispatcher_, 2);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures));
  Future<std::optional<Item>> dropped = all.next();
  inputs.promises[0].setValue(10);
  turn();
  Future<void> arrival = all.wait();
  EXPECT_FALSE(arrival.isReady());
  dropped = Future<std::optional<Item>>();
  EXPECT_TRUE(arrival.isReady());
  Future<std::optional<Item>> again = all.next();
  Future<std::optional<Item>> next = all.next();
  again = Future<std::optional<Item>>();
  EXPECT_EQ(read(std::move(next)), "0:10");
}

TEST_F(RaceTest, AWaitAlsoEndsWhenAReaderHasTakenTheLast) {
  Inputs<int> inputs(*dispatcher_, 1);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures));
  Future<std::optional<Item>> next = all.next();
  Future<void> arrival = all.wait();
  inputs.promises[0].setValue(10);
  turn();
  EXPECT_EQ(read(std::move(next)), "0:10");
  EXPECT_TRUE(arrival.isReady());
}

TEST_F(RaceTest, DestroyingItAsksTheRestToStop) {
  Inputs<int> inputs(*dispatcher_, 3);
  {
    Race<int> all = race(*dispatcher_, std::move(inputs.futures));
    inputs.promises[1].setValue(11);
    turn();
  }
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{1, 0, 1}));
  turn();
}

TEST_F(RaceTest, DestroyingItFreesWhatWasNotReadAndLogsNoFailure) {
  auto value = std::make_shared<int>(1);
  Inputs<std::shared_ptr<int>> inputs(*dispatcher_, 2);
  {
    auto all = race(*dispatcher_, std::move(inputs.futures));
    inputs.promises[0].setValue(value);
    inputs.promises[1].setStatus(absl::DataLossError("not read"));
    turn();
    EXPECT_EQ(value.use_count(), 2);
  }
  EXPECT_EQ(value.use_count(), 1);
}

TEST_F(RaceTest, DestructionFailsThoseThatReadWhenTheRestHasEnded) {
  Promise<int> promise;
  Promise<void> cleanup;
  std::optional<Race<int>> all(std::in_place, *dispatcher_);
  EXPECT_TRUE(all->add(promise.future(*dispatcher_).ensure([&] { return cleanup.future(*dispatcher_); })));
  Future<std::optional<Item>> next = all->next();
  Future<void> arrival = all->wait();
  all.reset();
  turn();
  EXPECT_TRUE(promise.done());
  EXPECT_FALSE(next.isReady());
  cleanup.setValue();
  turn();
  EXPECT_TRUE(failedWith(next, absl::StatusCode::kCancelled, "the race was destroyed"));
  EXPECT_TRUE(failedWith(arrival, absl::StatusCode::kCancelled, "the race was destroyed"));
}

TEST_F(RaceTest, WhatComesAfterItsDestructionIsDestroyed) {
  auto value = std::make_shared<int>(1);
  Promise<std::shared_ptr<int>> promise;
  {
    auto all = race(*dispatcher_, promise.future(*dispatcher_));
    promise.setValue(value);  // on its way
  }
  turn();
  EXPECT_EQ(value.use_count(), 1);
}

TEST_F(RaceTest, AReaderMayDestroyIt) {
  Inputs<int> inputs(*dispatcher_, 2);
  auto all = std::make_unique<Race<int>>(*dispatcher_, std::move(inputs.futures));
  Future<void> reader = all->next().then([&](const std::optional<Item>&) { all.reset(); });
  inputs.promises[0].setValue(10);
  turn();
  EXPECT_TRUE(reader.isReady());
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 1}));
  turn();
}

TEST_F(RaceTest, MayBeMoved) {
  Inputs<int> inputs(*dispatcher_, 2);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures[0]));
  Race<int> moved = std::move(all);
  inputs.promises[0].setValue(10);
  turn();
  EXPECT_EQ(read(moved.next()), "0:10");
  moved = race(*dispatcher_, std::move(inputs.futures[1]));
  inputs.promises[1].setValue(11);
  turn();
  EXPECT_EQ(read(moved.next()), "0:11");
}

TEST_F(RaceTest, OfFuturesOfNothingAndOfMoveOnlyValues) {
  Inputs<void> nothing(*dispatcher_, 2);
  Race<void> signals = race(*dispatcher_, std::move(nothing.futures));
  nothing.promises[1].setValue();
  Race<std::unique_ptr<int>> pointers = race(*dispatcher_, makeReadyFuture(std::make_unique<int>(7)));
  turn();
  std::optional<Race<void>::Item> signal = signals.tryNext();
  ASSERT_TRUE(signal.has_value());
  EXPECT_EQ(signal->first, 1U);
  std::optional<Race<std::unique_ptr<int>>::Item> pointer = pointers.tryNext();
  ASSERT_TRUE(pointer.has_value());
  EXPECT_EQ(**pointer->second, 7);
}

TEST_F(RaceTest, ShutdownOfTheDispatcherEndsIt) {
  Inputs<int> inputs(*dispatcher_, 2);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures));
  Future<std::optional<Item>> next = all.next();
  dispatcher_->shutdown();
  EXPECT_TRUE(failedWith(next, absl::StatusCode::kCancelled, "shut down"));
  EXPECT_EQ(text(all.tryNext()), "0:CANCELLED");
  EXPECT_EQ(text(all.tryNext()), "1:CANCELLED");
  EXPECT_EQ(read(all.next()), "end");
}

TEST_F(RaceTest, MayOutliveTheDispatcher) {
  Inputs<int> inputs(*dispatcher_, 2);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures[0]));
  DispatcherPtr gone = createDispatcher({.name = "gone", .time_system = &time_});
  Race<int> orphan(*gone);
  gone.reset();
  EXPECT_TRUE(orphan.add(std::move(inputs.futures[1])));
  inputs.promises[1].setValue(11);
  turn();
  EXPECT_EQ(text(orphan.tryNext()), "0:CANCELLED");
}

TEST_F(RaceTest, BringsTheFuturesOfOtherDispatchersHome) {
  DispatcherPtr other = createDispatcher({.name = "other", .time_system = &time_});
  Promise<int> promise;
  Race<int> all = race(*dispatcher_, promise.future(*other));
  promise.setValue(3);
  for (int i = 0; i < 3; ++i) {
    other->run(RunType::NonBlock);
    turn();
  }
  EXPECT_EQ(read(all.next()), "0:3");
}

Future<std::string> readAll(Dispatcher& dispatcher, std::vector<Future<int>> futures) {
  Race<int> all = race(dispatcher, std::move(futures));
  std::string seen;
  for (;;) {
    Future<std::optional<Race<int>::Item>> next = all.next();
    const std::optional<Race<int>::Item> item = co_await std::move(next);
    if (!item.has_value()) {
      co_return seen;
    }
    seen += std::to_string(item->first);
  }
}

TEST_F(RaceTest, ACoroutineReadsInTheOrderOfTheirTimes) {
  std::vector<Future<int>> futures;
  for (const int milliseconds : {3, 1, 2, 0}) {
    futures.push_back(sleepFor(*dispatcher_, std::chrono::milliseconds(milliseconds)).then([] { return 1; }));
  }
  Future<std::string> seen = readAll(*dispatcher_, std::move(futures));
  advance(10ms);
  ASSERT_TRUE(seen.isReady());
  EXPECT_EQ(*seen.result(), "3120");
}

TEST_F(RaceTest, CancellingTheCoroutineStopsTheRest) {
  Inputs<int> inputs(*dispatcher_, 2);
  Future<std::string> seen = readAll(*dispatcher_, std::move(inputs.futures));
  inputs.promises[0].setValue(1);
  turn();
  seen.cancel();
  turn();
  EXPECT_EQ(inputs.cancelled, (std::vector<int>{0, 1}));
  EXPECT_EQ(codeOf(seen), absl::StatusCode::kCancelled);
}

TEST_F(RaceTest, ManyComeAndAreReadWithBoundedStack) {
  Inputs<int> inputs(*dispatcher_, test::kMany);
  Race<int> all = race(*dispatcher_, std::move(inputs.futures));
  for (int i = test::kMany - 1; i >= 0; --i) {
    inputs.promises[static_cast<std::size_t>(i)].setValue(i);
  }
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(all.buffered(), static_cast<std::size_t>(test::kMany));
  for (int i = test::kMany - 1; i >= 0; --i) {
    std::optional<Item> item = all.tryNext();
    ASSERT_TRUE(item.has_value());
    ASSERT_EQ(*item->second, i);
  }
}

TEST_F(RaceTest, NoResultIsLostOrGivenTwiceWhateverReadersDo) {
  const uint64_t seed = test::testSeed();
  SCOPED_TRACE(testing::Message() << "NUNCIO_TEST_SEED=" << seed);
  std::mt19937_64 random(seed);
  Race<int> all(*dispatcher_);
  std::vector<Promise<int>> promises;
  std::vector<std::size_t> open;      // indices that have not come
  std::vector<std::size_t> expected;  // in the order in which they came
  std::vector<std::size_t> seen;
  std::vector<Future<void>> readers;
  for (int step = 0; step < 5'000; ++step) {
    switch (random() % 5) {
      case 0:
        open.push_back(promises.size());
        promises.emplace_back();
        ASSERT_TRUE(all.add(promises.back().future(*dispatcher_)));
        break;
      case 1:
        if (!open.empty()) {
          std::swap(open[random() % open.size()], open.back());
          expected.push_back(open.back());
          promises[open.back()].setValue(0);
          open.pop_back();
        }
        break;
      case 2:
        readers.push_back(all.next().then([&seen](const std::optional<Item>& item) {
          if (item.has_value()) {
            seen.push_back(item->first);
          }
        }));
        break;
      case 3:
        if (!readers.empty()) {
          readers[random() % readers.size()].cancel();
        }
        break;
      default:
        if (std::optional<Item> item = all.tryNext(); item.has_value()) {
          seen.push_back(item->first);
        }
    }
    turn();
    ASSERT_EQ(all.pending(), open.size()) << "in step " << step;
    ASSERT_EQ(seen.size() + all.buffered(), expected.size()) << "in step " << step;
  }
  while (std::optional<Item> item = all.tryNext()) {
    seen.push_back(item->first);
  }
  EXPECT_EQ(seen, expected);
  for (Future<void>& reader : readers) {
    std::move(reader).detach();
  }
}

}  // namespace
}  // namespace nuncio
