#include "source/event/post_queue.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <mutex>
#include <poll.h>
#include <pthread.h>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "spdlog/sinks/base_sink.h"

#include "nuncio/common/logging.h"
#include "source/event/backend.h"
#include "test/test_support/child_process.h"

namespace nuncio {
namespace {

class PostQueueTest : public testing::Test {
protected:
  bool post(PostCb cb) { return queue_->post(cb); }
  static void runAll(PostQueue::Batch& batch) {
    while (!batch.empty()) {
      batch.takeFirst()();
    }
  }
  bool woken() {
    pollfd poll_fd{wakeFd(), POLLIN, 0};
    return ::poll(&poll_fd, 1, 0) == 1;
  }
  int wakeFd() const { return waker_->fd(); }

  std::unique_ptr<Backend> backend_ = *createLinuxBackend();
  std::unique_ptr<Waker> made_ = *backend_->createWaker();
  const Waker* const waker_ = made_.get();
  std::shared_ptr<PostQueue> queue_ = std::make_shared<PostQueue>("test", std::move(made_));
};

TEST_F(PostQueueTest, TakesNothingFromAnEmptyQueue) {
  PostQueue::Batch batch;
  EXPECT_FALSE(queue_->take(batch));
  EXPECT_TRUE(batch.empty());
}

TEST_F(PostQueueTest, RunsCallbacksOfAllSizesInOrder) {
  std::vector<int> order;
  std::array<char, 40> bytes{};
  std::array<char, 200> more_bytes{};
  ASSERT_TRUE(post([&order] { order.push_back(1); }));
  ASSERT_TRUE(post([&order, bytes] { order.push_back(2 + bytes[0]); }));
  ASSERT_TRUE(post([&order, more_bytes] { order.push_back(3 + more_bytes[0]); }));
  ASSERT_TRUE(post([&order, owned = std::make_unique<int>(4)] { order.push_back(*owned); }));
  PostQueue::Batch batch;
  ASSERT_TRUE(queue_->take(batch));
  runAll(batch);
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 4}));
}

TEST_F(PostQueueTest, KeepsOrderOverManyChunksAndUsesThemAgain) {
  constexpr int kPosts = 20'000;  // about 30 chunks
  for (int round = 0; round < 3; ++round) {
    int next = 0;
    for (int i = 0; i < kPosts; ++i) {
      ASSERT_TRUE(post([&next, i] { EXPECT_EQ(next++, i); }));
    }
    PostQueue::Batch batch;
    ASSERT_TRUE(queue_->take(batch));
    runAll(batch);
    EXPECT_EQ(next, kPosts);
    EXPECT_FALSE(queue_->take(batch));
  }
}

TEST_F(PostQueueTest, WhatABatchPostsIsNotInTheBatch) {
  bool second_ran = false;
  post([&] { post([&] { second_ran = true; }); });
  PostQueue::Batch batch;
  queue_->take(batch);
  runAll(batch);
  EXPECT_FALSE(second_ran);
  ASSERT_TRUE(queue_->take(batch));
  runAll(batch);
  EXPECT_TRUE(second_ran);
}

TEST_F(PostQueueTest, WakesOnceAndOnlyALoopThatSleeps) {
  PostQueue::Batch batch;
  post([] {});
  EXPECT_FALSE(woken());
  EXPECT_FALSE(queue_->announceSleep()) << "something is posted already";
  queue_->take(batch);
  runAll(batch);
  ASSERT_TRUE(queue_->announceSleep());
  post([] {});
  EXPECT_TRUE(woken());
  post([] {});
  post([] {});
  EXPECT_EQ(queue_->wakeups(), 1);
}

TEST_F(PostQueueTest, DoesNotWakeALoopThatWokeByItself) {
  PostQueue::Batch batch;
  ASSERT_TRUE(queue_->announceSleep());
  queue_->awake();
  post([] {});
  EXPECT_EQ(queue_->wakeups(), 0);
}

TEST_F(PostQueueTest, AClosedQueueRefusesAndLeavesTheCallbackToTheCaller) {
  auto token = std::make_shared<int>(0);
  queue_->close();
  EXPECT_TRUE(queue_->closed());
  EXPECT_FALSE(post([token] {}));
  EXPECT_EQ(token.use_count(), 1);
}

TEST_F(PostQueueTest, WhatIsLeftIsDestroyedInOrderWithTheBatchOrTheQueue) {
  std::vector<int> destroyed;
  struct Probe {
    std::vector<int>* destroyed;
    int id;
    void operator()(Probe* probe) const {
      probe->destroyed->push_back(probe->id);
      delete probe;
    }
  };
  for (int i = 0; i < 4; ++i) {
    auto* probe = new Probe{&destroyed, i};
    post([owned = std::unique_ptr<Probe, Probe>(probe, *probe)] { FAIL(); });
    if (i == 1) {
      PostQueue::Batch batch;
      queue_->take(batch);
    }
  }
  EXPECT_EQ(destroyed, (std::vector<int>{0, 1}));
  queue_.reset();
  EXPECT_EQ(destroyed, (std::vector<int>{0, 1, 2, 3}));
}

TEST_F(PostQueueTest, ManyProducersAndASleepyConsumerLoseNothing) {
  constexpr int kProducers = 3;
  constexpr int kPosts = 30'000;
  std::vector<int> next(kProducers, 0);
  std::vector<std::thread> producers;
  for (int producer = 0; producer < kProducers; ++producer) {
    producers.emplace_back([&, producer] {
      for (int i = 0; i < kPosts; ++i) {
        post([&next, producer, i] { EXPECT_EQ(next[producer]++, i); });
      }
    });
  }
  int ran = 0;
  while (ran < kProducers * kPosts) {
    PostQueue::Batch batch;
    if (!queue_->take(batch)) {
      if (!queue_->announceSleep()) {
        continue;
      }
      pollfd poll_fd{wakeFd(), POLLIN, 0};
      ASSERT_EQ(::poll(&poll_fd, 1, -1), 1);  // a lost wake-up hangs here
      uint64_t count;
      ASSERT_EQ(::read(wakeFd(), &count, sizeof(count)), static_cast<ssize_t>(sizeof(count)));
      continue;
    }
    while (!batch.empty()) {
      batch.takeFirst()();
      ++ran;
    }
  }
  for (std::thread& producer : producers) {
    producer.join();
  }
  EXPECT_EQ(next, std::vector<int>(kProducers, kPosts));
}

TEST_F(PostQueueTest, AChildOfForkDoesNotWakeTheParentsLoop) {
  PostQueue::Batch batch;
  EXPECT_TRUE(queue_->announceSleep());
  EXPECT_EQ("", test::runInChild([this] {
              CHILD_CHECK(post([] {}));
              queue_->requestExit();
            }));
  EXPECT_FALSE(woken());
}

TEST_F(PostQueueTest, AFailureOfTheParentIsNotTheChilds) {
  ASSERT_TRUE(setLogLevel("event", "off").ok());
  queue_->fail("close", -1, EBADF);
  ASSERT_TRUE(setLogLevel("event", "info").ok());
  EXPECT_EQ("", test::runInChild([this] {
              queue_->forgetFailure();
              CHILD_CHECK(!queue_->failed());
              queue_->wake();
              CHILD_CHECK(!queue_->failed());
            }));
  EXPECT_TRUE(queue_->failed());
}

// A sink in which a thread can be cancelled, as it can in most.
class CancellationPoint : public spdlog::sinks::base_sink<std::mutex> {
public:
  int lines() const { return lines_; }

private:
  void sink_it_(const spdlog::details::log_msg& /*message*/) override {
    pthread_testcancel();
    ++lines_;
  }
  void flush_() override {}

  int lines_ = 0;
};

TEST_F(PostQueueTest, AThreadThatWasCancelledSaysWhatFailedAllTheSame) {
  const auto sink = std::make_shared<CancellationPoint>();
  const std::vector<spdlog::sink_ptr> former = logger(LogLayer::Event).sinks();
  logger(LogLayer::Event).sinks() = {sink};
  std::thread thread([this] {
    pthread_cancel(pthread_self());
    queue_->fail("close", -1, EBADF);
  });
  thread.join();
  logger(LogLayer::Event).sinks() = former;
  EXPECT_EQ(sink->lines(), 1);
  EXPECT_TRUE(queue_->failed());
}

}  // namespace
}  // namespace nuncio
