#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "source/event/slab_pool.h"

namespace nuncio {

// TimerQueue: the armed timers of one loop, in the order of their deadlines.
//
// A hierarchical timing wheel (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987) whose 1,024 slots on
// the lowest level are about a millisecond wide; each next level has 64 slots, each as wide as all of the level below.
// The timers of a slot whose time has come are sorted, once, into exact order: by deadline, then by arming; those armed
// for that time after it has come stand in a small binary heap beside them.
//
// A slot may hold a million timers. So it is emptied in pieces, one in each round of popDue(), and each piece is sorted
// by itself; the sorted pieces are merged as they are popped. Until all of a slot is seen, what is due before the
// earliest deadline that may be in it goes on to be popped, and the rest waits.
//
// Arming is O(1): a timer that moves to a later time stays where it is filed and is filed anew when that slot comes,
// which makes the common case, a timeout pushed back by each message, one write to the timer itself. Disarming is a
// write too: what is disarmed is dropped when its slot comes, or when a look at the queue was in vain. Only a move to
// an earlier slot takes a timer out of its slot; such moves are gathered and done some at a time, before the queue is
// next looked at, so that arming waits neither for memory nor for a branch that depends on it. Slots hold pointers in
// blocks, not linked lists: when one is emptied, its timers are fetched from memory side by side and not one after the
// other.
//
// Times are nanoseconds of a monotonic clock, at least 0. Knows nothing of loops or clocks. Threads: one.
class TimerQueue {
public:
  static constexpr int kTickBits = 20;  // 1.05 ms
  static constexpr uint64_t kTick = uint64_t{1} << kTickBits;
  // Precise timers share wake-ups too, within 33 us; the kernel's own default for a sleeping thread is 50.
  static constexpr uint64_t kPreciseTick = uint64_t{1} << 15;
  static constexpr uint64_t kNever = UINT64_MAX;

  // A timer, as the queue sees it; its owner derives from it and keeps it in place.
  class Node;

  // When the loop has to look at the queue again.
  struct Wake {
    uint64_t due = kNever;     // nothing is due before this
    uint64_t latest = kNever;  // but by then, something that may not wait is
  };

  // So many timers are taken out of a slot at a time: some 500 us at most, when each comes from memory.
  static constexpr uint32_t kPiece = 8192;

  explicit TimerQueue(uint32_t piece = kPiece) : piece_(piece) {}
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;

  // Sets memory aside for one more timer, or gives it up: as long as no more timers are armed than were reserved for,
  // arm() allocates nothing. Throws std::bad_alloc, and has then changed nothing.
  void reserve();
  void unreserve() { --reserved_; }
  std::size_t reserved() const { return reserved_; }

  // Arms or moves `node`. A timer that is not `precise` may wait up to a tick for others to wake up with. `now` is for
  // filing: what passes there is not lost when it lags.
  void arm(Node& node, uint64_t deadline, bool precise, uint64_t now);

  void disarm(Node& node);

  // Forgets `node`, which may then be destroyed.
  void remove(Node& node);

  // The number of arm() calls so far: what popDue() needs to leave alone the timers armed from now on.
  uint64_t orderMark() const { return next_order_; }

  // Begins a round of popDue(), and so allows it another piece of a slot.
  void beginRound() {
    piece_left_ = piece_;
    popped_ = false;
  }
  // Ends it. True when there is work left that the next round is to go on with at once.
  bool endRound();

  // Disarms and returns the next timer that is due at `now` and was armed before `mark`; null when there is none, or
  // when it has to wait for the next round.
  Node* popDue(uint64_t now, uint64_t mark);

  Wake nextWake();

  // Of armed timers.
  std::size_t size() const { return armed_; }

private:
  static constexpr int kFirstLevelBits = 10;  // 1.07 s
  static constexpr uint32_t kFirstLevelSlots = 1 << kFirstLevelBits;
  static constexpr int kLevelBits = 6;
  static constexpr uint32_t kLevelSlots = 1 << kLevelBits;
  static constexpr uint32_t kHigherLevels = (64 - kTickBits - kFirstLevelBits + kLevelBits - 1) / kLevelBits;
  static constexpr uint32_t kSlots = kFirstLevelSlots + kHigherLevels * kLevelSlots;
  // Where a timer is: in a slot, by number in the order of time, or in one of these.
  static constexpr uint32_t kHeap = kSlots;
  static constexpr uint32_t kRun = kHeap + 1;
  static constexpr uint32_t kUnfiled = kHeap + 2;

  // What arming touches: first in the timer, to share a cache line with what its owner has before it.
  struct Key {
    uint64_t deadline = kNever;
    uint64_t order : 52 = 0;  // of arming; at ten million a second it lasts for 14 years
    uint64_t precise : 1 = 0;
    uint64_t slot : 11 = kUnfiled;
  };

  struct Block {
    static constexpr uint32_t kNodes = 13;
    Block* previous;
    uint64_t due_before;  // a lower bound of the deadlines in those before it, but for what Slot::moved_due says
    uint32_t count;
    Node* nodes[kNodes];
  };

  struct Slot {
    Block* last = nullptr;        // those before it are full
    uint64_t due = kNever;        // a lower bound of its deadlines
    uint64_t latest = kNever;     // a lower bound of when they may not wait any more
    uint64_t moved_due = kNever;  // a lower bound of the deadlines that came into an earlier block or changed there
  };

  // A timer of the current tick, with what it is ordered by.
  struct Entry {
    uint64_t deadline;
    uint64_t order;
    Node* node;  // null in the run when it was taken out
  };

  struct SlotBegin {
    uint32_t index = kUnfiled;
    uint64_t begin = kNever;  // its first tick
  };

  // A sorted part of the run, latest first; what is left of it.
  struct Segment {
    uint32_t begin = 0;
    uint32_t end = 0;
    bool empty() const { return begin == end; }
  };

  enum class Tidied { Emptied, InPart, Exact };

  static bool before(const Entry& a, const Entry& b) {
    return a.deadline != b.deadline ? a.deadline < b.deadline : a.order < b.order;
  }
  static uint64_t latestOf(uint64_t deadline, bool precise);

  uint32_t slotFor(uint64_t tick) const;
  void file(Node& node);
  void move();
  void link(Node& node, uint32_t index);
  void unlink(Node& node);
  void markEmpty(uint32_t index);
  void boundSlot(Slot& slot, const Node& node);
  Block* takeBlock(Block* previous);
  SlotBegin nextSlot() const;
  bool advance(bool more_at_hand, uint64_t now);
  void refile();
  void takePiece(uint32_t index);
  bool tidy();
  Tidied tidySlot(uint32_t index);

  Node* firstOfCurrentTick();
  void addSegment(uint32_t begin);
  bool changeSegment();
  bool later(Segment a, Segment b) const { return before(run_[b.end - 1], run_[a.end - 1]); }
  void removeFromCurrentTick(Node& node);

  void heapPush(Node& node);
  void heapRemove(uint32_t index);
  void siftUp(uint32_t index, Entry entry);
  void siftDown(uint32_t index, Entry entry);
  void putInHeap(uint32_t index, const Entry& entry);

  uint64_t current_tick_ = 0;  // slots hold later ticks, the run and the heap this one and earlier ones
  uint64_t next_order_ = 0;
  std::size_t armed_ = 0;
  static constexpr uint32_t kWordBits = 64;
  std::array<uint64_t, kSlots / kWordBits> occupied_{};  // a bit for each slot that has timers
  uint32_t occupied_words_ = 0;                          // a bit for each word of occupied_ that has bits
  std::array<Slot, kSlots> slots_;
  std::size_t reserved_ = 0;  // timers
  SlabPool blocks_{sizeof(Block)};
  // Timers to be moved to an earlier slot, each perhaps more than once.
  static constexpr uint32_t kMaxMoving = 32;
  std::array<Node*, kMaxMoving> moving_;
  uint32_t moving_count_ = 0;
  const uint32_t piece_;
  static constexpr int64_t kNoneLeft = INT64_MIN / 2;  // also when some are popped meanwhile, which adds to it
  int64_t piece_left_ = 0;         // of this round: timers that may be taken out of slots, beyond those that are popped
  uint32_t cascading_ = kUnfiled;  // a slot of a higher level whose time has come, and which is not empty yet
  bool pouring_ = false;           // the same for the slot of the current tick
  // What is in these two is not due before this, and so what is before this need not wait for them.
  uint64_t limit_ = kNever;
  bool popped_ = false;   // any, in this round
  bool in_vain_ = false;  // timers were met that had been disarmed, and nobody has tidied up since

  std::vector<Entry> run_;         // of the slots emptied last
  Segment segment_;                // of the run, that which is being popped
  std::vector<Segment> segments_;  // the others, a heap by their first timers
  std::vector<Entry> heap_;        // what was armed since
  std::size_t precise_in_current_tick_ = 0;
};

class TimerQueue::Node : private TimerQueue::Key {
public:
  Node() : entry_(nullptr) {}
  bool armed() const { return deadline != kNever; }

private:
  friend class TimerQueue;
  union {
    Node** entry_;    // while it is in a slot
    uint32_t index_;  // while it is in the run or the heap
  };
};

inline void TimerQueue::disarm(Node& node) {
  armed_ -= node.armed() ? 1 : 0;
  node.deadline = kNever;
}

inline void TimerQueue::putInHeap(uint32_t index, const Entry& entry) {
  heap_[index] = entry;
  entry.node->index_ = index;
}

}  // namespace nuncio
