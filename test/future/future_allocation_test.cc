// What futures allocate, and what becomes of them when there is no memory.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <malloc.h>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/dropped_failure.h"
#include "nuncio/future/future.h"
#include "test/future/no_memory_fixture.h"
#include "test/test_support/count_allocations.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

class FutureAllocationTest : public testing::Test {
protected:
  FutureAllocationTest() { run(); }

  void run() { dispatcher_->run(RunType::NonBlock); }
  // Runs `f`, and what comes of it, on the loop.
  template <class F>
  void runInLoop(F f) {
    dispatcher_->post(f);
    run();
  }

  // Allocations of `work`, the first time, and after some rounds, when memory is used again.
  template <class F>
  static int64_t cold(F work) {
    return allocationsOf(work, 0);
  }
  template <class F>
  static int64_t warm(F work) {
    return allocationsOf(work);
  }

  DispatcherPtr dispatcher_ = createDispatcher({.name = "allocations"});
  int sum_ = 0;
};

TEST_F(FutureAllocationTest, AreCounted) {
  EXPECT_GE(cold([] { const auto memory = std::make_unique<std::string>(100, 'x'); }), 1);
}

// The first of all that fail here: it must not be the one that makes them.
TEST_F(FutureAllocationTest, NoneForTheFirstFailureThatTheLibraryMakes) {
  EXPECT_EQ(0, cold([&] {
                 Promise<int> promise;
                 Future<int> future = promise.future(*dispatcher_);
                 future.cancel();
                 sum_ += future.result().failed() ? 1 : 0;
                 sum_ += Future<int>().get().failed() ? 1 : 0;
                 sum_ += Try<int>(absl::OkStatus()).failed() ? 1 : 0;
                 sum_ += Try<int>(std::exception_ptr()).status().ok() ? 0 : 1;
                 sum_ += Try<int>().status().ok() ? 0 : 1;
               }) - cold([] { Promise<int> promise; }));
  EXPECT_EQ(sum_, 5);
}

TEST_F(FutureAllocationTest, NoneForAReadyChain) {
  EXPECT_EQ(0, cold([&] {
              Future<int> future = makeReadyFuture(1)
                                       .then([](int value) { return value + 1; })
                                       .then([](int value) { return makeReadyFuture(value + 1); })
                                       .thenError([](absl::Status) { return 0; })
                                       .ensure([] {})
                                       .then([](Try<int> value) { return *value; });
              sum_ += *future.result();
            }));
  EXPECT_EQ(sum_, 3);
}

TEST_F(FutureAllocationTest, NoneForAThenInPlaceOnALoop) {
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_);
  promise.setValue(0);
  EXPECT_EQ(0, cold([&] {
              for (int i = 0; i < 100; ++i) {
                future = std::move(future).then([](int value) { return value + 1; });
              }
            }));
  EXPECT_EQ(*future.result(), 100);
}

TEST_F(FutureAllocationTest, AtMostOneForAPendingStage) {
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher_);
  for (int i = 0; i < 100; ++i) {
    ASSERT_LE(cold([&] { future = std::move(future).then([](int value) { return value + 1; }); }), 1);
  }
  promise.setValue(0);
  run();
  EXPECT_EQ(*future.result(), 100);
}

TEST_F(FutureAllocationTest, AtMostTwoForTenStagesOnAPromiseAndNoneOnceTheirMemoryIsUsedAgain) {
  const auto chain = [&] {
    runInLoop([this] {
      Promise<int> promise;
      Future<int> future = promise.future(*dispatcher_);
      for (int i = 0; i < 9; ++i) {
        future = std::move(future).then([](int value) { return value + 1; });
      }
      std::move(future).then([this](int value) { sum_ += value; }).detach();
      promise.setValue(0);
    });
  };
  for (int i = 0; i < 3; ++i) {
    runInLoop([] {});  // the queue of posts has its memory
  }
  EXPECT_LE(cold(chain), 2);
  EXPECT_EQ(0, warm(chain));
  EXPECT_EQ(sum_, 45);
}

TEST_F(FutureAllocationTest, NoneForAContinuationThatReturnsAPendingFuture) {
  Promise<int> inner;
  const auto chain = [&] {
    runInLoop([&] {
      Promise<void> start;
      inner = Promise<int>();
      start.future(*dispatcher_)
          .then([&] { return inner.future(*dispatcher_); })
          .then([this](int value) { sum_ += value; })
          .detach();
      start.setValue();
    });
    runInLoop([&] { inner.setValue(1); });
  };
  EXPECT_EQ(0, warm(chain));
  EXPECT_EQ(sum_, 4);
}

// A function that goes on by returning its own future: its memory does not grow.
struct Loop {
  Future<void> operator()() {
    next = Promise<void>();
    return next.future(dispatcher).then([this] { return (*this)(); });
  }
  Dispatcher& dispatcher;
  Promise<void> next;
};

TEST_F(FutureAllocationTest, NoneForALoopOfFunctionsThatReturnTheirOwnPendingFuture) {
  Loop loop{*dispatcher_, Promise<void>()};
  Future<void> future = loop();
  EXPECT_EQ(0, warm([&] {
              for (int i = 0; i < 1000; ++i) {
                loop.next.setValue();
                run();
              }
            }));
  future.cancel();
}

Future<int> sumOf(Dispatcher& dispatcher, Promise<int>& promise, int awaits) {
  int sum = 0;
  for (int i = 0; i < awaits; ++i) {
    promise = Promise<int>();
    sum += co_await promise.future(dispatcher);
  }
  co_return sum;
}

TEST_F(FutureAllocationTest, NoneForAwaitsOfPendingFuturesBeyondTheFrame) {
  const auto allocations_of_awaits = [&](int awaits) {
    return warm([&, awaits] {
      Promise<int> promise;
      Future<int> future;
      runInLoop([&] { future = sumOf(*dispatcher_, promise, awaits); });
      for (int i = 0; i < awaits; ++i) {
        promise.setValue(1);
        run();
      }
      sum_ = *future.result();
    });
  };
  // `promise` itself was made without a loop.
  EXPECT_EQ(2, allocations_of_awaits(1));
  EXPECT_EQ(2, allocations_of_awaits(100));
  EXPECT_EQ(sum_, 100);
}

TEST_F(FutureAllocationTest, NoneForYieldsBeyondTheFrame) {
  const auto yielding = [](Dispatcher& /*dispatcher*/) -> Future<void> {
    for (int i = 0; i < 100; ++i) {
      co_await yield();
    }
  };
  EXPECT_EQ(1, warm([&] {
              Future<void> future = yielding(*dispatcher_);
              while (!future.isReady()) {
                run();
              }
            }));
}

TEST_F(FutureAllocationTest, OneForAPromiseWithoutALoop) {
  EXPECT_EQ(1, warm([&] {
              Promise<int> promise;
              SemiFuture<int> future = promise.semiFuture();
              promise.setValue(1);
              sum_ += *future.result();
            }));
}

#ifndef NUNCIO_TEST_SANITIZER

// What a then() with a capture of so many bytes, and what comes of it, allocates and frees while its future is kept.
template <std::size_t kBytes>
struct OfACapture {
  explicit OfACapture(Dispatcher& dispatcher) {
    Promise<int> promise;
    Future<int> future = promise.future(dispatcher);
    const int64_t allocations_before = allocations;
    Future<int> kept =
        std::move(future).then([bytes = std::array<char, kBytes>()](int value) { return value + bytes[0]; });
    allocated = allocations - allocations_before;
    const int64_t frees_before = frees;
    promise.setValue(1);
    dispatcher.run(RunType::NonBlock);
    freed = frees - frees_before;
    EXPECT_EQ(*kept.result(), 1);
  }
  int64_t allocated;
  int64_t freed;
};

TEST_F(FutureAllocationTest, ALargeCaptureHasAnAllocationOfItsOwnThatIsFreedWhenItsFunctionRan) {
  const OfACapture<1'100> large(*dispatcher_);
  EXPECT_LE(large.allocated, 2);
  EXPECT_EQ(large.freed, 1);
  const OfACapture<100'000> larger(*dispatcher_);
  EXPECT_LE(larger.allocated, 2);
  EXPECT_EQ(larger.freed, 1);
}

TEST_F(FutureAllocationTest, ASmallCaptureIsPartOfTheStage) {
  const OfACapture<8> small(*dispatcher_);
  EXPECT_EQ(small.allocated, 0);
  EXPECT_EQ(small.freed, 0);
  const OfACapture<1'000> larger(*dispatcher_);
  EXPECT_LE(larger.allocated, 1);
  EXPECT_EQ(larger.freed, 0);
}

TEST_F(FutureAllocationTest, FuturesThatAreKeptDoNotKeepTheLargeCapturesOfTheirFunctions) {
  constexpr std::size_t kMany = 100;
  std::vector<Promise<int>> promises(kMany);
  std::vector<Future<int>> kept;
  kept.reserve(kMany);
  const std::size_t before = mallinfo2().uordblks;
  for (Promise<int>& promise : promises) {
    kept.push_back(promise.future(*dispatcher_).then([bytes = std::array<char, 10'000>()](int value) {
      return value + bytes[0];
    }));
  }
  EXPECT_GT(mallinfo2().uordblks - before, kMany * 10'000);
  for (Promise<int>& promise : promises) {
    promise.setValue(1);
  }
  run();
  EXPECT_LT(mallinfo2().uordblks - before, kMany * 1'000);
}

TEST_F(NoMemoryTest, ADroppedFailureThatCannotBeLoggedIsNot) {
  const LogCapture log(LogLayer::Future);
  failEachAllocation([&](Dispatcher&) {
    const DroppedFailureHandler former = setDroppedFailureHandler(nullptr);
    const absl::Status error = absl::NotFoundError("a message that is no short string");
    {
      const Future<int> dropped = makeFailedFuture<int>(error);
    }
    setDroppedFailureHandler(former);
    return true;
  });
}

#endif

}  // namespace
}  // namespace nuncio::test
