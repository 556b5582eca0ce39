#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

class DispatcherPostTest : public testing::Test {
protected:
  std::vector<std::string> order_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "post_test"});
};

TEST_F(DispatcherPostTest, PostFromAnotherThreadWakesTheBlockedLoopAndRunsThere) {
  DispatcherThread thread(*dispatcher_);
  std::thread::id ran_on;
  for (int i = 0; i < 100; ++i) {  // the loop is asleep at least in some of these rounds
    thread.call([&] { ran_on = std::this_thread::get_id(); });
    EXPECT_EQ(thread.id(), ran_on);
  }
}

TEST_F(DispatcherPostTest, PostsRunInTheOrderOfPosting) {
  std::vector<int> order;
  std::vector<int> expected;
  for (int i = 0; i < 10'000; ++i) {
    expected.push_back(i);
    ASSERT_TRUE(dispatcher_->post([&order, i] { order.push_back(i); }));
  }
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(expected, order);
}

TEST_F(DispatcherPostTest, PostsOfCapturesOfAllSizesKeepTheirValuesAndOrder) {
  std::vector<int> sizes;
  const auto post = [&](auto payload) {
    payload.fill(static_cast<char>(payload.size()));
    dispatcher_->post([&sizes, payload] {
      for (const char c : payload) {
        ASSERT_EQ(static_cast<char>(payload.size()), c);
      }
      sizes.push_back(static_cast<int>(payload.size()));
    });
  };
  for (int i = 0; i < 100; ++i) {
    post(std::array<char, 1>());
    post(std::array<char, 40>());
    post(std::array<char, 41>());
    post(std::array<char, 1000>());
  }
  dispatcher_->run(RunType::Block);
  ASSERT_EQ(400u, sizes.size());
  for (size_t i = 0; i < sizes.size(); i += 4) {
    EXPECT_THAT(std::vector<int>(sizes.begin() + i, sizes.begin() + i + 4), ElementsAre(1, 40, 41, 1000));
  }
}

TEST_F(DispatcherPostTest, PostsOfOneThreadKeepTheirOrderAmongThoseOfOthers) {
  constexpr int kThreads = 3;
  constexpr int kPosts = 2000;
  std::array<int, kThreads> next{};
  bool in_order = true;
  DispatcherThread loop(*dispatcher_);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        dispatcher_->post([&next, &in_order, t, i] { in_order = in_order && next[t]++ == i; });
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  loop.call([] {});
  loop.stop();
  EXPECT_TRUE(in_order);
  EXPECT_THAT(next, ElementsAre(kPosts, kPosts, kPosts));
}

TEST_F(DispatcherPostTest, CapturesAreDestroyedRightAfterTheirCallbackAndBeforeTheNext) {
  dispatcher_->post([this, probe = OnDestroy([this] { order_.push_back("~a"); })] { order_.push_back("a"); });
  dispatcher_->post([this, probe = OnDestroy([this] { order_.push_back("~b"); })] { order_.push_back("b"); });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("a", "~a", "b", "~b"));
}

TEST_F(DispatcherPostTest, CapturesTooLargeToBeKeptInlineAreDestroyedRightAfterTheirCallbackToo) {
  std::array<char, 200> large{};
  dispatcher_->post([this, large, probe = OnDestroy([this] { order_.push_back("~a"); })] {
    order_.push_back(large[0] == 0 ? "a" : "broken");
  });
  dispatcher_->post([this] { order_.push_back("b"); });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("a", "~a", "b"));
}

TEST_F(DispatcherPostTest, CapturesAreDestroyedOnTheLoopsThread) {
  DispatcherThread thread(*dispatcher_);
  std::thread::id destroyed_on;
  Notification destroyed;
  dispatcher_->post([probe = OnDestroy([&] {
                       destroyed_on = std::this_thread::get_id();
                       destroyed.notify();
                     })] {});
  ASSERT_TRUE(destroyed.wait());
  EXPECT_EQ(thread.id(), destroyed_on);
}

TEST_F(DispatcherPostTest, WhatABatchPostsRunsInALaterBatch) {
  // Deferred deletion runs between two batches: it tells them apart.
  dispatcher_->post([this] {
    order_.push_back("a");
    dispatcher_->deferredDelete(makeDeferred([this] { order_.push_back("between batches"); }));
    dispatcher_->post([this] { order_.push_back("posted by a"); });
  });
  dispatcher_->post([this] { order_.push_back("b"); });
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("a", "b", "between batches", "posted by a"));
}

TEST_F(DispatcherPostTest, PostsBeforeADrainMakeOneWake) {
  DispatcherThread thread(*dispatcher_);
  Notification busy;
  Notification posted;
  thread.call([] {});
  uint64_t before = 0;
  dispatcher_->post([&] {
    before = dispatcher_->stats().wakeups;
    busy.notify();
    EXPECT_TRUE(posted.wait());
  });
  ASSERT_TRUE(busy.wait());
  for (int i = 0; i < 1000; ++i) {
    dispatcher_->post([] {});
  }
  posted.notify();
  uint64_t after = 0;
  Notification done;
  dispatcher_->post([&] {
    after = dispatcher_->stats().wakeups;
    done.notify();
  });
  ASSERT_TRUE(done.wait());
  // One for the thousand, one for the last, which may have come when the thousand had run and the loop slept again.
  EXPECT_LE(after - before, 2u);
}

TEST_F(DispatcherPostTest, PostFromTheLoopsOwnThreadNeedsNoWake) {
  int rounds = 0;
  std::function<void()> again = [&] {
    if (++rounds < 1000) {
      dispatcher_->post([&] { again(); });
    }
  };
  again();
  dispatcher_->run(RunType::Block);
  EXPECT_EQ(1000, rounds);
  EXPECT_EQ(0u, dispatcher_->stats().wakeups);
}

TEST_F(DispatcherPostTest, PostFromATimerRunsInTheSameIteration) {
  TimerPtr timer = dispatcher_->createTimer([&] { dispatcher_->post([&] { order_.push_back("post"); }); });
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("post"));
}

TEST_F(DispatcherPostTest, DestructorOfACaptureMayPost) {
  dispatcher_->post([this, probe = OnDestroy([this] { dispatcher_->post([this] { order_.push_back("inner"); }); })] {
    order_.push_back("outer");
  });
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("outer", "inner"));
}

TEST_F(DispatcherPostTest, CallbacksAndDestructorsMayPostWhileOtherThreadsPost) {
  constexpr int kThreads = 3;
  constexpr int kPosts = 3000;
  int ran = 0;  // on the loop's thread alone
  DispatcherThread loop(*dispatcher_);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kPosts; ++i) {
        dispatcher_->post([&, probe = OnDestroy([&] { dispatcher_->post([&] { ++ran; }); })] {
          ++ran;
          dispatcher_->post([&] { ++ran; });
        });
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  loop.call([] {});
  loop.call([] {});
  loop.stop();
  EXPECT_EQ(kThreads * kPosts * 3, ran);
}

TEST_F(DispatcherPostTest, PostMayDestroyAHandleThatALaterPostOfTheSameBatchHolds) {
  struct Holder {
    TimerPtr timer;
    SchedulableCallbackPtr callback;
  };
  auto holder = std::make_shared<Holder>();
  holder->timer = dispatcher_->createTimer([] { FAIL() << "destroyed"; });
  holder->callback = dispatcher_->createSchedulableCallback([] { FAIL() << "destroyed"; });
  holder->timer->enableTimer(0ms);
  holder->callback->scheduleNextIteration();
  dispatcher_->post([this, holder] {
    order_.push_back("first");
    holder->timer.reset();
    holder->callback.reset();
  });
  dispatcher_->post([this, holder] { order_.push_back(holder->timer == nullptr ? "gone" : "there"); });
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("first", "gone"));
}

TEST_F(DispatcherPostTest, CallbackThatPostsItselfDoesNotStarveFileEvents) {
  Pair pair = makeSocketPair();
  std::function<void()> again = [&] { dispatcher_->post([&] { again(); }); };
  int calls = 0;
  auto event = dispatcher_->createFileEvent(
      pair.watched.get(),
      [&](uint32_t) {
        if (++calls == 3) {
          dispatcher_->exit();
        }
      },
      FileTriggerType::Level, FileReadyType::Write);
  ASSERT_TRUE(event.ok());
  again();
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_EQ(3, calls);
  event->reset();
  dispatcher_->shutdown();
}

// How often a callback that does `work` and posts itself runs between two reports of a descriptor that is always ready.
int postsInAnIteration(Dispatcher& dispatcher, const std::function<void()>& work) {
  Pair pair = makeSocketPair();
  int posts = 0;
  std::vector<int> posts_at_report;
  std::function<void()> again = [&] {
    ++posts;
    work();
    dispatcher.post([&] { again(); });
  };
  auto event = dispatcher.createFileEvent(
      pair.watched.get(),
      [&](uint32_t) {
        posts_at_report.push_back(posts);
        if (posts_at_report.size() == 2) {
          dispatcher.exit();
        }
      },
      FileTriggerType::Level, FileReadyType::Write);
  EXPECT_TRUE(event.ok()) << event.status();
  dispatcher.post([&] { again(); });
  dispatcher.run(RunType::RunUntilExit);
  event->reset();
  dispatcher.shutdown();
  return posts_at_report[1] - posts_at_report[0];
}

TEST_F(DispatcherPostTest, CallbackThatPostsItselfLetsFileEventsInAfter128Batches) {
  SimulatedTimeSystem time;  // stands still, so that it is not the time that ends the iteration
  DispatcherPtr dispatcher = createDispatcher({.time_system = &time});
  EXPECT_EQ(128, postsInAnIteration(*dispatcher, [] {}));
}

TEST_F(DispatcherPostTest, CallbackThatPostsItselfLetsFileEventsInAfterHalfAMillisecond) {
  const auto slow = [] {
    const auto end = std::chrono::steady_clock::now() + 100us;
    while (std::chrono::steady_clock::now() < end) {
    }
  };
  // The clock is looked at for every 8th callback, which starts the time; 8 more are more than enough.
  EXPECT_EQ(16, postsInAnIteration(*dispatcher_, slow));
}

TEST_F(DispatcherPostTest, CallbackThatPostsItselfDoesNotStarveTimers) {
  std::function<void()> again = [&] { dispatcher_->post([&] { again(); }); };
  TimerPtr timer = dispatcher_->createTimer([&] { dispatcher_->exit(); });
  timer->enableTimer(2ms);
  again();
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_FALSE(timer->enabled());
  dispatcher_->shutdown();
}

TEST_F(DispatcherPostTest, CallbackThatPostsItselfDoesNotStarveScheduledCallbacks) {
  std::function<void()> again = [&] { dispatcher_->post([&] { again(); }); };
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([&] { dispatcher_->exit(); });
  dispatcher_->post([&] { callback->scheduleNextIteration(); });
  again();
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_FALSE(callback->enabled());
  dispatcher_->shutdown();
}

TEST_F(DispatcherPostTest, WithOneBatchAnIterationFileEventsAreServedBetweenTwoRounds) {
  DispatcherPtr dispatcher = createDispatcher({.max_post_batches_per_iteration = 1});
  Pair pair = makeSocketPair();
  auto event = dispatcher->createFileEvent(
      pair.watched.get(), [&](uint32_t) { order_.push_back("file"); }, FileTriggerType::Level, FileReadyType::Write);
  ASSERT_TRUE(event.ok());
  std::function<void()> again = [&] {
    order_.push_back("post");
    if (order_.size() < 20) {
      dispatcher->post([&] { again(); });
    } else {
      dispatcher->exit();
    }
  };
  TimerPtr start = dispatcher->createTimer([&] { again(); });
  start->enableTimer(0ms);
  dispatcher->run(RunType::RunUntilExit);
  int in_a_row = 0;
  for (const std::string& entry : order_) {
    in_a_row = entry == "post" ? in_a_row + 1 : 0;
    EXPECT_LE(in_a_row, 2);  // two only at the start: the timer's, and the batch of the same iteration
  }
}

TEST_F(DispatcherPostTest, ManyPostsInOneBatchDoNotStarveFileEvents) {
  // A batch far longer than an iteration's time is cut; what is left keeps its order.
  DispatcherPtr dispatcher = createDispatcher({.max_callback_time_per_iteration = 100us});
  Pair pair = makeSocketPair();
  int posts = 0;
  int posts_at_first_file_event = -1;
  bool in_order = true;
  auto event = dispatcher->createFileEvent(
      pair.watched.get(),
      [&](uint32_t) {
        if (posts_at_first_file_event < 0) {
          posts_at_first_file_event = posts;
        }
      },
      FileTriggerType::Edge, FileReadyType::Write);
  ASSERT_TRUE(event.ok());
  constexpr int kPosts = 2000;
  for (int i = 0; i < kPosts; ++i) {
    dispatcher->post([&, i] {
      in_order = in_order && posts++ == i;
      const auto end = std::chrono::steady_clock::now() + 20us;
      while (std::chrono::steady_clock::now() < end) {
      }
      if (i == kPosts - 1) {
        dispatcher->exit();
      }
    });
  }
  dispatcher->run(RunType::RunUntilExit);
  EXPECT_EQ(kPosts, posts);
  EXPECT_TRUE(in_order);
  EXPECT_GE(posts_at_first_file_event, 0);
  EXPECT_LT(posts_at_first_file_event, kPosts);
}

TEST_F(DispatcherPostTest, PostsLeftWhenRunReturnsRunInTheNextRun) {
  int rounds = 0;
  std::function<void()> again = [&] {
    if (++rounds < 1000) {
      dispatcher_->post([&] { again(); });
    }
  };
  again();
  for (int i = 0; i < 1000 && rounds < 1000; ++i) {
    dispatcher_->run(RunType::NonBlock);
  }
  EXPECT_EQ(1000, rounds);
}

// After shutdown()

TEST_F(DispatcherPostTest, AfterShutdownPostReturnsFalseAndDestroysTheCallbackOnTheCallersThread) {
  dispatcher_->shutdown();
  std::thread::id destroyed_on;
  std::thread other([&] {
    EXPECT_FALSE(dispatcher_->post(
        [probe = OnDestroy([&] { destroyed_on = std::this_thread::get_id(); })] { FAIL() << "ran after shutdown"; }));
    EXPECT_EQ(std::this_thread::get_id(), destroyed_on);
  });
  other.join();
}

TEST_F(DispatcherPostTest, CallbackRefusedAfterShutdownIsDestroyedOutsideAnyLock) {
  dispatcher_->shutdown();
  bool inner = true;
  // A post in the destructor would deadlock if the queue's lock were held.
  EXPECT_FALSE(dispatcher_->post([probe = OnDestroy([&] { inner = dispatcher_->post([] {}); })] {}));
  EXPECT_FALSE(inner);
}

TEST_F(DispatcherPostTest, PendingCallbackIsDestroyedOutsideAnyLockDuringShutdown) {
  bool inner = true;
  dispatcher_->post([probe = OnDestroy([&] { inner = dispatcher_->post([] {}); })] { FAIL() << "ran"; });
  dispatcher_->shutdown();
  EXPECT_FALSE(inner);
}

// PostHandle

TEST_F(DispatcherPostTest, HandlePostsAsTheDispatcherDoes) {
  const PostHandle handle = dispatcher_->handle();
  EXPECT_TRUE(handle.alive());
  EXPECT_EQ("post_test", handle.name());
  EXPECT_TRUE(handle.post([this] { order_.push_back("by handle"); }));
  EXPECT_TRUE(dispatcher_->post([this] { order_.push_back("by dispatcher"); }));
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("by handle", "by dispatcher"));
}

TEST_F(DispatcherPostTest, HandleFromAnotherThreadWakesTheLoop) {
  const PostHandle handle = dispatcher_->handle();
  DispatcherThread thread(*dispatcher_);
  Notification ran;
  EXPECT_TRUE(handle.post([&] { ran.notify(); }));
  EXPECT_TRUE(ran.wait());
}

TEST_F(DispatcherPostTest, HandleIsNotAliveAfterShutdown) {
  const PostHandle handle = dispatcher_->handle();
  dispatcher_->shutdown();
  EXPECT_FALSE(handle.alive());
  EXPECT_FALSE(handle.post([] { FAIL() << "ran"; }));
}

TEST_F(DispatcherPostTest, HandleOutlivesTheDispatcher) {
  const PostHandle handle = dispatcher_->handle();
  dispatcher_.reset();
  bool destroyed = false;
  EXPECT_FALSE(handle.alive());
  EXPECT_FALSE(handle.post([probe = OnDestroy([&] { destroyed = true; })] { FAIL() << "ran"; }));
  EXPECT_TRUE(destroyed);
  EXPECT_EQ("post_test", handle.name());
}

TEST_F(DispatcherPostTest, HandlesMayPostWhileTheDispatcherIsDestroyed) {
  for (int round = 0; round < 50; ++round) {
    DispatcherPtr dispatcher = createDispatcher();
    std::atomic<int> created{0};
    std::atomic<int> destroyed{0};
    Notification started;
    std::thread poster([&, handle = dispatcher->handle()] {
      bool accepted = true;
      while (accepted) {
        ++created;
        accepted = handle.post([probe = OnDestroy([&] { ++destroyed; })] {});
        if (created == 10) {
          started.notify();
        }
      }
      started.notify();
    });
    EXPECT_TRUE(started.wait());
    dispatcher.reset();
    poster.join();
    EXPECT_EQ(created.load(), destroyed.load());
  }
}

// --- What captures do while they are moved, or destroyed.

// Copied where others are moved; calls `act` when it is copied, and when what was copied from is destroyed.
class Copied {
public:
  explicit Copied(std::function<void()>& act) : act_(&act) {}
  Copied(const Copied& other) noexcept : act_(other.act_) { act(); }
  Copied& operator=(const Copied&) = delete;
  ~Copied() { act(); }

private:
  void act() const {
    if (*act_ != nullptr) {
      const std::function<void()> once = std::exchange(*act_, nullptr);
      once();
      *act_ = once;
    }
  }

  std::function<void()>* act_;
};

TEST_F(DispatcherPostTest, ACaptureMayPostWhereverItIsCopiedOrDestroyed) {
  int ran = 0;
  int nested = 0;
  std::function<void()> act = [&] {
    ++nested;
    EXPECT_TRUE(dispatcher_->post([&] { ++ran; }));
  };
  dispatcher_->post([&, capture = Copied(act)] { ++ran; });  // from outside of the loop
  dispatcher_->post([&] { dispatcher_->post([&, capture = Copied(act)] { ++ran; }); });
  for (int i = 0; i < 10; ++i) {
    dispatcher_->run(RunType::NonBlock);
  }
  EXPECT_GT(nested, 4);
  EXPECT_EQ(ran, nested + 2);
  act = nullptr;
}

// Waits in its move to the queue, once it is told to.
class MovedSlowly {
public:
  MovedSlowly(Notification& moving, Notification& go) : moving_(&moving), go_(&go) {}
  MovedSlowly(MovedSlowly&& other) noexcept : moving_(other.moving_), go_(other.go_), moves_(other.moves_ + 1) {
    if (moves_ == 2) {  // the first one is to the callback
      moving_->notify();
      EXPECT_TRUE(go_->wait());
    }
  }
  MovedSlowly& operator=(MovedSlowly&&) = delete;
  ~MovedSlowly() = default;

private:
  Notification* moving_;
  Notification* go_;
  int moves_ = 0;
};

TEST_F(DispatcherPostTest, TheLoopGoesOnWhileACaptureIsOnItsWayButRunsNoLaterPostBeforeIt) {
  Notification moving;
  Notification go;
  dispatcher_->post([this] { order_.emplace_back("before"); });
  std::thread poster(
      [&] { dispatcher_->post([this, slow = MovedSlowly(moving, go)] { order_.emplace_back("slow"); }); });
  ASSERT_TRUE(moving.wait());
  dispatcher_->post([this] { order_.emplace_back("behind"); });
  TimerPtr timer = dispatcher_->createTimer([this] { order_.emplace_back("timer"); });
  timer->enableTimer(0ms);
  for (int i = 0; i < 3; ++i) {
    dispatcher_->run(RunType::NonBlock);
  }
  EXPECT_THAT(order_, ElementsAre("before", "timer"));
  EXPECT_EQ(dispatcher_->stats().posts_waiting, 2U);
  go.notify();
  poster.join();
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("before", "timer", "slow", "behind"));
}

TEST_F(DispatcherPostTest, ShutdownWaitsForACaptureThatIsOnItsWay) {
  Notification moving;
  Notification go;
  std::thread poster([&] {
    auto probe = std::make_unique<OnDestroy>([this] { order_.emplace_back("~"); });
    dispatcher_->post([slow = MovedSlowly(moving, go), probe = std::move(probe)] {});
  });
  ASSERT_TRUE(moving.wait());
  std::thread shutter([&] { dispatcher_->shutdown(); });
  go.notify();
  poster.join();
  shutter.join();
  EXPECT_THAT(order_, ElementsAre("~"));
}

TEST_F(DispatcherPostTest, ManyThreadsPostCapturesOfEachKindInTheirOrder) {
  constexpr int kThreads = 3;
  constexpr int kPosts = 20'000;
  std::array<int, kThreads> next{};
  std::atomic<int> left{kThreads * kPosts};
  std::vector<std::thread> posters;
  for (int t = 0; t < kThreads; ++t) {
    posters.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        const auto run = [&, t, i] {
          EXPECT_EQ(next[static_cast<std::size_t>(t)]++, i);
          if (--left == 0) {
            dispatcher_->exit();
          }
        };
        if (i % 3 == 0) {
          dispatcher_->post([run, text = std::make_shared<int>(i)] { run(); });
        } else if (i % 3 == 1) {
          dispatcher_->post([run, large = std::array<char, 100>()] {
            static_cast<void>(large);
            run();
          });
        } else {
          dispatcher_->post(run);
        }
      }
    });
  }
  dispatcher_->run(RunType::RunUntilExit);
  for (std::thread& poster : posters) {
    poster.join();
  }
  EXPECT_EQ(dispatcher_->stats().posts_waiting, 0U);
}

TEST_F(DispatcherPostTest, CountsThePostsThatWait) {
  EXPECT_EQ(dispatcher_->stats().posts_waiting, 0U);
  for (int i = 0; i < 3; ++i) {
    dispatcher_->post([this] {
      dispatcher_->post([] {});
      order_.push_back(std::to_string(dispatcher_->stats().posts_waiting));
    });
  }
  EXPECT_EQ(dispatcher_->stats().posts_waiting, 3U);
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("3", "3", "3"));
  EXPECT_EQ(dispatcher_->stats().posts_waiting, 0U);
}

// Each of a chain posts the next one when it is destroyed.
class Link {
public:
  Link(std::unique_ptr<Link> next, const std::function<bool(PostCb)>& post) : next_(std::move(next)), post_(post) {}
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link() {
    if (next_ != nullptr) {
      post_([next = std::move(next_)] {});
    }
  }

private:
  std::unique_ptr<Link> next_;
  const std::function<bool(PostCb)> post_;
};

std::unique_ptr<Link> makeChain(const std::function<bool(PostCb)>& post) {
  constexpr int kLinks = 200'000;
  std::unique_ptr<Link> first;
  for (int i = 0; i < kLinks; ++i) {
    first = std::make_unique<Link>(std::move(first), post);
  }
  return first;
}

TEST_F(DispatcherPostTest, AChainOfPostsFromDestructorsNeedsNoDeepStackInAShutdown) {
  for (const bool by_handle : {false, true}) {
    DispatcherPtr dispatcher = createDispatcher({.name = "chain"});
    const PostHandle handle = dispatcher->handle();
    std::unique_ptr<Link> chain =
        makeChain([&](PostCb cb) { return by_handle ? handle.post(std::move(cb)) : dispatcher->post(std::move(cb)); });
    dispatcher->post([chain = std::move(chain)] {});
    dispatcher->shutdown();
  }
}

TEST_F(DispatcherPostTest, NorWhereAllAreRefused) {
  const PostHandle handle = dispatcher_->handle();
  dispatcher_->shutdown();
  std::unique_ptr<Link> chain = makeChain([&](PostCb cb) { return handle.post(std::move(cb)); });
  EXPECT_FALSE(handle.post([chain = std::move(chain)] {}));
}

}  // namespace
}  // namespace nuncio::test
