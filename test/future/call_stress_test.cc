// Two loops that call each other, cancel, drop, and shut down at any time. The seed is printed; NUNCIO_CALL_SEED
// repeats a run, NUNCIO_CALL_ROUNDS sets how many there are.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/call.h"
#include "nuncio/future/future.h"
#include "nuncio/future/time.h"
#include "test/test_support/notification.h"
#include "test/test_support/uninstrumented_abseil.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

uint64_t fromEnvironment(const char* name, uint64_t otherwise) {
  const char* const value = std::getenv(name);
  return value != nullptr ? std::strtoull(value, nullptr, 10) : otherwise;
}

// What has become of one call, on whatever thread.
struct Record {
  std::atomic<int> ran{0};
  std::atomic<int> functions{0};  // that are alive
  std::atomic<int> results{0};    // as well
  std::atomic<int> done{0};
};

// Counts itself in a member of a record.
class Counted {
public:
  explicit Counted(std::atomic<int>& count) : count_(&count) { ++*count_; }
  Counted(Counted&& other) noexcept : count_(std::exchange(other.count_, nullptr)) {}
  Counted& operator=(Counted&&) = delete;
  ~Counted() {
    if (count_ != nullptr) {
      --*count_;
    }
  }

private:
  std::atomic<int>* count_;
};

// A loop with its thread, which calls `other` and ends by itself.
class Side {
public:
  Side(const char* name, uint64_t seed) : random_(seed), dispatcher_(createDispatcher({.name = name})) {}

  void start(Side& other) {
    other_ = other.dispatcher_->handle();
    steps_ = static_cast<int>(random_() % 40);
    dispatcher_->post([this] { step(); });
    thread_ = std::thread([this, early = random_() % 2 == 0, keeps = random_() % 2 == 0] {
      dispatcher_->run(RunType::RunUntilExit);
      if (!keeps) {
        futures_.clear();
      }
      if (early) {
        dispatcher_->shutdown();
      }
    });
  }
  void join() { thread_.join(); }
  void destroy() {
    dispatcher_.reset();
    futures_.clear();
  }
  void check() const {
    for (const Record& record : records_) {
      EXPECT_GE(1, record.ran);
      EXPECT_EQ(0, record.functions);
      EXPECT_EQ(0, record.results);
      EXPECT_EQ(1, record.done);
    }
  }

private:
  void step() {
    for (uint64_t i = random_() % 8; i > 0; --i) {
      act();
    }
    if (--steps_ <= 0) {
      dispatcher_->exit();
    } else {
      dispatcher_->post([this] { step(); });
    }
  }

  void act() {
    switch (random_() % 4) {
      case 0:
        if (!futures_.empty()) {
          futures_[random_() % futures_.size()].cancel();
        }
        break;
      case 1:
        if (!futures_.empty()) {
          std::swap(futures_[random_() % futures_.size()], futures_.back());
          futures_.pop_back();
        }
        break;
      default:
        makeCall();
    }
  }

  // A function that returns a value, or throws.
  Future<Counted> callForValue(Record& record) {
    return call(other_, [&record, throws = random_() % 5 == 0, alive = Counted(record.functions)]() -> Counted {
      ++record.ran;
      if (throws) {
        throw std::runtime_error("as it is to be");
      }
      return Counted(record.results);
    });
  }
  // One that returns a future, which is not done at once.
  Future<Counted> callForFuture(Record& record) {
    return call(other_, [&record, alive = Counted(record.functions)] {
      ++record.ran;
      return sleepFor(*LoopCore::current()->dispatcher(), 0ms).then([&record] { return Counted(record.results); });
    });
  }
  void makeCall() {
    Record& record = records_.emplace_back();
    futures_.push_back((random_() % 4 != 0 ? callForValue(record) : callForFuture(record))
                           .ensure([&record] {
                             EXPECT_EQ(0, record.functions) << "it may refer to what waits for it";
                             ++record.done;
                           })
                           .then([](Try<Counted>&&) {}));
  }

  std::mt19937_64 random_;
  DispatcherPtr dispatcher_;
  PostHandle other_;
  int steps_ = 0;
  std::deque<Record> records_;
  std::vector<Future<void>> futures_;
  std::thread thread_;
};

void runRound(uint64_t seed) {
  SCOPED_TRACE("NUNCIO_CALL_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  Side a("a", random());
  Side b("b", random());
  a.start(b);
  b.start(a);
  Side* const first = random() % 2 == 0 ? &a : &b;
  Side* const second = first == &a ? &b : &a;
  first->join();
  const bool meanwhile = random() % 2 == 0;
  if (meanwhile) {
    first->destroy();
  }
  second->join();
  second->destroy();
  if (!meanwhile) {
    first->destroy();
  }
  a.check();
  b.check();
}

TEST(CallStressTest, EachCallEndsOnceHoweverBothSidesEnd) {
  const uint64_t seed = fromEnvironment("NUNCIO_CALL_SEED", std::random_device()());
  const uint64_t rounds = fromEnvironment("NUNCIO_CALL_ROUNDS", 1'000);
  std::printf("NUNCIO_CALL_SEED=%llu\n", static_cast<unsigned long long>(seed));
  for (uint64_t i = 0; i < rounds && !testing::Test::HasFailure(); ++i) {
    runRound(seed + i);
  }
}

}  // namespace
}  // namespace nuncio::test
