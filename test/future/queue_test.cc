#include "nuncio/future/queue.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <variant>
#include <vector>

#include "nuncio/future/any_of.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/time.h"
#include "test/future/primitive_fixture.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"

namespace nuncio::test {
namespace {

class QueueTest : public PrimitiveTest {};

TEST_F(QueueTest, KeepsTheOrder) {
  Queue<int> queue(*dispatcher_, 10);
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(queue.push(i).isReady());
  }
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(i, *queue.pop().get());
  }
  EXPECT_TRUE(queue.empty());
}

TEST_F(QueueTest, PopWaitsForAnItem) {
  Queue<int> queue(*dispatcher_, 1);
  Future<int> first = queue.pop();
  Future<int> second = queue.pop();
  EXPECT_FALSE(queue.tryPop().has_value());
  EXPECT_TRUE(queue.push(1).isReady());
  EXPECT_TRUE(queue.tryPush(2));
  EXPECT_EQ(1, *first.result());
  EXPECT_EQ(2, *second.result());
  EXPECT_EQ(0u, queue.size());
}

TEST_F(QueueTest, PushWaitsWhileItIsFull) {
  Queue<int> queue(*dispatcher_, 2);
  EXPECT_TRUE(queue.push(1).isReady());
  EXPECT_TRUE(queue.push(2).isReady());
  Future<void> third = queue.push(3);
  Future<void> fourth = queue.push(4);
  EXPECT_FALSE(queue.tryPush(5));
  EXPECT_EQ(2u, queue.waitingPushes());
  EXPECT_EQ(1, queue.tryPop());
  EXPECT_TRUE(third.isReady());
  EXPECT_FALSE(fourth.isReady());
  EXPECT_EQ(2, queue.tryPop());
  EXPECT_EQ(3, queue.tryPop());
  EXPECT_EQ(4, queue.tryPop());
  EXPECT_TRUE(fourth.isReady());
}

TEST_F(QueueTest, CapacityOfZeroIsARendezvous) {
  Queue<int> queue(*dispatcher_, 0);
  EXPECT_FALSE(queue.tryPush(0));
  Future<void> pushed = queue.push(1);
  EXPECT_FALSE(pushed.isReady());
  EXPECT_EQ(1, *queue.pop().get());
  EXPECT_TRUE(pushed.isReady());
  Future<int> popped = queue.pop();
  EXPECT_TRUE(queue.push(2).isReady());
  EXPECT_EQ(2, *popped.result());
}

TEST_F(QueueTest, TakesItemsThatOnlyMove) {
  Queue<std::unique_ptr<int>> queue(*dispatcher_, 1);
  std::unique_ptr<int> refused = std::make_unique<int>(3);
  EXPECT_TRUE(queue.tryPush(std::make_unique<int>(1)));
  EXPECT_FALSE(queue.tryPush(std::move(refused)));
  EXPECT_NE(nullptr, refused);
  Future<void> waiting = queue.push(std::make_unique<int>(2));
  EXPECT_EQ(1, **queue.tryPop());
  std::unique_ptr<int> second = *queue.pop().then([](std::unique_ptr<int> item) { return item; }).get();
  EXPECT_EQ(2, *second);
}

TEST_F(QueueTest, CancelledPushTakesItsItemOut) {
  Queue<int> queue(*dispatcher_, 1);
  EXPECT_TRUE(queue.tryPush(0));
  std::vector<Future<void>> pushes;
  for (int i = 1; i <= 5; ++i) {
    pushes.push_back(queue.push(std::move(i)));
  }
  pushes[0].cancel();
  pushes[2].cancel();
  pushes[4].cancel();
  EXPECT_TRUE(failedWith(pushes[2], absl::StatusCode::kCancelled, ""));
  EXPECT_EQ(0, queue.tryPop());
  EXPECT_EQ(2, queue.tryPop());
  EXPECT_EQ(4, queue.tryPop());
  EXPECT_EQ(std::nullopt, queue.tryPop());
}

TEST_F(QueueTest, CancelledPopLeavesTheItemsToTheOthers) {
  Queue<int> queue(*dispatcher_, 1);
  std::vector<Future<int>> pops;
  for (int i = 0; i < 5; ++i) {
    pops.push_back(queue.pop());
  }
  pops[0].cancel();
  pops[2].cancel();
  pops[4].cancel();
  EXPECT_TRUE(queue.tryPush(1));
  EXPECT_TRUE(queue.tryPush(2));
  EXPECT_TRUE(queue.tryPush(3));
  EXPECT_EQ(1, *pops[1].result());
  EXPECT_EQ(2, *pops[3].result());
  EXPECT_EQ(1u, queue.size());
}

TEST_F(QueueTest, CloseLetsPopsDrainItAndThenFail) {
  Queue<int> queue(*dispatcher_, 1);
  EXPECT_TRUE(queue.tryPush(1));
  Future<void> waiting = queue.push(2);
  queue.close();
  EXPECT_FALSE(queue.tryPush(3));
  Future<void> late = queue.push(3);
  EXPECT_TRUE(failedWith(late, absl::StatusCode::kFailedPrecondition, "the queue is closed"));
  std::move(late).detach();
  EXPECT_EQ(1, *queue.pop().get());
  EXPECT_TRUE(waiting.result().hasValue());
  EXPECT_EQ(2, *queue.pop().get());
  Future<int> end = queue.pop();
  EXPECT_TRUE(failedWith(end, absl::StatusCode::kOutOfRange, "the queue is closed"));
  std::move(end).detach();
  EXPECT_EQ(std::nullopt, queue.tryPop());
}

TEST_F(QueueTest, CloseFailsPopsThatWait) {
  Queue<int> queue(*dispatcher_, 1);
  Future<int> first = queue.pop();
  Future<int> second = queue.pop();
  queue.close(absl::DataLossError("the source broke"));
  queue.close();  // too late to change the reason
  EXPECT_TRUE(failedWith(first, absl::StatusCode::kDataLoss, "the source broke"));
  EXPECT_TRUE(failedWith(second, absl::StatusCode::kDataLoss, "the source broke"));
  std::move(first).detach();
  std::move(second).detach();
}

TEST_F(QueueTest, DestructionFailsThoseThatWaitAndDestroysTheItems) {
  int destroyed = 0;
  const auto item = [&destroyed] { return std::make_unique<OnDestroy>([&destroyed] { ++destroyed; }); };
  std::optional<Queue<std::unique_ptr<OnDestroy>>> queue(std::in_place, *dispatcher_, 1);
  EXPECT_TRUE(queue->tryPush(item()));
  Future<void> pushing = queue->push(item());
  queue.reset();
  EXPECT_TRUE(failedWith(pushing, absl::StatusCode::kCancelled, "the queue was destroyed"));
  EXPECT_EQ(2, destroyed);

  queue.emplace(*dispatcher_, 1);
  Future<std::unique_ptr<OnDestroy>> popping = queue->pop();
  queue.reset();
  EXPECT_TRUE(failedWith(popping, absl::StatusCode::kCancelled, "the queue was destroyed"));
}

TEST_F(QueueTest, ShutdownOfTheDispatcherFailsThoseThatWait) {
  Queue<int> full(*dispatcher_, 0);
  Queue<int> empty(*dispatcher_, 1);
  Future<void> pushing = full.push(1);
  Future<int> popping = empty.pop();
  dispatcher_->shutdown();
  EXPECT_TRUE(failedWith(pushing, absl::StatusCode::kCancelled, "shut down"));
  EXPECT_TRUE(failedWith(popping, absl::StatusCode::kCancelled, "shut down"));
  EXPECT_EQ(std::nullopt, full.tryPop());
  EXPECT_TRUE(empty.tryPush(1));
  EXPECT_EQ(1, empty.tryPop());
}

TEST_F(QueueTest, ContinuationMayUseTheSameQueue) {
  Queue<int> queue(*dispatcher_, 1);
  std::vector<int> seen;
  Future<void> done = queue.pop().then([&](int item) {
    seen.push_back(item);
    EXPECT_TRUE(queue.tryPush(2));
    return queue.pop().then([&](int next) {
      seen.push_back(next);
      queue.close();
    });
  });
  EXPECT_TRUE(queue.tryPush(1));
  drain();
  EXPECT_EQ((std::vector<int>{1, 2}), seen);
  EXPECT_TRUE(done.result().hasValue());
}

TEST_F(QueueTest, ItemWhoseDestructorUsesTheQueueMayBePushedToADroppedPop) {
  Queue<std::unique_ptr<OnDestroy>> queue(*dispatcher_, 1);
  queue.pop().detach();
  EXPECT_TRUE(queue.tryPush(std::make_unique<OnDestroy>([&queue] { EXPECT_TRUE(queue.tryPush(nullptr)); })));
  EXPECT_EQ(1u, queue.size());
}

TEST_F(QueueTest, ServesManyPopsAndManyPushesThatWait) {
  Queue<int> queue(*dispatcher_, 0);
  int64_t sum = 0;
  for (int i = 0; i < kMany; ++i) {
    queue.pop().then([&sum](int item) { sum += item; }).detach();
  }
  for (int i = 0; i < kMany; ++i) {
    EXPECT_TRUE(queue.push(1).isReady());
  }
  drain();
  EXPECT_EQ(kMany, sum);
  for (int i = 0; i < kMany; ++i) {
    queue.push(1).then([&sum] { --sum; }).detach();
  }
  for (int i = 0; i < kMany; ++i) {
    EXPECT_TRUE(queue.tryPop().has_value());
  }
  drain();
  EXPECT_EQ(0, sum);
}

TEST_F(QueueTest, IsDestroyedWithManyThatWait) {
  int failed = 0;
  {
    Queue<int> queue(*dispatcher_, 0);
    for (int i = 0; i < kMany; ++i) {
      queue.push(1).thenError([&failed](const absl::Status&) { ++failed; }).detach();
    }
  }
  drain();
  EXPECT_EQ(kMany, failed);
}

Future<void> produce(Dispatcher&, Queue<int>& queue, int count) {
  for (int i = 0; i < count; ++i) {
    co_await queue.push(std::move(i));
  }
  queue.close();
}

Future<void> consume(Dispatcher&, Queue<int>& queue, std::vector<int>& items) {
  for (;;) {
    Try<int> item = co_await asTry(queue.pop());
    if (item.failed()) {
      co_return;
    }
    items.push_back(*item);
  }
}

TEST_F(QueueTest, CoroutinesHandItemsOver) {
  for (const std::size_t capacity : {0, 1, 3, 100}) {
    Queue<int> queue(*dispatcher_, capacity);
    std::vector<int> items;
    Future<void> consumer = consume(*dispatcher_, queue, items);
    Future<void> producer = produce(*dispatcher_, queue, 50);
    drain();
    ASSERT_EQ(50u, items.size());
    for (int i = 0; i < 50; ++i) {
      EXPECT_EQ(i, items[i]);
    }
  }
}

// --- Items at which nobody has looked.

// Takes items, and is interrupted by ticks, or by a time.
enum class Choice { TickFirst, ItemFirst, CollectAny, Within };

Future<void> chooseItems(Dispatcher& dispatcher, Choice choice, Queue<int>& queue, Promise<void>& tick,
                         std::vector<int>& items) {
  for (;;) {
    tick = Promise<void>();
    Future<void> ticked = tick.future(dispatcher);
    Future<int> item = queue.pop();
    int taken = 0;
    if (choice == Choice::TickFirst) {
      auto either = anyOf(std::move(ticked), std::move(item));
      const std::variant<Unit, int> first = co_await std::move(either);
      taken = first.index() == 1 ? std::get<1>(first) : 0;
    } else if (choice == Choice::ItemFirst) {
      auto either = anyOf(std::move(item), std::move(ticked));
      const std::variant<int, Unit> first = co_await std::move(either);
      taken = first.index() == 0 ? std::get<0>(first) : 0;
    } else if (choice == Choice::CollectAny) {
      auto either = collectAny(std::move(ticked), std::move(item));
      const std::variant<Try<void>, Try<int>> first = co_await std::move(either);
      taken = first.index() == 1 ? *std::get<1>(first) : 0;
    } else {
      std::move(ticked).detach();
      auto limited = asTry(within(std::move(item), std::chrono::microseconds(1)));
      Try<int> first = co_await std::move(limited);
      taken = first.hasValue() ? *first : 0;
    }
    if (taken != 0) {
      items.push_back(taken);
    }
  }
}

TEST_F(QueueTest, NoItemIsLostWhereAPopLosesInTheSameIteration) {
  const uint64_t seed = testSeed();
  SCOPED_TRACE(testing::Message() << "NUNCIO_TEST_SEED=" << seed);
  std::mt19937_64 random(seed);
  for (const Choice choice : {Choice::TickFirst, Choice::ItemFirst, Choice::CollectAny, Choice::Within}) {
    Queue<int> queue(*dispatcher_, 100);
    Promise<void> tick;
    std::vector<int> items;
    Future<void> consumer = chooseItems(*dispatcher_, choice, queue, tick, items);
    int sent = 0;
    for (int round = 0; round < 5'000; ++round) {
      dispatcher_->post([&] {
        for (int i = 0; i < 3; ++i) {
          if (random() % 2 == 0) {
            tick.setValue();
          } else {
            EXPECT_TRUE(queue.tryPush(int{++sent}));
          }
        }
      });
      time_.advanceTimeAndRun(std::chrono::microseconds(random() % 2));
    }
    time_.advanceTimeAndRun(std::chrono::microseconds(1));
    ASSERT_EQ(items.size(), static_cast<std::size_t>(sent));
    for (int i = 0; i < sent; ++i) {
      ASSERT_EQ(items[static_cast<std::size_t>(i)], i + 1) << "out of order";
    }
    EXPECT_TRUE(queue.empty());
    consumer.cancel();
  }
}

TEST_F(QueueTest, NoItemIsLostWherePopsAreDroppedCancelledOrReadAtAnyMoment) {
  const uint64_t seed = testSeed();
  SCOPED_TRACE(testing::Message() << "NUNCIO_TEST_SEED=" << seed);
  std::mt19937_64 random(seed);
  Queue<int> queue(*dispatcher_, 3);
  std::vector<Future<int>> pops;
  int sent = 0;
  int64_t sum = 0;
  for (int step = 0; step < 20'000; ++step) {
    const std::size_t which = pops.empty() ? 0 : random() % pops.size();
    switch (random() % 8) {
      case 0:
      case 1:
        sent += queue.tryPush(sent + 1) ? 1 : 0;
        break;
      case 2:
      case 3:
        pops.push_back(queue.pop());
        break;
      case 4:
        if (!pops.empty()) {
          pops[which].cancel();
        }
        break;
      case 5:
        if (!pops.empty()) {
          std::swap(pops[which], pops.back());
          pops.pop_back();
        }
        break;
      case 6:
        if (!pops.empty()) {  // cancelled before it has run, it has not looked
          Future<void> reader = std::move(pops[which]).then([&sum](int item) { sum += item; });
          std::swap(pops[which], pops.back());
          pops.pop_back();
          if (random() % 2 == 0) {
            reader.cancel();
          } else if (!reader.isReady()) {
            std::move(reader).detach();
          }
        }
        break;
      default:
        drain();
    }
  }
  drain();
  pops.clear();
  drain();
  while (std::optional<int> item = queue.tryPop()) {
    sum += *item;
  }
  EXPECT_EQ(sum, int64_t{sent} * (sent + 1) / 2);
}

TEST_F(QueueTest, ItemsThatComeBackKeepTheirOrder) {
  std::array<int, 3> order = {0, 1, 2};
  do {
    for (const bool pushed_before : {true, false}) {
      Queue<int> queue(*dispatcher_, 10);
      std::array<Future<int>, 3> pops;
      if (pushed_before) {
        for (int i = 1; i <= 4; ++i) {
          EXPECT_TRUE(queue.tryPush(int{i}));
        }
      }
      for (Future<int>& pop : pops) {
        pop = queue.pop();
      }
      if (!pushed_before) {
        for (int i = 1; i <= 4; ++i) {
          EXPECT_TRUE(queue.tryPush(int{i}));
        }
      }
      for (const int which : order) {
        pops[static_cast<std::size_t>(which)] = Future<int>();
      }
      EXPECT_EQ(4u, queue.size());
      for (int i = 1; i <= 4; ++i) {
        EXPECT_EQ(i, i % 2 == 0 ? *queue.tryPop() : *queue.pop().get());
      }
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(QueueTest, AnItemThatComesBackGoesToThePopThatWaits) {
  Queue<int> queue(*dispatcher_, 10);
  Future<int> first = queue.pop();
  Future<int> second = queue.pop();
  EXPECT_TRUE(queue.tryPush(1));
  EXPECT_FALSE(second.isReady());
  first = Future<int>();
  ASSERT_TRUE(second.isReady());
  EXPECT_EQ(1, *second.result());
  second = Future<int>();
  EXPECT_TRUE(queue.empty()) << "it has been looked at";
}

// Gives `check` a future that an item of `queue` has won, for each way of joining, for an item that was there before
// and for one that came later. The item is 1.
template <class Check>
void forEachWinner(Dispatcher& dispatcher, Check check) {
  for (const bool there_before : {true, false}) {
    for (const int way : {0, 1, 2, 3, 4}) {
      SCOPED_TRACE(testing::Message() << "way " << way << (there_before ? ", there before" : ", came later"));
      Queue<int> queue(dispatcher, 10);
      Promise<int> never;
      if (there_before) {
        EXPECT_TRUE(queue.tryPush(1));
      }
      Future<int> item = queue.pop();
      Future<int> other = never.future(dispatcher);
      const auto won = [&](auto&& winner) {
        if (!there_before) {
          EXPECT_TRUE(queue.tryPush(1));
        }
        check(queue, std::forward<decltype(winner)>(winner));
      };
      if (way == 0) {
        won(anyOf(std::move(item), std::move(other)));
      } else if (way == 1) {
        won(anyOf(std::move(other), std::move(item)));
      } else if (way == 2) {
        won(collectAny(std::move(other), std::move(item)));
      } else if (way == 3) {
        std::vector<Future<int>> both;
        both.push_back(std::move(other));
        both.push_back(std::move(item));
        won(collectAny(std::move(both)));
      } else {
        auto inner = anyOf(std::move(other), std::move(item));
        Promise<void> silent;
        won(collectAny(silent.future(dispatcher), within(std::move(inner), std::chrono::hours(1))));
      }
    }
  }
}

TEST_F(QueueTest, AnItemThatHasWonAndIsNotLookedAtComesBackWithTheFutureThatIsDropped) {
  forEachWinner(*dispatcher_, [this](Queue<int>& queue, auto winner) {
    drain();
    EXPECT_EQ(0u, queue.size());
    {
      const auto dropped = std::move(winner);
    }
    ASSERT_EQ(1u, queue.size());
    EXPECT_EQ(1, *queue.tryPop());
  });
}

TEST_F(QueueTest, AnItemThatHasWonComesBackWhereTheNextStageIsCancelledBeforeItRan) {
  forEachWinner(*dispatcher_, [this](Queue<int>& queue, auto winner) {
    drain();
    bool ran = false;
    Promise<void> first;
    Future<void> chain = first.future(*dispatcher_)
                             .then([winner = std::move(winner)]() mutable { return std::move(winner); })
                             .then([&](const auto&) { ran = true; });
    first.setValue();
    chain.cancel();
    drain();
    EXPECT_FALSE(ran);
    EXPECT_EQ(1u, queue.size());
  });
}

TEST_F(QueueTest, AnItemComesBackWhereTheFunctionThatWaitsForItsTurnIsCancelled) {
  Queue<int> queue(*dispatcher_, 10);
  EXPECT_TRUE(queue.tryPush(1));
  Promise<void> start;
  Future<void> first = start.future(*dispatcher_).then([&] {
    Future<void> reader = queue.pop().then([](int) { ADD_FAILURE() << "ran before its turn"; });
    reader.cancel();
  });
  Promise<void> also;
  Future<void> queued = also.future(*dispatcher_).then([] {});
  dispatcher_->post([&] {
    start.setValue();
    also.setValue();
  });
  drain();
  EXPECT_TRUE(first.isReady());
  EXPECT_EQ(1u, queue.size());
}

Future<int> popCancelled(Dispatcher& /*dispatcher*/, Queue<int>& queue, Future<int>& itself) {
  co_await yield();
  itself.cancel();
  Future<int> item = queue.pop();
  const int value = co_await std::move(item);
  ADD_FAILURE() << "went on";
  co_return value;
}

TEST_F(QueueTest, AnItemComesBackFromACoroutineThatWasCancelledBeforeItWaited) {
  Queue<int> queue(*dispatcher_, 10);
  EXPECT_TRUE(queue.tryPush(1));
  Future<int> coroutine;
  coroutine = popCancelled(*dispatcher_, queue, coroutine);
  drain();
  EXPECT_EQ(1u, queue.size());
}

TEST_F(QueueTest, AnItemComesBackFromAFunctionThatReturnedIt) {
  Queue<int> queue(*dispatcher_, 10);
  EXPECT_TRUE(queue.tryPush(1));
  Promise<void> promise;
  {
    Future<int> future = promise.future(*dispatcher_).then([&] { return queue.pop(); });
    promise.setValue();
    drain();
    EXPECT_EQ(0u, queue.size());
  }
  EXPECT_EQ(1u, queue.size());
}

Future<int> atOnce(int value) { co_return value; }

TEST_F(QueueTest, TheFirstOfTwoThatEndedWhereNoLoopRunsWins) {
  EXPECT_EQ(1, std::get<0>(*anyOf(atOnce(1), atOnce(2)).get()));
  std::vector<Future<int>> both;
  both.push_back(atOnce(1));
  both.push_back(atOnce(2));
  EXPECT_EQ(0u, collectAny(std::move(both)).get()->first);
}

TEST(QueueThreadsTest, AnItemWinsOverAFutureOfAnotherDispatcher) {
  DispatcherPtr worker = createDispatcher({.name = "worker"});
  DispatcherThread thread(*worker);
  DispatcherPtr dispatcher = createDispatcher({.name = "here"});
  for (const int way : {0, 1, 2, 3}) {
    for (int i = 0; i < 200; ++i) {
      Queue<int> queue(*dispatcher, 10);
      Promise<int> never;
      std::atomic<std::size_t> won{0};  // 1 and more: the index; on the dispatcher of the first future
      dispatcher->post([&] {
        EXPECT_TRUE(queue.tryPush(1));
        Future<int> item = queue.pop();
        Future<int> other = never.semiFuture().via(*worker).then([](int value) { return value; });
        const auto note = [&won](const auto& result) { won = result.index() + 1; };
        if (way == 0) {
          anyOf(std::move(item), std::move(other)).then(note).detach();
        } else if (way == 1) {
          anyOf(std::move(other), std::move(item)).then(note).detach();
        } else if (way == 2) {
          collectAny(std::move(item), std::move(other)).then(note).detach();
        } else {
          std::vector<Future<int>> both;
          both.push_back(std::move(item));
          both.push_back(std::move(other));
          collectAny(std::move(both))
              .then([&won](const std::pair<std::size_t, Try<int>>& result) { won = result.first + 1; })
              .detach();
        }
      });
      while (won == 0) {
        dispatcher->run(RunType::NonBlock);
      }
      EXPECT_EQ(won.load(), way == 1 ? 2u : 1u);
      EXPECT_TRUE(queue.empty());
    }
  }
}

TEST_F(QueueTest, AnItemThatHasWonIsTheResult) {
  forEachWinner(*dispatcher_, [this](Queue<int>& queue, auto winner) {
    bool ran = false;
    Future<void> reader = std::move(winner).then([&](const auto&) { ran = true; });
    drain();
    EXPECT_TRUE(ran);
    EXPECT_EQ(0u, queue.size());
    EXPECT_TRUE(queue.empty());
  });
}

TEST_F(QueueTest, DestructorsOfItemsThatAreHandedOnMayCancelWhoWaitsOrDestroyTheQueue) {
  constexpr int kDestructors = 10;
  for (int n = 1; n < kDestructors; ++n) {
    for (const bool destroy : {false, true}) {
      SCOPED_TRACE(testing::Message() << n << (destroy ? ", destroys" : ", cancels"));
      auto queue = std::make_unique<Queue<ActsWhenDestroyed>>(*dispatcher_, 10);
      Future<ActsWhenDestroyed> first = queue->pop();
      Future<ActsWhenDestroyed> second = queue->pop();
      ActsWhenDestroyed::at(n, [&] {
        if (destroy) {
          queue.reset();
        } else {
          second.cancel();
        }
      });
      EXPECT_TRUE(queue->tryPush(ActsWhenDestroyed()));
      first = Future<ActsWhenDestroyed>();  // which gives it to the second
      drain();
      ActsWhenDestroyed::never();
    }
  }
}

TEST_F(QueueTest, AnItemThatHasWonOutlivesItsQueue) {
  std::optional<Queue<int>> queue(std::in_place, *dispatcher_, 10);
  Promise<int> never;
  auto any = anyOf(queue->pop(), never.future(*dispatcher_));
  EXPECT_TRUE(queue->tryPush(1));
  drain();
  queue.reset();
  EXPECT_EQ(1, std::get<0>(*any.result()));
}

TEST_F(QueueTest, AnItemThatHasWonIsDestroyedByAShutdown) {
  Promise<std::shared_ptr<int>> never;
  Queue<std::shared_ptr<int>> queue(*dispatcher_, 10);
  auto item = std::make_shared<int>(1);
  const std::weak_ptr<int> alive = item;
  auto any = anyOf(queue.pop(), never.future(*dispatcher_));
  EXPECT_TRUE(queue.tryPush(std::move(item)));
  drain();
  dispatcher_->shutdown();
  {
    const auto dropped = std::move(any);
  }
  EXPECT_TRUE(alive.expired());
}

TEST_F(QueueTest, AnItemThatWasHandedToAPopIsNotGivenUpByACancel) {
  Queue<int> queue(*dispatcher_, 10);
  Future<int> pop = queue.pop();
  EXPECT_TRUE(queue.tryPush(1));
  pop.cancel();  // too late: it has come
  EXPECT_EQ(1, *std::move(pop).get());
}

Future<int> popLater(Dispatcher& /*dispatcher*/, Queue<int>& queue) {
  Future<int> item = queue.pop();
  const int value = co_await std::move(item);
  co_return value;
}

TEST_F(QueueTest, AnItemOfACoroutineThatIsCancelledBeforeItWentOnComesBack) {
  Queue<int> queue(*dispatcher_, 10);
  Future<int> coroutine = popLater(*dispatcher_, queue);
  EXPECT_TRUE(queue.tryPush(1));
  coroutine.cancel();
  EXPECT_EQ(1, *queue.pop().get());
  EXPECT_TRUE(queue.empty());
}

TEST_F(QueueTest, MayBeDestroyedWhileItemsAreHandedOut) {
  int destroyed = 0;
  const auto item = [&destroyed] { return std::make_unique<OnDestroy>([&destroyed] { ++destroyed; }); };
  using Pop = Future<std::unique_ptr<OnDestroy>>;
  std::optional<Queue<std::unique_ptr<OnDestroy>>> queue(std::in_place, *dispatcher_, 10);
  Pop waited = queue->pop();
  Pop dropped = queue->pop();
  EXPECT_TRUE(queue->tryPush(item()));
  EXPECT_TRUE(queue->tryPush(item()));
  EXPECT_TRUE(queue->tryPush(item()));
  queue->pop().detach();  // comes back, and goes with the queue
  queue.reset();
  EXPECT_EQ(1, destroyed);
  dropped = Pop();
  EXPECT_EQ(2, destroyed);
  ASSERT_TRUE(waited.isReady());
  EXPECT_NE(nullptr, *waited.result());
  waited = Pop();
  EXPECT_EQ(3, destroyed);
}

TEST_F(QueueTest, AnItemComesBackToAClosedQueueAndIsPoppedBeforeItsEnd) {
  Queue<int> queue(*dispatcher_, 10);
  Future<int> pop = queue.pop();
  EXPECT_TRUE(queue.tryPush(1));
  queue.close();
  Future<int> end = queue.pop();
  EXPECT_TRUE(failedWith(end, absl::StatusCode::kOutOfRange, ""));
  std::move(end).detach();
  pop = Future<int>();
  EXPECT_EQ(1u, queue.size());
  EXPECT_EQ(1, *queue.pop().get());
  end = queue.pop();
  EXPECT_TRUE(failedWith(end, absl::StatusCode::kOutOfRange, ""));
  std::move(end).detach();
}

TEST_F(QueueTest, APushThatWaitsIsNotLetInByAnItemThatComesBack) {
  Queue<int> queue(*dispatcher_, 1);
  Future<int> pop = queue.pop();
  EXPECT_TRUE(queue.tryPush(1));
  EXPECT_TRUE(queue.tryPush(2));
  Future<void> third = queue.push(3);
  EXPECT_FALSE(third.isReady());
  pop = Future<int>();
  EXPECT_EQ(2u, queue.size()) << "more than the capacity, for a while";
  EXPECT_EQ(1, *queue.pop().get());
  EXPECT_FALSE(third.isReady());
  EXPECT_EQ(2, *queue.pop().get());
  EXPECT_TRUE(third.isReady());
  EXPECT_EQ(3, *queue.pop().get());
}

TEST_F(QueueTest, ItemsThatAreHandedOutGoWithADispatcherThatShutsDown) {
  auto alive = std::make_shared<int>(1);
  Queue<std::shared_ptr<int>> queue(*dispatcher_, 10);
  {
    Future<std::shared_ptr<int>> pop = queue.pop();
    EXPECT_TRUE(queue.tryPush(std::shared_ptr<int>(alive)));
    dispatcher_->shutdown();
  }
  EXPECT_EQ(1, alive.use_count());
}

// What a queue is to do, in the simplest words: the items of pushes that wait are in it, beyond its capacity.
struct Model {
  struct Item {
    int value;
    int push;
  };
  std::size_t capacity;
  std::deque<Item> items;
  std::deque<int> pops;
  bool closed = false;
};

TEST_F(QueueTest, DoesWhatTheModelDoes) {
  const uint64_t seed = testSeed();
  SCOPED_TRACE(testing::Message() << "NUNCIO_TEST_SEED=" << seed);
  std::mt19937_64 random(seed);
  const auto below = [&random](uint64_t limit) { return random() % limit; };
  for (int round = 0; round < 100; ++round) {
    const std::size_t capacity = below(4);
    Queue<int> queue(*dispatcher_, capacity);
    Model model{capacity, {}, {}};
    std::vector<Future<void>> pushes;
    std::vector<Future<int>> pops;
    std::vector<std::optional<int>> expected;  // by pop; nothing: cancelled, failed, or still waiting
    for (int step = 0; step < 200; ++step) {
      switch (below(model.closed ? 8 : 9)) {
        case 0:
        case 1:
        case 2: {  // push
          const int value = static_cast<int>(random() % 1000);
          const int id = static_cast<int>(pushes.size());
          pushes.push_back(queue.push(int{value}));
          if (model.closed) {
            ASSERT_TRUE(pushes.back().result().failed());
          } else if (!model.pops.empty()) {
            expected[model.pops.front()] = value;
            model.pops.pop_front();
          } else {
            model.items.push_back({value, id});
          }
          break;
        }
        case 3:
        case 4:
        case 5: {  // pop
          const int id = static_cast<int>(pops.size());
          pops.push_back(queue.pop());
          expected.emplace_back();
          if (!model.items.empty()) {
            expected[id] = model.items.front().value;
            model.items.pop_front();
          } else if (!model.closed) {
            model.pops.push_back(id);
          }
          break;
        }
        case 6:  // cancel a push that waits
          if (model.items.size() > capacity) {
            const std::size_t which = capacity + below(model.items.size() - capacity);
            pushes[model.items[which].push].cancel();
            model.items.erase(model.items.begin() + static_cast<std::ptrdiff_t>(which));
          }
          break;
        case 7:  // cancel a pop that waits
          if (!model.pops.empty()) {
            const std::size_t which = below(model.pops.size());
            pops[model.pops[which]].cancel();
            model.pops.erase(model.pops.begin() + static_cast<std::ptrdiff_t>(which));
          }
          break;
        default:  // close
          if (below(50) == 0) {
            queue.close();
            model.closed = true;
            model.pops.clear();
          }
          break;
      }
      ASSERT_EQ(std::min(capacity, model.items.size()), queue.size()) << "in step " << step;
      ASSERT_EQ(model.items.size() - queue.size(), queue.waitingPushes()) << "in step " << step;
      ASSERT_EQ(model.pops.size(), queue.waitingPops()) << "in step " << step;
      for (std::size_t i = 0; i < pops.size(); ++i) {
        ASSERT_EQ(expected[i].has_value(), pops[i].isReady() && pops[i].result().hasValue()) << "in step " << step;
        if (expected[i].has_value()) {
          ASSERT_EQ(*expected[i], *pops[i].result()) << "in step " << step;
        }
      }
    }
    for (Future<void>& push : pushes) {
      std::move(push).detach();
    }
    for (Future<int>& pop : pops) {
      std::move(pop).detach();
    }
  }
}

}  // namespace
}  // namespace nuncio::test
