// NUNCIO_TEST_SEED repeats the random tests.

#include "nuncio/event/histogram.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <map>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace nuncio::test {
namespace {

constexpr uint64_t kGreatest = std::numeric_limits<uint64_t>::max();

struct Bucket {
  uint64_t least;
  uint64_t greatest;
  uint64_t count;
  bool operator==(const Bucket&) const = default;
};

std::vector<Bucket> bucketsOf(const HistogramSnapshot& snapshot) {
  std::vector<Bucket> buckets;
  snapshot.forEachBucket(
      [&](uint64_t least, uint64_t greatest, uint64_t count) { buckets.push_back({least, greatest, count}); });
  return buckets;
}

HistogramSnapshot snapshotOf(const std::vector<uint64_t>& values) {
  Histogram histogram;
  for (const uint64_t value : values) {
    histogram.record(value);
  }
  return histogram.snapshot();
}

void expectEqual(const HistogramSnapshot& a, const HistogramSnapshot& b) {
  EXPECT_EQ(bucketsOf(a), bucketsOf(b));
  EXPECT_EQ(a.count(), b.count());
  EXPECT_EQ(a.sum(), b.sum());
}

TEST(HistogramTest, OfNothingAllIsZero) {
  for (const HistogramSnapshot& nothing : {HistogramSnapshot(), snapshotOf({})}) {
    EXPECT_EQ(nothing.count(), 0U);
    EXPECT_EQ(nothing.sum(), 0U);
    EXPECT_EQ(nothing.max(), 0U);
    EXPECT_EQ(nothing.mean(), 0.0);
    EXPECT_EQ(nothing.quantile(0), 0.0);
    EXPECT_EQ(nothing.quantile(0.5), 0.0);
    EXPECT_EQ(nothing.quantile(1), 0.0);
    EXPECT_TRUE(bucketsOf(nothing).empty());
  }
}

TEST(HistogramTest, QuantilesOfOneToAThousandAreWithinAnEighth) {
  Histogram histogram;
  for (uint64_t value = 1; value <= 1000; ++value) {
    histogram.record(value);
  }
  const HistogramSnapshot snapshot = histogram.snapshot();
  EXPECT_EQ(snapshot.count(), 1000U);
  EXPECT_EQ(snapshot.sum(), 500'500U);
  EXPECT_EQ(snapshot.mean(), 500.5);
  EXPECT_NEAR(snapshot.quantile(0.5), 500, 500 * 0.125);
  EXPECT_NEAR(snapshot.quantile(0.9), 900, 900 * 0.125);
  EXPECT_NEAR(snapshot.quantile(0.99), 990, 990 * 0.125);
  EXPECT_EQ(snapshot.quantile(0), 1.0);
  EXPECT_EQ(snapshot.max(), 1023U);
}

TEST(HistogramTest, ValuesBelowEightAreExact) {
  for (uint64_t value = 0; value < 8; ++value) {
    const HistogramSnapshot snapshot = snapshotOf({value});
    EXPECT_EQ(bucketsOf(snapshot), (std::vector<Bucket>{{value, value, 1}}));
    EXPECT_EQ(snapshot.quantile(0.5), static_cast<double>(value));
    EXPECT_EQ(snapshot.max(), value);
  }
}

TEST(HistogramTest, OctavesHaveFourStepsWithoutGapOrOverlap) {
  Histogram histogram;
  for (uint64_t value = 0; value < 8; ++value) {
    histogram.record(value);
  }
  for (int octave = 3; octave < 64; ++octave) {
    for (uint64_t step = 4; step < 8; ++step) {
      histogram.record(step << (octave - 2));              // the least of its bucket
      histogram.record(((step + 1) << (octave - 2)) - 1);  // the greatest, which wraps to kGreatest at the end
    }
  }
  const std::vector<Bucket> buckets = bucketsOf(histogram.snapshot());
  ASSERT_EQ(buckets.size(), 8 + 61 * 4);
  EXPECT_EQ(buckets.front().least, 0U);
  EXPECT_EQ(buckets.back().greatest, kGreatest);
  for (std::size_t i = 1; i < buckets.size(); ++i) {
    EXPECT_EQ(buckets[i].least, buckets[i - 1].greatest + 1);
    EXPECT_EQ(buckets[i].count, i < 8 ? 1U : 2U) << "from " << buckets[i].least;
  }
}

TEST(HistogramTest, NothingOverflowsForTheGreatestValue) {
  Histogram histogram;
  histogram.record(kGreatest);
  EXPECT_EQ(histogram.snapshot().sum(), kGreatest);
  histogram.record(1);
  histogram.record(kGreatest);
  const HistogramSnapshot snapshot = histogram.snapshot();
  EXPECT_EQ(snapshot.count(), 3U);
  EXPECT_EQ(snapshot.sum(), kGreatest);
  EXPECT_EQ(snapshot.max(), kGreatest);
  EXPECT_EQ(snapshot.quantile(0), 1.0);
  EXPECT_NEAR(snapshot.quantile(1), 0x1p64, 0x1p64 * 0.125);
  EXPECT_NEAR(snapshot.mean(), 0x1p64 / 3, 1);
}

TEST(HistogramTest, SharesBeyondZeroAndOneAreClamped) {
  const HistogramSnapshot snapshot = snapshotOf({2, 3, 5});
  EXPECT_EQ(snapshot.quantile(-1), 2.0);
  EXPECT_EQ(snapshot.quantile(-std::numeric_limits<double>::infinity()), 2.0);
  EXPECT_EQ(snapshot.quantile(2), 5.0);
  EXPECT_EQ(snapshot.quantile(std::numeric_limits<double>::infinity()), 5.0);
  EXPECT_TRUE(std::isnan(snapshot.quantile(std::numeric_limits<double>::quiet_NaN())));
}

TEST(HistogramTest, MergedIsAsIfRecordedInOne) {
  HistogramSnapshot merged = snapshotOf({0, 3, 100, kGreatest});
  merged.merge(snapshotOf({3, 99, 1'000'000}));
  merged.merge(HistogramSnapshot());
  expectEqual(merged, snapshotOf({0, 3, 3, 99, 100, 1'000'000, kGreatest}));
}

TEST(HistogramTest, MergedWithItselfIsTwice) {
  HistogramSnapshot snapshot = snapshotOf({7, 40});
  snapshot.merge(snapshot);
  expectEqual(snapshot, snapshotOf({7, 7, 40, 40}));
}

TEST(HistogramTest, CountsThatAreTooGreatStayAtTheGreatest) {
  HistogramSnapshot snapshot = snapshotOf({1, 1, 6});
  for (int i = 0; i < 70; ++i) {
    snapshot.merge(snapshot);
  }
  EXPECT_EQ(snapshot.count(), kGreatest);
  EXPECT_EQ(snapshot.sum(), kGreatest);
  EXPECT_EQ(bucketsOf(snapshot), (std::vector<Bucket>{{1, 1, kGreatest}, {6, 6, kGreatest}}));
  EXPECT_EQ(snapshot.quantile(0), 1.0);
  EXPECT_EQ(snapshot.quantile(1), 1.0);  // all that could be counted
}

TEST(HistogramTest, TheLastOfAsManyAsCanBeCountedIsFound) {
  HistogramSnapshot snapshot = snapshotOf({6});
  for (int i = 0; i < 62; ++i) {
    snapshot.merge(snapshot);
    snapshot.merge(snapshotOf({6}));
  }
  HistogramSnapshot less = snapshotOf({1});
  for (int i = 0; i < 63; ++i) {
    less.merge(less);
  }
  snapshot.merge(less);
  EXPECT_EQ(snapshot.count(), kGreatest);  // as a double, 2^64
  EXPECT_EQ(snapshot.quantile(0.5), 1.0);
  EXPECT_EQ(snapshot.quantile(0.6), 6.0);
  EXPECT_EQ(snapshot.quantile(1), 6.0);
}

TEST(HistogramTest, ASnapshotStaysAsItIs) {
  Histogram histogram;
  histogram.record(5);
  const HistogramSnapshot before = histogram.snapshot();
  histogram.record(5);
  expectEqual(before, snapshotOf({5}));
  expectEqual(histogram.snapshot(), snapshotOf({5, 5}));
}

// Values of all sizes; many small ones, so that buckets have more than one.
std::vector<uint64_t> randomValues(std::mt19937_64& random) {
  std::vector<uint64_t> values(random() % 2'000);
  const uint64_t least_shift = random() % 64;
  for (uint64_t& value : values) {
    value = random() >> (least_shift + random() % (64 - least_shift));
  }
  return values;
}

uint64_t sumOf(const std::vector<uint64_t>& values) {
  uint64_t sum = 0;
  for (const uint64_t value : values) {
    sum = value > kGreatest - sum ? kGreatest : sum + value;
  }
  return sum;
}

void expectBucketsOf(const std::vector<uint64_t>& sorted, const HistogramSnapshot& snapshot) {
  std::size_t seen = 0;
  for (const Bucket& bucket : bucketsOf(snapshot)) {
    const auto first = std::lower_bound(sorted.begin(), sorted.end(), bucket.least);
    const auto end = std::upper_bound(sorted.begin(), sorted.end(), bucket.greatest);
    EXPECT_EQ(bucket.count, static_cast<uint64_t>(end - first)) << "from " << bucket.least;
    EXPECT_LE(bucket.greatest - bucket.least, bucket.least / 4);
    seen += bucket.count;
  }
  EXPECT_EQ(seen, sorted.size());
}

void expectQuantilesOf(const std::vector<uint64_t>& sorted, const HistogramSnapshot& snapshot, double share) {
  const double rank = std::ceil(share * static_cast<double>(sorted.size()));
  const auto exact = static_cast<double>(sorted[static_cast<std::size_t>(std::max(rank, 1.0)) - 1]);
  EXPECT_NEAR(snapshot.quantile(share), exact, exact * 0.125) << share << " of " << sorted.size();
}

TEST(HistogramTest, MatchesTheSortedValues) {
  const char* given = std::getenv("NUNCIO_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::cout << "seed (NUNCIO_TEST_SEED): " << seed << "\n";
  std::mt19937_64 random(seed);
  for (int round = 0; round < 100 && !HasFailure(); ++round) {
    std::vector<uint64_t> sorted = randomValues(random);
    const HistogramSnapshot snapshot = snapshotOf(sorted);
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(random() % (sorted.size() + 1));
    HistogramSnapshot merged = snapshotOf({sorted.begin(), middle});
    merged.merge(snapshotOf({middle, sorted.end()}));
    expectEqual(merged, snapshot);

    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(snapshot.count(), sorted.size());
    EXPECT_EQ(snapshot.sum(), sumOf(sorted));
    expectBucketsOf(sorted, snapshot);
    if (!sorted.empty()) {
      EXPECT_GE(snapshot.max(), sorted.back());
      EXPECT_LE(snapshot.max() - sorted.back(), sorted.back() / 4);
      for (const double share : {0.0, 0.5, 0.9, 0.99, 1.0, std::generate_canonical<double, 53>(random)}) {
        expectQuantilesOf(sorted, snapshot, share);
      }
    }
  }
}

// Takes snapshots until `stop`, and looks whether any number goes back.
class Reader {
public:
  explicit Reader(const Histogram& histogram) : histogram_(histogram), thread_([this] { read(); }) {}
  ~Reader() { join(); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  int taken() const { return taken_.load(std::memory_order_relaxed); }
  void join() {
    stop_.store(true, std::memory_order_relaxed);
    if (thread_.joinable()) {
      thread_.join();
    }
  }

private:
  void read() {
    HistogramSnapshot last;
    while (!stop_.load(std::memory_order_relaxed)) {
      const HistogramSnapshot next = histogram_.snapshot();
      EXPECT_GE(next.count(), last.count());
      EXPECT_GE(next.sum(), last.sum());
      std::map<uint64_t, uint64_t> counts;
      next.forEachBucket([&](uint64_t least, uint64_t, uint64_t count) { counts[least] = count; });
      last.forEachBucket([&](uint64_t least, uint64_t, uint64_t count) { EXPECT_GE(counts[least], count); });
      last = next;
      taken_.fetch_add(1, std::memory_order_relaxed);
    }
  }

  const Histogram& histogram_;
  std::atomic<bool> stop_{false};
  std::atomic<int> taken_{0};
  std::thread thread_;
};

TEST(HistogramTest, CountsNeverGoBackForAReaderOnAnotherThread) {
  constexpr uint64_t kLeast = 1'000'000;
  constexpr int kSnapshots = 1'000;
  Histogram histogram;
  Reader reader(histogram);
  uint64_t recorded = 0;
  uint64_t sum = 0;
  while (recorded < kLeast || reader.taken() < kSnapshots) {
    const uint64_t value = recorded % 100'000;
    histogram.record(value);
    sum += value;
    ++recorded;
  }
  reader.join();
  EXPECT_EQ(histogram.snapshot().count(), recorded);
  EXPECT_EQ(histogram.snapshot().sum(), sum);
}

}  // namespace
}  // namespace nuncio::test
