// call(): a function that runs on another dispatcher, and whose answer comes back to the one that calls.

#include "nuncio/future/call.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/status_error.h"
#include "nuncio/future/time.h"
#include "test/test_support/count_allocations.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/lifetime_probe.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/notification.h"
#include "test/test_support/sanitizers.h"
#include "test/test_support/uninstrumented_abseil.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;

// `here_` calls, `there_` is called; the test's own thread belongs to neither.
class CallTest : public testing::Test {
protected:
  // Has `here_` call `f`, and returns what came of it.
  template <class F>
  auto resultOf(F f) {
    using U = future_internal::ResultOf<std::invoke_result_t<F&>>;
    Try<U> result;
    Notification done;
    here_thread_.call([&] {
      call(*there_, std::move(f))
          .then([&](Try<U>&& answer) {
            EXPECT_EQ(here_thread_.id(), std::this_thread::get_id());
            result = std::move(answer);
            done.notify();
          })
          .detach();
    });
    EXPECT_TRUE(done.wait());
    return result;
  }
  template <class F>
  absl::Status statusOf(F f) {
    return resultOf(std::move(f)).status();
  }

  LogCapture log_{LogLayer::Future};
  DispatcherPtr here_ = createDispatcher({.name = "here"});
  DispatcherPtr there_ = createDispatcher({.name = "there"});
  DispatcherThread here_thread_{*here_};
  DispatcherThread there_thread_{*there_};
};

TEST_F(CallTest, RunsThereAndGoesOnHere) {
  EXPECT_EQ(there_thread_.id(), *resultOf([] { return std::this_thread::get_id(); }));
}

TEST_F(CallTest, BringsWhateverThenAllows) {
  EXPECT_EQ(42, *resultOf([] { return 42; }));
  EXPECT_TRUE(resultOf([] {}).hasValue());
  EXPECT_EQ(7, **resultOf([] { return std::make_unique<int>(7); }));
  EXPECT_EQ("a long string that is on the heap",
            *resultOf([] { return std::string("a long string that is on the heap"); }));
  EXPECT_EQ(1, (*resultOf([] { return std::array<int, 100>{1}; }))[0]) << "larger than a post has room for";
  int object = 3;
  EXPECT_EQ(&object, &resultOf([&object] { return std::ref(object); })->get());
  EXPECT_EQ(absl::OkStatus(), statusOf([] { return absl::OkStatus(); }));
  EXPECT_EQ(absl::DataLossError("lost"), statusOf([] { return absl::DataLossError("lost"); }));
  EXPECT_EQ(5, *resultOf([] { return absl::StatusOr<int>(5); }));
  EXPECT_EQ(absl::DataLossError("lost"), statusOf([] { return absl::StatusOr<int>(absl::DataLossError("lost")); }));
  EXPECT_EQ(6, *resultOf([] { return Try<int>(6); }));
  const Try<int> thrown = resultOf([]() -> int { throw std::runtime_error("thrown"); });
  EXPECT_THROW(std::rethrow_exception(thrown.exception()), std::runtime_error);
}

TEST_F(CallTest, BringsTheResultOfAFutureThatIsReturned) {
  EXPECT_EQ(8, *resultOf([] { return makeReadyFuture(8); }));
  EXPECT_EQ(9, *resultOf([this] { return sleepFor(*there_, 1ms).then([] { return 9; }); }));
  EXPECT_EQ(10, *resultOf([this]() -> Future<int> {
              co_await sleepFor(*there_, 1ms);
              co_return 10;
            }));
  EXPECT_EQ(absl::DataLossError("lost"), statusOf([] { return makeFailedFuture<int>(absl::DataLossError("lost")); }));
}

TEST_F(CallTest, IsAwaited) {
  Notification done;
  int sum = 0;
  here_thread_.call([&] {
    [](Dispatcher& there, int& result, Notification& finished) -> Future<void> {
      for (int i = 0; i < 100; ++i) {
        Future<int> answer = call(there, [i] { return i; });
        result += co_await std::move(answer);
      }
      finished.notify();
    }(*there_, sum, done)
                                                                      .detach();
  });
  ASSERT_TRUE(done.wait());
  EXPECT_EQ(4950, sum);
}

TEST_F(CallTest, ByAHandle) {
  Notification done;
  here_thread_.call([&] {
    const PostHandle handle = there_->handle();
    call(handle, [] { return std::this_thread::get_id(); })
        .then([&](std::thread::id id) {
          EXPECT_EQ(there_thread_.id(), id);
          done.notify();
        })
        .detach();
  });
  EXPECT_TRUE(done.wait());
}

TEST_F(CallTest, CallsAndPostsRunInOrderAndAnswersComeInTheirs) {
  constexpr int kCalls = 1'000;
  std::vector<int> ran;
  std::vector<int> answered;
  Countdown done(kCalls / 2);
  here_thread_.call([&] {
    for (int i = 0; i < kCalls; ++i) {
      if (i % 2 == 0) {
        there_->post([&ran, i] { ran.push_back(i); });
        continue;
      }
      call(*there_,
           [&ran, i] {
             ran.push_back(i);
             return i;
           })
          .then([&](int answer) {
            answered.push_back(answer);
            done.countDown();
          })
          .detach();
    }
  });
  ASSERT_TRUE(done.wait());
  ASSERT_EQ(kCalls, ran.size());
  for (int i = 0; i < kCalls; ++i) {
    EXPECT_EQ(i, ran[static_cast<std::size_t>(i)]);
  }
  for (int i = 0; i < kCalls / 2; ++i) {
    EXPECT_EQ(2 * i + 1, answered[static_cast<std::size_t>(i)]);
  }
}

TEST_F(CallTest, OneselfRunsAsATask) {
  Notification done;
  here_thread_.call([&] {
    const uint64_t posts = here_->stats().posts_run;
    std::string order;
    const PostHandle handle = here_->handle();
    auto first = call(*here_, [&] {
      order += "f";
      return 1;
    });
    auto second = call(handle, [&] { order += "g"; });
    order += "called ";
    first.cancel();
    EXPECT_EQ("called ", order);
    std::move(first).detach();
    std::move(second)
        .then([&, posts] {
          EXPECT_EQ("called g", order);
          EXPECT_EQ(posts, here_->stats().posts_run);
          done.notify();
        })
        .detach();
    while (!here_->loop().empty()) {  // as the loop does next
      here_->loop().runFirst();
    }
  });
  EXPECT_TRUE(done.wait());
}

TEST_F(CallTest, WithoutALoopItIsRefused) {
  bool ran = false;
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, call(*there_, [&] { ran = true; }).get().status().code());
  there_thread_.stop();
  EXPECT_FALSE(ran);
}

// --- Cancelled, dropped, and shut down.

// Keeps the dispatcher of a thread from running anything until it is let go.
class Blocked {
public:
  explicit Blocked(Dispatcher& dispatcher) {
    dispatcher.post([this] {
      blocked_.notify();
      EXPECT_TRUE(go_on_.wait());
    });
    EXPECT_TRUE(blocked_.wait());
  }
  void letGo() { go_on_.notify(); }

private:
  Notification blocked_;
  Notification go_on_;
};

// A capture, or a result, that says on which thread it was destroyed.
class Probe {
public:
  explicit Probe(std::thread::id& destroyed_on) : destroyed_on_(&destroyed_on) {}
  Probe(Probe&& other) noexcept : destroyed_on_(std::exchange(other.destroyed_on_, nullptr)) {}
  Probe& operator=(Probe&&) = delete;
  ~Probe() {
    if (destroyed_on_ != nullptr) {
      EXPECT_EQ(std::thread::id(), *destroyed_on_) << "destroyed twice";
      *destroyed_on_ = std::this_thread::get_id();
    }
  }

private:
  std::thread::id* destroyed_on_;
};

TEST_F(CallTest, CancelledBeforeItRanTheFunctionIsDestroyedThereAndTheFutureDoneThen) {
  Blocked blocked(*there_);
  std::thread::id destroyed_on;
  bool ran = false;
  Notification done;
  Future<void> future;
  here_thread_.call([&] {
    future = call(*there_, [&ran, probe = Probe(destroyed_on)] { ran = true; });
    future.cancel();
    EXPECT_FALSE(future.isReady());
    future = std::move(future).ensure([&] {
      EXPECT_EQ(there_thread_.id(), destroyed_on);
      done.notify();
    });
  });
  blocked.letGo();
  ASSERT_TRUE(done.wait());
  here_thread_.call([&] { EXPECT_EQ(absl::StatusCode::kCancelled, std::move(future).get().status().code()); });
  EXPECT_FALSE(ran);
  EXPECT_EQ(3, *resultOf([] { return 3; })) << "the next one is another one";
}

TEST_F(CallTest, CancelledAfterItRanTheResultIsDestroyedHere) {
  std::thread::id destroyed_on;
  Future<Probe> future;
  Notification done;
  here_thread_.call([&] {
    Notification ran;
    future = call(*there_, [&] {
      ran.notify();
      return Probe(destroyed_on);
    });
    EXPECT_TRUE(ran.wait());
    future.cancel();
    future = std::move(future).ensure([&] { done.notify(); });
  });
  ASSERT_TRUE(done.wait());
  here_thread_.call([&] { EXPECT_EQ(absl::StatusCode::kCancelled, std::move(future).get().status().code()); });
  EXPECT_EQ(here_thread_.id(), destroyed_on);
}

TEST_F(CallTest, DroppedItRunsNonethelessAndTheResultIsDestroyedHere) {
  std::thread::id destroyed_on;
  here_thread_.call([&] { call(*there_, [&] { return Probe(destroyed_on); }).detach(); });
  there_thread_.call([] {});
  here_thread_.call([&] { EXPECT_EQ(here_thread_.id(), destroyed_on); });
}

TEST_F(CallTest, AFailureOfOneThatWasDroppedIsLogged) {
  here_thread_.call([&] { static_cast<void>(call(*there_, [] { return absl::DataLossError("nobody looks"); })); });
  there_thread_.call([] {});
  here_thread_.call([] {});
  EXPECT_NE(std::string::npos, log_.text().find("nobody looks"));
}

TEST_F(CallTest, WhatCannotBeMovedOrIsRefusedFails) {
  struct ThrowsWhenCopied {
    ThrowsWhenCopied() = default;
    ThrowsWhenCopied(const ThrowsWhenCopied&) { throw std::runtime_error("copied"); }
    void operator()() const {}
  };
  there_thread_.stop();
  here_thread_.call([&] {
    const ThrowsWhenCopied f;
    EXPECT_THROW(std::rethrow_exception(call(*there_, f).get().exception()), std::runtime_error);
    const ThrowsWhenCopied g;
    EXPECT_THROW(std::rethrow_exception(call(*here_, g).get().exception()), std::runtime_error);
  });
  there_->shutdown();
  std::thread::id destroyed_on;
  here_thread_.call([&] {
    EXPECT_EQ(absl::StatusCode::kCancelled,
              call(*there_, [probe = Probe(destroyed_on)] { return 1; }).get().status().code());
    EXPECT_EQ(here_thread_.id(), destroyed_on);
    const PostHandle nobody;
    EXPECT_EQ(absl::StatusCode::kCancelled, call(nobody, [] { return 1; }).get().status().code());
  });
}

TEST_F(CallTest, ATargetThatShutsDownCancelsWhatItHasNotRun) {
  constexpr std::size_t kCalls = 1'000;
  std::vector<std::thread::id> destroyed_on(kCalls);
  std::size_t cancelled = 0;
  Notification done;
  there_thread_.stop();
  here_thread_.call([&] {
    for (std::thread::id& on : destroyed_on) {
      call(*there_, [probe = Probe(on)] { FAIL(); })
          .then([&](Try<void>&& result) {
            cancelled += result.status().code() == absl::StatusCode::kCancelled ? 1 : 0;
            if (cancelled == kCalls) {
              done.notify();
            }
          })
          .detach();
    }
  });
  std::thread::id ends;
  std::thread([&] {
    ends = std::this_thread::get_id();
    there_->shutdown();
  }).join();
  ASSERT_TRUE(done.wait());
  EXPECT_EQ(std::vector<std::thread::id>(kCalls, ends), destroyed_on);
}

TEST_F(CallTest, AHomeThatShutsDownMeanwhileIsNotTouchedAndTheResultsAreDestroyedThere) {
  constexpr std::size_t kCalls = 1'000;
  std::vector<std::thread::id> functions(kCalls);
  std::vector<std::thread::id> results(kCalls);
  std::size_t continued = 0;
  Notification first_ran;
  Notification home_gone;
  here_thread_.call([&] {
    for (std::size_t i = 0; i < kCalls; ++i) {
      call(*there_, [&, i, probe = Probe(functions[i])] {
        if (i == 0) {
          first_ran.notify();
          EXPECT_TRUE(home_gone.wait());
        }
        return Probe(results[i]);
      }).then([&](Probe&&) {
          ++continued;
        }).detach();
    }
  });
  ASSERT_TRUE(first_ran.wait());
  here_thread_.stop();
  here_.reset();
  home_gone.notify();
  there_thread_.call([] {});
  EXPECT_EQ(0, continued);
  EXPECT_EQ(std::vector<std::thread::id>(kCalls, there_thread_.id()), functions);
  EXPECT_EQ(there_thread_.id(), results[0]);
  EXPECT_EQ(std::thread::id(), results[1]) << "one that had not run then is not run";
}

TEST_F(CallTest, AnAnswerThatComesWhileItsHomeShutsDownIsDestroyedHere) {
  std::thread::id destroyed_on;
  bool continued = false;
  here_thread_.call([&] {
    call(*there_, [&] { return Probe(destroyed_on); }).then([&](Probe&&) { continued = true; }).detach();
    there_thread_.call([] {});  // the answer is posted
    here_->exit();
  });
  const std::thread::id loops_thread = here_thread_.id();
  here_thread_.stop();
  here_->shutdown();  // unless the loop has run it before it left
  EXPECT_EQ(continued ? loops_thread : std::this_thread::get_id(), destroyed_on);
}

// --- Memory.

TEST_F(CallTest, WithoutMemoryItFailsAndTheFunctionIsDestroyedOnce) {
  constexpr int64_t kAllocations = 12;  // more than it makes
  std::size_t failed = 0;
  for (int64_t i = 0; i < kAllocations; ++i) {
    std::thread::id destroyed_on;
    bool ran = false;
    Notification done;
    here_thread_.call([&] {
      // A large function, which does not fit into a post.
      const auto f = [&ran, probe = std::make_shared<Probe>(destroyed_on), large = std::array<char, 1'000>()] {
        ran = true;
        return large[0];
      };
      failAllocation(i, Fails::AllFromThere);
      Future<char> future = call(*there_, f);
      static_cast<void>(stopFailing());
      std::move(future)
          .then([&](Try<char>&& result) {
            EXPECT_EQ(ran, result.hasValue());
            if (!ran) {
              ++failed;
              EXPECT_EQ(absl::StatusCode::kResourceExhausted, result.status().code());
            }
            done.notify();
          })
          .detach();
    });
    ASSERT_TRUE(done.wait());
    there_thread_.call([] {});
    EXPECT_NE(std::thread::id(), destroyed_on);
  }
#ifndef NUNCIO_TEST_SANITIZER
  EXPECT_LT(0, failed);
#endif
}

TEST_F(CallTest, AnAnswerIsNotLostForWantOfMemory) {
  for (int i = 0; i < 100; ++i) {
    const auto answered = resultOf([i] {
      failAllocation(0, Fails::AllFromThere);  // for the answer, which does not fit into a post
      return std::array<int, 100>{i};
    });
    there_thread_.call([] { static_cast<void>(stopFailing()); });
    ASSERT_TRUE(answered.hasValue());
    EXPECT_EQ(i, (*answered)[0]);
  }
}

// Once memory has grown to its size, with a function of 32 bytes.
TEST_F(CallTest, NeedsNoAllocation) {
  constexpr int kWarmUp = 1'000;
  int64_t allocated = -1;
  Notification done;
  here_thread_.call([&] {
    [](Dispatcher& there, int64_t& more, Notification& finished) -> Future<void> {
      int64_t before = 0;
      for (int i = 0; i < 2 * kWarmUp; ++i) {
        if (i == kWarmUp) {
          before = allocations;
        }
        const std::array<int64_t, 4> capture{i};
        Future<int64_t> answer = call(there, [capture] { return capture[0]; });
        EXPECT_EQ(i, co_await std::move(answer));
      }
      more = allocations - before;
      finished.notify();
    }(*there_, allocated, done)
                                                                        .detach();
  });
  ASSERT_TRUE(done.wait());
  EXPECT_EQ(0, allocated);
}

}  // namespace
}  // namespace nuncio::test
