#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <sys/uio.h>
#include <type_traits>
#include <utility>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "nuncio/common/inline_function.h"

namespace nuncio::network {

class Buffer;
class Reservation;

// How the bytes that a drain tracker waited for have left.
enum class DrainResult : uint8_t {
  Drained,  // by drain(): they went where they were to go
  Dropped,  // with a buffer that was destroyed, cleared, or assigned to
};
using DrainTrackerCb = InlineFunction<void(DrainResult), 32>;
using ReleaseCb = InlineFunction<void(), 32>;

namespace buffer_internal {

struct Slice;
class Farewells;
class SpareSlices;

// A chain of slices, none of which is empty. It owns nothing: whoever has it, does.
struct SliceList {
  Slice* first = nullptr;
  Slice* last = nullptr;

  bool empty() const { return first == nullptr; }
  void pushBack(Slice& slice) noexcept;
  void pushFront(Slice& slice) noexcept;
  Slice& popFront() noexcept;  // not when empty
};

// Who has a stake in a buffer's memory for a while, and is told by `buffer`, which turns null, when that is over: a
// reservation, or the scratch memory of source/network/scratch.h. A buffer has one at most.
struct Guest {
  Buffer* buffer = nullptr;
  const bool bars_changes;  // a reservation; else a Scratch
};

}  // namespace buffer_internal

// Buffer: a queue of bytes, in slices of memory that go from one buffer to another without being copied. What a
// Connection reads into, and writes from.
//
//   Buffer out;
//   out.append("HTTP/1.1 200 OK\r\n\r\n");
//   out.move(body);                                   // relinks its slices; `body` is empty now
//   std::array<iovec, 16> spans;
//   ssize_t sent = writev(fd, spans.data(), out.fill(absl::MakeSpan(spans)));
//   if (sent > 0) {
//     out.drain(sent);
//   }
//
//     first                                                last
//   +---------+-------+      +--------------------+      +-------+---------------+
//   | drained | bytes | ---> | a fragment's bytes | ---> | bytes | room          |
//   +---------+-------+      +--------------------+      +-------+---------------+
//    prepend() writes         memory of somebody          append() and reserve()
//    before the bytes         else, until released        write behind them
//
// A slice holds 4 KiB, if it is a buffer's first and that will do, or 16 KiB; it comes from a pool of the thread, and
// returns to that of the thread which drains it. A pool keeps 64 slices and 736 KiB at most, until its thread ends. So
// in steady state bytes come and go without an allocation, and an empty buffer owns nothing, whatever it held before.
//
// There are no watermarks: a Connection has them, so that one place pauses.
//
// Callbacks: fragments' and trackers' run after the bytes have left, as the last thing of the call that let them leave:
// they may use, move and destroy the buffers of that call. They must not throw: what they throw is logged and ignored.
//
// Views, spans and iovecs of a buffer's bytes are valid until it is changed.
//
// Threads: one at a time, like a std::string; it may go to another thread, with all that it holds. Lifetime: fragments
// live until released; nothing else is referred to. Forks: a child has a copy. Memory: what throws std::bad_alloc has
// changed nothing then; what is noexcept needs none. A moved-from buffer is empty. sizeof: 32 bytes.
class Buffer final {
public:
  // A limit that limits nothing.
  static constexpr std::size_t kAll = static_cast<std::size_t>(-1);

  Buffer() noexcept = default;
  // With a copy of `bytes`.
  explicit Buffer(absl::string_view bytes) { append(bytes); }
  Buffer(Buffer&& other) noexcept { take(other); }
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (!empty() || guest_ != nullptr) {
      destroy();
    }
  }
  void swap(Buffer& other) noexcept;
  friend void swap(Buffer& a, Buffer& b) noexcept { a.swap(b); }

  std::size_t length() const noexcept { return length_; }
  bool empty() const noexcept { return length_ == 0; }

  // --- Adding. What throws std::bad_alloc has changed nothing.

  // A copy of `bytes`, which may be of this buffer.
  void append(absl::string_view bytes);
  // The same in front.
  void prepend(absl::string_view bytes);
  void append(Buffer&& other) { move(other); }

  // Takes all that `from` holds, or its first `bytes`, which are no more than it holds: else fatal in debug, all of it
  // in release. Slices are relinked, which allocates nothing and takes some 10 ns each; but those with less
  // than kCopyBelow bytes are copied together, where the last slice has room, and what is but a part of a slice is
  // copied, too. Into itself: fatal in debug, nothing in release.
  static constexpr std::size_t kCopyBelow = 512;
  void move(Buffer& from) { move(from, from.length_); }
  void move(Buffer& from, std::size_t bytes);

  // Adds `memory` without copying it: it has to stay as it is until `release` is called, once, when its last byte has
  // left: drained, dropped, or copied into another slice. Of no bytes: before this returns. A null `release`: memory
  // that stays for good. Throws std::bad_alloc, and then does not call it. One allocation.
  void appendFragment(absl::string_view memory, ReleaseCb release);

  // The bytes of `value`, the most significant one first.
  template <std::integral T>
  void appendBigEndian(T value);

  // --- Taking away.

  // Removes the first `bytes`, no more than there are: else fatal in debug, all of them in release.
  void drain(std::size_t bytes);
  // Drops all of them.
  void clear() noexcept;

  // Calls `cb` once when the last of the bytes that are there now has left, by way of which buffers whatsoever: it is
  // tied to that byte, and goes with it where that is moved. Those of one byte are called in the order in which they
  // were added. On an empty buffer: now, with Drained. Null: fatal in debug, ignored in release. One allocation.
  void addDrainTracker(DrainTrackerCb cb);

  // --- Writing in place, as for readv(). See Reservation.

  // Room for `bytes`, or more, in up to Reservation::kMaxSpans spans: what the last slice has left, then new slices.
  // Less than `bytes` only where that takes more spans than these. None for 0.
  [[nodiscard]] Reservation reserve(std::size_t bytes);
  // The same in one span, however many `bytes` that are.
  [[nodiscard]] Reservation reserveContiguous(std::size_t bytes);

  // --- Reading.

  // The first bytes, as many as lie side by side; empty when there are none.
  absl::string_view frontSlice() const noexcept;

  // Describes the first bytes, `max_bytes` at most, for writev(). Returns how many of `out` that took.
  std::size_t fill(absl::Span<iovec> out, std::size_t max_bytes = kAll) const noexcept;

  // Copies the bytes from `offset` on to `out`. Returns how many there were: fewer than `out` has room for, or none,
  // where the buffer ends before.
  std::size_t copyOut(std::size_t offset, absl::Span<char> out) const noexcept;

  // Makes the first `bytes` lie side by side, and returns them: copies what is not, at most `bytes`. More than there
  // are: fatal in debug, all of them in release. Fragments that it copied are released before it returns.
  absl::string_view linearize(std::size_t bytes);

  std::string toString() const;

  // The integer at `offset`, the most significant byte first. Beyond the end: fatal in debug, 0 in release.
  template <std::integral T>
  T peekBigEndian(std::size_t offset = 0) const;

  bool startsWith(absl::string_view prefix) const noexcept;

  // Where `pattern` first occurs, at `start` or after it, and wholly within the `limit` bytes from `start` on. An empty
  // one is at `start`, if the buffer reaches that far. Linear in what a slice holds, with memmem(); where slices meet,
  // each of the places that a match could start at is tried.
  std::optional<std::size_t> search(absl::string_view pattern, std::size_t start = 0,
                                    std::size_t limit = kAll) const noexcept;

private:
  friend class Reservation;
  friend class Scratch;

  // Every change begins with this: there must be no reservation.
  void beginChange(const char* operation) {
    if (guest_ != nullptr) [[unlikely]] {
      expectNoReservation(operation);
    }
  }
  void expectNoReservation(const char* operation);
  // No more guests: what is lent is kept.
  void dismissGuest(const char* operation) noexcept;
  // To an empty one.
  void take(Buffer& other) noexcept {
    if (other.guest_ != nullptr) [[unlikely]] {
      other.dismissGuest("Buffer::Buffer(Buffer&&)");
    }
    slices_ = std::exchange(other.slices_, {});
    length_ = std::exchange(other.length_, 0);
  }
  void destroy() noexcept;

  bool lends() const { return guest_ != nullptr && !guest_->bars_changes; }
  bool keepCopyOf(buffer_internal::Slice& lent) noexcept;

  std::size_t roomInLast() const;
  buffer_internal::SpareSlices roomFor(std::size_t bytes) const;
  // These do not fail; what leaves for good is added to `gone`.
  static void copyFront(Buffer& from, buffer_internal::Slice& to, std::size_t bytes,
                        buffer_internal::Farewells& gone) noexcept;
  void takeFirstSlice(Buffer& from, buffer_internal::Farewells& gone) noexcept;
  void removeFront(std::size_t bytes, buffer_internal::Farewells& gone) noexcept;
  void letGo(buffer_internal::Slice& slice, buffer_internal::Farewells& gone) noexcept;
  void peek(std::size_t offset, absl::Span<char> out) const;

  buffer_internal::SliceList slices_;  // owned, but for the one that is lent
  std::size_t length_ = 0;
  buffer_internal::Guest* guest_ = nullptr;
};

// Reservation: memory at the end of a buffer to write into; commit() makes what was written the buffer's.
//
//   Reservation room = buffer.reserve(16 * 1024);
//   ssize_t n = readv(fd, room.spans().data(), room.spans().size());
//   if (n > 0) {
//     room.commit(n);
//   }
//
// Until then, or until it is destroyed, the buffer may be read but neither changed nor destroyed: fatal in debug; in
// release the change is made, and the reservation is void: its memory is not to be written, a commit() is refused.
// Without a commit the buffer stays as it was. Threads: the buffer's.
class [[nodiscard]] Reservation final : private buffer_internal::Guest {
public:
  static constexpr std::size_t kMaxSpans = 4;

  ~Reservation();
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;

  // What to write to, in this order.
  absl::Span<const iovec> spans() const noexcept { return {spans_.data(), count_}; }
  // The first of them: all there is, of a contiguous one. Empty when there are none.
  absl::Span<char> front() const noexcept {
    return count_ == 0 ? absl::Span<char>()
                       : absl::Span<char>(static_cast<char*>(spans_[0].iov_base), spans_[0].iov_len);
  }
  // Of all spans.
  std::size_t size() const noexcept { return size_; }

  // Makes the first `bytes` the buffer's, gives the rest back, and ends the reservation. More than size(), or a second
  // time: fatal in debug, in release all that there is. Allocates nothing.
  void commit(std::size_t bytes);

private:
  friend class Buffer;

  Reservation(Buffer& buffer, std::size_t in_last, buffer_internal::SpareSlices& fresh) noexcept;
  void end() noexcept;

  buffer_internal::SliceList fresh_;  // owned
  std::size_t in_last_;               // the first span's, when that is the buffer's last slice's; else 0
  std::size_t size_ = 0;
  std::size_t count_ = 0;
  std::array<iovec, kMaxSpans> spans_;
};

template <std::integral T>
void Buffer::appendBigEndian(T value) {
  using Unsigned = std::make_unsigned_t<T>;
  std::array<char, sizeof(T)> bytes;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    bytes[i] = static_cast<char>(static_cast<Unsigned>(value) >> 8 * (sizeof(T) - 1 - i));
  }
  append(absl::string_view(bytes.data(), bytes.size()));
}

template <std::integral T>
T Buffer::peekBigEndian(std::size_t offset) const {
  using Unsigned = std::make_unsigned_t<T>;
  std::array<char, sizeof(T)> bytes;
  peek(offset, absl::MakeSpan(bytes));
  uint64_t value = 0;
  for (const char byte : bytes) {
    value = value << 8 | static_cast<uint8_t>(byte);
  }
  return static_cast<T>(static_cast<Unsigned>(value));
}

}  // namespace nuncio::network
