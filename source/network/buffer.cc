#include "nuncio/network/buffer.h"

#include <algorithm>
#include <cstring>

#include "nuncio/common/assert.h"
#include "source/network/scratch.h"
#include "source/network/slice.h"
#include "source/network/slice_pool.h"

namespace nuncio::network {

using buffer_internal::Farewell;
using buffer_internal::Farewells;
using buffer_internal::Fragment;
using buffer_internal::kLargeBytes;
using buffer_internal::kSmallBytes;
using buffer_internal::Slice;
using buffer_internal::SpareSlices;
using buffer_internal::takeSliceFor;

namespace {

class Tracker final : public Farewell {
public:
  Tracker(DrainTrackerCb cb, const char* behind) : cb_(std::move(cb)) { at = behind; }
  void call(DrainResult result) noexcept override { buffer_internal::callTracker(cb_, result); }

private:
  DrainTrackerCb cb_;
};

// A buffer's first slice is as small as may do, since most messages are; one that needs more gets large ones, of which
// writev() takes fewer.
std::size_t sliceBytesFor(std::size_t bytes, bool first) {
  return first && bytes <= kSmallBytes ? kSmallBytes : kLargeBytes;
}

// Whether the bytes of `slice` from `at` on begin with `pattern`, those of the slices behind it included.
bool beginsWith(const Slice* slice, std::size_t at, absl::string_view pattern) noexcept {
  while (!pattern.empty() && slice != nullptr) {
    const absl::string_view here = slice->bytes().substr(at, pattern.size());
    if (here != pattern.substr(0, here.size())) {
      return false;
    }
    pattern.remove_prefix(here.size());
    slice = slice->next;
    at = 0;
  }
  return pattern.empty();
}

// Where a match begins that lies within `slice`, from `at` on; npos: nowhere.
std::size_t findWithin(absl::string_view slice, std::size_t at, absl::string_view pattern) noexcept {
  const auto* const found =
      static_cast<const char*>(::memmem(slice.data() + at, slice.size() - at, pattern.data(), pattern.size()));
  return found == nullptr ? absl::string_view::npos : static_cast<std::size_t>(found - slice.data());
}

}  // namespace

// --- Who has a stake in the memory.

void Buffer::expectNoReservation(const char* operation) {
  if (!NUNCIO_CONTRACT(!guest_->bars_changes, currentDispatcherName(), operation, "there is a Reservation")) {
    std::exchange(guest_, nullptr)->buffer = nullptr;
  }
}

void Buffer::dismissGuest(const char* operation) noexcept {
  beginChange(operation);
  if (lends()) {
    static_cast<Scratch*>(guest_)->takeBack();
  }
}

// Puts a copy of the lent slice where it is: into the slice before it, as far as that has room, and into new ones.
// False when there is no memory: nothing has changed then.
bool Buffer::keepCopyOf(Slice& lent) noexcept {
  Slice* before = nullptr;
  for (Slice* slice = slices_.first; slice != &lent; slice = slice->next) {
    before = slice;
  }
  const std::size_t in_before = before == nullptr ? 0 : std::min(before->room(), lent.size());
  SpareSlices room;
  try {
    for (std::size_t left = lent.size() - in_before; left > 0;) {
      const std::size_t bytes = sliceBytesFor(left, before == nullptr && room.empty());
      room.add(takeSliceFor(bytes));
      left -= std::min(left, bytes);
    }
  } catch (const std::bad_alloc&) {
    return false;
  }
  if (in_before > 0) {
    lent.moveFrontTo(*before, in_before);
  }
  Slice* const after = lent.next;
  while (lent.size() > 0) {
    Slice& copy = room.take();
    lent.moveFrontTo(copy, std::min(copy.room(), lent.size()));
    (before == nullptr ? slices_.first : before->next) = &copy;
    before = &copy;
  }
  (before == nullptr ? slices_.first : before->next) = after;
  if (after == nullptr) {
    slices_.last = before;
  }
  return true;
}

// --- The whole of it.

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    beginChange("Buffer::operator=");
    Farewells gone;  // called last
    removeFront(length_, gone);
    take(other);
  }
  return *this;
}

void Buffer::swap(Buffer& other) noexcept {
  Buffer mine(std::move(*this));
  take(other);
  other.take(mine);
}

void Buffer::clear() noexcept {
  beginChange("Buffer::clear");
  Farewells gone;  // called last
  removeFront(length_, gone);
}

void Buffer::destroy() noexcept {
  beginChange("Buffer::~Buffer");
  {
    Farewells gone;
    removeFront(length_, gone);
  }
  // In release it leaks: dropped as well, it could go on so for ever.
  static_cast<void>(NUNCIO_CONTRACT(empty(), currentDispatcherName(), "Buffer::~Buffer",
                                    "a callback added to the buffer that is destroyed"));
}

// --- Adding.

std::size_t Buffer::roomInLast() const { return slices_.empty() ? 0 : slices_.last->room(); }

SpareSlices Buffer::roomFor(std::size_t bytes) const {
  SpareSlices room;
  while (bytes > 0) {
    const std::size_t slice = sliceBytesFor(bytes, empty() && room.empty());
    room.add(takeSliceFor(slice));
    bytes -= std::min(bytes, slice);
  }
  return room;
}

void Buffer::append(absl::string_view bytes) {
  beginChange("Buffer::append");
  const std::size_t in_last = std::min(bytes.size(), roomInLast());
  SpareSlices room = roomFor(bytes.size() - in_last);
  length_ += bytes.size();
  if (in_last > 0) {
    bytes = slices_.last->write(bytes);
  }
  while (!bytes.empty()) {
    Slice& slice = room.take();
    bytes = slice.write(bytes);
    slices_.pushBack(slice);
  }
}

// From back to front: into what is free before the first slice's bytes, then to the ends of new slices, so that those
// have headroom, too.
void Buffer::prepend(absl::string_view bytes) {
  if (empty()) {
    append(bytes);
    return;
  }
  beginChange("Buffer::prepend");
  const std::size_t in_first = std::min(bytes.size(), slices_.first->headroom());
  SpareSlices room;
  for (std::size_t left = bytes.size() - in_first; left > 0; left -= std::min(left, kLargeBytes)) {
    room.add(takeSliceFor(std::min(left, kLargeBytes)));
  }
  length_ += bytes.size();
  if (in_first > 0) {
    bytes = slices_.first->writeInFront(bytes);
  }
  // All are full but for the last of them.
  while (!bytes.empty()) {
    Slice& slice = room.take();
    slice.begin = slice.end = slice.limit;
    bytes = slice.writeInFront(bytes);
    slices_.pushFront(slice);
  }
}

// What may fail comes first. Of `from` there are taken:
//
//   [ whole slice ]->[ whole slice ]->[ part |         ]
//     relinked, or copied if small      copied to `room`
//
// What is lent is never relinked: when it is the first it is a part, though it may be all of its slice, and nothing is
// taken behind it; where it stands in another place, or is not enough, it is made the buffer's own before.
void Buffer::move(Buffer& from, std::size_t bytes) {
  if (!NUNCIO_CONTRACT(&from != this, currentDispatcherName(), "Buffer::move", "into itself")) {
    return;
  }
  if (!NUNCIO_CONTRACT(bytes <= from.length_, currentDispatcherName(), "Buffer::move",
                       absl::StrCat(bytes, " bytes of ", from.length_))) {
    bytes = from.length_;
  }
  beginChange("Buffer::move");
  from.beginChange("Buffer::move");
  if (bytes == 0) {
    return;
  }
  if (from.lends() && (!from.slices_.first->lent || bytes > from.slices_.first->size())) {
    from.dismissGuest("Buffer::move");
  }
  std::size_t part = bytes;
  for (const Slice* slice = from.slices_.first; part > 0 && part >= slice->size() && !slice->lent;
       slice = slice->next) {
    part -= slice->size();
  }
  const std::size_t in_last = part == bytes ? std::min(part, roomInLast()) : 0;
  SpareSlices room = roomFor(part - in_last);
  Farewells released;  // called last
  for (std::size_t whole = bytes - part; whole > 0;) {
    whole -= from.slices_.first->size();
    takeFirstSlice(from, released);
  }
  while (part > 0) {
    if (roomInLast() == 0) {
      slices_.pushBack(room.take());
    }
    const std::size_t piece = std::min(part, roomInLast());
    copyFront(from, *slices_.last, piece, released);
    part -= piece;
  }
  length_ += bytes;
  from.length_ -= bytes;
}

// Takes a whole slice. Does not count its bytes.
void Buffer::takeFirstSlice(Buffer& from, Farewells& gone) noexcept {
  Slice& slice = *from.slices_.first;
  if (slice.size() < kCopyBelow && slice.size() <= roomInLast()) {
    copyFront(from, *slices_.last, slice.size(), gone);
  } else {
    slices_.pushBack(from.slices_.popFront());
  }
}

// Puts the first bytes of `from`, no more than its first slice has, at the end of `to`. Does not count them.
void Buffer::copyFront(Buffer& from, Slice& to, std::size_t bytes, Farewells& gone) noexcept {
  Slice& slice = *from.slices_.first;
  slice.moveFrontTo(to, bytes);
  if (slice.size() == 0) {
    from.letGo(from.slices_.popFront(), gone);
  }
}

void Buffer::appendFragment(absl::string_view memory, ReleaseCb release) {
  beginChange("Buffer::appendFragment");
  if (memory.empty()) {
    buffer_internal::callRelease(release);
    return;
  }
  slices_.pushBack(*new Fragment(memory, std::move(release)));
  length_ += memory.size();
}

// --- Taking away.

void Buffer::drain(std::size_t bytes) {
  beginChange("Buffer::drain");
  if (!NUNCIO_CONTRACT(bytes <= length_, currentDispatcherName(), "Buffer::drain",
                       absl::StrCat(bytes, " bytes of ", length_))) {
    bytes = length_;
  }
  Farewells gone;
  removeFront(bytes, gone);
  gone.callAll(DrainResult::Drained);
}

void Buffer::removeFront(std::size_t bytes, Farewells& gone) noexcept {
  length_ -= bytes;
  while (bytes > 0) {
    Slice& slice = *slices_.first;
    const std::size_t here = std::min(bytes, slice.size());
    slice.removeFront(here, gone);
    bytes -= here;
    if (slice.size() == 0) {
      letGo(slices_.popFront(), gone);
    }
  }
}

// `slice` is empty, and not in the chain any more.
void Buffer::letGo(Slice& slice, Farewells& gone) noexcept {
  if (slice.lent) {
    static_cast<Scratch*>(guest_)->comeBack();
  } else if (slice.kind == Slice::Kind::Fragment) {
    gone.add(static_cast<Fragment&>(slice));
  } else {
    buffer_internal::giveSlice(slice);
  }
}

void Buffer::addDrainTracker(DrainTrackerCb cb) {
  beginChange("Buffer::addDrainTracker");
  if (!NUNCIO_CONTRACT(cb != nullptr, currentDispatcherName(), "Buffer::addDrainTracker", "no callback")) {
    return;
  }
  if (empty()) {
    buffer_internal::callTracker(cb, DrainResult::Drained);
    return;
  }
  slices_.last->trackers.add(*new Tracker(std::move(cb), slices_.last->end));
}

// --- Writing in place.

Reservation Buffer::reserve(std::size_t bytes) {
  dismissGuest("Buffer::reserve");
  const std::size_t in_last = bytes == 0 ? 0 : roomInLast();
  SpareSlices fresh;
  std::size_t left = bytes - std::min(bytes, in_last);
  for (std::size_t spans = in_last > 0 ? 1 : 0; left > 0 && spans < Reservation::kMaxSpans; ++spans) {
    const std::size_t slice = sliceBytesFor(left, empty() && fresh.empty());
    fresh.add(takeSliceFor(slice));
    left -= std::min(left, slice);
  }
  return {*this, in_last, fresh};
}

Reservation Buffer::reserveContiguous(std::size_t bytes) {
  dismissGuest("Buffer::reserveContiguous");
  const std::size_t in_last = bytes > 0 && bytes <= roomInLast() ? roomInLast() : 0;
  SpareSlices fresh;
  if (bytes > in_last) {
    fresh.add(takeSliceFor(std::max(bytes, sliceBytesFor(bytes, empty()))));
  }
  return {*this, in_last, fresh};
}

Reservation::Reservation(Buffer& of, std::size_t in_last, SpareSlices& fresh) noexcept
    : Guest{.buffer = &of, .bars_changes = true}, fresh_(fresh.takeAll()), in_last_(in_last), size_(in_last) {
  of.guest_ = this;
  if (in_last > 0) {
    spans_[count_++] = {.iov_base = of.slices_.last->end, .iov_len = in_last};
  }
  for (Slice* slice = fresh_.first; slice != nullptr; slice = slice->next) {
    spans_[count_++] = {.iov_base = slice->end, .iov_len = slice->room()};
    size_ += slice->room();
  }
}

void Reservation::commit(std::size_t bytes) {
  if (!NUNCIO_CONTRACT(buffer != nullptr, currentDispatcherName(), "Reservation::commit",
                       "committed before, or the buffer was changed")) {
    return;
  }
  if (!NUNCIO_CONTRACT(bytes <= size_, currentDispatcherName(), "Reservation::commit",
                       absl::StrCat(bytes, " bytes of ", size_))) {
    bytes = size_;
  }
  Buffer& to = *buffer;
  to.length_ += bytes;
  const std::size_t in_last = std::min(bytes, in_last_);
  if (in_last > 0) {
    to.slices_.last->end += in_last;
    bytes -= in_last;
  }
  while (bytes > 0) {
    Slice& slice = fresh_.popFront();
    const std::size_t here = std::min(bytes, slice.room());
    slice.end += here;
    bytes -= here;
    to.slices_.pushBack(slice);
  }
  end();
}

Reservation::~Reservation() { end(); }

void Reservation::end() noexcept {
  if (buffer != nullptr) {
    std::exchange(buffer, nullptr)->guest_ = nullptr;
  }
  while (!fresh_.empty()) {
    buffer_internal::giveSlice(fresh_.popFront());
  }
}

// --- Reading.

absl::string_view Buffer::frontSlice() const noexcept { return empty() ? absl::string_view() : slices_.first->bytes(); }

std::size_t Buffer::fill(absl::Span<iovec> out, std::size_t max_bytes) const noexcept {
  std::size_t filled = 0;
  for (const Slice* slice = slices_.first; slice != nullptr && filled < out.size() && max_bytes > 0;
       slice = slice->next) {
    const std::size_t here = std::min(max_bytes, slice->size());
    out[filled++] = {.iov_base = slice->begin, .iov_len = here};
    max_bytes -= here;
  }
  return filled;
}

std::size_t Buffer::copyOut(std::size_t offset, absl::Span<char> out) const noexcept {
  std::size_t copied = 0;
  for (const Slice* slice = slices_.first; slice != nullptr && copied < out.size(); slice = slice->next) {
    const std::size_t skipped = std::min(offset, slice->size());
    offset -= skipped;
    copied += slice->bytes().substr(skipped).copy(out.data() + copied, out.size() - copied);
  }
  return copied;
}

std::string Buffer::toString() const {
  std::string text(length_, '\0');
  copyOut(0, absl::MakeSpan(text));
  return text;
}

void Buffer::peek(std::size_t offset, absl::Span<char> out) const {
  if (NUNCIO_CONTRACT(offset <= length_ && out.size() <= length_ - offset, currentDispatcherName(),
                      "Buffer::peekBigEndian", absl::StrCat(out.size(), " bytes at ", offset, " of ", length_))) {
    copyOut(offset, out);
  } else {
    std::fill(out.begin(), out.end(), '\0');
  }
}

absl::string_view Buffer::linearize(std::size_t bytes) {
  beginChange("Buffer::linearize");
  if (!NUNCIO_CONTRACT(bytes <= length_, currentDispatcherName(), "Buffer::linearize",
                       absl::StrCat(bytes, " bytes of ", length_))) {
    bytes = length_;
  }
  if (bytes <= frontSlice().size()) {
    return frontSlice().substr(0, bytes);
  }
  // All of it goes into the first slice, where that has room enough, and into a new one else.
  Slice* whole = slices_.first;
  if (bytes - whole->size() <= whole->room()) {
    slices_.popFront();
  } else {
    whole = &takeSliceFor(bytes);
  }
  Farewells released;  // called last
  while (whole->size() < bytes) {
    copyFront(*this, *whole, std::min(bytes - whole->size(), slices_.first->size()), released);
  }
  slices_.pushFront(*whole);
  return whole->bytes().substr(0, bytes);
}

bool Buffer::startsWith(absl::string_view prefix) const noexcept { return beginsWith(slices_.first, 0, prefix); }

std::optional<std::size_t> Buffer::search(absl::string_view pattern, std::size_t start,
                                          std::size_t limit) const noexcept {
  if (start > length_ || pattern.size() > std::min(limit, length_ - start)) {
    return std::nullopt;
  }
  if (pattern.empty()) {
    return start;
  }
  const std::size_t end = start + std::min(limit, length_ - start);
  const std::size_t last = end - pattern.size();  // where a match may begin
  std::size_t offset = 0;                         // of the slice's first byte
  for (const Slice* slice = slices_.first; slice != nullptr && offset <= last; slice = slice->next) {
    const absl::string_view here = slice->bytes().substr(0, end - offset);
    std::size_t at = start > offset ? start - offset : 0;
    if (at < here.size()) {
      if (const std::size_t found = findWithin(here, at, pattern); found != absl::string_view::npos) {
        return offset + found;
      }
    }
    // Those that begin here, and go on in the next slice.
    for (at = std::max(at, here.size() - std::min(here.size(), pattern.size() - 1));
         at < here.size() && offset + at <= last; ++at) {
      if (beginsWith(slice, at, pattern)) {
        return offset + at;
      }
    }
    offset += slice->size();
  }
  return std::nullopt;
}

}  // namespace nuncio::network
