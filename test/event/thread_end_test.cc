// Threads that end, or are cancelled, in the midst of a run: it unwinds, and the dispatcher can be destroyed.

#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <pthread.h>
#include <string>
#include <thread>
#include <unistd.h>

#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

[[noreturn]] void endThread() { pthread_exit(nullptr); }

class ThreadEndTest : public testing::Test {
protected:
  // Runs the dispatcher on a thread that ends in it, and then destroys it.
  void expectEnds() {
    std::atomic<bool> returned{false};
    bool unwound = false;
    std::thread thread([&] {
      const OnDestroy probe([&] { unwound = true; });
      dispatcher_->run(RunType::RunUntilExit);
      returned = true;
    });
    thread.join();
    EXPECT_FALSE(returned);
    EXPECT_TRUE(unwound);
    bool destroyed = false;
    EXPECT_TRUE(dispatcher_->post([probe = OnDestroy([&] { destroyed = true; })] {}));
    dispatcher_.reset();
    EXPECT_TRUE(destroyed);
  }

  Pair pair_ = makeSocketPair();
  DispatcherPtr dispatcher_ = createDispatcher({.name = "unwound"});
};

TEST_F(ThreadEndTest, InAPost) {
  bool destroyed = false;
  dispatcher_->post([probe = OnDestroy([&] { destroyed = true; })] { endThread(); });
  expectEnds();
  EXPECT_TRUE(destroyed);
}

TEST_F(ThreadEndTest, InATimer) {
  TimerPtr timer = dispatcher_->createTimer([] { endThread(); });
  timer->enableTimer(0ms);
  expectEnds();
}

TEST_F(ThreadEndTest, InATimerThatDestroysItself) {
  TimerPtr timer;
  timer = dispatcher_->createTimer([&] {
    timer.reset();
    endThread();
  });
  timer->enableTimer(0ms);
  expectEnds();
}

TEST_F(ThreadEndTest, InASchedulableCallback) {
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([] { endThread(); });
  callback->scheduleNextIteration();
  expectEnds();
}

TEST_F(ThreadEndTest, InAFileEvent) {
  absl::StatusOr<FileEventPtr> event = dispatcher_->createFileEvent(
      pair_.watched.get(), [](uint32_t) { endThread(); }, FileTriggerType::Level, FileReadyType::Write);
  ASSERT_TRUE(event.ok());
  expectEnds();
}

TEST_F(ThreadEndTest, InAContinuation) {
  Promise<void> promise;
  bool destroyed = false;
  Future<void> last =
      promise.future(*dispatcher_).then([probe = OnDestroy([&] { destroyed = true; })] { endThread(); }).then([] {
        ADD_FAILURE() << "ran";
      });
  dispatcher_->post([&] { promise.setValue(); });
  expectEnds();
  EXPECT_TRUE(destroyed);
  EXPECT_TRUE(last.isReady());
}

TEST_F(ThreadEndTest, InAContinuationThatReturnsAFuture) {
  Promise<void> promise;
  Future<int> last = promise.future(*dispatcher_).then([]() -> Future<int> { endThread(); });
  dispatcher_->post([&] { promise.setValue(); });
  expectEnds();
}

TEST_F(ThreadEndTest, InAContinuationThatRunsInPlace) {
  dispatcher_->post([this] {
    Future<void> last = makeReadyFuture().via(*dispatcher_).then([] { endThread(); });
    std::move(last).detach();
  });
  expectEnds();
}

TEST_F(ThreadEndTest, InAContinuationThatRunsInPlaceAndReturnsAFuture) {
  dispatcher_->post([this] {
    Future<void> last = makeReadyFuture().via(*dispatcher_).then([]() -> Future<void> { endThread(); });
    std::move(last).detach();
  });
  expectEnds();
}

Future<void> endsItsThread(Dispatcher& /*dispatcher*/, bool& destroyed) {
  const OnDestroy probe([&] { destroyed = true; });
  co_await yield();
  endThread();
}

TEST_F(ThreadEndTest, InACoroutine) {
  bool destroyed = false;
  Future<void> future = endsItsThread(*dispatcher_, destroyed);
  Future<void> last = std::move(future).then([] { ADD_FAILURE() << "ran"; });
  expectEnds();
  EXPECT_TRUE(destroyed);
  EXPECT_TRUE(last.isReady());
}

TEST_F(ThreadEndTest, ByBeingCancelledWhereItSleeps) {
  Notification running;
  std::atomic<pthread_t> id{};
  dispatcher_->post([&] {
    id = pthread_self();
    running.notify();
  });
  std::thread canceller([&] {
    ASSERT_TRUE(running.wait());
    pthread_cancel(id);
  });
  expectEnds();
  canceller.join();
}

TEST_F(ThreadEndTest, ByBeingCancelledInACallback) {
  dispatcher_->post([] {
    pthread_cancel(pthread_self());
    for (;;) {
      pause();  // a cancellation point
    }
  });
  expectEnds();
}

// A thread that was cancelled goes on until it comes to a place where it can be.
void expectNoPlaceToBeCancelledIn(const std::function<void()>& f) {
  bool went_on = false;
  std::thread thread([&] {
    pthread_cancel(pthread_self());
    f();
    went_on = true;
  });
  thread.join();
  EXPECT_TRUE(went_on);
}

TEST_F(ThreadEndTest, NotByBeingCancelledWhereAThreadWakesTheLoop) {
  expectNoPlaceToBeCancelledIn([this] { dispatcher_->exit(); });
}

TEST_F(ThreadEndTest, NotByBeingCancelledInTheHandlerOfASignal) {
  int calls = 0;
  auto event = dispatcher_->listenForSignal(SIGUSR1, [&] { ++calls; });
  ASSERT_TRUE(event.ok()) << event.status();
  expectNoPlaceToBeCancelledIn([] { raise(SIGUSR1); });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls);
}

}  // namespace
}  // namespace nuncio::test
