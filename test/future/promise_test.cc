// Promises and their SemiFutures, without a dispatcher or on one thread.

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/future/submit.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

TEST(PromiseTest, IsPendingThenHasOneResult) {
  Promise<int> promise;
  SemiFuture<int> future = promise.semiFuture();
  EXPECT_FALSE(future.isReady());
  EXPECT_FALSE(promise.done());
  EXPECT_TRUE(promise.setValue(1));
  EXPECT_TRUE(future.isReady());
  EXPECT_TRUE(promise.done());
  EXPECT_EQ(*future.result(), 1);
}

// makePromise(): on the dispatcher's thread, and on another one.
TEST(MakePromiseTest, MakesBothEnds) {
  DispatcherPtr dispatcher = createDispatcher({.name = "makes"});
  const auto attempt = [&] {
    {
      auto [promise, future] = makePromise<int>(*dispatcher);
      EXPECT_FALSE(future.isReady());
      EXPECT_FALSE(promise.done());
      EXPECT_TRUE(promise.semiFuture().get().failed()) << "it has been taken";
      EXPECT_TRUE(promise.setValue(1));
      EXPECT_FALSE(promise.setValue(2));
      std::move(future).then([](int value) { EXPECT_EQ(1, value); }).detach();
    }
    {
      auto made = makePromise<std::string>(*dispatcher);
      Future<std::string> future = std::move(made.second);
      {
        const Promise<std::string> dropped = std::move(made.first);
      }
      std::move(future)
          .then([](Try<std::string>&& result) {
            EXPECT_EQ(absl::StatusCode::kAborted, result.status().code());
            EXPECT_THAT(std::string(result.status().message()), HasSubstr("promise_test.cc"));
          })
          .detach();
    }
    {
      auto [promise, future] = makePromise<void>(*dispatcher);
      bool told = false;
      promise.onCancel([&told] { told = true; });
      future.cancel();
      if (LoopCore::current() != nullptr) {
        EXPECT_TRUE(told);
        EXPECT_TRUE(promise.done());
      } else {
        EXPECT_TRUE(std::move(future).get().failed());  // it has come to the loop
        EXPECT_TRUE(told);
      }
      EXPECT_FALSE(promise.setValue());
    }
  };
  DispatcherThread thread(*dispatcher);
  thread.call(attempt);
  attempt();
  Future<int> left;
  Promise<int> kept;
  thread.call([&] { std::tie(kept, left) = makePromise<int>(*dispatcher); });
  thread.stop();
  dispatcher.reset();
  EXPECT_FALSE(kept.setValue(1)) << "its dispatcher is gone";
  EXPECT_EQ(absl::StatusCode::kCancelled, std::move(left).get().status().code());
}

TEST(PromiseTest, LaterSetsReturnFalse) {
  Promise<int> promise;
  SemiFuture<int> future = promise.semiFuture();
  EXPECT_TRUE(promise.setValue(1));
  EXPECT_FALSE(promise.setValue(2));
  EXPECT_FALSE(promise.setStatus(absl::InternalError("late")));
  EXPECT_FALSE(promise.setException(std::make_exception_ptr(1)));
  EXPECT_FALSE(promise.setWith([] { return 3; }));
  EXPECT_EQ(*std::move(future).get(), 1);
}

TEST(PromiseTest, MayBeSetBeforeItsFutureIsTaken) {
  Promise<std::string> promise;
  EXPECT_TRUE(promise.setValue("early"));
  EXPECT_FALSE(promise.setValue("late"));
  EXPECT_EQ(*promise.semiFuture().get(), "early");
}

TEST(PromiseTest, SetWithTakesTheValueOrTheException) {
  Promise<int> value;
  Promise<int> failure;
  SemiFuture<int> one = value.semiFuture();
  SemiFuture<int> two = failure.semiFuture();
  EXPECT_TRUE(value.setWith([] { return 5; }));
  EXPECT_TRUE(failure.setWith([]() -> int { throw std::runtime_error("no five"); }));
  EXPECT_EQ(*one.result(), 5);
  EXPECT_THROW(two.result().throwIfFailed(), std::runtime_error);
}

TEST(PromiseTest, AnOkStatusIsNoResultForAValue) {
  Promise<int> promise;
  SemiFuture<int> future = promise.semiFuture();
  promise.setStatus(absl::OkStatus());
  EXPECT_EQ(std::move(future).get().status().code(), absl::StatusCode::kInternal);
}

TEST(PromiseTest, AnOkStatusIsTheValueOfVoid) {
  Promise<void> promise;
  SemiFuture<void> future = promise.semiFuture();
  promise.setStatus(absl::OkStatus());
  EXPECT_TRUE(std::move(future).get().hasValue());
}

TEST(PromiseTest, BreaksWhenItIsDestroyedUnfulfilledAndNamesItsPlace) {
  SemiFuture<int> future;
  const int line = __LINE__ + 2;
  {
    Promise<int> promise;
    future = promise.semiFuture();
  }
  const absl::Status status = std::move(future).get().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("promise_test.cc:" + std::to_string(line)));
}

TEST(PromiseTest, OneThatIsMadeByAFunctionOfALibraryNamesThePlaceThatThatWasGiven) {
  std::vector<Promise<int>> promises;
  const int line = __LINE__ + 1;
  auto promise = std::make_unique<Promise<int>>(std::source_location::current());
  promises.emplace_back(std::source_location::current());
  SemiFuture<int> first = promise->semiFuture();
  SemiFuture<int> second = promises.back().semiFuture();
  promise.reset();
  promises.clear();
  EXPECT_THAT(std::string(first.result().status().message()),
              HasSubstr("promise_test.cc:" + std::to_string(line) + " in "));
  EXPECT_THAT(std::string(second.result().status().message()),
              HasSubstr("promise_test.cc:" + std::to_string(line + 1) + " in "));
  std::move(first).detach();
  std::move(second).detach();
}

TEST(PromiseTest, AssigningToItBreaksWhatItHeld) {
  Promise<int> promise;
  SemiFuture<int> future = promise.semiFuture();
  promise = Promise<int>();
  EXPECT_EQ(future.result().status().code(), absl::StatusCode::kAborted);
  EXPECT_TRUE(promise.setValue(1));
}

TEST(PromiseTest, ASecondFutureFailsWithFailedPrecondition) {
  Promise<int> promise;
  SemiFuture<int> first = promise.semiFuture();
  EXPECT_EQ(promise.semiFuture().get().status().code(), absl::StatusCode::kFailedPrecondition);
  promise.setValue(1);
  EXPECT_EQ(*first.result(), 1);
}

TEST(PromiseTest, IsUselessOnceMovedFrom) {
  Promise<int> promise;
  Promise<int> taken = std::move(promise);
  EXPECT_FALSE(promise.setValue(1));  // NOLINT(bugprone-use-after-move): that is what is tested
  EXPECT_TRUE(promise.done());
  EXPECT_FALSE(taken.done());
}

TEST(PromiseTest, LearnsOfACancelAtOnce) {
  Promise<int> promise;
  SemiFuture<int> future = promise.semiFuture();
  int told = 0;
  promise.onCancel([&] { ++told; });
  future.cancel();
  EXPECT_EQ(told, 1);
  EXPECT_TRUE(promise.done());
  EXPECT_FALSE(promise.setValue(1));
  future.cancel();
  EXPECT_EQ(told, 1);
  EXPECT_EQ(std::move(future).get().status().code(), absl::StatusCode::kCancelled);
}

TEST(PromiseTest, LearnsOfACancelThatCameBefore) {
  Promise<int> promise;
  SemiFuture<int> future = promise.semiFuture();
  future.cancel();
  int told = 0;
  promise.onCancel([&] { ++told; });
  EXPECT_EQ(told, 1);
}

TEST(PromiseTest, OnCancelReplacesAnEarlierOne) {
  Promise<int> promise;
  SemiFuture<int> future = promise.semiFuture();
  std::string told;
  bool destroyed = false;
  promise.onCancel([&told, probe = OnDestroy([&] { destroyed = true; })] { told += "a"; });
  promise.onCancel([&] { told += "b"; });
  EXPECT_TRUE(destroyed);
  future.cancel();
  EXPECT_EQ(told, "b");
}

TEST(PromiseTest, OnCancelIsDestroyedUnusedWhenThePromiseIsSet) {
  Promise<int> promise;
  SemiFuture<int> future = promise.semiFuture();
  bool told = false;
  bool destroyed = false;
  promise.onCancel([&told, probe = OnDestroy([&] { destroyed = true; })] { told = true; });
  promise.setValue(1);
  EXPECT_TRUE(destroyed);
  future.cancel();
  EXPECT_FALSE(told);
  EXPECT_EQ(*future.result(), 1);
}

TEST(PromiseTest, OnCancelMayDestroyThePromise) {
  auto promise = std::make_unique<Promise<int>>();
  SemiFuture<int> future = promise->semiFuture();
  promise->onCancel([&] { promise.reset(); });
  future.cancel();
  EXPECT_EQ(promise, nullptr);
  EXPECT_EQ(std::move(future).get().status().code(), absl::StatusCode::kCancelled);
}

TEST(PromiseTest, AnExceptionOfOnCancelIsLoggedAndIgnored) {
  const LogCapture log(LogLayer::Future);
  Promise<int> promise;
  SemiFuture<int> future = promise.semiFuture();
  promise.onCancel([] { throw std::runtime_error("cannot stop"); });
  future.cancel();
  EXPECT_THAT(log.text(), HasSubstr("cannot stop"));
}

TEST(PromiseTest, IsDoneWhenItsFutureIsDropped) {
  Promise<int> promise;
  {
    SemiFuture<int> future = promise.semiFuture();
  }
  EXPECT_TRUE(promise.done());
  EXPECT_FALSE(promise.setValue(1));
}

TEST(SemiFutureTest, GetWaitsForAnotherThread) {
  Promise<std::unique_ptr<int>> promise;
  SemiFuture<std::unique_ptr<int>> future = promise.semiFuture();
  std::thread producer([&] { promise.setValue(std::make_unique<int>(42)); });
  EXPECT_EQ(**std::move(future).get(), 42);
  producer.join();
}

TEST(SemiFutureTest, WaitReturnsInTime) {
  Promise<int> promise;
  SemiFuture<int> future = promise.semiFuture();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(future.wait(20ms).code(), absl::StatusCode::kDeadlineExceeded);
  const auto waited = std::chrono::steady_clock::now() - start;
  EXPECT_GE(waited, 20ms);
  EXPECT_LT(waited, kPatience);
  EXPECT_EQ(future.wait(-1s).code(), absl::StatusCode::kDeadlineExceeded);
  promise.setValue(1);
  EXPECT_TRUE(future.wait(0s).ok());
  EXPECT_EQ(*future.result(), 1);
}

TEST(SemiFutureTest, WaitEndsWhenTheResultComes) {
  Promise<int> promise;
  SemiFuture<int> future = promise.semiFuture();
  std::thread producer([&] { promise.setValue(1); });
  EXPECT_TRUE(future.wait(kPatience).ok());
  producer.join();
}

TEST(SemiFutureTest, OfNothingFailsWithFailedPrecondition) {
  SemiFuture<int> future;
  EXPECT_FALSE(future.valid());
  EXPECT_EQ(future.wait(1h).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(std::move(future).get().status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(SemiFutureTest, ViaADispatcherThatIsShutDownIsCancelledAndTellsThePromise) {
  DispatcherPtr dispatcher = createDispatcher({.name = "gone"});
  dispatcher->shutdown();
  Promise<int> promise;
  bool told = false;
  promise.onCancel([&] { told = true; });
  bool ran = false;
  Future<void> future = promise.semiFuture().via(*dispatcher).then([&](int) { ran = true; });
  EXPECT_TRUE(told);
  EXPECT_FALSE(promise.setValue(1));
  EXPECT_EQ(std::move(future).get().status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(ran);
}

TEST(SemiFutureTest, AReadyOneViaADispatcherThatIsShutDownDoesNotRunItsContinuation) {
  DispatcherPtr dispatcher = createDispatcher({.name = "gone"});
  dispatcher->shutdown();
  Promise<int> promise;
  promise.setValue(1);
  bool ran = false;
  Future<void> future = promise.semiFuture().via(*dispatcher).then([&](int) { ran = true; });
  EXPECT_EQ(std::move(future).get().status().code(), absl::StatusCode::kCancelled);
  EXPECT_FALSE(ran);
}

TEST(SubmitTest, RunsThereAndAnswersHere) {
  DispatcherPtr dispatcher = createDispatcher({.name = "there"});
  DispatcherThread thread(*dispatcher);
  SemiFuture<std::thread::id> future = submit(*dispatcher, [] { return std::this_thread::get_id(); });
  EXPECT_EQ(*std::move(future).get(), thread.id());
}

TEST(SubmitTest, UnwrapsAFutureAndAnException) {
  DispatcherPtr dispatcher = createDispatcher({.name = "there"});
  DispatcherThread thread(*dispatcher);
  Promise<int> later;
  SemiFuture<int> future = submit(*dispatcher, [&] { return later.future(*dispatcher); });
  SemiFuture<int> failure = submit(*dispatcher, []() -> Future<int> { throw std::runtime_error("there"); });
  EXPECT_TRUE(std::move(failure).get().hasException());
  later.setValue(42);
  EXPECT_EQ(*std::move(future).get(), 42);
}

TEST(SubmitTest, ToADispatcherThatIsGoneIsCancelled) {
  DispatcherPtr dispatcher = createDispatcher({.name = "gone"});
  PostHandle handle = dispatcher->handle();
  SemiFuture<void> posted = submit(handle, [] { FAIL(); });
  dispatcher.reset();
  EXPECT_EQ(std::move(posted).get().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(submit(handle, [] { FAIL(); }).get().status().code(), absl::StatusCode::kCancelled);
}

TEST(SubmitTest, CancelledBeforeItRanIsDestroyedUnused) {
  DispatcherPtr dispatcher = createDispatcher({.name = "there"});
  bool destroyed = false;
  bool ran = false;
  SemiFuture<void> future = submit(*dispatcher, [&ran, probe = OnDestroy([&] { destroyed = true; })] { ran = true; });
  future.cancel();
  dispatcher->run(RunType::NonBlock);
  EXPECT_FALSE(ran);
  EXPECT_TRUE(destroyed);
}

TEST(PromiseTest, DestructorsOfTheValueMayCancelAndDropTheFuture) {
  DispatcherPtr dispatcher = createDispatcher({.name = "here"});
  dispatcher->run(RunType::NonBlock);
  constexpr int kDestructors = 8;
  for (int n = 1; n < kDestructors; ++n) {
    for (const bool drop : {false, true}) {
      Promise<ActsWhenDestroyed> promise;
      std::optional<Future<void>> future = promise.future(*dispatcher).then([](const ActsWhenDestroyed&) {});
      ActsWhenDestroyed::at(n, [&] {
        future->cancel();
        if (drop) {
          future.reset();
        }
      });
      promise.setValue(ActsWhenDestroyed());
      dispatcher->run(RunType::NonBlock);
      ActsWhenDestroyed::never();
    }
  }
}

// Calls back when it is moved, and is destroyed trivially.
class ActsWhenMoved {
public:
  ActsWhenMoved() = default;
  ActsWhenMoved(ActsWhenMoved&& /*other*/) noexcept {
    if (--act_at_ == 0) {
      act_();
    }
  }
  ActsWhenMoved& operator=(ActsWhenMoved&&) noexcept = default;

  static void at(int n, std::function<void()> act) {
    act_at_ = n;
    act_ = std::move(act);
  }

private:
  static inline int act_at_ = 0;
  static inline std::function<void()> act_;
};

TEST(PromiseTest, MovesOfTheValueMayCancelTheFuture) {
  DispatcherPtr dispatcher = createDispatcher({.name = "here"});
  dispatcher->run(RunType::NonBlock);
  constexpr int kMoves = 4;
  for (int n = 1; n < kMoves; ++n) {
    Promise<ActsWhenMoved> promise;
    bool ran = false;
    bool cancelled = false;
    Future<void> future = promise.future(*dispatcher).then([&ran](const ActsWhenMoved&) { ran = true; });
    ActsWhenMoved::at(n, [&] {
      cancelled = true;
      future.cancel();
    });
    const bool settled = promise.setValue(ActsWhenMoved());
    EXPECT_NE(settled, cancelled) << n;
    ActsWhenMoved::at(0, nullptr);
    dispatcher->run(RunType::NonBlock);
    EXPECT_NE(ran, cancelled) << n;
    EXPECT_EQ(absl::IsCancelled(std::move(future).get().status()), cancelled) << n;
  }
}

// Throws at one of its moves.
class MoveThrows {
public:
  MoveThrows(int moves_before, int& living) : moves_left_(moves_before), living_(living) { ++living_; }
  MoveThrows(MoveThrows&& other)  // NOLINT(performance-noexcept-move-constructor): it throws
      : moves_left_(other.moves_left_), living_(other.living_) {
    if (moves_left_-- == 0) {
      throw std::runtime_error("cannot be moved");
    }
    ++living_;
  }
  MoveThrows& operator=(MoveThrows&&) = delete;
  ~MoveThrows() { --living_; }

private:
  int moves_left_;
  int& living_;
};

TEST(SubmitTest, FailsWithWhatAMoveOfTheFunctionThrows) {
  DispatcherPtr dispatcher = createDispatcher({.name = "there"});
  int living = 0;
  int failed = 0;
  for (bool ran = false; !ran; ++failed) {
    auto function = std::make_unique<MoveThrows>(1 + failed, living);
    auto work = [&ran, capture = std::move(*function)] { ran = true; };
    function.reset();
    SemiFuture<void> future = submit(*dispatcher, std::move(work));
    dispatcher->run(RunType::NonBlock);
    ASSERT_TRUE(future.isReady());
    EXPECT_EQ(future.result().status(), ran ? absl::OkStatus() : absl::UnknownError("exception: cannot be moved"));
    std::move(future).detach();
    ASSERT_LT(failed, 10);
  }
  EXPECT_GT(failed, 1) << "nothing was moved";
  EXPECT_EQ(living, 0);
}

}  // namespace
}  // namespace nuncio::test
