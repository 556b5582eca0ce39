#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>

#include "absl/types/span.h"

#include "nuncio/common/mutex.h"
#include "nuncio/common/random.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/network/address.h"
#include "nuncio/network/memory_network.h"

namespace nuncio::network {

// MemoryReadiness: where something tells an event in memory that it has become ready, from any thread; the event asks
// for it on its own. It outlives the event as long as somebody may tell it something.
class MemoryReadiness : public std::enable_shared_from_this<MemoryReadiness> {
public:
  explicit MemoryReadiness(Dispatcher& dispatcher);

  // What is ready; 0: that the event is to look by itself. Any thread, not under a lock.
  void tell(uint32_t events);
  // What was told since the last call. The event's thread.
  uint32_t take() { return events_.exchange(0, std::memory_order_acquire); }

  // On the event's thread. What is to run when something was told.
  void attach(SchedulableCallback& look) { look_ = &look; }
  void detach() { look_ = nullptr; }

private:
  const PostHandle dispatcher_;
  LoopCore* const loop_;                 // looked at only to see whether it is this thread's
  SchedulableCallback* look_ = nullptr;  // of the event's thread
  std::atomic<uint32_t> events_{0};      // released by who tells, acquired by the event
  std::atomic<bool> on_its_way_{false};  // a post; relaxed but for what events_ orders
};
using MemoryReadinessPtr = std::shared_ptr<MemoryReadiness>;

// MemoryEvent: the event of a handle in memory. `Source` says what is ready, and when more will be.
class MemoryEvent final : public FileEvent {
public:
  class Source {
  public:
    virtual ~Source() = default;
    // What holds now, as FileReadyType bits; `next`: when it is to be asked again, if nothing is told before.
    virtual uint32_t ready(std::optional<MonotonicTime>& next) = 0;
    // From now on `readiness` is told; null: nobody.
    virtual void setReadiness(MemoryReadinessPtr readiness) = 0;
  };

  MemoryEvent(Dispatcher& dispatcher, std::shared_ptr<Source> source, FileReadyCb cb, FileTriggerType trigger,
              uint32_t events);
  ~MemoryEvent() override;

  void activate(uint32_t events) override;
  bool setEnabled(uint32_t events) override;

private:
  void look();
  // All that holds is reported, as when a descriptor is added to an epoll.
  void reportAll();

  Dispatcher& dispatcher_;
  const std::shared_ptr<Source> source_;
  FileReadyCb cb_;
  const bool edge_;
  uint32_t enabled_;
  uint32_t activated_ = 0;
  const MemoryReadinessPtr readiness_;
  const SchedulableCallbackPtr look_;
  const SchedulableCallbackPtr look_later_;
  TimerPtr timer_;  // once it has had to wait for time
};

// The two directions of a stream in memory.
class MemoryLinkImpl final : public MemoryLink, public std::enable_shared_from_this<MemoryLinkImpl> {
public:
  explicit MemoryLinkImpl(const MemoryLinkOptions& options);

  // For the handles: `end` is 0 or 1.
  IoResult read(int end, absl::Span<const iovec> spans);
  IoResult write(int end, absl::Span<const iovec> spans);
  int shutdownWrite(int end);
  void close(int end);
  void abort(int end);
  bool delivered(int end) const;
  int connectResult(int end);
  uint32_t ready(int end, std::optional<MonotonicTime>& next);
  void setReadiness(int end, MemoryReadinessPtr readiness);

  // For the network: end 0 tries to connect until one of these two; `after`: on its way so long.
  void beginConnect();
  void finishConnect(int error, std::chrono::microseconds after);
  bool bothClosed() const;

  void reset() override;
  void cut() override;
  void restore() override;

private:
  struct Parcel {
    MonotonicTime due;
    std::string bytes;
  };
  // What one end reads, and the other writes.
  struct Direction {
    std::string arrived;
    std::size_t read = 0;  // of it
    std::deque<Parcel> travelling;
    std::size_t travelling_bytes = 0;
    MonotonicTime line_free{};  // when the last byte will have left, where bandwidth is bounded
    bool end_sent = false;      // the end of the stream
    MonotonicTime end_due{};
    bool end_arrived = false;
    bool writer_waits = false;  // for room

    std::size_t unread() const { return arrived.size() - read; }
    std::size_t held() const { return unread() + travelling_bytes; }
  };
  struct End {
    MemoryReadinessPtr readiness;
    bool closed = false;
    bool broken = false;       // by an RST
    bool broken_told = false;  // to a reader
    int connect_error = 0;     // EINPROGRESS: it tries
    std::optional<MonotonicTime> connect_due;
    int connect_comes_to = 0;  // at connect_due
  };
  // Who is to be told what, once the lock is free.
  struct Notices {
    std::array<MemoryReadinessPtr, 2> whom;
    std::array<uint32_t, 2> what{};
    void send();
  };

  MonotonicTime now() const;
  bool chance(double probability) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void note(Notices& notices, int end, uint32_t events) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void settleConnect(End& end) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  // Moves what has come by now into what can be read. Returns whether that was anything.
  bool arrive(Direction& direction) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  std::optional<MonotonicTime> nextArrival(const Direction& direction) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void send(Direction& direction, absl::Span<const iovec> spans, std::size_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void sendEnd(Direction& direction) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  void breakOff(int end, Notices& notices) ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);
  std::size_t room(const Direction& direction) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(lock_);

  const MemoryLinkOptions options_;
  mutable Mutex lock_;
  std::array<Direction, 2> to_ ABSL_GUARDED_BY(lock_);  // to_[i]: what end i reads
  std::array<End, 2> ends_ ABSL_GUARDED_BY(lock_);
  bool cut_ ABSL_GUARDED_BY(lock_) = false;
  SplitMix64 random_ ABSL_GUARDED_BY(lock_);
};

// An end; `local` and `peer` are what it says of itself.
IoHandlePtr makeMemoryHandle(std::shared_ptr<MemoryLinkImpl> link, int end, const Address& local, const Address& peer);

}  // namespace nuncio::network
