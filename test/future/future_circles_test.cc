// Futures that wait for each other, in a circle: nothing will ever bring their results, and a shutdown ends them.

#include <atomic>
#include <cstddef>
#include <functional>
#include <source_location>
#include <string>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/any_of.h"
#include "nuncio/future/cancellation.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/shared_future.h"
#include "nuncio/future/submit.h"
#include "nuncio/future/time.h"
#include "test/test_support/contract.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/uninstrumented_abseil.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr const char* kReport = "futures wait for each other";

class FutureCirclesTest : public testing::Test {
protected:
  // Counts the captures and frames that live.
  class Probe {
  public:
    explicit Probe(std::atomic<int>& living) : living_(&living) { ++*living_; }
    Probe(Probe&& other) noexcept : living_(other.living_) { ++*living_; }
    Probe& operator=(Probe&&) = delete;
    ~Probe() { --*living_; }

  private:
    std::atomic<int>* living_;
  };

  FutureCirclesTest() { run(); }
  ~FutureCirclesTest() override { EXPECT_EQ(living_, 0); }

  void run() {
    for (int i = 0; i < 4; ++i) {
      dispatcher_->run(RunType::NonBlock);
    }
  }
  Probe probe() { return Probe(living_); }
  // A coroutine awaits what `through` makes of its own future.
  void expectCircleEnds(const std::function<Future<int>(Future<int>)>& through) {
    Future<int> self;
    Future<int> behind;
    self = awaits(*dispatcher_, behind, probe());
    behind = through(std::move(self));
    run();
    expectEndedByShutdown();
  }
  // Shuts the dispatcher down: all that lives ends. A debug build names the circles.
  void expectEndedByShutdown(int circles = 1) {
    EXPECT_GT(living_, 0) << "it has ended before";
    dispatcher_->shutdown();
    EXPECT_EQ(living_, 0);
    expectReports(circles);
  }
  void expectReports(int circles) {
    int reports = 0;
    const std::string log = log_.text();
    for (std::size_t at = log.find(kReport); at != std::string::npos; at = log.find(kReport, at + 1)) {
      ++reports;
    }
    EXPECT_EQ(reports, kDebugBuild ? circles : 0) << log;
  }

  // Awaits a future that is set only after this has begun.
  Future<int> awaits(Dispatcher& /*dispatcher*/, Future<int>& future, Probe /*parameter*/) {
    const Probe variable = probe();
    co_await yield();
    const int value = co_await std::move(future);
    co_return value;
  }

  Future<int> awaitsElsewhere(Dispatcher& home, Dispatcher& away, bool comes_back, Future<int>& future,
                              Probe /*parameter*/) {
    const Probe variable = probe();
    co_await resumeOn(away);
    if (comes_back) {
      co_await resumeOn(home);
    }
    const int value = co_await std::move(future);
    co_return value;
  }

  // Asks `both` to stop, and waits for its end.
  Future<int> awaitsEnd(Dispatcher& /*dispatcher*/, Future<std::tuple<int, int>>& both, Future<void>& ended,
                        Probe /*parameter*/) {
    const Probe variable = probe();
    co_await yield();
    ended = cancelAndWait(std::move(both));
    co_await std::move(ended);
    co_return 1;
  }

  Future<int> awaitsWhenStarted(Dispatcher& /*dispatcher*/, Future<void> start, Future<int>& future,
                                Probe /*parameter*/) {
    const Probe variable = probe();
    co_await std::move(start);
    const int value = co_await std::move(future);
    co_return value;
  }

  LogCapture log_{LogLayer::Future};
  std::atomic<int> living_{0};
  DispatcherPtr dispatcher_ = createDispatcher({.name = "circles"});
};

TEST_F(FutureCirclesTest, AFunctionThatReturnsItsOwnFuture) {
  Future<int> own;
  Promise<int> start;
  own = start.future(*dispatcher_).then([&own, probe = probe()](int) { return std::move(own); });
  start.setValue(1);
  run();
  EXPECT_EQ(living_, 0) << "a function goes when it ran";
  dispatcher_->shutdown();
  expectReports(1);
}

TEST_F(FutureCirclesTest, FunctionsThatReturnEachOthersFutures) {
  Promise<int> start_first;
  Promise<int> start_second;
  Future<int> first;
  Future<int> second;
  first =
      start_first.future(*dispatcher_).then([&](int) { return std::move(second); }).then([probe = probe()](int value) {
        return value;
      });
  second =
      start_second.future(*dispatcher_).then([&](int) { return std::move(first); }).then([probe = probe()](int value) {
        return value;
      });
  start_first.setValue(1);
  start_second.setValue(1);
  run();
  expectEndedByShutdown();
}

TEST_F(FutureCirclesTest, ACoroutineThatAwaitsItself) {
  Future<int> self;
  self = awaits(*dispatcher_, self, probe());
  run();
  expectEndedByShutdown();
}

TEST_F(FutureCirclesTest, TwoCoroutinesThatAwaitEachOther) {
  Future<int> first;
  Future<int> second;
  first = awaits(*dispatcher_, second, probe());
  second = awaits(*dispatcher_, first, probe());
  run();
  expectEndedByShutdown();
}

TEST_F(FutureCirclesTest, ThreeCoroutinesThatAwaitEachOther) {
  Future<int> first;
  Future<int> second;
  Future<int> third;
  first = awaits(*dispatcher_, second, probe());
  second = awaits(*dispatcher_, third, probe());
  third = awaits(*dispatcher_, first, probe());
  run();
  expectEndedByShutdown();
}

TEST_F(FutureCirclesTest, ACircleThroughThens) {
  expectCircleEnds([this](Future<int> self) {
    return std::move(self).then([probe = probe()](int value) { return value; }).ensure([probe = probe()] {});
  });
}

TEST_F(FutureCirclesTest, ACircleThroughWithin) {
  expectCircleEnds([](Future<int> self) { return within(std::move(self), 1h); });
}

TEST_F(FutureCirclesTest, ACircleThroughDelayed) {
  expectCircleEnds([](Future<int> self) { return delayed(std::move(self), 1h); });
}

TEST_F(FutureCirclesTest, ACircleThroughCollect) {
  Future<int> self;
  Future<int> behind;
  Promise<int> promise;
  self = awaits(*dispatcher_, behind, probe());
  behind = collect(std::move(self), promise.future(*dispatcher_)).then([probe = probe()](const std::tuple<int, int>&) {
    return 1;
  });
  promise.setValue(1);
  run();
  expectEndedByShutdown();
}

TEST_F(FutureCirclesTest, ACircleThroughCollectWithOthersThatArePending) {
  Future<int> self;
  Future<int> behind;
  Promise<int> promise;
  self = awaits(*dispatcher_, behind, probe());
  behind = collect(std::move(self), promise.future(*dispatcher_)).then([probe = probe()](const std::tuple<int, int>&) {
    return 1;
  });
  run();
  expectEndedByShutdown();
  EXPECT_TRUE(promise.done());
}

TEST_F(FutureCirclesTest, ACircleThroughACollectThatOneOfItCancelsEndsByThat) {
  Future<int> self;
  Future<int> behind;
  Promise<int> promise;
  Promise<void> start;
  self = start.future(*dispatcher_).then([&behind, probe = probe()] { return std::move(behind); });
  Future<std::tuple<int, int>> both = collect(std::move(self), promise.future(*dispatcher_));
  Future<void> ended;
  behind = awaitsEnd(*dispatcher_, both, ended, probe());
  start.setValue();
  run();
  EXPECT_EQ(living_, 0);
}

TEST_F(FutureCirclesTest, ACircleThroughAPromiseBesideACoroutineThatWaitsForAnotherDispatcher) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  other->run(RunType::NonBlock);
  Promise<int> circle;
  Future<int> elsewhere = submit(*other, [] { return 1; }).via(*dispatcher_);
  Future<int> coroutine = awaits(*dispatcher_, elsewhere, probe());
  collect(circle.future(*dispatcher_), std::move(coroutine))
      .then([probe = probe()](const std::tuple<int, int>&) { return 1; })
      .forwardTo(std::move(circle));
  run();
  dispatcher_->shutdown();
  EXPECT_GT(living_, 0) << "the other has not answered";
  other->shutdown();
  EXPECT_EQ(living_, 0);
}

TEST_F(FutureCirclesTest, ACoroutineThatAwaitsItselfElsewhere) {
  for (const bool comes_back : {false, true}) {
    for (const bool home_first : {false, true}) {
      DispatcherPtr home = createDispatcher({.name = "home"});
      DispatcherPtr away = createDispatcher({.name = "away"});
      home->run(RunType::NonBlock);
      away->run(RunType::NonBlock);
      Future<int> self;
      self = awaitsElsewhere(*home, *away, comes_back, self, probe());
      for (int i = 0; i < 4; ++i) {
        away->run(RunType::NonBlock);
        home->run(RunType::NonBlock);
      }
      EXPECT_EQ(living_, 2);
      (home_first ? home : away).reset();
      (home_first ? away : home).reset();
      EXPECT_EQ(living_, 0);
    }
  }
}

// The search of circles does not follow a promise whose future has gone.
TEST_F(FutureCirclesTest, APromiseThatWasCancelledLeadsNowhere) {
  DispatcherPtr other = createDispatcher({.name = "other"});
  other->run(RunType::NonBlock);
  Promise<int> gone;
  Promise<int> answer;
  {
    Future<int> future = gone.future(*dispatcher_);
    Future<int> cancelled = awaits(*dispatcher_, future, probe());
    run();
    cancelled.cancel();
  }
  Future<int> pending = answer.future(*other).then([](int value) { return value; }).via(*dispatcher_);
  awaits(*dispatcher_, pending, probe()).forwardTo(std::move(gone));
  run();
  dispatcher_->shutdown();
  answer.setValue(1);
  other->run(RunType::NonBlock);
  EXPECT_EQ(living_, 0);
}

TEST_F(FutureCirclesTest, TwoCircles) {
  Future<int> first;
  Future<int> second;
  Future<int> third;
  first = awaits(*dispatcher_, first, probe());
  second = awaits(*dispatcher_, third, probe());
  third = awaits(*dispatcher_, second, probe());
  run();
  expectEndedByShutdown(2);
}

TEST_F(FutureCirclesTest, ACircleThroughAnyOf) {
  Future<int> self;
  Future<int> behind;
  self = awaits(*dispatcher_, behind, probe());
  behind = anyOf(std::move(self)).then([probe = probe()](const std::variant<int>&) { return 1; });
  run();
  expectEndedByShutdown();
}

TEST_F(FutureCirclesTest, ACircleThroughASemiFuture) {
  Future<int> self;
  Future<int> behind;
  self = awaits(*dispatcher_, behind, probe());
  behind = std::move(self).semi().via(*dispatcher_);
  run();
  expectEndedByShutdown();
}

TEST_F(FutureCirclesTest, APromiseThatIsSettledByWhatWaitsForIt) {
  Promise<int> promise;
  Future<int> behind = promise.future(*dispatcher_).then([probe = probe()](int value) { return value; });
  std::move(behind).forwardTo(std::move(promise));
  run();
  expectEndedByShutdown();
}

TEST_F(FutureCirclesTest, ACircleThroughASharedFuture) {
  Future<int> self;
  Future<int> behind;
  self = awaits(*dispatcher_, behind, probe());
  SharedFuture<int> shared = share(std::move(self));
  behind = shared.future();
  run();
  expectEndedByShutdown(0);
}

TEST_F(FutureCirclesTest, ACircleThroughAnotherDispatcherEndsWithTheLastOfThem) {
  for (const bool here_first : {true, false}) {
    DispatcherPtr here = createDispatcher({.name = "here"});
    DispatcherPtr there = createDispatcher({.name = "there"});
    Future<int> first;
    Future<int> second;
    {
      DispatcherThread here_thread(*here);
      DispatcherThread there_thread(*there);
      Promise<void> start;
      const SharedFuture<void> started = share(start.semiFuture().via(*here));
      first = awaitsWhenStarted(*here, started.via(*here), second, probe());
      second = awaitsWhenStarted(*there, started.via(*there), first, probe());
      start.setValue();
      for (int i = 0; i < 4; ++i) {
        here_thread.call([] {});
        there_thread.call([] {});
      }
    }
    EXPECT_EQ(living_, 4);
    (here_first ? here : there).reset();
    EXPECT_EQ(living_, 4);
    (here_first ? there : here).reset();
    EXPECT_EQ(living_, 0);
  }
}

TEST_F(FutureCirclesTest, ACircleThroughFourDispatchersEndsWithThem) {
  std::vector<DispatcherPtr> others;
  std::vector<Future<int>> futures(4);
  for (std::size_t i = 0; i < futures.size(); ++i) {
    others.push_back(createDispatcher({.name = "other"}));
    others[i]->run(RunType::NonBlock);
    futures[i] = awaits(*others[i], futures[(i + 1) % futures.size()], probe());
  }
  for (int i = 0; i < 4; ++i) {
    for (const DispatcherPtr& other : others) {
      other->run(RunType::NonBlock);
    }
  }
  EXPECT_EQ(living_, 8);
  others.clear();
  expectReports(1);
}

#ifndef NDEBUG
TEST_F(FutureCirclesTest, ADebugBuildNamesThePlacesOfACircle) {
  Future<int> first;
  Future<int> second;
  first = awaits(*dispatcher_, second, probe());
  const int line = __LINE__ + 1;
  second = std::move(first).then([](int value) { return value; });
  run();
  dispatcher_->shutdown();
  const std::string log = log_.text();
  EXPECT_THAT(log, HasSubstr(kReport));
  EXPECT_THAT(log, HasSubstr("coroutine at "));
  EXPECT_THAT(log, HasSubstr("co_await at "));
  EXPECT_THAT(log, HasSubstr(absl::StrCat("then at ", std::source_location::current().file_name(), ":", line)));
}
#endif

}  // namespace
}  // namespace nuncio::test
