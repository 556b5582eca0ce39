#include "nuncio/runtime/sharded.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/future/coroutine.h"
#include "nuncio/future/time.h"
#include "nuncio/runtime/foreign.h"
#include "test/test_support/contract.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/log.h"
#include "test/test_support/notification.h"
#include "test/test_support/uninstrumented_abseil.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

// Says when it ends, and that it does so where it came to be.
class Counter {
public:
  Counter(std::size_t index, Log& log) : index_(index), log_(log) {}
  ~Counter() {
    EXPECT_EQ(made_on_, std::this_thread::get_id());
    log_.add(absl::StrCat("~", index_));
  }
  std::size_t index() const { return index_; }
  int add(int more) {
    EXPECT_EQ(made_on_, std::this_thread::get_id());
    return value_ += more;
  }

private:
  const std::thread::id made_on_ = std::this_thread::get_id();
  const std::size_t index_;
  Log& log_;
  int value_ = 0;
};

class ShardedTest : public testing::Test {
protected:
  static constexpr std::size_t kWorkers = 4;

  auto maker() {
    return [this](Dispatcher&, std::size_t index) { return std::make_unique<Counter>(index, log_); };
  }

  Log log_;
  std::unique_ptr<WorkerPool> pool_ = *WorkerPool::create({.threads = kWorkers});
  Sharded<Counter> counters_;
};

TEST_F(ShardedTest, EachWorkerHasItsOwnAndTheyEndInReverseOrder) {
  EXPECT_EQ(0, counters_.size());
  ASSERT_TRUE(counters_.start(*pool_, maker()).get().hasValue());
  EXPECT_EQ(kWorkers, counters_.size());
  for (std::size_t i = 0; i < kWorkers; ++i) {
    EXPECT_EQ(i, *counters_
                      .call(i,
                            [this](Counter& own) {
                              EXPECT_EQ(&own, &counters_.local());
                              return own.index();
                            })
                      .get());
  }
  EXPECT_EQ(nullptr, counters_.localIfAny());
  ASSERT_TRUE(counters_.stop().get().hasValue());
  EXPECT_THAT(log_.take(), ElementsAre("~3", "~2", "~1", "~0"));
}

TEST_F(ShardedTest, FromALoopTheAnswersComeThere) {
  DispatcherPtr dispatcher = createDispatcher();
  std::thread::id went_on;
  dispatcher->post([&] {
    [](Future<void> started, Sharded<Counter>& counters, Dispatcher& here, std::thread::id& on) -> Future<void> {
      co_await std::move(started);
      for (std::size_t i = 0; i < kWorkers; ++i) {
        Future<int> added = counters.call(i, [](Counter& counter) { return counter.add(3); });
        EXPECT_EQ(3, co_await std::move(added));
      }
      on = std::this_thread::get_id();
      co_await counters.stop();
      here.exit();
    }(counters_.start(*pool_, maker()), counters_, *dispatcher, went_on)
                                                                                                       .detach();
  });
  dispatcher->run(RunType::RunUntilExit);
  EXPECT_EQ(std::this_thread::get_id(), went_on);
}

TEST_F(ShardedTest, AWorkerCallsItselfAtOnceAndOthers) {
  ASSERT_TRUE(counters_.start(*pool_, maker()).get().hasValue());
  const auto f = [this](Counter&) {
    Future<std::size_t> own = counters_.call(0, [](Counter& counter) { return counter.index(); });
    EXPECT_TRUE(own.isReady());
    return counters_.call(1, [](Counter& counter) { return counter.index(); })
        .then([first = std::move(own).get()](std::size_t second) { return absl::StrCat(*first, second); });
  };
  EXPECT_EQ("01", *counters_.call(0, f).get());
  ASSERT_TRUE(counters_.stop().get().hasValue());
}

TEST_F(ShardedTest, CallAllAndMapReduce) {
  ASSERT_TRUE(counters_.start(*pool_, maker()).get().hasValue());
  EXPECT_TRUE(
      counters_.callAll([](Counter& counter) { counter.add(static_cast<int>(counter.index())); }).get().hasValue());
  EXPECT_EQ("init0123", *counters_
                             .mapReduce([](Counter& counter) { return counter.add(0); }, std::string("init"),
                                        [](const std::string& all, int one) { return absl::StrCat(all, one); })
                             .get());
  const absl::Status failed =
      counters_
          .callAll([](Counter& counter) -> absl::Status {
            counter.add(10);
            return counter.index() % 2 == 1 ? absl::DataLossError(absl::StrCat(counter.index())) : absl::OkStatus();
          })
          .get()
          .status();
  EXPECT_EQ(absl::DataLossError("1"), failed) << "the first in the order of the workers";
  EXPECT_EQ(46, *counters_.mapReduce([](Counter& counter) { return counter.add(0); }, 0, std::plus<>()).get())
      << "each was called, also after that";
  EXPECT_EQ(
      absl::StatusCode::kDataLoss,
      counters_.mapReduce([](Counter&) { return absl::StatusOr<int>(absl::DataLossError("lost")); }, 0, std::plus<>())
          .get()
          .status()
          .code());
  ASSERT_TRUE(counters_.stop().get().hasValue());
}

TEST_F(ShardedTest, OneThatFailsToStartHasTheOthersStopped) {
  const auto fails = [this](Dispatcher&, std::size_t index) -> absl::StatusOr<std::unique_ptr<Counter>> {
    if (index == 2) {
      return absl::DataLossError("no shard 2");
    }
    return std::make_unique<Counter>(index, log_);
  };
  EXPECT_EQ(absl::DataLossError("no shard 2"), counters_.start(*pool_, fails).get().status());
  EXPECT_THAT(log_.take(), ElementsAre("~3", "~1", "~0"));
  EXPECT_EQ(absl::StatusCode::kCancelled, counters_.call(0, [](Counter&) {}).get().status().code());

  EXPECT_EQ(absl::StatusCode::kInvalidArgument,
            counters_.start(*pool_, [](Dispatcher&, std::size_t) { return std::unique_ptr<Counter>(); })
                .get()
                .status()
                .code());
  const auto throws = [](Dispatcher&, std::size_t) -> std::unique_ptr<Counter> { throw std::runtime_error("thrown"); };
  EXPECT_TRUE(counters_.start(*pool_, throws).get().failed());

  ASSERT_TRUE(counters_.start(*pool_, maker()).get().hasValue()) << "anew";
  ASSERT_TRUE(counters_.stop().get().hasValue());
}

TEST_F(ShardedTest, StartedTwiceOrCalledWhenItIsNotStarted) {
  EXPECT_EQ(absl::StatusCode::kCancelled, counters_.call(0, [](Counter&) {}).get().status().code());
  EXPECT_EQ(absl::StatusCode::kCancelled, counters_.callAll([](Counter&) {}).get().status().code());
  EXPECT_TRUE(counters_.stop().get().hasValue()) << "there is nothing to stop";
  ASSERT_TRUE(counters_.start(*pool_, maker()).get().hasValue());
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, counters_.start(*pool_, maker()).get().status().code());
  EXPECT_EQ(absl::StatusCode::kOutOfRange, counters_.call(kWorkers, [](Counter&) {}).get().status().code());
  Future<void> first = counters_.stop();
  Future<void> second = counters_.stop();
  EXPECT_EQ(absl::StatusCode::kCancelled, counters_.call(0, [](Counter&) {}).get().status().code());
  EXPECT_TRUE(std::move(first).get().hasValue());
  EXPECT_TRUE(std::move(second).get().hasValue());
  EXPECT_THAT(log_.take(), ElementsAre("~3", "~2", "~1", "~0"));
  EXPECT_TRUE(counters_.stop().get().hasValue());
}

// T::stop() is called, and waited for, and so are calls whose futures are not done.
class Stops {
public:
  Stops(Dispatcher& dispatcher, std::size_t index, Log& log) : dispatcher_(dispatcher), index_(index), log_(log) {}
  ~Stops() { log_.add(absl::StrCat("~", index_)); }

  Future<void> serve() {
    co_await sleepFor(dispatcher_, 20ms);
    log_.add(absl::StrCat("served ", index_));
  }
  Future<void> stop() {
    log_.add(absl::StrCat("stop ", index_));
    co_await sleepFor(dispatcher_, 1ms);
    log_.add(absl::StrCat("stopped ", index_));
    if (index_ == 1) {
      throw std::runtime_error("as it is to be");
    }
  }

private:
  Dispatcher& dispatcher_;
  const std::size_t index_;
  Log& log_;
};

TEST_F(ShardedTest, StopWaitsForTheObjectAndForItsCalls) {
  Sharded<Stops> sharded;
  const auto make = [this](Dispatcher& dispatcher, std::size_t index) -> Future<std::unique_ptr<Stops>> {
    co_await sleepFor(dispatcher, 1ms);
    co_return std::make_unique<Stops>(dispatcher, index, log_);
  };
  auto pool = *WorkerPool::create({.threads = 2});
  ASSERT_TRUE(sharded.start(*pool, make).get().hasValue());
  Future<void> served = sharded.call(1, [](Stops& stops) { return stops.serve(); });
  EXPECT_TRUE(sharded.stop().get().failed());
  EXPECT_TRUE(std::move(served).get().hasValue());
  EXPECT_THAT(log_.take(), ElementsAre("stop 1", "stopped 1", "served 1", "~1", "stop 0", "stopped 0", "~0"));
}

TEST_F(ShardedTest, WhereThePoolIsGoneFirstTheObjectsAreDestroyedByStop) {
  struct Anywhere {
    explicit Anywhere(Log& to) : log(to) {}
    ~Anywhere() { log.add("~"); }
    Log& log;
  };
  Sharded<Anywhere> sharded;
  ASSERT_TRUE(sharded.start(*pool_, [this](Dispatcher&, std::size_t) { return std::make_unique<Anywhere>(log_); })
                  .get()
                  .hasValue());
  pool_->stop();
  DispatcherPtr dispatcher = createDispatcher();
  bool failed = false;
  dispatcher->post([&] {
    sharded.stop()
        .then([&](Try<void>&& result) {
          failed = result.failed();
          dispatcher->exit();
        })
        .detach();
  });
  dispatcher->run(RunType::RunUntilExit);
  EXPECT_TRUE(failed) << "it says that they had gone";
  EXPECT_THAT(log_.take(), ElementsAre("~", "~", "~", "~"));
}

TEST_F(ShardedTest, SoTheyAreByAThreadWithoutALoop) {
  Sharded<std::shared_ptr<int>> sharded;
  auto alive = std::make_shared<int>();
  ASSERT_TRUE(
      sharded.start(*pool_, [&](Dispatcher&, std::size_t) { return std::make_unique<std::shared_ptr<int>>(alive); })
          .get()
          .hasValue());
  pool_->stop();
  EXPECT_EQ(absl::StatusCode::kCancelled, sharded.call(1, [](auto&) {}).get().status().code());
  EXPECT_EQ(absl::StatusCode::kCancelled, sharded.stop().get().status().code());
  EXPECT_EQ(1, alive.use_count());
}

TEST_F(ShardedTest, AStartThatIsCancelledIsStopped) {
  for (int round = 0; round < 20; ++round) {
    DispatcherPtr dispatcher = createDispatcher();
    dispatcher->post([&] {
      Future<void> starting = counters_.start(*pool_, maker());
      if (round % 2 == 0) {
        starting.cancel();
      }
      std::move(starting).ensure([&] { return counters_.stop(); }).ensure([&] { dispatcher->exit(); }).detach();
    });
    dispatcher->run(RunType::RunUntilExit);
    EXPECT_EQ(absl::StatusCode::kCancelled, counters_.call(0, [](Counter&) {}).get().status().code());
  }
}

TEST_F(ShardedTest, ManyAtATimeAndOneAfterTheOther) {
  constexpr std::size_t kMany = 80;  // more than there are fast slots
  std::vector<std::unique_ptr<Sharded<int>>> many;
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < kMany; ++i) {
      many.push_back(std::make_unique<Sharded<int>>());
      ASSERT_TRUE(many.back()
                      ->start(*pool_,
                              [i](Dispatcher&, std::size_t index) {
                                return std::make_unique<int>(static_cast<int>(100 * i + index));
                              })
                      .get()
                      .hasValue());
    }
    for (std::size_t i = 0; i < kMany; ++i) {
      EXPECT_EQ(static_cast<int>(100 * i + 3), *many[i]->call(3, [&](int&) { return many[i]->local(); }).get());
    }
    for (auto& sharded : many) {
      ASSERT_TRUE(sharded->stop().get().hasValue());
      EXPECT_EQ(nullptr, sharded->localIfAny());
    }
    many.clear();
  }
}

using ShardedDeathTest = ShardedTest;

TEST_F(ShardedDeathTest, LocalOffAWorkerEndsTheProgram) {
  ASSERT_TRUE(counters_.start(*pool_, maker()).get().hasValue());
  EXPECT_DEATH(counters_.local(), "Counter");
  ASSERT_TRUE(counters_.stop().get().hasValue());
}

TEST_F(ShardedDeathTest, DestroyedWithoutStopItNamesTheType) {
  struct Forgotten {};
  auto* const sharded = new Sharded<Forgotten>;
  ASSERT_TRUE(
      sharded->start(*pool_, [](Dispatcher&, std::size_t) { return std::make_unique<Forgotten>(); }).get().hasValue());
  EXPECT_DEBUG_DEATH(delete sharded, "Forgotten");
#ifndef NDEBUG
  ASSERT_TRUE(sharded->stop().get().hasValue());
  delete sharded;
#endif
}

// --- Foreign

TEST(ForeignTest, IsDestroyedWhereItWasMade) {
  DispatcherPtr home = createDispatcher({.name = "home"});
  std::thread::id destroyed_on;
  struct Object {
    explicit Object(std::thread::id& on) : destroyed_on(on) {}
    ~Object() { destroyed_on = std::this_thread::get_id(); }
    std::thread::id& destroyed_on;
  };
  Foreign<Object> object;
  EXPECT_FALSE(object);
  EXPECT_EQ(nullptr, object.get());
  {
    DispatcherThread thread(*home);
    const auto make = [&] {
      destroyed_on = {};
      object = Foreign<Object>(std::make_unique<Object>(destroyed_on), *home);
    };
    thread.call(make);
    EXPECT_NE(nullptr, object.get());
    object = nullptr;
    thread.call([] {});
    EXPECT_EQ(thread.id(), destroyed_on);

    thread.call([&] {
      make();
      object.reset();
      EXPECT_EQ(thread.id(), destroyed_on) << "at once";
      make();
    });
    Foreign<Object> moved(std::move(object));
    EXPECT_FALSE(object);  // NOLINT(bugprone-use-after-move): that is what is tested
    object = std::move(moved);
    EXPECT_TRUE(object);
  }
  home.reset();
  EXPECT_EQ(std::thread::id(), destroyed_on);
  object.reset();
  EXPECT_EQ(std::this_thread::get_id(), destroyed_on) << "its home is gone";
}

TEST(ForeignTest, GivenUpWhileItsHomeShutsDownItIsDestroyedOnce) {
  for (int round = 0; round < 300; ++round) {
    DispatcherPtr home = createDispatcher({.name = "home"});
    auto alive = std::make_shared<int>();
    std::array<Foreign<std::shared_ptr<int>>, 4> objects;
    for (auto& object : objects) {
      object = Foreign<std::shared_ptr<int>>(std::make_unique<std::shared_ptr<int>>(alive), *home);
    }
    std::thread ends([&] {
      home->run(RunType::NonBlock);
      home->shutdown();
    });
    for (auto& object : objects) {
      object.reset();
    }
    ends.join();
    home.reset();
    EXPECT_EQ(1, alive.use_count());
  }
}

}  // namespace
}  // namespace nuncio::test
