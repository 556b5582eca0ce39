#include "nuncio/event/histogram.h"

#include <algorithm>
#include <cmath>

namespace nuncio {
namespace {

// Where the sum is too great: the greatest value.
uint64_t saturatingSum(uint64_t a, uint64_t b) {
  const uint64_t sum = a + b;
  return sum < a ? std::numeric_limits<uint64_t>::max() : sum;
}

// Which of `count` values, counted from 1 in their order, is the first that so great a share of them does not exceed.
uint64_t rankOf(double share, uint64_t count) {
  const double rank = std::ceil(share * static_cast<double>(count));
  if (rank >= static_cast<double>(count)) {
    return count;  // a double has fewer digits than a count, and may have been rounded up beyond all of them
  }
  return std::max<uint64_t>(1, static_cast<uint64_t>(rank));
}

}  // namespace

uint64_t HistogramSnapshot::count() const noexcept {
  uint64_t count = 0;
  for (const uint64_t more : counts_) {
    count = saturatingSum(count, more);
  }
  return count;
}

double HistogramSnapshot::mean() const noexcept {
  const uint64_t values = count();
  return values == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(values);
}

double HistogramSnapshot::quantile(double share) const noexcept {
  if (std::isnan(share)) {
    return share;
  }
  const uint64_t values = count();
  if (values == 0) {
    return 0;
  }
  const uint64_t rank = rankOf(std::clamp(share, 0.0, 1.0), values);
  std::size_t index = 0;
  for (uint64_t before = counts_[0]; before < rank; before = saturatingSum(before, counts_[index])) {
    ++index;
  }
  const uint64_t least = leastOf(index);
  return static_cast<double>(least) + static_cast<double>(greatestOf(index) - least) / 2;
}

uint64_t HistogramSnapshot::max() const noexcept {
  std::size_t end = kBuckets;
  while (end > 0 && counts_[end - 1] == 0) {
    --end;
  }
  return end == 0 ? 0 : greatestOf(end - 1);
}

void HistogramSnapshot::merge(const HistogramSnapshot& other) noexcept {
  for (std::size_t i = 0; i < kBuckets; ++i) {
    counts_[i] = saturatingSum(counts_[i], other.counts_[i]);
  }
  sum_ = saturatingSum(sum_, other.sum_);
}

HistogramSnapshot Histogram::snapshot() const noexcept {
  HistogramSnapshot snapshot;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    snapshot.counts_[i] = counts_[i].load(std::memory_order_relaxed);
  }
  snapshot.sum_ = sum_.load(std::memory_order_relaxed);
  return snapshot;
}

}  // namespace nuncio
