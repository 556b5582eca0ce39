#include "nuncio/future/stream.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <stdexcept>
#include <utility>
#include <variant>
#include <vector>

#include "nuncio/future/any_of.h"
#include "nuncio/future/coroutine.h"
#include "test/future/primitive_fixture.h"
#include "test/test_support/lifetime_probe.h"

namespace nuncio::test {
namespace {

class StreamTest : public PrimitiveTest {
protected:
  StreamTest() : promise_(std::in_place, *dispatcher_), stream_(promise_->stream()) {}

  std::optional<PromiseStream<int>> promise_;
  std::optional<FutureStream<int>> stream_;
};

TEST_F(StreamTest, KeepsTheOrderOfWhatWasSentBefore) {
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(promise_->send(i));
  }
  EXPECT_EQ(100u, stream_->buffered());
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(i, *stream_->next().get());
  }
}

TEST_F(StreamTest, NextWaitsForWhatIsSent) {
  Future<std::optional<int>> first = stream_->next();
  Future<std::optional<int>> second = stream_->next();
  EXPECT_FALSE(first.isReady());
  EXPECT_TRUE(promise_->send(1));
  EXPECT_TRUE(promise_->send(2));
  EXPECT_EQ(1, *first.result());
  EXPECT_EQ(2, *second.result());
}

TEST_F(StreamTest, TakesValuesThatOnlyMove) {
  PromiseStream<std::unique_ptr<int>> promise(*dispatcher_);
  FutureStream<std::unique_ptr<int>> stream = promise.stream();
  EXPECT_TRUE(promise.send(std::make_unique<int>(1)));
  EXPECT_EQ(1, **stream.next().get().value());
  EXPECT_TRUE(promise.close());
}

TEST_F(StreamTest, CloseEndsItAfterWhatWasSent) {
  EXPECT_TRUE(promise_->send(1));
  EXPECT_TRUE(promise_->close());
  EXPECT_TRUE(promise_->done());
  EXPECT_FALSE(promise_->send(2));
  EXPECT_FALSE(promise_->close());
  EXPECT_FALSE(promise_->sendError(absl::InternalError("too late")));
  EXPECT_EQ(1, *stream_->next().get());
  EXPECT_EQ(std::optional<int>(), *stream_->next().get());
  EXPECT_EQ(std::optional<int>(), *stream_->next().get());
}

TEST_F(StreamTest, CloseEndsANextThatWaits) {
  Future<std::optional<int>> next = stream_->next();
  EXPECT_TRUE(promise_->close());
  EXPECT_EQ(std::optional<int>(), *next.result());
}

TEST_F(StreamTest, ErrorEndsItAfterWhatWasSent) {
  EXPECT_TRUE(promise_->send(1));
  EXPECT_TRUE(promise_->sendError(absl::DataLossError("lost")));
  EXPECT_EQ(1, *stream_->next().get());
  for (int i = 0; i < 2; ++i) {
    Future<std::optional<int>> end = stream_->next();
    EXPECT_TRUE(failedWith(end, absl::StatusCode::kDataLoss, "lost"));
    std::move(end).detach();
  }
}

TEST_F(StreamTest, ErrorMayBeAnException) {
  Future<std::optional<int>> next = stream_->next();
  EXPECT_TRUE(promise_->sendError(std::make_exception_ptr(std::runtime_error("thrown"))));
  EXPECT_TRUE(next.result().hasException());
  std::move(next).detach();
}

TEST_F(StreamTest, DestroyingTheLastPromiseEndsItWithItsPlace) {
  std::optional<PromiseStream<int>> copy = promise_;
  EXPECT_TRUE(promise_->send(1));
  promise_.reset();
  EXPECT_TRUE(copy->send(2));
  copy.reset();
  EXPECT_EQ(1, *stream_->next().get());
  EXPECT_EQ(2, *stream_->next().get());
  Future<std::optional<int>> end = stream_->next();
  EXPECT_TRUE(failedWith(end, absl::StatusCode::kAborted, "broken stream"));
  std::move(end).detach();
}

TEST_F(StreamTest, ProducerSeesThatTheConsumerIsGone) {
  EXPECT_FALSE(promise_->done());
  Future<std::optional<int>> next = stream_->next();
  stream_.reset();
  EXPECT_TRUE(promise_->done());
  EXPECT_FALSE(promise_->send(1));
  EXPECT_TRUE(failedWith(next, absl::StatusCode::kCancelled, "the stream was destroyed"));
}

TEST_F(StreamTest, BufferGoesWithTheConsumer) {
  int destroyed = 0;
  PromiseStream<std::unique_ptr<OnDestroy>> promise(*dispatcher_);
  std::optional<FutureStream<std::unique_ptr<OnDestroy>>> stream(promise.stream());
  EXPECT_TRUE(promise.send(std::make_unique<OnDestroy>([&] {
    ++destroyed;
    EXPECT_FALSE(promise.send(nullptr));
  })));
  stream.reset();
  EXPECT_EQ(1, destroyed);
}

TEST_F(StreamTest, ValueThatHoldsTheLastPromiseMayBeDestroyedWithTheBuffer) {
  auto promise = std::make_shared<PromiseStream<std::shared_ptr<void>>>(*dispatcher_);
  std::optional<FutureStream<std::shared_ptr<void>>> stream(promise->stream());
  PromiseStream<std::shared_ptr<void>>& sender = *promise;
  EXPECT_TRUE(sender.send(std::move(promise)));
  stream.reset();
}

TEST_F(StreamTest, IsTakenOnce) {
  FutureStream<int> second = promise_->stream();
  EXPECT_FALSE(second.valid());
  Future<std::optional<int>> next = second.next();
  EXPECT_TRUE(failedWith(next, absl::StatusCode::kFailedPrecondition, ""));
  std::move(next).detach();
}

TEST_F(StreamTest, MayBeTakenAfterTheFirstValues) {
  PromiseStream<int> promise(*dispatcher_);
  EXPECT_TRUE(promise.send(1));
  FutureStream<int> stream = promise.stream();
  EXPECT_EQ(1, *stream.next().get());
  EXPECT_TRUE(promise.close());
}

TEST_F(StreamTest, MayNeverBeTaken) {
  PromiseStream<int> promise(*dispatcher_);
  EXPECT_TRUE(promise.send(1));
}

TEST_F(StreamTest, CancelledNextLeavesTheValueToTheOthers) {
  Future<std::optional<int>> head = stream_->next();
  Future<std::optional<int>> middle = stream_->next();
  Future<std::optional<int>> tail = stream_->next();
  Future<std::optional<int>> last = stream_->next();
  head.cancel();
  tail.cancel();
  EXPECT_TRUE(promise_->send(1));
  EXPECT_TRUE(promise_->send(2));
  EXPECT_EQ(1, *middle.result());
  EXPECT_EQ(2, *last.result());
  EXPECT_TRUE(failedWith(head, absl::StatusCode::kCancelled, ""));
}

TEST_F(StreamTest, ShutdownOfTheDispatcherFailsNext) {
  Future<std::optional<int>> next = stream_->next();
  dispatcher_->shutdown();
  EXPECT_TRUE(failedWith(next, absl::StatusCode::kCancelled, "shut down"));
  EXPECT_TRUE(promise_->send(1));
  EXPECT_EQ(1u, stream_->buffered());
}

TEST_F(StreamTest, ContinuationMaySendAndCloseAndDropTheStream) {
  std::vector<int> seen;
  Future<void> done = stream_->next().then([&](std::optional<int> value) {
    seen.push_back(*value);
    EXPECT_TRUE(promise_->send(2));
    return stream_->next().then([&](std::optional<int> next) {
      seen.push_back(*next);
      stream_.reset();
      promise_.reset();
    });
  });
  EXPECT_TRUE(promise_->send(1));
  drain();
  EXPECT_EQ((std::vector<int>{1, 2}), seen);
}

Future<int64_t> sum(Dispatcher&, FutureStream<int> stream) {
  int64_t total = 0;
  for (;;) {
    std::optional<int> value = co_await stream.next();
    if (!value.has_value()) {
      co_return total;
    }
    total += *value;
  }
}

TEST_F(StreamTest, CoroutineConsumesIt) {
  Future<int64_t> total = sum(*dispatcher_, *std::move(stream_));
  for (int i = 1; i <= 100; ++i) {
    EXPECT_TRUE(promise_->send(i));
    if (i % 7 == 0) {
      drain();
    }
  }
  EXPECT_TRUE(promise_->close());
  drain();
  EXPECT_EQ(5050, *total.result());
}

TEST_F(StreamTest, HoldsManyValuesAndManyWaiters) {
  int64_t total = 0;
  for (int i = 0; i < kMany; ++i) {
    EXPECT_TRUE(promise_->send(1));
  }
  for (int i = 0; i < kMany; ++i) {
    total += **stream_->next().get();
  }
  EXPECT_EQ(kMany, total);
  int ended = 0;
  for (int i = 0; i < kMany; ++i) {
    stream_->next().then([&ended](std::optional<int> value) { ended += value.has_value() ? 0 : 1; }).detach();
  }
  EXPECT_TRUE(promise_->close());
  drain();
  EXPECT_EQ(kMany, ended);
}

// --- Values at which nobody has looked.

Future<void> readAndTick(Dispatcher& dispatcher, FutureStream<int>& stream, Promise<void>& tick,
                         std::vector<int>& values) {
  for (;;) {
    tick = Promise<void>();
    Future<void> ticked = tick.future(dispatcher);
    Future<std::optional<int>> next = stream.next();
    auto either = anyOf(std::move(ticked), std::move(next));
    const std::variant<Unit, std::optional<int>> first = co_await std::move(either);
    if (first.index() == 1) {
      if (!std::get<1>(first).has_value()) {
        co_return;
      }
      values.push_back(*std::get<1>(first));
    }
  }
}

TEST_F(StreamTest, NoValueIsLostWhereANextLosesInTheSameIteration) {
  const uint64_t seed = testSeed();
  SCOPED_TRACE(testing::Message() << "NUNCIO_TEST_SEED=" << seed);
  std::mt19937_64 random(seed);
  Promise<void> tick;
  std::vector<int> values;
  Future<void> reader = readAndTick(*dispatcher_, *stream_, tick, values);
  int sent = 0;
  for (int round = 0; round < 5'000; ++round) {
    dispatcher_->post([&] {
      for (int i = 0; i < 3; ++i) {
        if (random() % 2 == 0) {
          tick.setValue();
        } else {
          EXPECT_TRUE(promise_->send(++sent));
        }
      }
    });
    drain();
  }
  promise_->close();
  drain();
  EXPECT_TRUE(reader.isReady());
  ASSERT_EQ(values.size(), static_cast<std::size_t>(sent));
  for (int i = 0; i < sent; ++i) {
    ASSERT_EQ(values[static_cast<std::size_t>(i)], i + 1) << "out of order";
  }
}

TEST_F(StreamTest, ValuesThatComeBackKeepTheirOrder) {
  std::array<std::size_t, 3> order = {0, 1, 2};
  do {
    std::array<Future<std::optional<int>>, 3> nexts = {stream_->next(), stream_->next(), stream_->next()};
    for (int i = 1; i <= 4; ++i) {
      EXPECT_TRUE(promise_->send(i));
    }
    for (const std::size_t which : order) {
      nexts[which] = Future<std::optional<int>>();
    }
    EXPECT_EQ(4u, stream_->buffered());
    for (int i = 1; i <= 4; ++i) {
      EXPECT_EQ(i, *stream_->next().get());
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(StreamTest, AValueThatComesBackToAClosedStreamIsReadBeforeItsEnd) {
  Future<std::optional<int>> next = stream_->next();
  EXPECT_TRUE(promise_->send(1));
  EXPECT_TRUE(promise_->close());
  EXPECT_EQ(std::optional<int>(), *stream_->next().get());
  next = Future<std::optional<int>>();
  EXPECT_EQ(1, *stream_->next().get());
  EXPECT_EQ(std::optional<int>(), *stream_->next().get());
}

TEST_F(StreamTest, AValueThatWasHandedOutMayOutliveBothEnds) {
  for (const bool consumer_first : {true, false}) {
    int destroyed = 0;
    const auto value = [&destroyed] { return std::make_unique<OnDestroy>([&destroyed] { ++destroyed; }); };
    using Next = Future<std::optional<std::unique_ptr<OnDestroy>>>;
    std::optional<PromiseStream<std::unique_ptr<OnDestroy>>> promise(std::in_place, *dispatcher_);
    std::optional<FutureStream<std::unique_ptr<OnDestroy>>> stream(promise->stream());
    Next kept = stream->next();
    EXPECT_TRUE(promise->send(value()));
    EXPECT_TRUE(promise->send(value()));
    stream->next().detach();  // comes back, and goes with the stream
    if (consumer_first) {
      stream.reset();
      promise.reset();
    } else {
      promise.reset();
      stream.reset();
    }
    EXPECT_EQ(1, destroyed);
    EXPECT_TRUE(kept.result().hasValue());
    kept = Next();
    EXPECT_EQ(2, destroyed);
  }
}

}  // namespace
}  // namespace nuncio::test
