// Coroutines that return futures.

#include "nuncio/future/coroutine.h"

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/status_error.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/notification.h"
#include "test/test_support/sanitizers.h"
#include "test/test_support/uninstrumented_abseil.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

class CoroutineTest : public testing::Test {
protected:
  CoroutineTest() { run(); }

  void run() { dispatcher_->run(RunType::NonBlock); }
  // A future of the dispatcher that the test fulfils.
  Future<int> answer() { return promise_.future(*dispatcher_); }

  SimulatedTimeSystem time_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "coroutines", .time_system = &time_});
  Promise<int> promise_;
};

Future<int> addOne(Dispatcher& /*dispatcher*/, Future<int> future) {
  const int value = co_await std::move(future);
  co_return value + 1;
}

TEST_F(CoroutineTest, GoesOnWhenWhatItAwaitsIsThere) {
  Future<int> future = addOne(*dispatcher_, answer());
  run();
  EXPECT_FALSE(future.isReady());
  promise_.setValue(41);
  run();
  EXPECT_EQ(*future.result(), 42);
}

TEST_F(CoroutineTest, StartsAtOnceAndDoesNotSuspendForAReadyFuture) {
  Future<int> future = addOne(*dispatcher_, makeReadyFuture(41));
  ASSERT_TRUE(future.isReady());
  EXPECT_EQ(*future.result(), 42);
}

TEST_F(CoroutineTest, AMillionReadyFuturesNeedNoStack) {
  const auto sum = [](Dispatcher& /*dispatcher*/, int count) -> Future<int> {
    int total = 0;
    for (int i = 0; i < count; ++i) {
      total += co_await makeReadyFuture(1);
    }
    co_return total;
  };
  EXPECT_EQ(*sum(*dispatcher_, 1'000'000).get(), 1'000'000);
}

Future<std::string> joined(Dispatcher& /*dispatcher*/, std::string text, std::unique_ptr<int> number,
                           Future<int> more) {
  const int value = co_await std::move(more);
  co_return text + std::to_string(*number + value);
}

TEST_F(CoroutineTest, ParametersLiveAsLongAsTheFrame) {
  Future<std::string> future;
  {
    std::string text = "a text that is too long for the small buffer of a string: ";
    future = joined(*dispatcher_, std::move(text), std::make_unique<int>(40), answer());
  }
  promise_.setValue(2);
  run();
  EXPECT_EQ(*future.result(), "a text that is too long for the small buffer of a string: 42");
}

struct Incomplete;
Future<int> onConst(Incomplete& /*other*/, const Dispatcher& /*dispatcher*/) {
  co_await yield();
  co_return 1;
}
struct Incomplete {};

TEST_F(CoroutineTest, AConstDispatcherNamesItsDispatcherToo) {
  const DispatcherPtr other = createDispatcher({.name = "other"});
  Incomplete incomplete;
  Future<int> future = onConst(incomplete, *other);
  run();
  EXPECT_FALSE(future.isReady());
  other->run(RunType::NonBlock);
  EXPECT_EQ(*std::move(future).get(), 1);
}

TEST_F(CoroutineTest, CoReturnTakesLvaluesAndConstObjects) {
  static absl::StatusOr<std::string> status_or = "status or";
  static const absl::StatusOr<std::string> const_status_or = "const status or";
  static const absl::Status status = absl::NotFoundError("no");
  static Try<std::string> result("try");
  static const Try<std::string> const_result("const try");
  EXPECT_EQ(*[](Dispatcher&) -> Future<std::string> { co_return status_or; }(*dispatcher_).get(), "status or");
  EXPECT_EQ(
      *[](Dispatcher&) -> Future<std::string> { co_return const_status_or; }(*dispatcher_).get(), "const status or");
  EXPECT_EQ([](Dispatcher&) -> Future<std::string> { co_return status; }(*dispatcher_).get().status(), status);
  EXPECT_EQ(*[](Dispatcher&) -> Future<std::string> { co_return result; }(*dispatcher_).get(), "try");
  EXPECT_EQ(*[](Dispatcher&) -> Future<std::string> { co_return const_result; }(*dispatcher_).get(), "const try");
}

TEST_F(CoroutineTest, CoReturnMovesWhatIsLocal) {
  const auto moving = [](Dispatcher&) -> Future<std::unique_ptr<int>> {
    absl::StatusOr<std::unique_ptr<int>> local = std::make_unique<int>(1);
    co_return local;
  };
  EXPECT_EQ(**moving(*dispatcher_).get(), 1);
}

TEST_F(CoroutineTest, AnExceptionOfItIsItsResult) {
  const auto failing = [](Dispatcher& /*dispatcher*/, Future<int> before) -> Future<int> {
    co_await std::move(before);
    throw std::runtime_error("in a coroutine");
  };
  Future<int> future = failing(*dispatcher_, answer());
  promise_.setValue(1);
  run();
  EXPECT_THROW(std::move(future).get().throwIfFailed(), std::runtime_error);
}

TEST_F(CoroutineTest, AFailureThatItAwaitsIsThrownAndPassesThroughAsItWas) {
  Future<int> exception = addOne(*dispatcher_, makeFailedFuture<int>(std::make_exception_ptr(std::out_of_range("x"))));
  EXPECT_THROW(std::move(exception).get().throwIfFailed(), std::out_of_range);
  Future<int> status = addOne(*dispatcher_, makeFailedFuture<int>(absl::NotFoundError("no")));
  const Try<int> result = std::move(status).get();
  EXPECT_FALSE(result.hasException());
  EXPECT_EQ(result.status(), absl::NotFoundError("no"));
}

TEST_F(CoroutineTest, CatchesAStatusAsAStatusError) {
  const auto recover = [](Dispatcher& /*dispatcher*/, Future<int> future) -> Future<std::string> {
    std::string message;
    try {
      co_await std::move(future);
    } catch (const StatusError& e) {
      message = std::string(e.status().message());
    }
    co_return message;
  };
  Future<std::string> future = recover(*dispatcher_, answer());
  promise_.setStatus(absl::NotFoundError("no"));
  run();
  EXPECT_EQ(*future.result(), "no");
}

TEST_F(CoroutineTest, AsTryGivesTheFailureInsteadOfThrowing) {
  const auto code = [](Dispatcher& /*dispatcher*/, Future<int> future) -> Future<absl::StatusCode> {
    const Try<int> result = co_await asTry(std::move(future));
    co_return result.status().code();
  };
  Future<absl::StatusCode> future = code(*dispatcher_, answer());
  promise_.setStatus(absl::DataLossError("lost"));
  run();
  EXPECT_EQ(*future.result(), absl::StatusCode::kDataLoss);
}

TEST_F(CoroutineTest, ReturnsAStatusAStatusOrAndATry) {
  const auto status = [](Dispatcher& /*dispatcher*/) -> Future<int> { co_return absl::NotFoundError("status"); };
  const auto status_or = [](Dispatcher& /*dispatcher*/) -> Future<int> { co_return absl::StatusOr<int>(1); };
  const auto tried = [](Dispatcher& /*dispatcher*/) -> Future<int> { co_return Try<int>(2); };
  EXPECT_EQ(status(*dispatcher_).get().status(), absl::NotFoundError("status"));
  EXPECT_EQ(*status_or(*dispatcher_).get(), 1);
  EXPECT_EQ(*tried(*dispatcher_).get(), 2);
}

TEST_F(CoroutineTest, AwaitsASemiFuture) {
  const auto await = [](Dispatcher& /*dispatcher*/, SemiFuture<int> future) -> Future<int> {
    co_return co_await std::move(future);
  };
  Future<int> future = await(*dispatcher_, promise_.semiFuture());
  promise_.setValue(42);
  run();
  EXPECT_EQ(*future.result(), 42);
}

TEST_F(CoroutineTest, AwaitOfNoFutureThrowsFailedPrecondition) {
  Future<int> future = addOne(*dispatcher_, Future<int>());
  EXPECT_EQ(std::move(future).get().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(CoroutineTest, BelongsToTheFirstFutureItAwaitsWithoutADispatcher) {
  const auto await = [](Future<int> future) -> Future<int> { co_return co_await std::move(future); };
  Future<int> future = await(answer());
  promise_.setValue(42);
  run();
  EXPECT_EQ(*future.result(), 42);
}

TEST_F(CoroutineTest, WithoutADispatcherYieldFailsWithFailedPrecondition) {
  const auto yielding = []() -> Future<void> { co_await yield(); };
  EXPECT_EQ(yielding().get().status().code(), absl::StatusCode::kFailedPrecondition);
}

// --- Cancelling, dropping.

// Notes what happens to it.
Future<void> noted(Dispatcher& /*dispatcher*/, std::vector<std::string>& notes, Future<int> future) {
  const OnDestroy outer([&] { notes.push_back("outer destroyed"); });
  notes.push_back("waits");
  {
    const OnDestroy inner([&] { notes.push_back("inner destroyed"); });
    co_await std::move(future);
  }
  notes.push_back("goes on");
}

TEST_F(CoroutineTest, CancelDestroysTheFrameWhereItStandsAndRunsItsDestructors) {
  std::vector<std::string> notes;
  bool told = false;
  promise_.onCancel([&] { told = true; });
  Future<void> future = noted(*dispatcher_, notes, answer());
  future.cancel();
  EXPECT_THAT(notes, ElementsAre("waits", "inner destroyed", "outer destroyed"));
  EXPECT_TRUE(told);
  EXPECT_TRUE(absl::IsCancelled(future.result().status()));
}

TEST_F(CoroutineTest, CancelAfterWhatItAwaitsIsThereStillEndsIt) {
  std::vector<std::string> notes;
  Future<void> future = noted(*dispatcher_, notes, answer());
  promise_.setValue(1);
  future.cancel();
  run();
  EXPECT_THAT(notes, ElementsAre("waits", "inner destroyed", "outer destroyed"));
  EXPECT_TRUE(absl::IsCancelled(future.result().status()));
}

TEST_F(CoroutineTest, DroppingItsFutureLetsItGoOn) {
  std::vector<std::string> notes;
  {
    Future<void> future = noted(*dispatcher_, notes, answer());
  }
  promise_.setValue(1);
  run();
  EXPECT_THAT(notes, ElementsAre("waits", "inner destroyed", "goes on", "outer destroyed"));
}

TEST_F(CoroutineTest, ShuttingDownTheDispatcherDestroysSuspendedFrames) {
  std::vector<std::string> notes;
  Future<void> kept = noted(*dispatcher_, notes, answer());
  Promise<int> other;
  noted(*dispatcher_, notes, other.future(*dispatcher_)).detach();
  dispatcher_->shutdown();
  EXPECT_THAT(
      notes, ElementsAre("waits", "waits", "inner destroyed", "outer destroyed", "inner destroyed", "outer destroyed"));
  EXPECT_TRUE(absl::IsCancelled(kept.result().status()));
}

TEST_F(CoroutineTest, ShuttingDownDestroysAFrameThatYields) {
  bool destroyed = false;
  const auto forever = [](Dispatcher& /*dispatcher*/, OnDestroy /*probe*/) -> Future<void> {
    for (;;) {
      co_await yield();
    }
  };
  Future<void> future = forever(*dispatcher_, OnDestroy([&] { destroyed = true; }));
  run();
  EXPECT_FALSE(destroyed);
  dispatcher_->shutdown();
  EXPECT_TRUE(destroyed);
  EXPECT_TRUE(absl::IsCancelled(future.result().status()));
}

TEST_F(CoroutineTest, OneThatCancelsItselfEndsAtItsNextAwaitAndCancelsWhatThatIs) {
  Future<void> self;
  std::vector<std::string> notes;
  Promise<void> start;
  const auto suicidal = [&](Dispatcher& /*dispatcher*/, Future<void> started) -> Future<void> {
    co_await std::move(started);
    self.cancel();
    notes.push_back("still running");
    co_await answer();
    notes.push_back("never");
  };
  self = suicidal(*dispatcher_, start.future(*dispatcher_));
  start.setValue();
  run();
  run();
  EXPECT_THAT(notes, ElementsAre("still running"));
  EXPECT_TRUE(absl::IsCancelled(self.result().status()));
  EXPECT_TRUE(promise_.done());
}

TEST_F(CoroutineTest, AnOnCancelMayCancelTheCoroutineOnceMoreAndDropIt) {
  auto future = std::make_unique<Future<int>>(addOne(*dispatcher_, answer()));
  promise_.onCancel([&] {
    future->cancel();
    future.reset();
  });
  Future<int>& handle = *future;
  handle.cancel();
  run();
  EXPECT_EQ(future, nullptr);
}

TEST_F(CoroutineTest, CancelReachesThroughCoroutinesAndThens) {
  bool destroyed = false;
  const auto inner = [](Dispatcher& /*dispatcher*/, Future<int> future, OnDestroy /*probe*/) -> Future<int> {
    co_return co_await std::move(future);
  };
  Future<int> future =
      addOne(*dispatcher_,
             inner(*dispatcher_, answer(), OnDestroy([&] { destroyed = true; })).then([](int value) { return value; }));
  future.cancel();
  run();
  EXPECT_TRUE(destroyed);
  EXPECT_TRUE(promise_.done());
  EXPECT_TRUE(absl::IsCancelled(future.result().status()));
}

// Each level awaits the next.
Future<int> nested(Dispatcher& dispatcher, int levels, Future<int>& bottom, int& living) {
  ++living;
  const OnDestroy probe([&living] { --living; });
  co_await yield();
  if (levels == 0) {
    co_return co_await std::move(bottom);
  }
  const int value = co_await nested(dispatcher, levels - 1, bottom, living);
  co_return value + 1;
}

class DeepCoroutineTest : public CoroutineTest {
protected:
  static constexpr int kLevels = kSanitizer ? 20'000 : 200'000;

  void descend() {
    while (living_ <= kLevels) {
      run();
    }
    run();
  }

  Future<int> bottom_ = answer();
  int living_ = 0;
  Future<int> future_ = nested(*dispatcher_, kLevels, bottom_, living_);
};

TEST_F(DeepCoroutineTest, CompletesWithABoundedStack) {
  descend();
  promise_.setValue(0);
  while (!future_.isReady()) {
    run();
  }
  EXPECT_EQ(*future_.result(), kLevels);
  EXPECT_EQ(living_, 0);
}

TEST_F(DeepCoroutineTest, IsCancelledWithABoundedStack) {
  descend();
  future_.cancel();
  run();
  EXPECT_EQ(living_, 0);
  EXPECT_TRUE(promise_.done());
  EXPECT_TRUE(absl::IsCancelled(future_.result().status()));
}

TEST_F(DeepCoroutineTest, IsDestroyedByAShutdownWithABoundedStack) {
  descend();
  dispatcher_->shutdown();
  EXPECT_EQ(living_, 0);
  EXPECT_TRUE(promise_.done());
}

// --- Time, turns.

TEST_F(CoroutineTest, AwaitsADuration) {
  const auto sleeper = [](Dispatcher& /*dispatcher*/) -> Future<void> { co_await 10ms; };
  Future<void> future = sleeper(*dispatcher_);
  time_.advanceTimeAndRun(9ms);
  EXPECT_FALSE(future.isReady());
  time_.advanceTimeAndRun(1ms);
  EXPECT_TRUE(future.isReady());
}

TEST_F(CoroutineTest, YieldTakesTurns) {
  std::string order;
  const auto player = [&](Dispatcher& /*dispatcher*/, char name) -> Future<void> {
    for (int i = 0; i < 3; ++i) {
      order.push_back(name);
      co_await yield();
    }
  };
  Future<void> a = player(*dispatcher_, 'a');
  Future<void> b = player(*dispatcher_, 'b');
  Future<void> c = player(*dispatcher_, 'c');
  run();
  EXPECT_EQ(order, "abcabcabc");
  EXPECT_TRUE(a.isReady() && b.isReady() && c.isReady());
}

TEST_F(CoroutineTest, OneThatYieldsForEverDoesNotStarvePosts) {
  const auto forever = [](Dispatcher& /*dispatcher*/) -> Future<void> {
    for (;;) {
      co_await yield();
    }
  };
  Future<void> future = forever(*dispatcher_);
  int posts = 0;
  for (int i = 0; i < 3; ++i) {
    dispatcher_->post([&] { ++posts; });
    run();
    run();
  }
  EXPECT_EQ(posts, 3);
  future.cancel();
}

TEST_F(CoroutineTest, KeepAliveKeepsTheCapturesOfALambda) {
  bool destroyed = false;
  Future<int> future = keepAlive(
      [text = std::string(100, 'x'), probe = OnDestroy([&] { destroyed = true; })](Future<int> number) -> Future<int> {
        const int value = co_await std::move(number);
        co_return value + static_cast<int>(text.size());
      },
      answer());
  run();
  EXPECT_FALSE(destroyed);
  promise_.setValue(1);
  run();
  EXPECT_EQ(*future.result(), 101);
  EXPECT_TRUE(destroyed);
}

TEST_F(CoroutineTest, KeepAliveOfNothingToReturn) {
  bool done = false;
  Future<void> future = keepAlive([&done, this]() -> Future<void> {
    co_await answer();
    done = true;
  });
  promise_.setValue(1);
  run();
  EXPECT_TRUE(done);
  EXPECT_TRUE(future.isReady());
}

// --- Threads.

// `home_` and `away_`, each with a thread.
class CoroutineThreadsTest : public testing::Test {
protected:
  DispatcherPtr home_ = createDispatcher({.name = "home"});
  DispatcherPtr away_ = createDispatcher({.name = "away"});
  std::unique_ptr<DispatcherThread> home_thread_ = std::make_unique<DispatcherThread>(*home_);
  std::unique_ptr<DispatcherThread> away_thread_ = std::make_unique<DispatcherThread>(*away_);
};

TEST_F(CoroutineThreadsTest, StartedOnAForeignThreadItGoesOnOnItsDispatchers) {
  Promise<int> promise;
  const auto where = [](Dispatcher& dispatcher, Future<int> future) -> Future<std::thread::id> {
    static_cast<void>(dispatcher);
    co_await std::move(future);
    co_return std::this_thread::get_id();
  };
  Future<std::thread::id> future = where(*home_, promise.future(*home_));
  promise.setValue(1);
  EXPECT_EQ(*std::move(future).get(), home_thread_->id());
}

TEST_F(CoroutineThreadsTest, OneThatNeverWaitsEndsOnTheForeignThread) {
  const auto at_once = [](Dispatcher& /*dispatcher*/) -> Future<int> { co_return 42; };
  EXPECT_EQ(*at_once(*home_).get(), 42);
}

TEST_F(CoroutineThreadsTest, AwaitsAFutureOfAnotherDispatcherAndComesBack) {
  Promise<int> promise;
  const auto where = [](Dispatcher& /*dispatcher*/, Future<int> future) -> Future<std::thread::id> {
    co_await yield();
    co_await std::move(future);
    co_return std::this_thread::get_id();
  };
  Future<std::thread::id> future = where(*home_, promise.future(*away_));
  promise.setValue(1);
  EXPECT_EQ(*std::move(future).get(), home_thread_->id());
}

Future<std::vector<std::thread::id>> travel(Dispatcher& home, Dispatcher& away) {
  std::vector<std::thread::id> threads;
  co_await yield();
  threads.push_back(std::this_thread::get_id());
  co_await resumeOn(away);
  threads.push_back(std::this_thread::get_id());
  co_await 1ms;
  threads.push_back(std::this_thread::get_id());
  co_await resumeOn(home);
  threads.push_back(std::this_thread::get_id());
  co_return threads;
}

TEST_F(CoroutineThreadsTest, ResumeOnGoesThereAndBack) {
  const std::vector<std::thread::id> threads = *travel(*home_, *away_).get();
  EXPECT_THAT(threads, ElementsAre(home_thread_->id(), away_thread_->id(), away_thread_->id(), home_thread_->id()));
}

TEST_F(CoroutineThreadsTest, ResumeOnItsOwnDispatcherYields) {
  const auto stay = [](Dispatcher& home) -> Future<int> {
    co_await resumeOn(home);
    co_await resumeOn(home);
    co_return 1;
  };
  EXPECT_EQ(*stay(*home_).get(), 1);
}

// Waits on `away` until it is told to go on, which may be never.
Future<int> stuckAway(Dispatcher& /*home*/, Dispatcher& away, Notification& arrived, Promise<int>& promise,
                      Notification& destroyed) {
  const OnDestroy probe([&] { destroyed.notify(); });
  co_await resumeOn(away);
  Future<int> future = promise.future(away);
  arrived.notify();
  co_return co_await std::move(future);
}

TEST_F(CoroutineThreadsTest, CancelledWhileAwayItsFrameIsDestroyed) {
  Notification arrived;
  Notification destroyed;
  Promise<int> promise;
  Future<int> future = stuckAway(*home_, *away_, arrived, promise, destroyed);
  ASSERT_TRUE(arrived.wait());
  future.cancel();
  EXPECT_TRUE(destroyed.wait());
  EXPECT_TRUE(absl::IsCancelled(std::move(future).get().status()));
}

TEST_F(CoroutineThreadsTest, CancelledWhileAwayItsFrameIsDestroyedThere) {
  Notification arrived;
  Promise<std::thread::id> destroyed;
  SemiFuture<std::thread::id> destroyed_on = destroyed.semiFuture();
  Promise<int> promise;
  const auto stuck = [](Dispatcher& /*home*/, Dispatcher& away, Promise<std::thread::id>& gone, Notification& here,
                        Future<int> answer) -> Future<int> {
    const OnDestroy probe([&gone] { gone.setValue(std::this_thread::get_id()); });
    co_await resumeOn(away);
    here.notify();
    const int value = co_await std::move(answer);
    co_return value;
  };
  Future<int> future = stuck(*home_, *away_, destroyed, arrived, promise.future(*away_));
  ASSERT_TRUE(arrived.wait());
  future.cancel();
  EXPECT_EQ(*std::move(destroyed_on).get(), away_thread_->id());
  std::move(future).detach();
}

TEST_F(CoroutineThreadsTest, WhenTheDispatcherWhereItIsEndsItsFrameIsDestroyed) {
  Notification arrived;
  Notification destroyed;
  Promise<int> promise;
  Future<int> future = stuckAway(*home_, *away_, arrived, promise, destroyed);
  ASSERT_TRUE(arrived.wait());
  away_thread_.reset();
  away_->shutdown();
  EXPECT_TRUE(destroyed.wait());
  EXPECT_TRUE(absl::IsCancelled(std::move(future).get().status()));
}

TEST_F(CoroutineThreadsTest, WhenItsHomeEndsItIsCancelledWhereItIs) {
  Notification arrived;
  Notification destroyed;
  Promise<int> promise;
  Future<int> future = stuckAway(*home_, *away_, arrived, promise, destroyed);
  ASSERT_TRUE(arrived.wait());
  home_thread_.reset();
  home_->shutdown();
  EXPECT_TRUE(destroyed.wait());
  EXPECT_TRUE(absl::IsCancelled(std::move(future).get().status()));
}

TEST_F(CoroutineThreadsTest, ResumeOnADispatcherThatIsGoneThrowsCancelledAndGoesOnWhereItIs) {
  away_thread_.reset();
  away_->shutdown();
  const auto failing = [](Dispatcher& /*home*/, Dispatcher& away) -> Future<std::thread::id> {
    co_await yield();
    try {
      co_await resumeOn(away);
      ADD_FAILURE() << "it went there";
    } catch (const StatusError& e) {
      EXPECT_TRUE(absl::IsCancelled(e.status()));
    }
    co_await yield();
    co_return std::this_thread::get_id();
  };
  const Try<std::thread::id> thread = failing(*home_, *away_).get();
  ASSERT_TRUE(thread.hasValue()) << thread.status();
  EXPECT_EQ(*thread, home_thread_->id());
}

Future<void> wander(Dispatcher& home, Dispatcher& away, Countdown* destroyed = nullptr) {
  const OnDestroy probe([destroyed] {
    if (destroyed != nullptr) {
      destroyed->countDown();
    }
  });
  for (;;) {
    co_await resumeOn(away);
    co_await yield();
    co_await resumeOn(home);
  }
}

TEST_F(CoroutineThreadsTest, CancelReachesOneThatGoesToAndFro) {
  const int rounds = kSanitizer ? 200 : 1000;
  for (int i = 0; i < rounds; ++i) {
    Future<void> future = wander(*home_, *away_);
    Notification some_time_has_passed;
    away_->post([&] { some_time_has_passed.notify(); });
    ASSERT_TRUE(some_time_has_passed.wait());
    future.cancel();
    ASSERT_TRUE(absl::IsCancelled(std::move(future).get().status()));
  }
}

TEST_F(CoroutineThreadsTest, ShutdownOfEitherDispatcherReachesOneThatGoesToAndFro) {
  for (const bool end_home : {true, false}) {
    constexpr int kWanderers = 20;
    DispatcherPtr other = createDispatcher({.name = "other"});
    auto thread = std::make_unique<DispatcherThread>(*other);
    Countdown destroyed(kWanderers);
    std::vector<Future<void>> futures;
    for (int i = 0; i < kWanderers; ++i) {
      futures.push_back(end_home ? wander(*other, *away_, &destroyed) : wander(*home_, *other, &destroyed));
    }
    thread->call([] {});
    thread.reset();
    other->shutdown();
    for (Future<void>& future : futures) {
      EXPECT_TRUE(absl::IsCancelled(std::move(future).get().status()));
    }
    EXPECT_TRUE(destroyed.wait());  // until then they refer to it
  }
}

}  // namespace
}  // namespace nuncio::test
