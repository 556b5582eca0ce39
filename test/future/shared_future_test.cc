#include "nuncio/future/shared_future.h"

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "nuncio/future/dropped_failure.h"
#include "test/future/primitive_fixture.h"
#include "test/test_support/dispatcher_thread.h"

namespace nuncio::test {
namespace {

class SharedFutureTest : public PrimitiveTest {
protected:
  SharedFutureTest() {
    setDroppedFailureHandler([this](const absl::Status& status, const std::source_location&) {
      dropped_.push_back(std::string(status.message()));
    });
  }
  ~SharedFutureTest() override { setDroppedFailureHandler(nullptr); }

  std::vector<std::string> dropped_;
};

TEST_F(SharedFutureTest, EachConsumerGetsACopyInTheOrderInWhichTheyAsked) {
  Promise<std::string> promise;
  const SharedFuture<std::string> shared = share(promise.future(*dispatcher_));
  const SharedFuture<std::string> copy = shared;
  std::vector<std::string> seen;
  std::vector<Future<void>> consumers;
  for (int i = 0; i < 3; ++i) {
    consumers.push_back((i % 2 == 0 ? shared : copy).future().then([&seen, i](std::string text) {
      seen.push_back(text + std::to_string(i));
    }));
  }
  EXPECT_FALSE(shared.isReady());
  promise.setValue("value");
  drain();
  EXPECT_TRUE(shared.isReady());
  EXPECT_EQ("value", *shared.result());
  EXPECT_EQ((std::vector<std::string>{"value0", "value1", "value2"}), seen);
}

TEST_F(SharedFutureTest, ConsumerThatComesLateGetsAReadyFuture) {
  Promise<int> promise;
  const SharedFuture<int> shared = share(promise.future(*dispatcher_));
  promise.setValue(3);
  drain();
  Future<int> future = shared.future();
  ASSERT_TRUE(future.isReady());
  EXPECT_EQ(3, *future.result());
}

TEST_F(SharedFutureTest, ReadyFutureIsReadyAtOnce) {
  const SharedFuture<int> shared = share(makeReadyFuture(4));
  EXPECT_TRUE(shared.isReady());
  EXPECT_EQ(4, *shared.future().get());
}

TEST_F(SharedFutureTest, SharesVoid) {
  Promise<void> promise;
  const SharedFuture<void> shared = share(promise.future(*dispatcher_));
  int ran = 0;
  Future<void> first = shared.future().then([&ran] { ++ran; });
  Future<void> second = shared.future().then([&ran] { ++ran; });
  promise.setValue();
  drain();
  EXPECT_EQ(2, ran);
}

TEST_F(SharedFutureTest, FailureReachesEachConsumer) {
  Promise<int> promise;
  const SharedFuture<int> shared = share(promise.future(*dispatcher_));
  Future<int> first = shared.future();
  Future<int> second = shared.future();
  promise.setStatus(absl::DataLossError("lost"));
  drain();
  EXPECT_TRUE(failedWith(first, absl::StatusCode::kDataLoss, "lost"));
  EXPECT_TRUE(failedWith(second, absl::StatusCode::kDataLoss, "lost"));
  std::move(first).detach();
  EXPECT_TRUE(dropped_.empty());
  second = Future<int>();
  EXPECT_EQ(1u, dropped_.size());
}

TEST_F(SharedFutureTest, FailureThatNoConsumerSawIsReported) {
  Promise<int> promise;
  std::optional<SharedFuture<int>> shared(share(promise.future(*dispatcher_)));
  promise.setStatus(absl::DataLossError("lost"));
  drain();
  shared.reset();
  EXPECT_EQ((std::vector<std::string>{"lost"}), dropped_);
}

TEST_F(SharedFutureTest, ConsumersThatWereDroppedAreForgottenWithoutAWord) {
  Promise<int> promise;
  const SharedFuture<int> shared = share(promise.future(*dispatcher_));
  Future<int> kept = shared.future();
  for (int i = 0; i < 1'000; ++i) {
    {
      const Future<int> dropped = shared.future();
      const SemiFuture<int> dropped_too = shared.semiFuture();
    }
    shared.future().detach();
    shared.semiFuture().detach();
    Future<int> cancelled = shared.future();
    cancelled.cancel();
    SemiFuture<int> cancelled_too = shared.semiFuture();
    cancelled_too.cancel();
    drain();
  }
  promise.setValue(1);
  drain();
  EXPECT_EQ(1, *kept.result());
  EXPECT_TRUE(dropped_.empty()) << dropped_.front();
}

TEST_F(SharedFutureTest, ValueWhoseCopyThrowsFailsThatConsumer) {
  struct Picky {
    Picky() = default;
    Picky(Picky&&) noexcept = default;
    Picky(const Picky& /*other*/) { throw std::runtime_error("no copies"); }
    Picky& operator=(Picky&&) = default;
    ~Picky() = default;
  };
  Promise<Picky> promise;
  const SharedFuture<Picky> shared = share(promise.future(*dispatcher_));
  Future<Picky> future = shared.future();
  promise.setValue(Picky());
  drain();
  EXPECT_TRUE(failedWith(future, absl::StatusCode::kUnknown, "no copies"));
  std::move(future).detach();
}

TEST_F(SharedFutureTest, CancellingAConsumerLeavesTheOthersAndTheSource) {
  Promise<int> promise;
  const SharedFuture<int> shared = share(promise.future(*dispatcher_));
  Future<int> first = shared.future();
  Future<int> second = shared.future();
  first.cancel();
  EXPECT_TRUE(failedWith(first, absl::StatusCode::kCancelled, ""));
  EXPECT_FALSE(promise.done());
  EXPECT_TRUE(promise.setValue(1));
  drain();
  EXPECT_EQ(1, *second.result());
}

TEST_F(SharedFutureTest, CancellingAllConsumersLeavesTheSource) {
  Promise<int> promise;
  const SharedFuture<int> shared = share(promise.future(*dispatcher_));
  Future<int> only = shared.future();
  only.cancel();
  drain();
  EXPECT_FALSE(promise.done());
  EXPECT_TRUE(promise.setValue(1));
  drain();
  EXPECT_EQ(1, *shared.future().get());
}

TEST_F(SharedFutureTest, CancelStopsTheSourceAndFailsAllConsumers) {
  Promise<int> promise;
  const SharedFuture<int> shared = share(promise.future(*dispatcher_));
  bool asked = false;
  promise.onCancel([&] {
    asked = true;
    EXPECT_FALSE(shared.isReady());  // may be used in it
    shared.cancel();
  });
  Future<int> first = shared.future();
  shared.cancel();
  shared.cancel();
  drain();
  EXPECT_TRUE(asked);
  EXPECT_TRUE(promise.done());
  EXPECT_TRUE(failedWith(first, absl::StatusCode::kCancelled, "cancelled"));
  Future<int> late = shared.future();
  EXPECT_TRUE(failedWith(late, absl::StatusCode::kCancelled, "cancelled"));
}

TEST_F(SharedFutureTest, ConsumersGetTheResultWhenAllCopiesAreGone) {
  Promise<int> promise;
  std::optional<SharedFuture<int>> shared(share(promise.future(*dispatcher_)));
  Future<int> future = shared->future();
  shared.reset();
  EXPECT_FALSE(promise.done());
  promise.setValue(6);
  drain();
  EXPECT_EQ(6, *future.result());
}

TEST_F(SharedFutureTest, BrokenPromiseReachesTheConsumers) {
  std::optional<Promise<int>> promise(std::in_place);
  const SharedFuture<int> shared = share(promise->future(*dispatcher_));
  Future<int> future = shared.future();
  promise.reset();
  drain();
  EXPECT_TRUE(failedWith(future, absl::StatusCode::kAborted, "broken promise"));
  std::move(future).detach();
}

TEST_F(SharedFutureTest, ConsumerMayAskAgainInItsContinuation) {
  Promise<int> promise;
  const SharedFuture<int> shared = share(promise.future(*dispatcher_));
  Future<int> future = shared.future().then(
      [&](int value) { return shared.future().then([value](int again) { return value + again; }); });
  promise.setValue(5);
  drain();
  EXPECT_EQ(10, *future.result());
}

TEST_F(SharedFutureTest, ShutdownOfTheDispatcherFailsTheConsumers) {
  Promise<int> promise;
  const SharedFuture<int> shared = share(promise.future(*dispatcher_));
  Future<int> future = shared.future();
  dispatcher_->shutdown();
  EXPECT_TRUE(failedWith(future, absl::StatusCode::kCancelled, "shut down"));
  EXPECT_TRUE(shared.isReady());
  EXPECT_FALSE(promise.setValue(1));
}

TEST_F(SharedFutureTest, NoFutureFailsItsConsumers) {
  const SharedFuture<int> none;
  EXPECT_FALSE(none.valid());
  Future<int> future = none.future();
  EXPECT_TRUE(failedWith(future, absl::StatusCode::kFailedPrecondition, ""));
  std::move(future).detach();
  none.cancel();
  EXPECT_FALSE(share(Future<int>()).valid());
}

TEST_F(SharedFutureTest, ServesManyConsumersOfWhichMostWereCancelled) {
  Promise<int> promise;
  const SharedFuture<int> shared = share(promise.future(*dispatcher_));
  int64_t sum = 0;
  for (int i = 0; i < kMany; ++i) {
    Future<void> consumer = shared.future().then([&sum](int value) { sum += value; });
    if (i % 10 != 0) {
      consumer.cancel();
    } else {
      std::move(consumer).detach();
    }
    if (i % 1000 == 0) {
      drain();
    }
  }
  promise.setValue(1);
  drain();
  EXPECT_EQ(kMany / 10, sum);
}

TEST(SharedFutureThreadsTest, ConsumersOfOtherThreadsGetTheResultThere) {
  DispatcherPtr home = createDispatcher({.name = "home"});
  DispatcherPtr other = createDispatcher({.name = "other"});
  DispatcherThread home_thread(*home);
  DispatcherThread other_thread(*other);
  for (int round = 0; round < 200; ++round) {
    Promise<int> promise;
    SharedFuture<int> shared;
    home_thread.call([&] { shared = share(promise.future(*home)); });
    Notification here;
    Notification there;
    std::thread setter([&promise, round] { promise.setValue(round); });
    shared.future()
        .then([&](int value) {
          EXPECT_EQ(round, value);
          EXPECT_TRUE(home->isThreadSafe());
          here.notify();
        })
        .detach();
    shared.via(*other)
        .then([&](int value) {
          EXPECT_EQ(round, value);
          EXPECT_TRUE(other->isThreadSafe());
          there.notify();
        })
        .detach();
    EXPECT_EQ(round, *shared.semiFuture().get());
    EXPECT_TRUE(here.wait());
    EXPECT_TRUE(there.wait());
    setter.join();
  }
}

TEST(SharedFutureThreadsTest, CancelOnAnyThreadRacesWithTheResult) {
  DispatcherPtr home = createDispatcher({.name = "home"});
  DispatcherThread home_thread(*home);
  for (int round = 0; round < 300; ++round) {
    Promise<int> promise;
    SharedFuture<int> shared = share(promise.future(*home));
    SemiFuture<int> consumer = shared.semiFuture();
    std::thread canceller([shared] { shared.cancel(); });
    std::thread setter([&promise] { promise.setValue(1); });
    const Try<int> result = std::move(consumer).get();
    EXPECT_TRUE(result.hasValue() || absl::IsCancelled(result.status()));
    shared = SharedFuture<int>();
    canceller.join();
    setter.join();
  }
}

}  // namespace
}  // namespace nuncio::test
