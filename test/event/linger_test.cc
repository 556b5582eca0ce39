// The loop looks for posts of other CPUs for a while before it sleeps: when, how often, and what it sees to meanwhile.

#include "source/event/linger.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <thread>

#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/notification.h"

namespace {

thread_local int cpu = 0;  // on which this thread says it runs

}  // namespace

// Takes the place of the C library's, so that the tests need no two CPUs.
extern "C" int sched_getcpu() noexcept { return cpu; }

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

constexpr uint64_t kLongest = 6'000;

// One batch after which the loop is to sleep; whether it lingers, in vain.
bool lingersInVain(Linger& linger) {
  const uint64_t before = linger.lingers();
  linger.ranBatch(/*posts=*/1, /*elsewhere=*/true);
  if (linger.wanted()) {
    linger.begin(/*now=*/1);
    linger.inVain();
  }
  return linger.lingers() != before;
}

TEST(LingerTest, InVainItLingersEverMoreSeldomDownToEverySixteenthTime) {
  Linger linger(kLongest);
  std::string seen;
  for (int i = 0; i < 4 + 2 + 4 + 8 + 16 + 16; ++i) {
    seen += lingersInVain(linger) ? 'L' : '.';
  }
  EXPECT_EQ(
      "LLLL"
      ".L"
      "...L"
      ".......L"
      "...............L"
      "...............L",
      seen);
  for (int i = 0; i < 64; ++i) {
    lingersInVain(linger);
  }
  const uint64_t before = linger.lingers();
  for (int i = 0; i < 160; ++i) {
    lingersInVain(linger);
  }
  EXPECT_EQ(before + 10, linger.lingers());
  EXPECT_EQ(0, linger.hits());
}

TEST(LingerTest, AThousandPostsASecondCostLessThanATwoThousandthOfACore) {
  constexpr uint64_t kSecond = 1'000'000'000;
  Linger linger(kLongest);
  for (int i = 0; i < 1'000; ++i) {
    lingersInVain(linger);
  }
  EXPECT_LT(linger.lingers() * kLongest, kSecond / 2'000);
}

TEST(LingerTest, AHitResetsThat) {
  Linger linger(kLongest);
  for (int i = 0; i < 100; ++i) {
    lingersInVain(linger);
  }
  while (!linger.wanted()) {
    linger.ranBatch(1, true);
  }
  linger.begin(1);
  linger.hit();
  EXPECT_EQ(1, linger.hits());
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(lingersInVain(linger));
  }
}

TEST(LingerTest, PostsThatRanBeforeItHadLookedToTheEndAreAHit) {
  Linger linger(kLongest);
  linger.ranBatch(1, true);
  linger.begin(1);
  linger.ranBatch(1, true);
  EXPECT_EQ(1, linger.lingers());
  EXPECT_EQ(1, linger.hits());
}

TEST(LingerTest, ForThisCpuOnlyABurstHasItLookAndForAMomentAndThatIsNotCounted) {
  Linger linger(kLongest);
  linger.ranBatch(Linger::kBurst - 1, /*elsewhere=*/false);
  EXPECT_FALSE(linger.wanted());
  linger.ranBatch(Linger::kBurst, /*elsewhere=*/false);
  ASSERT_TRUE(linger.wanted());
  EXPECT_EQ(100 + Linger::kBurstTime, linger.begin(100));
  linger.hit();
  EXPECT_EQ(0, linger.lingers());
  EXPECT_EQ(0, linger.hits());
}

TEST(LingerTest, OfNoTimeItIsNever) {
  Linger linger(0);
  linger.ranBatch(1'000, true);
  EXPECT_FALSE(linger.wanted());
  EXPECT_FALSE(lingersInVain(linger));
}

// What the class is to do, said in another way: after `vain` vain ones, so many batches go by without one.
TEST(LingerTest, DoesWhatASimpleModelSays) {
  const unsigned seed = std::random_device()();
  std::printf("seed: %u\n", seed);
  std::mt19937 random(seed);
  Linger linger(kLongest);
  int vain = 0;
  int passed = 0;
  for (int step = 0; step < 100'000; ++step) {
    const int passes = vain < 4 ? 0 : vain < 7 ? (1 << (vain - 3)) - 1 : 15;
    const bool elsewhere = random() % 4 != 0;
    const bool expected = elsewhere && passed >= passes;
    linger.ranBatch(1, elsewhere);
    ASSERT_EQ(expected, linger.wanted()) << "step " << step << ", " << vain << " in vain, " << passed << " passed";
    if (!expected) {
      passed += elsewhere ? 1 : 0;
      continue;
    }
    passed = 0;
    ASSERT_EQ(7 + kLongest, linger.begin(7));
    if (random() % 12 == 0) {
      linger.hit();
      vain = 0;
    } else {
      linger.inVain();
      ++vain;
    }
  }
}

// The dispatcher of the tests below would linger for a day.
class LingeringTest : public testing::Test {
protected:
  static constexpr std::chrono::nanoseconds kLong = 24h;

  // Has the loop run `f` as a post of another CPU, after which it lingers.
  void callFromElsewhere(const std::function<void()>& f = [] {}) {
    Notification ran;
    std::thread poster([&] {
      cpu = 1;
      dispatcher_->post([&] {
        f();
        ran.notify();
      });
    });
    poster.join();
    ASSERT_TRUE(ran.wait());
  }

  DispatcherPtr dispatcher_ = createDispatcher({.name = "lingers", .linger = kLong});
};

TEST_F(LingeringTest, PostsThatComeMeanwhileNeedNoWakeUp) {
  DispatcherThread thread(*dispatcher_);
  uint64_t before = 0;
  callFromElsewhere([&] { before = dispatcher_->stats().wakeups; });
  for (int i = 0; i < 100; ++i) {
    callFromElsewhere();
  }
  thread.stop();
  EXPECT_EQ(before, dispatcher_->stats().wakeups);
  EXPECT_LE(100, dispatcher_->stats().linger_hits);
  EXPECT_LE(dispatcher_->stats().linger_hits, dispatcher_->stats().lingers);
}

TEST_F(LingeringTest, ExitEndsIt) {
  DispatcherThread thread(*dispatcher_);
  callFromElsewhere();
  dispatcher_->exit();
  thread.stop();
  EXPECT_EQ(1, dispatcher_->stats().lingers);
  EXPECT_EQ(0, dispatcher_->stats().linger_hits);
}

TEST_F(LingeringTest, ATimerFiresMeanwhile) {
  DispatcherThread thread(*dispatcher_);
  Notification fired;
  TimerPtr timer;
  thread.call([&] {
    timer = dispatcher_->createTimer([&] { fired.notify(); });
    timer->enableTimer(20ms);
  });
  callFromElsewhere();
  EXPECT_TRUE(fired.wait());
  thread.stop();
}

TEST_F(LingeringTest, ADescriptorIsServedMeanwhile) {
  const Pair pipe = makePipe();
  DispatcherThread thread(*dispatcher_);
  Notification ready;
  FileEventPtr event;
  thread.call([&] {
    event = *dispatcher_->createFileEvent(
        pipe.watched.get(), [&](uint32_t) { ready.notify(); }, FileTriggerType::Edge, FileReadyType::Read);
  });
  callFromElsewhere();
  writeText(pipe.peer.get(), "x");
  EXPECT_TRUE(ready.wait());
  thread.stop();
}

TEST_F(LingeringTest, NotAfterPostsOfItsOwnCpu) {
  dispatcher_ = createDispatcher({.name = "one_cpu"});
  DispatcherThread thread(*dispatcher_);
  for (int i = 0; i < 1'000; ++i) {
    thread.call([] {});
  }
  thread.stop();
  EXPECT_EQ(0, dispatcher_->stats().lingers);
}

TEST_F(LingeringTest, NotWhenTheOptionIsZero) {
  dispatcher_ = createDispatcher({.name = "no_linger", .linger = 0ns});
  DispatcherThread thread(*dispatcher_);
  for (int i = 0; i < 100; ++i) {
    callFromElsewhere();
  }
  thread.stop();
  EXPECT_EQ(0, dispatcher_->stats().lingers);
}

TEST_F(LingeringTest, NotInARunThatDoesNotBlock) {
  std::thread([&] {
    cpu = 1;
    dispatcher_->post([] {});
  }).join();
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, dispatcher_->stats().posts_run);
  EXPECT_EQ(0, dispatcher_->stats().lingers);
}

TEST_F(LingeringTest, NotInSimulatedTime) {
  SimulatedTimeSystem time;
  dispatcher_ = createDispatcher({.name = "simulated", .time_system = &time, .linger = kLong});
  for (int i = 0; i < 10; ++i) {
    std::thread([&] {
      cpu = 1;
      dispatcher_->post([] {});
    }).join();
    dispatcher_->run(RunType::Block);
  }
  EXPECT_EQ(10, dispatcher_->stats().posts_run);
  EXPECT_EQ(0, dispatcher_->stats().lingers);
}

TEST_F(LingeringTest, WithBusyPollingThatTakesItsPlace) {
  dispatcher_ = createDispatcher({.name = "busy", .busy_poll = 50us, .linger = kLong});
  DispatcherThread thread(*dispatcher_);
  callFromElsewhere();
  thread.stop();
  EXPECT_EQ(0, dispatcher_->stats().lingers);
}

TEST_F(LingeringTest, ANegativeTimeIsRefused) {
  const auto refused = tryCreateDispatcher({.name = "negative", .linger = -1ns});
  EXPECT_EQ(absl::StatusCode::kInvalidArgument, refused.status().code());
}

// Two loops that post to each other, one post in flight: with the default, too, few of the trips need a wake-up. Where
// other programs take the CPUs away, some windows of a hundred do; one that is undisturbed is enough.
TEST_F(LingeringTest, LoopsThatPostToEachOtherSeldomSleep) {
  constexpr int kTrips = 100;
  DispatcherPtr here = createDispatcher({.name = "here"});
  DispatcherPtr there = createDispatcher({.name = "there"});
  DispatcherThread here_thread(*here);
  DispatcherThread there_thread(*there);
  there_thread.call([] { cpu = 1; });
  const auto wakeups = [&] { return here->stats().wakeups; };
  uint64_t fewest = std::numeric_limits<uint64_t>::max();
  const auto end = std::chrono::steady_clock::now() + kPatience / 2;
  while (fewest > kTrips / 10 && std::chrono::steady_clock::now() < end) {
    Notification done;
    uint64_t before = 0;
    int left = kTrips;
    const std::function<void()> trip = [&] {
      if (left == kTrips) {
        before = wakeups();
      }
      if (left-- == 0) {
        fewest = std::min(fewest, wakeups() - before);
        done.notify();
        return;
      }
      there->post([&] { here->post([&] { trip(); }); });
    };
    here->post([&] { trip(); });
    ASSERT_TRUE(done.wait());
  }
  EXPECT_LE(fewest, kTrips / 10);
}

}  // namespace
}  // namespace nuncio::test
