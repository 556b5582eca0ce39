#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace nuncio {

// TraceRing: the last things that a loop did, with their times. The loop's thread writes; any may read, also while it
// does, and gets what was not overwritten meanwhile.
class TraceRing {
public:
  enum class Kind : uint8_t {
    Callback,  // one that ran: `id` is its CallbackId, `flow` that of the post that brought it, if any
    Sleep,     // waiting for the kernel
    Post,      // something was posted to a traced loop: `flow` says what
    Batch,     // so many posts were taken: `id`
  };
  // Times are of TickClock.
  struct Record {
    Kind kind;
    uint64_t begin;
    uint64_t end;
    uint64_t id;
    uint64_t flow;  // 0: none
  };

  // Keeps at least so many. Throws std::bad_alloc.
  explicit TraceRing(std::size_t records);

  // The loop's thread. Costs a few stores.
  void add(const Record& record);

  // Any thread: how many were ever written; and those from number `from` on, below `to`, that are still there, in
  // order.
  uint64_t written() const { return ended_.load(std::memory_order_acquire); }
  std::vector<Record> read(uint64_t from, uint64_t to) const;
  // How many of them are not.
  uint64_t lost(uint64_t from, uint64_t to) const;

  // A number for what is posted next, of the whole process.
  static uint64_t nextFlow();

private:
  static constexpr unsigned kKindBits = 2;
  struct Slot {
    std::atomic<uint64_t> begin;
    std::atomic<uint64_t> end;
    std::atomic<uint64_t> id;
    std::atomic<uint64_t> flow_and_kind;
  };

  const std::size_t mask_;  // the number of slots, a power of two, less one
  const std::unique_ptr<Slot[]> slots_;
  // As in a sequence lock: the record that is being written is begun and not ended.
  std::atomic<uint64_t> begun_{0};
  std::atomic<uint64_t> ended_{0};
};

// Of the calling thread, where that runs a traced loop: notes that it posts, and returns the number of the post. Else
// 0.
uint64_t tracePost();

}  // namespace nuncio
