// Buffers that go from thread to thread, with slices, fragments and trackers.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "gtest/gtest.h"

#include "nuncio/network/buffer.h"
#include "source/network/scratch.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::network {
namespace {

// Where threads leave buffers for each other.
class Box {
public:
  void put(Buffer buffer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    buffers_.push_back(std::move(buffer));
  }
  std::optional<Buffer> take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (buffers_.empty()) {
      return std::nullopt;
    }
    std::optional<Buffer> taken(std::move(buffers_.front()));
    buffers_.pop_front();
    return taken;
  }

private:
  std::mutex mutex_;
  std::deque<Buffer> buffers_;
};

TEST(BufferThreadsTest, BytesFragmentsAndTrackersGoFromThreadToThread) {
  constexpr int kThreads = 4;
  constexpr int kRounds = test::kSanitizer ? 2000 : 10'000;
  const std::string text(20'000, 't');
  const std::string fragment(1000, 'f');
  std::atomic<int> released{0};  // relaxed: looked at when the threads have ended
  std::atomic<int> drained{0};
  std::atomic<int> dropped{0};
  Box box;
  {
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (int round = 0; round < kRounds; ++round) {
          Buffer made(text);
          made.appendFragment(fragment, [&] { released.fetch_add(1, std::memory_order_relaxed); });
          made.addDrainTracker([&](DrainResult result) {
            (result == DrainResult::Drained ? drained : dropped).fetch_add(1, std::memory_order_relaxed);
          });
          box.put(std::move(made));
          std::optional<Buffer> taken = box.take();
          ASSERT_TRUE(taken.has_value());
          ASSERT_EQ(taken->length(), 21'000);
          Buffer mine;
          mine.move(*taken, 10'000);
          ASSERT_EQ(mine.linearize(10'000), absl::string_view(text).substr(0, 10'000));
          mine.move(*taken);
          if (round % 2 == 0) {
            mine.drain(21'000);
          }
        }
      });
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
  }
  EXPECT_EQ(released, kThreads * kRounds);
  EXPECT_EQ(drained, kThreads * kRounds / 2);
  EXPECT_EQ(dropped, kThreads * kRounds / 2);
  EXPECT_FALSE(box.take().has_value());
}

TEST(BufferThreadsTest, HandlersHandOnWhatTheyRead) {
  constexpr int kRounds = test::kSanitizer ? 2000 : 10'000;
  Box box;
  std::thread reader([&] {
    for (int round = 0; round < kRounds; ++round) {
      Scratch scratch;
      const absl::Span<char> memory = scratch.memory();
      const std::size_t size = 1 + static_cast<std::size_t>(round) % 5000;
      std::fill_n(memory.begin(), size, static_cast<char>('a' + round % 26));
      Buffer buffer;
      scratch.lend(buffer, size);
      box.put(std::move(buffer));
    }
  });
  for (int round = 0; round < kRounds;) {
    const std::optional<Buffer> taken = box.take();
    if (!taken.has_value()) {
      std::this_thread::yield();
      continue;
    }
    ASSERT_EQ(taken->toString(),
              std::string(1 + static_cast<std::size_t>(round) % 5000, static_cast<char>('a' + round % 26)));
    ++round;
  }
  reader.join();
}

}  // namespace
}  // namespace nuncio::network
