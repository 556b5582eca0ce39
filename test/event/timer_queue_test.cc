#include "source/event/timer_queue.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace nuncio {
namespace {

constexpr uint64_t kMicrosecond = 1'000;
constexpr uint64_t kMillisecond = 1'000'000;
constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kHour = 3600 * kSecond;

class TimerQueueTest : public testing::Test {
protected:
  using Node = TimerQueue::Node;

  explicit TimerQueueTest(uint32_t piece = TimerQueue::kPiece) : queue_(piece) {}

  std::vector<Node*> popAll(uint64_t now) {
    std::vector<Node*> popped;
    const uint64_t mark = queue_.orderMark();
    do {
      queue_.beginRound();
      while (Node* node = queue_.popDue(now, mark)) {
        popped.push_back(node);
      }
    } while (queue_.endRound());
    return popped;
  }

  TimerQueue queue_;
  Node a_, b_, c_;
};

TEST_F(TimerQueueTest, AnEmptyQueueNeverWakes) {
  EXPECT_EQ(queue_.nextWake().due, TimerQueue::kNever);
  EXPECT_EQ(queue_.nextWake().latest, TimerQueue::kNever);
  EXPECT_EQ(queue_.popDue(kHour, 0), nullptr);
}

TEST_F(TimerQueueTest, AQueueWhoseTimersAreAllDisarmedNeverWakes) {
  queue_.arm(a_, kMillisecond, false, 0);
  queue_.arm(b_, kHour, true, 0);
  queue_.disarm(a_);
  queue_.disarm(b_);
  EXPECT_EQ(queue_.nextWake().due, TimerQueue::kNever);
  EXPECT_EQ(queue_.nextWake().latest, TimerQueue::kNever);
  queue_.arm(a_, 2 * kHour, false, 3 * kMillisecond);
  EXPECT_EQ(popAll(2 * kHour), std::vector<Node*>{&a_});
}

TEST_F(TimerQueueTest, TimersThatMoveEarlierWhileOthersAreDestroyedKeepTheirDeadlines) {
  std::vector<std::unique_ptr<Node>> nodes;
  for (int i = 0; i < 100; ++i) {
    nodes.push_back(std::make_unique<Node>());
    queue_.arm(*nodes.back(), kHour, false, 0);
  }
  std::vector<Node*> expected;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    queue_.arm(*nodes[i], (i + 1) * kMillisecond, false, 0);
    if (i % 7 == 3) {
      queue_.remove(*nodes[i]);
      nodes[i].reset();
    } else if (i % 7 == 5) {
      queue_.disarm(*nodes[i]);
    } else {
      expected.push_back(nodes[i].get());
    }
  }
  EXPECT_EQ(popAll(kSecond), expected);
  EXPECT_EQ(queue_.size(), 0);
}

TEST_F(TimerQueueTest, PopsInTheOrderOfDeadlinesAcrossLevels) {
  queue_.arm(a_, kHour, true, 0);
  queue_.arm(b_, kMicrosecond, true, 0);
  queue_.arm(c_, kSecond, true, 0);
  EXPECT_EQ(popAll(2 * kHour), (std::vector<Node*>{&b_, &c_, &a_}));
}

TEST_F(TimerQueueTest, PopsEqualDeadlinesInTheOrderOfArmingAlsoAfterALazyMove) {
  queue_.arm(a_, kSecond, false, 0);
  queue_.arm(b_, 2 * kSecond, false, 0);
  queue_.arm(a_, 2 * kSecond, false, 0);  // stays filed under one second
  queue_.arm(c_, 2 * kSecond, false, 0);
  EXPECT_EQ(popAll(2 * kSecond), (std::vector<Node*>{&b_, &a_, &c_}));
}

TEST_F(TimerQueueTest, DoesNotPopBeforeTheDeadline) {
  queue_.arm(a_, 5 * kMillisecond, true, 0);
  EXPECT_TRUE(popAll(5 * kMillisecond - 1).empty());
  EXPECT_EQ(popAll(5 * kMillisecond), std::vector<Node*>{&a_});
}

TEST_F(TimerQueueTest, MovesToAnEarlierDeadline) {
  queue_.arm(a_, kHour, true, 0);
  queue_.arm(a_, kMillisecond, true, 0);
  EXPECT_EQ(queue_.nextWake().due, kMillisecond);
  EXPECT_EQ(popAll(kMillisecond), std::vector<Node*>{&a_});
  EXPECT_TRUE(popAll(2 * kHour).empty());
}

TEST_F(TimerQueueTest, LeavesAloneWhatIsArmedAfterTheMark) {
  queue_.arm(a_, 10, true, 10);
  const uint64_t mark = queue_.orderMark();
  ASSERT_EQ(queue_.popDue(10, mark), &a_);
  queue_.arm(a_, 10, true, 10);
  EXPECT_EQ(queue_.popDue(10, mark), nullptr);
  EXPECT_EQ(popAll(10), std::vector<Node*>{&a_});
}

TEST_F(TimerQueueTest, DisarmedAndRemovedTimersAreNotPopped) {
  queue_.arm(a_, kMillisecond, false, 0);
  queue_.arm(b_, kMillisecond, false, 0);
  queue_.arm(c_, kMillisecond, false, 0);
  queue_.disarm(a_);
  queue_.remove(b_);
  EXPECT_EQ(queue_.size(), 1);
  EXPECT_EQ(popAll(kSecond), std::vector<Node*>{&c_});
  EXPECT_EQ(queue_.size(), 0);
}

TEST_F(TimerQueueTest, TimersShareTheEndOfATickPreciseOnesOfAShorterTick) {
  const uint64_t deadline = 10 * TimerQueue::kTick + 1;
  queue_.arm(a_, deadline, false, 0);
  EXPECT_EQ(queue_.nextWake().due, deadline);
  EXPECT_EQ(queue_.nextWake().latest, 11 * TimerQueue::kTick - 1);
  queue_.arm(b_, deadline + 5, true, 0);
  EXPECT_LE(queue_.nextWake().latest, (deadline + 5) | (TimerQueue::kPreciseTick - 1));
}

TEST_F(TimerQueueTest, AfterALookInVainTheNextWakeUpIsThatOfAnArmedTimer) {
  constexpr int kTimers = 10'000;
  std::vector<std::unique_ptr<Node>> nodes;
  uint64_t deadline = kMillisecond;
  for (int i = 0; i < kTimers; ++i) {
    nodes.push_back(std::make_unique<Node>());
    queue_.arm(*nodes.back(), deadline += 200 * kMicrosecond, false, 0);
  }
  queue_.arm(a_, deadline / 2, true, 0);
  queue_.arm(b_, deadline + kMillisecond, true, 0);
  queue_.arm(a_, deadline + 2 * kMillisecond, true, 0);  // stays filed under the half
  for (const auto& node : nodes) {
    queue_.disarm(*node);
  }
  EXPECT_TRUE(popAll(queue_.nextWake().latest).empty());
  EXPECT_EQ(queue_.nextWake().due, deadline + kMillisecond);
  EXPECT_EQ(popAll(2 * deadline), (std::vector<Node*>{&b_, &a_}));
}

// With pieces so small that each block of a slot is one.
class TimerQueuePiecesTest : public TimerQueueTest {
protected:
  TimerQueuePiecesTest() : TimerQueueTest(1) {
    for (int i = 0; i < 1000; ++i) {
      nodes_.push_back(std::make_unique<Node>());
    }
  }
  // What one round pops.
  std::vector<Node*> popRound(uint64_t now) {
    std::vector<Node*> popped;
    queue_.beginRound();
    while (Node* node = queue_.popDue(now, queue_.orderMark())) {
      popped.push_back(node);
    }
    unfinished_ = queue_.endRound();
    return popped;
  }

  std::vector<std::unique_ptr<Node>> nodes_;
  bool unfinished_ = false;
};

TEST_F(TimerQueuePiecesTest, WhatIsDueIsPoppedWhileALargeSlotIsEmptied) {
  for (const auto& node : nodes_) {
    queue_.arm(*node, kHour, false, 0);
  }
  const uint64_t slot_begin = kHour / (TimerQueue::kTick << 16) * (TimerQueue::kTick << 16);
  uint64_t now = slot_begin - kMillisecond;
  queue_.arm(a_, now, true, 0);
  int beats = 0;
  int rounds_in_pieces = 0;
  for (int round = 0; round < 80; ++round) {
    const std::vector<Node*> popped = popRound(now);
    if (!popped.empty()) {
      ASSERT_EQ(popped, std::vector<Node*>{&a_});
      ++beats;
      queue_.arm(a_, now + kMillisecond, true, now);
    }
    rounds_in_pieces += unfinished_ ? 1 : 0;
    now += kMillisecond / 2;
  }
  EXPECT_GE(rounds_in_pieces, 60);
  EXPECT_GE(beats, 39);
}

TEST_F(TimerQueuePiecesTest, ALookInVainIsNotFollowedByOthersWhereTheNextSlotIsLargeAndAllOfItIsArmed) {
  for (const auto& node : nodes_) {
    queue_.arm(*node, kHour, false, 0);
  }
  queue_.arm(a_, 2 * TimerQueue::kTick, true, 0);
  queue_.disarm(a_);
  constexpr int kMaxRounds = 10;
  int rounds = 0;
  do {
    EXPECT_TRUE(popRound(3 * TimerQueue::kTick).empty());
  } while (unfinished_ && ++rounds < kMaxRounds);
  EXPECT_LT(rounds, kMaxRounds);
}

TEST_F(TimerQueuePiecesTest, ATickIsPoppedInOrderHoweverManyPiecesItTakes) {
  std::mt19937_64 random(3);
  std::vector<std::pair<uint64_t, std::size_t>> expected;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    const uint64_t deadline = 10 * TimerQueue::kTick + random() % 500;
    queue_.arm(*nodes_[i], deadline, true, 0);
    expected.emplace_back(deadline, i);
  }
  std::sort(expected.begin(), expected.end());
  EXPECT_TRUE(popRound(11 * TimerQueue::kTick).empty());
  EXPECT_TRUE(unfinished_);
  const std::vector<Node*> popped = popAll(11 * TimerQueue::kTick);
  ASSERT_EQ(popped.size(), expected.size());
  for (std::size_t i = 0; i < popped.size(); ++i) {
    ASSERT_EQ(popped[i], nodes_[expected[i].second].get()) << i;
  }
}

// Against a set that is ordered by deadline and arming, with random operations at random scales of time.
// Slots are emptied in the usual pieces, or in the smallest.
class TimerQueueModelTest : public TimerQueueTest, public testing::WithParamInterface<uint32_t> {
protected:
  TimerQueueModelTest() : TimerQueueTest(GetParam()) {}

  struct Timer : Node {
    bool precise = false;
  };
  using Key = std::pair<uint64_t, uint64_t>;  // deadline, order of arming

  uint64_t below(uint64_t limit) { return std::uniform_int_distribution<uint64_t>(0, limit - 1)(random_); }
  uint64_t randomDelay() {
    constexpr uint64_t kScales[] = {
        1,     kMicrosecond,    100 * kMicrosecond, kMillisecond, 50 * kMillisecond, kSecond, 60 * kSecond,
        kHour, 24 * 365 * kHour};
    return below(4) == 0 ? 0 : below(kScales[below(std::size(kScales))] + 1);
  }

  void arm(std::size_t index) {
    Timer& timer = *timers_[index];
    forget(index);
    timer.precise = below(2) == 0;
    const uint64_t deadline = now_ + randomDelay();
    queue_.arm(timer, deadline, timer.precise, now_ - std::min(now_, below(3) == 0 ? below(5 * kMillisecond) : 0));
    keys_[index] = {deadline, ++order_};
    model_.emplace(keys_[index], index);
  }

  void forget(std::size_t index) {
    if (const auto key = keys_.find(index); key != keys_.end()) {
      model_.erase(key->second);
      keys_.erase(key);
    }
  }

  void change() {
    const std::size_t index = below(timers_.size());
    switch (below(4)) {
      case 0:
        queue_.disarm(*timers_[index]);
        forget(index);
        break;
      case 1:
        queue_.remove(*timers_[index]);
        forget(index);
        timers_[index] = std::make_unique<Timer>();
        break;
      default:
        arm(index);
    }
  }

  void checkWake() {
    const TimerQueue::Wake wake = queue_.nextWake();
    uint64_t latest = TimerQueue::kNever;
    for (const auto& [key, index] : model_) {
      latest =
          std::min(latest, key.first | ((timers_[index]->precise ? TimerQueue::kPreciseTick : TimerQueue::kTick) - 1));
    }
    ASSERT_LE(wake.latest, latest);
    if (!model_.empty()) {
      ASSERT_LE(wake.due, model_.begin()->first.first);
      ASSERT_LE(wake.due, wake.latest);
    }
  }

  void popDue() {
    const uint64_t mark = queue_.orderMark();
    const uint64_t order_mark = order_;
    bool changed = false;
    do {
      queue_.beginRound();
      while (Node* node = queue_.popDue(now_, mark)) {
        ASSERT_FALSE(model_.empty());
        const auto [key, index] = *model_.begin();
        ASSERT_EQ(node, timers_[index].get()) << "deadline " << key.first << " at " << now_;
        ASSERT_LE(key.first, now_);
        ASSERT_FALSE(node->armed());
        forget(index);
        if (below(4) == 0) {
          arm(below(timers_.size()));
        }
      }
      // What the loop does between two rounds. It may take away a young timer, for which others that are due waited.
      changed = below(8) == 0;
      if (changed) {
        change();
        ASSERT_NO_FATAL_FAILURE(checkWake());
      }
    } while (queue_.endRound() || changed);
    ASSERT_TRUE(model_.empty() || model_.begin()->first.first > now_ || model_.begin()->first.second > order_mark);
    ASSERT_EQ(queue_.size(), model_.size());
  }

  std::mt19937_64 random_;
  uint64_t now_ = 0;
  uint64_t order_ = 0;
  std::vector<std::unique_ptr<Timer>> timers_;
  std::map<std::size_t, Key> keys_;
  std::map<Key, std::size_t> model_;
};

INSTANTIATE_TEST_SUITE_P(Pieces, TimerQueueModelTest, testing::Values(TimerQueue::kPiece, 1));

TEST_P(TimerQueueModelTest, MatchesAnOrderedSet) {
  const char* given = std::getenv("NUNCIO_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::cout << "seed (NUNCIO_TEST_SEED): " << seed << "\n";
  random_.seed(seed);
  now_ = below(2) == 0 ? 0 : below(1000 * kHour);
  for (int i = 0; i < 100; ++i) {
    timers_.push_back(std::make_unique<Timer>());
  }
  for (int operation = 0; operation < 300'000; ++operation) {
    switch (below(5)) {
      case 0:
        now_ += randomDelay();
        ASSERT_NO_FATAL_FAILURE(popDue());
        break;
      case 1:  // to the very time of the next wake-up, as a loop does
        now_ = std::max(now_, std::min(queue_.nextWake().latest, now_ + 1000 * kHour));
        ASSERT_NO_FATAL_FAILURE(popDue());
        break;
      case 2:  // more at once than the queue gathers before it moves them
        if (below(32) == 0) {
          for (uint64_t i = below(500); i > 0; --i) {
            arm(below(timers_.size()));
          }
        }
        break;
      default:
        change();
    }
    if (operation % 16 == 0) {
      ASSERT_NO_FATAL_FAILURE(checkWake()) << "operation " << operation;
    }
  }
  for (const auto& timer : timers_) {
    queue_.remove(*timer);
  }
}

}  // namespace
}  // namespace nuncio
