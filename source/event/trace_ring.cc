#include "source/event/trace_ring.h"

#include <algorithm>
#include <bit>

namespace nuncio {

TraceRing::TraceRing(std::size_t records)
    : mask_(std::bit_ceil(std::max<std::size_t>(records, 2)) - 1), slots_(new Slot[mask_ + 1]) {}

void TraceRing::add(const Record& record) {
  const uint64_t number = ended_.load(std::memory_order_relaxed);
  begun_.store(number + 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);  // who sees any of what follows sees that it has begun
  Slot& slot = slots_[number & mask_];
  slot.begin.store(record.begin, std::memory_order_relaxed);
  slot.end.store(record.end, std::memory_order_relaxed);
  slot.id.store(record.id, std::memory_order_relaxed);
  slot.flow_and_kind.store(record.flow << kKindBits | static_cast<uint64_t>(record.kind), std::memory_order_relaxed);
  ended_.store(number + 1, std::memory_order_release);
}

std::vector<TraceRing::Record> TraceRing::read(uint64_t from, uint64_t to) const {
  const uint64_t size = mask_ + 1;
  const uint64_t all = written();
  const uint64_t end = std::min(all, to);
  const uint64_t first = std::min(end, std::max(from, all > size ? all - size : 0));
  std::vector<Record> records;
  records.reserve(end - first);
  for (uint64_t number = first; number < end; ++number) {
    const Slot& slot = slots_[number & mask_];
    const uint64_t flow_and_kind = slot.flow_and_kind.load(std::memory_order_relaxed);
    records.push_back({.kind = static_cast<Kind>(flow_and_kind & ((1U << kKindBits) - 1)),
                       .begin = slot.begin.load(std::memory_order_relaxed),
                       .end = slot.end.load(std::memory_order_relaxed),
                       .id = slot.id.load(std::memory_order_relaxed),
                       .flow = flow_and_kind >> kKindBits});
  }
  std::atomic_thread_fence(std::memory_order_acquire);
  const uint64_t begun = begun_.load(std::memory_order_relaxed);
  const uint64_t intact = std::min(end, std::max(first, begun > size ? begun - size : 0));
  records.erase(records.begin(), records.begin() + static_cast<std::ptrdiff_t>(intact - first));
  return records;
}

uint64_t TraceRing::lost(uint64_t from, uint64_t to) const {
  const uint64_t size = mask_ + 1;
  const uint64_t all = written();
  return all > size ? std::max(from, std::min(to, all - size)) - from : 0;
}

uint64_t TraceRing::nextFlow() {
  static constinit std::atomic<uint64_t> flows{0};
  return flows.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace nuncio
