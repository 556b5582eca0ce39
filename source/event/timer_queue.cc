#include "source/event/timer_queue.h"

#include <algorithm>
#include <bit>
#include <utility>

namespace nuncio {

void TimerQueue::reserve() {
  const std::size_t timers = reserved_ + 1;
  // Full blocks, a block in each slot that is not, and one that is being emptied.
  blocks_.reserve(timers / Block::kNodes + std::min<std::size_t>(timers, slots_.size()) + 1);
  if (run_.capacity() < timers) {
    const std::size_t entries = std::max(timers, 2 * run_.capacity());
    heap_.reserve(entries);
    // One for each piece, of a slot that is poured and of one that cascades meanwhile; the first may be a short one.
    segments_.reserve(2 * (entries / piece_ + 1));
    run_.reserve(entries);
  }
  reserved_ = timers;
}

void TimerQueue::arm(Node& node, uint64_t deadline, bool precise, uint64_t now) {
  if ((now >> kTickBits) > current_tick_) {
    // So that what is near is filed as near. Not beyond a slot that has timers, such as one that is being emptied.
    const uint64_t next = nextSlot().begin;
    current_tick_ = std::max(current_tick_, std::min(now >> kTickBits, next - 1));
  }
  if (node.slot == kHeap || node.slot == kRun) {
    removeFromCurrentTick(node);
  }
  armed_ += node.armed() ? 0 : 1;
  node.deadline = deadline;
  node.order = next_order_++;
  node.precise = precise;
  if (node.slot == kUnfiled) {
    file(node);
    return;
  }
  // When its slot comes later, it is filed anew then. Otherwise it moves, soon: a branch here could not be
  // foretold, and would wait for the timer to come from memory.
  const uint64_t tick = deadline >> kTickBits;
  const uint32_t slot = tick > current_tick_ ? slotFor(tick) : 0;
  moving_[moving_count_] = &node;
  moving_count_ += slot <= node.slot ? 1 : 0;
  if (moving_count_ == kMaxMoving) {
    move();
  }
}

// Moves what arm() noted: timers whose deadline is now in their slot or before it. First all gaps that will be filled
// are fetched, then they are used, so that 32 moves wait for memory about once. A timer may stand here twice, or have
// been disarmed meanwhile, and so is looked at anew. One that stays in its slot only lowers the slot's bounds.
void TimerQueue::move() {
  const uint32_t count = std::exchange(moving_count_, 0);
  for (uint32_t i = 0; i < count; ++i) {
    if (moving_[i]->slot < kSlots) {
      __builtin_prefetch(static_cast<const void*>(moving_[i]->entry_), 1);
    }
  }
  for (uint32_t i = 0; i < count; ++i) {
    Node& node = *moving_[i];
    if (!node.armed() || node.slot >= kSlots) {
      continue;  // disarmed, or moved already
    }
    const uint64_t tick = node.deadline >> kTickBits;
    const uint32_t slot = tick > current_tick_ ? slotFor(tick) : kHeap;
    if (slot == node.slot) {
      boundSlot(slots_[slot], node);
      slots_[slot].moved_due = std::min(slots_[slot].moved_due, node.deadline);
    } else if (slot < node.slot || slot == kHeap) {
      unlink(node);
      file(node);
    }
  }
}

void TimerQueue::remove(Node& node) {
  move();
  disarm(node);
  if (node.slot == kUnfiled) {
    return;
  }
  if (node.slot == kHeap || node.slot == kRun) {
    removeFromCurrentTick(node);
  } else {
    unlink(node);
  }
}

// Timers come from three places: the run and the heap, which firstOfCurrentTick() merges, and slots whose time has come
// but which are not empty yet. Of those the earliest deadline is not known, only that it is not before `limit_`: what
// is due before that may be popped, and all else waits until the slots have been emptied further.
TimerQueue::Node* TimerQueue::popDue(uint64_t now, uint64_t mark) {
  move();
  for (;;) {
    Node* const node = firstOfCurrentTick();
    if (node != nullptr && node->deadline < limit_) {
      if (node->deadline > now || node->order >= mark) {
        refile();
        return nullptr;  // when it is young, armed in this round or shortly before, those that follow wait for it
      }
      removeFromCurrentTick(*node);
      disarm(*node);
      ++piece_left_;
      popped_ = true;
      return node;
    }
    if (!advance(node != nullptr, now)) {
      return nullptr;
    }
  }
}

// Brings more timers to hand, when there are none, or none before the limit. False when that is all for this round.
//
// At most one slot of each kind is open at a time: one of the first level, which pours into the run, and one of a
// higher level, which cascades into lower ones. While a slot cascades, the earlier slots of the first level that it has
// filled may be poured already; that is what the second branch is for.
bool TimerQueue::advance(bool more_at_hand, uint64_t now) {
  if (piece_left_ <= 0) {
    return false;
  }
  if (!pouring_ && !more_at_hand) {
    // One slot at a time, so that the run stays small however late the loop is.
    const SlotBegin next = nextSlot();
    const bool due = next.begin <= (now >> kTickBits);
    if (limit_ == kNever) {
      if (!due) {
        current_tick_ = std::max(current_tick_, now >> kTickBits);
        return false;
      }
      current_tick_ = next.begin;
      pouring_ = next.index < kFirstLevelSlots;
      cascading_ = pouring_ ? kUnfiled : next.index;
    } else if (due && next.index < kFirstLevelSlots && next.begin < (limit_ >> kTickBits)) {
      current_tick_ = next.begin;
      pouring_ = true;
    }
  }
  refile();
  return true;
}

// Bounds, not deadlines: a slot's may be those of a timer that was disarmed or pushed back. Then the loop wakes in
// vain, once, and endRound() tidies the slot so that it does not again.
TimerQueue::Wake TimerQueue::nextWake() {
  Wake wake;
  move();
  if (armed_ == 0) {
    return wake;  // what is filed has been disarmed, and may lie there until a timer is armed
  }
  if (const SlotBegin next = nextSlot(); next.begin != kNever) {
    wake = {slots_[next.index].due, slots_[next.index].latest};
  }
  if (cascading_ != kUnfiled) {
    wake.due = std::min(wake.due, slots_[cascading_].due);
    wake.latest = std::min(wake.latest, slots_[cascading_].latest);
  }
  if (const Node* const node = firstOfCurrentTick(); node != nullptr) {
    wake.due = std::min(wake.due, node->deadline);
    wake.latest = std::min(wake.latest, latestOf(node->deadline, precise_in_current_tick_ != 0));
  }
  return wake;
}

// The end of its tick, where timers that may wait a little meet.
uint64_t TimerQueue::latestOf(uint64_t deadline, bool precise) {
  return deadline | ((precise ? kPreciseTick : kTick) - 1);
}

// The slot of a tick after the current one: its level is that of the highest digit in which the two differ.
uint32_t TimerQueue::slotFor(uint64_t tick) const {
  const int highest_bit = 63 - std::countl_zero(tick ^ current_tick_);
  if (highest_bit < kFirstLevelBits) {
    return static_cast<uint32_t>(tick & (kFirstLevelSlots - 1));
  }
  const int level = (highest_bit - kFirstLevelBits) / kLevelBits;
  const int shift = kFirstLevelBits + level * kLevelBits;
  return kFirstLevelSlots + level * kLevelSlots + static_cast<uint32_t>((tick >> shift) & (kLevelSlots - 1));
}

void TimerQueue::file(Node& node) {
  const uint64_t tick = node.deadline >> kTickBits;
  if (tick <= current_tick_) {
    heapPush(node);
  } else {
    link(node, slotFor(tick));
  }
}

// A new block notes how early the timers in the blocks before it may be due. So when the last block is taken out of a
// slot, what bounds the rest is known without looking at it.
void TimerQueue::link(Node& node, uint32_t index) {
  Slot& slot = slots_[index];
  if (slot.last == nullptr || slot.last->count == Block::kNodes) {
    slot.last = takeBlock(slot.last);
    slot.last->due_before = slot.due;
    occupied_[index / kWordBits] |= uint64_t{1} << (index % kWordBits);
    occupied_words_ |= 1U << (index / kWordBits);
  }
  node.slot = index;
  node.entry_ = &slot.last->nodes[slot.last->count++];
  *node.entry_ = &node;
  boundSlot(slot, node);
}

// Fills the gap with the slot's last timer. That may come from a later block into an earlier one, where no due_before
// counts it: moved_due does.
void TimerQueue::unlink(Node& node) {
  Slot& slot = slots_[node.slot];
  Block* const last = slot.last;
  Node* const moved = last->nodes[--last->count];
  *node.entry_ = moved;
  moved->entry_ = node.entry_;
  slot.moved_due = slot.due;  // not that of `moved`, which may be disarmed or pushed back for now
  if (last->count == 0) {
    slot.last = last->previous;
    blocks_.give(last);
    if (slot.last == nullptr) {
      markEmpty(node.slot);
    }
  }
  node.slot = kUnfiled;
}

void TimerQueue::markEmpty(uint32_t index) {
  uint64_t& word = occupied_[index / kWordBits];
  word &= ~(uint64_t{1} << (index % kWordBits));
  if (word == 0) {
    occupied_words_ &= ~(1U << (index / kWordBits));
  }
  slots_[index].due = slots_[index].latest = slots_[index].moved_due = kNever;
}

TimerQueue::Block* TimerQueue::takeBlock(Block* previous) {
  auto* const block = static_cast<Block*>(blocks_.take());
  block->previous = previous;
  block->count = 0;
  return block;
}

void TimerQueue::boundSlot(Slot& slot, const Node& node) {
  slot.due = std::min(slot.due, node.deadline);
  slot.latest = std::min(slot.latest, latestOf(node.deadline, node.precise != 0));
}

// The first slot that has timers. Lower levels hold earlier slots.
TimerQueue::SlotBegin TimerQueue::nextSlot() const {
  if (occupied_words_ == 0) {
    return {};
  }
  const auto word = static_cast<uint32_t>(std::countr_zero(occupied_words_));
  const uint32_t index = word * kWordBits + static_cast<uint32_t>(std::countr_zero(occupied_[word]));
  int shift = 0;  // of a slot's first tick
  int level_bits = kFirstLevelBits;
  uint32_t slot = index;
  if (index >= kFirstLevelSlots) {
    const uint32_t higher = index - kFirstLevelSlots;
    shift = kFirstLevelBits + static_cast<int>(higher / kLevelSlots) * kLevelBits;
    level_bits = kLevelBits;
    slot = higher % kLevelSlots;
  }
  const uint64_t above = current_tick_ >> (shift + level_bits) << (shift + level_bits);
  return {index, above | (uint64_t{slot} << shift)};
}

// Goes on with a slot whose time has come and that is not empty yet, if there is one, by a piece. What the piece poured
// into the run becomes a segment, sorted by itself: a slot of a million timers is never sorted as a whole, and the
// segments are merged as they are popped. A round in which the pieces are used up gets no more of them, also when pops
// give some back: the loop has other work.
void TimerQueue::refile() {
  if (piece_left_ <= 0 || (!pouring_ && cascading_ == kUnfiled)) {
    return;
  }
  if (segment_.empty() && segments_.empty()) {
    run_.clear();
  }
  const std::size_t begin = run_.size();
  const uint32_t index = pouring_ ? static_cast<uint32_t>(current_tick_ & (kFirstLevelSlots - 1)) : cascading_;
  takePiece(index);
  if (piece_left_ <= 0) {
    piece_left_ = kNoneLeft;
  }
  if (run_.size() > begin) {
    addSegment(static_cast<uint32_t>(begin));
  }
  if (slots_[index].last == nullptr) {
    markEmpty(index);
    if (pouring_) {
      pouring_ = false;
    } else {
      cascading_ = kUnfiled;
    }
  }
  limit_ = std::min(pouring_ ? slots_[index].due : kNever, cascading_ != kUnfiled ? slots_[cascading_].due : kNever);
}

// Files anew timers of a slot whose time has come, from the last block on: those that are due go to the run, others,
// which were pushed back while they lay here, to the slot where they belong now. Each is in memory of its own, mostly
// not in a cache; ten are fetched ahead, across blocks, so that they come side by side.
void TimerQueue::takePiece(uint32_t index) {
  constexpr uint32_t kAhead = 10;  // of timers, to be fetched side by side
  Slot& slot = slots_[index];
  while (slot.last != nullptr && piece_left_ > 0) {
    Block* const block = std::exchange(slot.last, slot.last->previous);
    piece_left_ -= block->count;
    for (uint32_t i = 0; i < block->count; ++i) {
      const Block* const ahead = i + kAhead < block->count || block->previous == nullptr ? block : block->previous;
      __builtin_prefetch(ahead->nodes[(i + kAhead) % Block::kNodes], 1);
      Node& node = *block->nodes[i];
      const uint64_t tick = node.deadline >> kTickBits;
      if (!node.armed()) {
        node.slot = kUnfiled;
        in_vain_ = true;
      } else if (tick <= current_tick_) {
        node.slot = kRun;
        precise_in_current_tick_ += node.precise;
        run_.push_back({node.deadline, node.order, &node});
      } else {
        link(node, slotFor(tick));
      }
    }
    slot.due = std::min(block->due_before, slot.moved_due);
    slot.latest = std::max(slot.latest, slot.due);
    blocks_.give(block);
  }
}

// Timers were met that had been disarmed, and none fired: the wake-up was in vain, and a program that arms and disarms
// all the time would have one in each tick. Tidying costs what a look at the slot costs, and so is done only then.
bool TimerQueue::endRound() {
  if (popped_) {
    in_vain_ = false;
  } else if (in_vain_ && limit_ == kNever && piece_left_ > 0) {
    in_vain_ = !tidy();
  }
  return piece_left_ <= 0 || limit_ != kNever || in_vain_;
}

// Sees to it that the next wake-up is for a timer that is armed. False when that takes another round.
bool TimerQueue::tidy() {
  for (;;) {
    const SlotBegin next = nextSlot();
    if (next.begin == kNever || firstOfCurrentTick() != nullptr) {
      return true;
    }
    if (const Tidied tidied = tidySlot(next.index); tidied != Tidied::Emptied) {
      return tidied == Tidied::Exact;
    }
  }
}

// Drops what has been disarmed, moves on what has been moved, and bounds the slot by what is left.
TimerQueue::Tidied TimerQueue::tidySlot(uint32_t index) {
  uint64_t due = kNever;
  uint64_t latest = kNever;
  int64_t seen = 0;
  int64_t dropped = 0;
  // Backwards, since unlink() fills gaps from the end.
  for (const Block* block = slots_[index].last; block != nullptr;) {
    if (piece_left_ <= 0) {
      // Where most stay, another round would not come further either: then one wake-up in vain is the lesser evil.
      return 2 * dropped >= seen ? Tidied::InPart : Tidied::Exact;
    }
    piece_left_ -= block->count;
    seen += block->count;
    const Block* const previous = block->previous;  // unlink() may give the block back
    for (uint32_t i = 0; previous != nullptr && i < previous->count; ++i) {
      __builtin_prefetch(previous->nodes[i], 1);
    }
    for (uint32_t i = block->count; i-- > 0;) {
      Node& node = *block->nodes[i];
      if (!node.armed()) {
        unlink(node);
        ++dropped;
      } else if (slotFor(node.deadline >> kTickBits) != index) {
        unlink(node);
        file(node);
        ++dropped;
      } else {
        due = std::min(due, node.deadline);
        latest = std::min(latest, latestOf(node.deadline, node.precise != 0));
      }
    }
    block = previous;
  }
  if (slots_[index].last == nullptr) {
    return Tidied::Emptied;
  }
  slots_[index].due = slots_[index].moved_due = due;
  slots_[index].latest = latest;
  return Tidied::Exact;
}

// What was put at the end of the run becomes a sorted segment of it.
void TimerQueue::addSegment(uint32_t begin) {
  std::sort(run_.begin() + begin, run_.end(), [](const Entry& a, const Entry& b) { return before(b, a); });
  const auto end = static_cast<uint32_t>(run_.size());
  for (uint32_t i = begin; i < end; ++i) {
    run_[i].node->index_ = i;
  }
  if (segment_.empty() && segments_.empty()) {
    segment_ = {begin, end};
  } else {
    segments_.push_back({begin, end});
    std::push_heap(segments_.begin(), segments_.end(), [this](Segment a, Segment b) { return later(a, b); });
  }
}

// True when a timer of another segment comes first: that segment is the one to be popped from then.
bool TimerQueue::changeSegment() {
  if (!segment_.empty() && !later(segment_, segments_.front())) {
    return false;
  }
  const auto is_later = [this](Segment a, Segment b) { return later(a, b); };
  std::pop_heap(segments_.begin(), segments_.end(), is_later);
  std::swap(segment_, segments_.back());
  if (segments_.back().empty()) {
    segments_.pop_back();
  } else {
    std::push_heap(segments_.begin(), segments_.end(), is_later);
  }
  return true;
}

// The next timer of the current tick or an earlier one; null when there is none. Drops disarmed ones before it. The run
// has what was filed before the tick came, sorted once, from its end; the heap what was armed since. One heap for both
// would sift each timer of a slot: for a thousand to a hundred thousand of them that takes 1.3 to 1.7 times as long as
// to sort them.
TimerQueue::Node* TimerQueue::firstOfCurrentTick() {
  constexpr uint32_t kAheadInRun = 4;
  do {
    for (; !segment_.empty(); --segment_.end) {
      Node* const node = run_[segment_.end - 1].node;
      if (node != nullptr && node->armed()) {
        break;
      }
      if (node != nullptr) {
        removeFromCurrentTick(*node);
      }
    }
  } while (!segments_.empty() && changeSegment());
  while (!heap_.empty() && !heap_.front().node->armed()) {
    removeFromCurrentTick(*heap_.front().node);
  }
  if (segment_.empty()) {
    return heap_.empty() ? nullptr : heap_.front().node;
  }
  const Entry* const first = &run_[segment_.end - 1];
  if (!heap_.empty() && before(heap_.front(), *first)) {
    return heap_.front().node;
  }
  if (segment_.end - segment_.begin > kAheadInRun) {
    if (const Node* const ahead = (first - kAheadInRun)->node; ahead != nullptr) {
      __builtin_prefetch(ahead, 1);
      __builtin_prefetch(reinterpret_cast<const char*>(ahead) + 64);  // the callback
    }
  }
  return first->node;
}

void TimerQueue::removeFromCurrentTick(Node& node) {
  precise_in_current_tick_ -= node.precise;
  if (node.slot == kHeap) {
    heapRemove(node.index_);
  } else {
    run_[node.index_].node = nullptr;
  }
  node.slot = kUnfiled;
}

// A binary heap whose entries know their index (Knuth, The Art of Computer Programming, vol. 3, 5.2.3), so that a timer
// can be taken out of its midst. Entries have the deadline beside the pointer: comparing them touches no timer.
void TimerQueue::heapPush(Node& node) {
  heap_.emplace_back();
  node.slot = kHeap;
  precise_in_current_tick_ += node.precise;
  siftUp(static_cast<uint32_t>(heap_.size()) - 1, {node.deadline, node.order, &node});
}

void TimerQueue::heapRemove(uint32_t index) {
  const Entry last = heap_.back();
  heap_.pop_back();
  if (index == heap_.size()) {
    return;
  }
  if (index > 0 && before(last, heap_[(index - 1) / 2])) {
    siftUp(index, last);
  } else {
    siftDown(index, last);
  }
}

void TimerQueue::siftUp(uint32_t index, Entry entry) {
  while (index > 0) {
    const uint32_t parent = (index - 1) / 2;
    if (!before(entry, heap_[parent])) {
      break;
    }
    putInHeap(index, heap_[parent]);
    index = parent;
  }
  putInHeap(index, entry);
}

void TimerQueue::siftDown(uint32_t index, Entry entry) {
  const auto size = static_cast<uint32_t>(heap_.size());
  for (;;) {
    uint32_t child = 2 * index + 1;
    if (child >= size) {
      break;
    }
    if (child + 1 < size && before(heap_[child + 1], heap_[child])) {
      ++child;
    }
    if (!before(heap_[child], entry)) {
      break;
    }
    putInHeap(index, heap_[child]);
    index = child;
  }
  putInHeap(index, entry);
}

}  // namespace nuncio
