#include "nuncio/future/latch.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nuncio/future/coroutine.h"
#include "test/future/primitive_fixture.h"
#include "test/test_support/contract.h"

namespace nuncio::test {
namespace {

using nuncio::Latch;  // and not the tests' own

class LatchTest : public PrimitiveTest {};

TEST_F(LatchTest, OpensAtZeroForAllWaitersInOrder) {
  Latch latch(*dispatcher_, 3);
  std::string order;
  std::vector<Future<void>> waiters;
  for (const char name : {'a', 'b', 'c'}) {
    waiters.push_back(latch.wait().then([&order, name] { order += name; }));
  }
  latch.countDown();
  latch.countDown();
  drain();
  EXPECT_EQ("", order);
  EXPECT_EQ(1u, latch.count());
  latch.countDown();
  drain();
  EXPECT_EQ("abc", order);
}

TEST_F(LatchTest, CountsDownByMoreThanOne) {
  Latch latch(*dispatcher_, 5);
  latch.countDown(0);
  latch.countDown(5);
  EXPECT_TRUE(latch.open());
}

TEST_F(LatchTest, WaitOnAnOpenLatchIsReady) {
  Latch latch(*dispatcher_, 0);
  EXPECT_TRUE(latch.wait().isReady());
}

TEST_F(LatchTest, CancelledWaitersDoNotConcernTheOthers) {
  Latch latch(*dispatcher_, 1);
  std::vector<Future<void>> waiters;
  for (int i = 0; i < 5; ++i) {
    waiters.push_back(latch.wait());
  }
  for (const int i : {0, 2, 4}) {
    waiters[i].cancel();
    EXPECT_TRUE(failedWith(waiters[i], absl::StatusCode::kCancelled, ""));
  }
  latch.countDown();
  EXPECT_TRUE(waiters[1].result().hasValue());
  EXPECT_TRUE(waiters[3].result().hasValue());
}

TEST_F(LatchTest, CountingBelowZeroIsRefused) {
  Latch latch(*dispatcher_, 2);
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_CONTRACT_VIOLATION(latch.countDown(3), testing::HasSubstr("Latch::countDown"));
}

TEST_F(LatchTest, DestructionFailsThoseThatWait) {
  std::optional<Latch> latch(std::in_place, *dispatcher_, 1);
  Future<void> waiting = latch->wait();
  latch.reset();
  EXPECT_TRUE(failedWith(waiting, absl::StatusCode::kCancelled, "the latch was destroyed"));
}

TEST_F(LatchTest, ContinuationMayWaitAgainAndDestroyTheLatch) {
  std::optional<Latch> latch(std::in_place, *dispatcher_, 1);
  bool again = false;
  Future<void> done = latch->wait().then([&] { return latch->wait(); }).then([&] {
    again = true;
    latch.reset();
  });
  latch->countDown();
  drain();
  EXPECT_TRUE(again);
  EXPECT_FALSE(latch.has_value());
}

TEST_F(LatchTest, WakesManyWaiters) {
  Latch latch(*dispatcher_, 1);
  int woken = 0;
  for (int i = 0; i < kMany; ++i) {
    latch.wait().then([&woken] { ++woken; }).detach();
  }
  latch.countDown();
  drain();
  EXPECT_EQ(kMany, woken);
}

TEST_F(LatchTest, ShutdownOfTheDispatcherFailsManyWaiters) {
  Latch latch(*dispatcher_, 1);
  int ensured = 0;
  for (int i = 0; i < kMany; ++i) {
    latch.wait().ensure([&ensured] { ++ensured; }).detach();
  }
  dispatcher_->shutdown();
  EXPECT_EQ(kMany, ensured);
  latch.countDown();
}

Future<void> countWhenOpen(Dispatcher&, Latch& latch, int& count) {
  co_await latch.wait();
  ++count;
}

TEST_F(LatchTest, CoroutinesWaitForIt) {
  Latch latch(*dispatcher_, 1);
  int count = 0;
  Future<void> first = countWhenOpen(*dispatcher_, latch, count);
  Future<void> second = countWhenOpen(*dispatcher_, latch, count);
  latch.countDown();
  drain();
  EXPECT_EQ(2, count);
}

}  // namespace
}  // namespace nuncio::test
