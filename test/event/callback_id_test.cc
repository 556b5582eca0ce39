// What a loop says of the callback that it is in.

#include "nuncio/event/internal/callback_id.h"

#include <chrono>
#include <csignal>
#include <memory>
#include <source_location>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/common/file_descriptor.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/event/internal/loop_core.h"
#include "nuncio/future/call.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/promise.h"
#include "nuncio/future/time.h"
#include "test/test_support/dispatcher_thread.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class CallbackIdTest : public ::testing::Test {
public:
  std::string name() const { return dispatcher_->loop().callbackName(); }

  const DispatcherPtr dispatcher_ = createDispatcher();
  std::string seen_;
};

// A callback of a type that has a name of its own.
struct OnReady {
  void operator()(uint32_t /*events*/) const { note(); }
  void operator()() const { note(); }
  void note() const {
    *seen = dispatcher->loop().callbackName();
    dispatcher->exit();
  }

  Dispatcher* dispatcher;
  std::string* seen;
};

TEST_F(CallbackIdTest, NamesTheTypeOfWhatWasPosted) {
  dispatcher_->post(OnReady{dispatcher_.get(), &seen_});
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_THAT(seen_, HasSubstr("OnReady"));
}

TEST_F(CallbackIdTest, TellsTheLambdasOfAFunctionApart) {
  std::string first;
  std::string second;
  dispatcher_->post([&] { first = name(); });
  dispatcher_->post([&] { second = name(); });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(first, HasSubstr("TellsTheLambdasOfAFunctionApart"));
  EXPECT_NE(first, second);
}

TEST_F(CallbackIdTest, NamesWhatIsTooLargeToBeStoredInline) {
  struct Large {
    OnReady on_ready;
    char more[100];
    void operator()() const { on_ready(); }
  };
  dispatcher_->post(Large{{dispatcher_.get(), &seen_}, {}});
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_THAT(seen_, HasSubstr("Large"));
}

TEST_F(CallbackIdTest, NamesTimersFileEventsSignalsAndSchedulableCallbacks) {
  const OnReady on_ready{dispatcher_.get(), &seen_};
  const TimerPtr timer = dispatcher_->createTimer(on_ready);
  timer->enableTimer(0ms);
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_THAT(std::exchange(seen_, ""), HasSubstr("OnReady"));

  const SchedulableCallbackPtr scheduled = dispatcher_->createSchedulableCallback(on_ready);
  scheduled->scheduleCurrentIteration();
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_THAT(std::exchange(seen_, ""), HasSubstr("OnReady"));

  int sockets[2];
  ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sockets));
  const FileDescriptor here(sockets[0]);
  const FileDescriptor there(sockets[1]);
  const absl::StatusOr<FileEventPtr> event =
      dispatcher_->createFileEvent(here.get(), on_ready, FileTriggerType::Level, FileReadyType::Write);
  ASSERT_TRUE(event.ok()) << event.status();
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_THAT(std::exchange(seen_, ""), HasSubstr("OnReady"));
  (*event)->setEnabled(0);

  const absl::StatusOr<SignalEventPtr> signal = dispatcher_->listenForSignal(SIGUSR1, on_ready);
  ASSERT_TRUE(signal.ok()) << signal.status();
  ::raise(SIGUSR1);
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_THAT(std::exchange(seen_, ""), HasSubstr("OnReady"));
}

TEST_F(CallbackIdTest, NamesTheObjectWhoseDeletionWasDeferred) {
  struct Connection : DeferredDeletable {
    explicit Connection(CallbackIdTest& test) : test_(test) {}
    ~Connection() override { test_.seen_ = test_.name(); }
    CallbackIdTest& test_;
  };
  dispatcher_->post([&] { dispatcher_->deferredDelete(std::make_unique<Connection>(*this)); });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(seen_, HasSubstr("~"));
  EXPECT_THAT(seen_, HasSubstr("Connection"));
}

TEST_F(CallbackIdTest, NamesACallbackAgainThatHasDestroyedWhatWasDeferred) {
  struct Connection : DeferredDeletable {};
  dispatcher_->post([&] {
    dispatcher_->deferredDelete(std::make_unique<Connection>());
    dispatcher_->clearDeferredDeleteList();
    seen_ = name();
  });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(seen_, HasSubstr("TestBody"));
}

TEST_F(CallbackIdTest, NamesAContinuationByItsPlace) {
  auto [promise, future] = makePromise<int>(*dispatcher_);
  const unsigned line = __LINE__ + 1;
  std::move(future).then([&](int) { seen_ = name(); }).detach();
  promise.setValue(1);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(seen_, HasSubstr("callback_id_test.cc:" + std::to_string(line)));
}

Future<void> waitAndNote(Future<int> future, Dispatcher& dispatcher, std::string& seen) {
  co_await std::move(future);
  seen = dispatcher.loop().callbackName();
}

TEST_F(CallbackIdTest, NamesACoroutineByThePlaceWhereItWaited) {
  auto [promise, future] = makePromise<int>(*dispatcher_);
  waitAndNote(std::move(future), *dispatcher_, seen_).detach();
  promise.setValue(1);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(seen_, HasSubstr("waitAndNote("));
  EXPECT_THAT(seen_, Not(HasSubstr("Frame")));
}

TEST_F(CallbackIdTest, NamesACallbackAgainThatHasCancelledWhatCleansUp) {
  auto [promise, future] = makePromise<int>(*dispatcher_);
  std::string cleaned_up;
  Future<int> pending = std::move(future).ensure([&] { cleaned_up = name(); });
  dispatcher_->post([&] {
    pending.cancel();
    seen_ = name();
  });
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(cleaned_up, HasSubstr("callback_id_test.cc"));
  EXPECT_THAT(seen_, HasSubstr("TestBody"));
}

TEST_F(CallbackIdTest, NamesTheFunctionThatAnotherDispatcherAskedFor) {
  const DispatcherPtr asking = createDispatcher();
  asking->post([&] { nuncio::call(*dispatcher_, [&] { seen_ = name(); }).detach(); });
  asking->run(RunType::NonBlock);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(seen_, HasSubstr("TestBody"));
  EXPECT_THAT(seen_, Not(HasSubstr("future_internal")));
  asking->run(RunType::NonBlock);
}

TEST_F(CallbackIdTest, NamesNoneOutsideOfARunAndWhileTheLoopSleeps) {
  EXPECT_THAT(name(), IsEmpty());
  dispatcher_->post([] {});
  struct Connection : DeferredDeletable {};
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(name(), IsEmpty());
  dispatcher_->deferredDelete(std::make_unique<Connection>());
  dispatcher_->clearDeferredDeleteList();
  EXPECT_THAT(name(), IsEmpty());

  DispatcherThread thread(*dispatcher_);
  thread.call([] {});
  while (!dispatcher_->loop().callback().none()) {
    std::this_thread::yield();
  }
}

TEST_F(CallbackIdTest, CountsWhatHasBegun) {
  const uint64_t before = dispatcher_->loop().callbacks();
  for (int i = 0; i < 3; ++i) {
    dispatcher_->post([] {});
  }
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(before + 3, dispatcher_->loop().callbacks());
}

TEST_F(CallbackIdTest, KnowsTheThreadThatRunsIt) {
  dispatcher_->post([&] { EXPECT_EQ(::gettid(), dispatcher_->loop().kernelThread()); });
  DispatcherThread thread(*dispatcher_);
  thread.call([] {});
}

}  // namespace
}  // namespace nuncio::test
