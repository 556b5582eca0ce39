#pragma once

#include <atomic>
#include <cstdint>

namespace nuncio::future_internal {

// PromiseState: how far the two sides of a promise are, in one atomic word.
//
// The producer's side is the Promise, the consumer's the future and what is made of it. Each changes the word by the
// transitions below and by nothing else, one atomic operation each, and learns from what the word was before (`Seen`)
// how far the other side is. So the orders of what the two do can be tried: promise_state_test does.
//
// clang-format off
// transition           by        when                        effect, and what it permits
// -------------------  --------  --------------------------  ----------------------------------------------------------
// settle               producer  once; the result is written Set. Who reads that may read the result. The producer was
//                                                            late if it was stopped, and not linked: then it takes the
//                                                            result back, at which nobody else looks.
// settleAndLeaveHere   producer  once, on the loop's thread  settle and producerLeaves in one store.
// link, linkNew        producer  not stopped                 The producer always answers: stopping only asks for that,
//                                                            and the consumer waits until it is set.
// bind, bindNew        consumer  once                        The node has a loop: the producer goes by way of that.
//                                                            (If it is linked, it may be stopped by then, not done.)
// tryStop              consumer  not set, not linked         Stopped: done, without a result.
// tryAsk               consumer  unbound; not set, not       Stopped: what is linked has been asked, once.
//                                stopped
// stop                 consumer  bound, any time             Stopped. Where it was linked and not set: asked, as above.
//                                                            Where it was set, by another thread whose task is still on
//                                                            its way: the result is not looked at.
// takeOffLink          consumer  stopped, linked             Done: an answer would come too late.
// unwant               consumer  bound                       Its future was dropped: Promise::done().
// wait                 a thread  not bound                   It sleeps, and settling wakes it.
// producerLeaves       producer  its last                    It does not touch the promise any more. True: the consumer
//                                                            has left before, and the caller has to free.
// producerLeavesHere   producer  its last, on the loop's     The same; the consumer, on this thread, is still there.
//                                thread
// consumerLeaves       consumer  its last                    As producerLeaves, the other way round.
// tryConsumerLeaves    consumer  its last; the word is as    True: it has left, and frees if seen.producerGone().
//                                it was seen                 Quiet: a failure that comes later is not logged.
// clang-format on
//
// Both leave by one atomic operation on one word, so that of two who leave at once just one sees that the other is
// gone. What becomes of an answer whose loop has ended PromiseCoreBase says.
//
// What is of the loop's thread alone ("Here", "New") is a load and a store in place of a locked instruction: all other
// bits were set before, or are that thread's own.
class PromiseState {
public:
  // What the word said at some time.
  class Seen {
  public:
    bool set() const { return has(kSet); }
    bool bound() const { return has(kBound); }
    bool stopped() const { return has(kStopped); }
    bool linked() const { return has(kLinked); }
    bool waited() const { return has(kWaiting); }
    bool producerGone() const { return has(kProducerGone); }
    bool consumerGone() const { return has(kConsumerGone); }
    // There is a result, or there will be none. As of one that is linked: it has answered.
    bool done() const { return isDone(word_); }
    // It is done without a result, so that settling has no effect.
    bool late() const { return (word_ & (kStopped | kLinked)) == kStopped; }
    // Whether somebody waits for the result, as far as is known.
    bool wanted() const { return !has(kStopped | kUnwanted | kConsumerGone); }
    // A failure that comes now is one that nobody has asked to keep quiet, and that nobody will look at.
    bool dropped() const { return (word_ & (kConsumerGone | kQuiet | kStopped)) == kConsumerGone; }
    // Settling is a matter of the loop's thread alone, if the calling one is that.
    bool settlesOnLoop() const { return (word_ & (kBound | kStopped)) == kBound; }

  private:
    friend class PromiseState;
    explicit Seen(uint32_t word) : word_(word) {}
    bool has(uint32_t bits) const { return (word_ & bits) != 0; }
    uint32_t word_;
  };

  Seen seen() const { return Seen(word_.load(std::memory_order_acquire)); }
  // For who has put something where stopping looks for it after it has written this. Sequentially consistent, as
  // stopping is: one of the two sees what the other did.
  bool stopped() const { return (word_.load(std::memory_order_seq_cst) & kStopped) != 0; }

  // The producer's.

  Seen settle() { return Seen(word_.fetch_or(kSet, std::memory_order_acq_rel)); }
  void settleAndLeaveHere(Seen before) { word_.store(before.word_ | kSet | kProducerGone, std::memory_order_relaxed); }
  // No effect on one that was stopped: its consumer has gone on, and does not wait for an answer.
  void link() {
    uint32_t word = word_.load(std::memory_order_relaxed);
    while ((word & kStopped) == 0 && !word_.compare_exchange_weak(word, word | kLinked, std::memory_order_relaxed)) {
    }
  }
  void linkNew() { word_.store(word_.load(std::memory_order_relaxed) | kLinked, std::memory_order_relaxed); }
  bool producerLeaves() {
    return seen().consumerGone() || (word_.fetch_or(kProducerGone, std::memory_order_acq_rel) & kConsumerGone) != 0;
  }
  Seen producerLeavesHere() {
    const Seen before(word_.load(std::memory_order_relaxed));
    word_.store(before.word_ | kProducerGone, std::memory_order_relaxed);
    return before;
  }

  // The consumer's.

  Seen bind() { return Seen(word_.fetch_or(kBound, std::memory_order_acq_rel)); }
  Seen bindNew() {
    const Seen before(word_.load(std::memory_order_relaxed));
    word_.store(before.word_ | kBound, std::memory_order_relaxed);
    return before;
  }
  bool tryStop() { return stopUnless(kSet | kLinked); }
  bool tryAsk() { return stopUnless(kSet | kStopped); }
  Seen stop() { return Seen(word_.fetch_or(kStopped, std::memory_order_seq_cst)); }
  void takeOffLink() { word_.fetch_and(~uint32_t{kLinked}, std::memory_order_relaxed); }
  void unwant() { word_.fetch_or(kUnwanted, std::memory_order_relaxed); }
  bool consumerLeaves() {
    return seen().producerGone() || (word_.fetch_or(kConsumerGone, std::memory_order_acq_rel) & kProducerGone) != 0;
  }
  // Leaves, unless the word has changed since `seen`, or for no reason, as weak exchanges do: then false, and `seen` is
  // what it is now. For who has to do something about a result that is there before it leaves.
  bool tryConsumerLeaves(Seen& seen, bool quiet) {
    return word_.compare_exchange_weak(seen.word_, seen.word_ | (quiet ? kConsumerGone | kQuiet : kConsumerGone),
                                       std::memory_order_acq_rel, std::memory_order_acquire);
  }

  // A thread that waits until it is done: false after so long (negative: never). Any thread.
  bool wait(int64_t timeout_nanoseconds) noexcept;
  // When it was waited(). Before the producer leaves, whose share keeps the word.
  void wake() noexcept;

private:
  static constexpr uint32_t kSet = 1;
  static constexpr uint32_t kBound = 2;
  static constexpr uint32_t kStopped = 4;
  static constexpr uint32_t kProducerGone = 8;
  static constexpr uint32_t kConsumerGone = 16;
  static constexpr uint32_t kWaiting = 32;
  static constexpr uint32_t kQuiet = 64;
  static constexpr uint32_t kLinked = 128;
  static constexpr uint32_t kUnwanted = 256;

  static bool isDone(uint32_t word) { return (word & kSet) != 0 || (word & (kStopped | kLinked)) == kStopped; }
  bool stopUnless(uint32_t bits) {
    uint32_t word = word_.load(std::memory_order_acquire);
    while ((word & bits) == 0) {
      if (word_.compare_exchange_weak(word, word | kStopped, std::memory_order_seq_cst)) {
        return true;
      }
    }
    return false;
  }

  std::atomic<uint32_t> word_{0};
};

}  // namespace nuncio::future_internal
