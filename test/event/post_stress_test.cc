// Posts from many threads while the loop is stopped, restarted and at last shut down: each callback runs once or is
// destroyed once, none twice, none is lost.
//
// NUNCIO_POST_STRESS_POSTS sets the number of posts.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

constexpr int kProducers = 4;

uint64_t totalPosts() {
  const char* text = std::getenv("NUNCIO_POST_STRESS_POSTS");
  if (text != nullptr) {
    return std::strtoull(text, nullptr, 10);
  }
  return kSanitizer ? 400'000 : 10'000'000;
}

// What became of each post of a producer.
struct Ledger {
  explicit Ledger(uint64_t posts) : ran(posts), destroyed(posts) {}
  std::vector<uint8_t> ran;  // on the loop's thread alone
  std::vector<std::atomic<uint8_t>> destroyed;
  uint64_t next_to_run = 0;  // on the loop's thread alone
  bool in_order = true;
  uint64_t accepted = 0;  // on the producer's thread alone
  std::atomic<int64_t> outstanding{0};
};

// The capture of a post: counts its own end.
class Token {
public:
  Token(Ledger& ledger, uint64_t index) : ledger_(&ledger), index_(index) {}
  Token(Token&& other) noexcept : ledger_(std::exchange(other.ledger_, nullptr)), index_(other.index_) {}
  Token& operator=(Token&&) = delete;
  ~Token() {
    if (ledger_ != nullptr) {
      ledger_->destroyed[index_].fetch_add(1, std::memory_order_relaxed);
      ledger_->outstanding.fetch_sub(1, std::memory_order_relaxed);
    }
  }
  void run() const {
    ++ledger_->ran[index_];
    ledger_->in_order = ledger_->in_order && ledger_->next_to_run == index_;  // none is left out
    ledger_->next_to_run = index_ + 1;
  }

private:
  Ledger* ledger_;
  uint64_t index_;
};

// `shut_down_after`: callbacks that run before the dispatcher is shut down.
void stress(uint64_t total, uint64_t shut_down_after) {
  const uint64_t each = total / kProducers;
  constexpr int64_t kMostOutstanding = 50'000;  // bounds memory where producers are faster than the loop
  DispatcherPtr dispatcher = createDispatcher({.name = "stressed"});
  std::vector<std::unique_ptr<Ledger>> ledgers;
  for (int p = 0; p < kProducers; ++p) {
    ledgers.push_back(std::make_unique<Ledger>(each));
  }
  std::atomic<int> running{kProducers};
  std::vector<std::thread> producers;
  for (int p = 0; p < kProducers; ++p) {
    producers.emplace_back([&, p] {
      Ledger& ledger = *ledgers[p];
      for (uint64_t i = 0; i < each; ++i) {
        while (ledger.outstanding.load(std::memory_order_relaxed) >= kMostOutstanding) {
          std::this_thread::yield();
        }
        ledger.outstanding.fetch_add(1, std::memory_order_relaxed);
        ledger.accepted += dispatcher->post([token = Token(ledger, i)] { token.run(); }) ? 1 : 0;
        if (i % 10'000 == 0) {
          dispatcher->exit();  // stops the loop, or its next run: it is restarted
        }
      }
      --running;
      dispatcher->exit();
    });
  }
  for (uint64_t runs = 0; dispatcher->stats().posts_run < std::min(shut_down_after, each * kProducers); ++runs) {
    // The last producer's exit() ends the last run that would wait for more.
    dispatcher->run(runs % 3 == 0 || running == 0 ? RunType::NonBlock : RunType::RunUntilExit);
  }
  dispatcher->shutdown();
  for (std::thread& producer : producers) {
    producer.join();
  }
  dispatcher->shutdown();
  uint64_t run = 0;
  uint64_t accepted = 0;
  for (const auto& ledger : ledgers) {
    for (uint64_t i = 0; i < each; ++i) {
      ASSERT_LE(ledger->ran[i], 1) << "ran twice";
      ASSERT_EQ(1, ledger->destroyed[i].load()) << "lost, or destroyed twice";
      run += ledger->ran[i];
    }
    EXPECT_TRUE(ledger->in_order);
    EXPECT_EQ(0, ledger->outstanding.load());
    accepted += ledger->accepted;
  }
  EXPECT_EQ(run, dispatcher->stats().posts_run);
  EXPECT_LE(run, accepted);
  EXPECT_GE(run, std::min(shut_down_after, each * kProducers));
}

TEST(PostStressTest, EachOfMillionsOfPostsRunsOnceOrIsDestroyedOnce) {
  const uint64_t total = totalPosts();
  stress(total, total / 10 * 9);
}

TEST(PostStressTest, ShutdownAtManyMomentsLosesNothing) {
  for (uint64_t i = 0; i < 20; ++i) {
    stress(20'000, i * 500);
  }
}

TEST(PostStressTest, EachOfManyPostsRunsWhenNothingIsShutDown) {
  constexpr uint64_t kPosts = 100'000;
  DispatcherPtr dispatcher = createDispatcher();
  uint64_t ran = 0;
  std::vector<std::thread> producers;
  for (int p = 0; p < kProducers; ++p) {
    producers.emplace_back([&] {
      for (uint64_t i = 0; i < kPosts; ++i) {
        ASSERT_TRUE(dispatcher->post([&] {
          if (++ran == kPosts * kProducers) {
            dispatcher->exit();
          }
        }));
      }
    });
  }
  dispatcher->run(RunType::RunUntilExit);
  for (std::thread& producer : producers) {
    producer.join();
  }
  EXPECT_EQ(kPosts * kProducers, ran);
}

}  // namespace
}  // namespace nuncio::test
