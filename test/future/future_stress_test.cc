// The state that a promise and its future share, under two threads at a time and the loop's: every kind of producer
// against every kind of consumer, with random delays, many rounds. Each round ends as it must, runs each continuation
// at most once, and leaves nothing behind.
//
// NUNCIO_FUTURE_STRESS_ROUNDS sets the number of rounds, NUNCIO_TEST_SEED the seed.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <source_location>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/dropped_failure.h"
#include "nuncio/future/future.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/sanitizers.h"
#include "test/test_support/uninstrumented_abseil.h"

namespace nuncio::test {
namespace {

uint64_t fromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

// A value, and what continuations capture: counts those that live.
class Token {
public:
  explicit Token(std::atomic<int64_t>& living) : living_(&living) { living_->fetch_add(1); }
  Token(Token&& other) noexcept : living_(std::exchange(other.living_, nullptr)) {}
  Token& operator=(Token&& other) noexcept {
    std::swap(living_, other.living_);
    return *this;
  }
  ~Token() {
    if (living_ != nullptr) {
      living_->fetch_sub(1);
    }
  }

private:
  std::atomic<int64_t>* living_;
};

enum class Produce { Value, ValueTwice, Failure, Break, ValueOnLoop, ValueAfterOnCancel, BreakOnLoop, Count };
enum class Consume {
  Get,
  WaitAndGet,
  ThenAndGet,
  ThenAndThenAndGet,
  WaitOnLoopFuture,
  Cancel,
  CancelAndGet,
  ThenAndCancel,
  ThenAndDrop,
  ThenOnLoop,
  ThenAndCancelOnLoop,
  Drop,
  Detach,
  Count
};

class FutureStressTest : public testing::Test {
protected:
  struct Round {
    Promise<Token> promise;
    SemiFuture<Token> future;
    Produce produce;
    Consume consume;
    unsigned producer_delay;
    unsigned consumer_delay;
  };

  static void spin(unsigned delay) {
    for (unsigned i = 0; i < delay; ++i) {
      std::atomic_signal_fence(std::memory_order_seq_cst);  // keeps the loop
    }
  }

  void produce(Round& round) {
    spin(round.producer_delay);
    Promise<Token> promise = std::move(round.promise);
    switch (round.produce) {
      case Produce::Value:
        promise.setValue(Token(living_));
        break;
      case Produce::ValueTwice:
        promise.setValue(Token(living_));
        EXPECT_FALSE(promise.setValue(Token(living_)));
        break;
      case Produce::Failure:
        promise.setStatus(absl::NotFoundError("produced"));
        break;
      case Produce::ValueOnLoop:
        dispatcher_->post([this, promise = std::move(promise)]() mutable { promise.setValue(Token(living_)); });
        break;
      case Produce::ValueAfterOnCancel:
        promise.onCancel([token = Token(living_)] {});
        promise.setValue(Token(living_));
        break;
      case Produce::BreakOnLoop:
        promise.onCancel([token = Token(living_)] {});
        dispatcher_->post([promise = std::move(promise)] {});
        break;
      default:
        break;
    }
  }

  // What a continuation does; checks that it does so on the right thread.
  auto continuation() {
    return [this, token = Token(living_)](Token value) {
      EXPECT_EQ(std::this_thread::get_id(), thread_.id());
      ran_.fetch_add(1, std::memory_order_relaxed);
      return value;
    };
  }

  static void expect(const Round& round, const Try<Token>& result) {
    switch (round.produce) {
      case Produce::Failure:
        EXPECT_EQ(result.status(), absl::NotFoundError("produced"));
        break;
      case Produce::Break:
      case Produce::BreakOnLoop:
        EXPECT_TRUE(absl::IsAborted(result.status())) << result.status();
        break;
      default:
        EXPECT_TRUE(result.hasValue()) << result.status();
    }
  }

  void consume(Round& round) {
    spin(round.consumer_delay);
    SemiFuture<Token> future = std::move(round.future);
    switch (round.consume) {
      case Consume::Get:
        expect(round, std::move(future).get());
        break;
      case Consume::WaitAndGet:
        static_cast<void>(future.wait(std::chrono::nanoseconds(round.consumer_delay)));
        expect(round, std::move(future).get());
        break;
      case Consume::ThenAndGet:
        expect(round, std::move(future).via(*dispatcher_).then(continuation()).get());
        break;
      case Consume::ThenAndThenAndGet: {
        Future<Token> first = std::move(future).via(*dispatcher_).then(continuation());
        spin(round.producer_delay);
        expect(round, std::move(first).then(continuation()).get());
        break;
      }
      case Consume::WaitOnLoopFuture: {
        Future<Token> bound = std::move(future).via(*dispatcher_);
        static_cast<void>(bound.wait(std::chrono::nanoseconds(round.consumer_delay)));
        expect(round, std::move(bound).then(continuation()).get());
        break;
      }
      case Consume::Cancel:
        future.cancel();
        break;
      case Consume::CancelAndGet: {
        future.cancel();
        const Try<Token> result = std::move(future).get();
        if (!absl::IsCancelled(result.status())) {
          expect(round, result);
        }
        break;
      }
      case Consume::ThenAndCancel: {
        Future<Token> bound = std::move(future).via(*dispatcher_).then(continuation());
        spin(round.producer_delay);
        bound.cancel();
        const Try<Token> result = std::move(bound).get();
        if (!absl::IsCancelled(result.status())) {
          expect(round, result);
        }
        break;
      }
      case Consume::ThenAndDrop: {
        const Future<Token> dropped = std::move(future).via(*dispatcher_).then(continuation());
        break;
      }
      case Consume::ThenOnLoop:
        dispatcher_->post([this, future = std::move(future)]() mutable {
          std::move(future).via(*dispatcher_).then(continuation()).detach();
        });
        break;
      case Consume::ThenAndCancelOnLoop:
        dispatcher_->post([this, future = std::move(future)]() mutable {
          Future<Token> bound = std::move(future).via(*dispatcher_).then(continuation());
          dispatcher_->post([bound = std::move(bound)]() mutable { bound.cancel(); });
        });
        break;
      case Consume::Detach:
        std::move(future).detach();
        break;
      default:
        break;
    }
  }

  std::atomic<int64_t> living_{0};
  std::atomic<int64_t> ran_{0};
  DispatcherPtr dispatcher_ = createDispatcher({.name = "stressed"});
  DispatcherThread thread_{*dispatcher_};
};

TEST_F(FutureStressTest, EveryInterleavingOfSetThenCancelAndDropEndsAsItMust) {
  const uint64_t rounds = fromEnvironment("NUNCIO_FUTURE_STRESS_ROUNDS", kSanitizer ? 8'000 : 60'000);
  const uint64_t seed = fromEnvironment("NUNCIO_TEST_SEED", std::random_device()());
  std::cout << "seed (NUNCIO_TEST_SEED): " << seed << "\n";
  std::mt19937_64 random(seed);
  DroppedFailureHandler former = setDroppedFailureHandler([](const absl::Status&, const std::source_location&) {});

  Round round;
  std::atomic<uint64_t> started{0};  // rounds, of which the producer's thread has one part
  std::atomic<uint64_t> produced{0};
  std::thread producer([&] {
    for (uint64_t i = 1; i <= rounds; ++i) {
      while (started.load() < i) {
        std::this_thread::yield();
      }
      produce(round);
      produced = i;
    }
  });
  for (uint64_t i = 1; i <= rounds; ++i) {
    round.promise = Promise<Token>();
    round.future = round.promise.semiFuture();
    round.produce = static_cast<Produce>(random() % static_cast<unsigned>(Produce::Count));
    round.consume = static_cast<Consume>(random() % static_cast<unsigned>(Consume::Count));
    round.producer_delay = static_cast<unsigned>(random() % 400);
    round.consumer_delay = static_cast<unsigned>(random() % 400);
    started = i;
    consume(round);
    while (produced.load() < i) {
      std::this_thread::yield();
    }
    if (HasFailure()) {
      ADD_FAILURE() << "round " << i << ": producer " << static_cast<int>(round.produce) << ", consumer "
                    << static_cast<int>(round.consume);
      started = rounds;  // the promises are gone: the producer does nothing
      break;
    }
  }
  producer.join();
  // What is on its way arrives, what that hands over too.
  for (int i = 0; i < 4; ++i) {
    thread_.call([] {});
  }
  EXPECT_EQ(living_.load(), 0);
  EXPECT_GT(ran_.load(), 0);
  thread_.stop();
  setDroppedFailureHandler(std::move(former));
}

}  // namespace
}  // namespace nuncio::test
