#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <sys/uio.h>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "nuncio/network/buffer.h"
#include "source/network/scratch.h"

namespace nuncio::network {

// BufferModel: some Buffers under work that somebody else chooses, each beside a std::string that knows what it must
// hold, and lists of the fragments and drain trackers that are outstanding.
//
//   BufferModel model([&](uint64_t n) { return random() % n; });
//   for (...) model.step();
//   model.finish();
//
// What is checked, at each step:
//   - a buffer holds the bytes that it must, in its slices as in toString(), and reading calls say what the string
//   says;
//   - trackers are called once, in order, in the step in which their byte leaves, and are told whether it was drained;
//   - a fragment's memory, which is spoiled when it is released, is not read afterwards; it is released once, and has
//     been by the time that none of its bytes is left;
//   - lent memory, which is spoiled when it was taken back, is in no buffer any more.
// What is wrong is thrown as a std::logic_error.
class BufferModel {
public:
  // `below(n)` chooses one of 0 to n - 1.
  explicit BufferModel(std::function<uint64_t(uint64_t)> below) : below_(std::move(below)) {
    for (Pair& pair : pairs_) {
      pair.buffer.emplace();
    }
  }

  void step() { operate(0); }

  // Destroys all: nothing is outstanding then.
  void finish() {
    for (Pair& pair : pairs_) {
      drop(pair);
      pair.buffer.reset();
      expectCalls();
    }
    expectFragments();
    expect(fragments_.empty(), "all fragments are released");
  }

private:
  static constexpr std::size_t kBuffers = 4;
  static constexpr std::size_t kMostBytes = 100'000;
  static constexpr uint32_t kNone = 0;

  struct Tracker {
    std::size_t end;  // one behind its byte, from the front
    uint32_t id;
  };
  struct Pair {
    std::optional<Buffer> buffer;
    std::string text;
    std::vector<uint32_t> fragment_of;  // each byte; kNone: of the buffer's own
    std::vector<Tracker> trackers;      // by `end`, then in the order in which they were added
  };
  struct Call {
    uint32_t id;
    DrainResult result;
    friend bool operator==(const Call&, const Call&) = default;
  };

  static void expect(bool holds, absl::string_view what) {
    if (!holds) {
      throw std::logic_error(std::string(what));
    }
  }

  std::size_t below(std::size_t n) { return static_cast<std::size_t>(below_(n)); }
  Pair& any() { return pairs_[below(kBuffers)]; }
  // Mostly small, around the sizes at which something changes, or up to `most`.
  std::size_t size(std::size_t most) {
    static constexpr std::array<std::size_t, 8> kEdges = {0, 1, 511, 512, 4096, 16'384, 40'000, 65'536};
    std::size_t chosen = 0;
    switch (below(4)) {
      case 0:
        chosen = kEdges[below(kEdges.size())] + below(3);
        break;
      case 1:
        chosen = most;
        break;
      case 2:
        chosen = below(most + 1);
        break;
      default:
        chosen = below(100);
    }
    return std::min(chosen, most);
  }
  // Of three letters, so that patterns occur.
  std::string newText(std::size_t size) {
    static const std::string letters = [] {
      std::string all(200'000, '\0');
      uint64_t state = 1;
      for (char& letter : all) {
        state = state * 6364136223846793005 + 1442695040888963407;  // Knuth's MMIX
        letter = static_cast<char>('a' + (state >> 60) % 3);
      }
      return all;
    }();
    return letters.substr(below(letters.size() - size), size);
  }

  // --- The model's side.

  static void add(Pair& pair, absl::string_view text, uint32_t fragment = kNone) {
    absl::StrAppend(&pair.text, text);
    pair.fragment_of.insert(pair.fragment_of.end(), text.size(), fragment);
  }
  static void addInFront(Pair& pair, absl::string_view text) {
    pair.text.insert(0, std::string(text));
    pair.fragment_of.insert(pair.fragment_of.begin(), text.size(), kNone);
    for (Tracker& tracker : pair.trackers) {
      tracker.end += text.size();
    }
  }
  // The trackers of the first `size` bytes, which are gone.
  static std::vector<Tracker> removeFront(Pair& pair, std::size_t size) {
    pair.text.erase(0, size);
    pair.fragment_of.erase(pair.fragment_of.begin(), pair.fragment_of.begin() + static_cast<std::ptrdiff_t>(size));
    const auto behind = std::find_if(pair.trackers.begin(), pair.trackers.end(),
                                     [size](const Tracker& tracker) { return tracker.end > size; });
    std::vector<Tracker> removed(pair.trackers.begin(), behind);
    pair.trackers.erase(pair.trackers.begin(), behind);
    for (Tracker& tracker : pair.trackers) {
      tracker.end -= size;
    }
    return removed;
  }
  void removeFrontFor(Pair& pair, std::size_t size, DrainResult result) {
    for (const Tracker& tracker : removeFront(pair, size)) {
      expected_.push_back({tracker.id, result});
    }
  }
  void drop(Pair& pair) { removeFrontFor(pair, pair.text.size(), DrainResult::Dropped); }
  static void moveFront(Pair& to, Pair& from, std::size_t size) {
    const std::size_t before = to.text.size();
    to.text.append(from.text, 0, size);
    to.fragment_of.insert(to.fragment_of.end(), from.fragment_of.begin(),
                          from.fragment_of.begin() + static_cast<std::ptrdiff_t>(size));
    for (const Tracker& tracker : removeFront(from, size)) {
      to.trackers.push_back({before + tracker.end, tracker.id});
    }
  }
  static void exchange(Pair& a, Pair& b) {
    a.text.swap(b.text);
    a.fragment_of.swap(b.fragment_of);
    a.trackers.swap(b.trackers);
  }

  // --- Work.

  void operate(int depth) {
    Pair& pair = any();
    if (pair.text.size() > kMostBytes) {
      drain(pair, pair.text.size() - below(1000));
    }
    switch (below(24)) {
      case 0:
      case 1:
        append(pair);
        break;
      case 2:
        prepend(pair);
        break;
      case 3:
      case 4:
        appendFragment(pair);
        break;
      case 5:
        appendInteger(pair);
        break;
      case 6:
      case 7:
      case 8:
        move(pair, any());
        break;
      case 9:
      case 10:
      case 11:
        drain(pair, size(pair.text.size()));
        break;
      case 12:
        replace(pair);
        break;
      case 13:
      case 14:
        track(pair);
        break;
      case 15:
      case 16:
        reserve(pair);
        break;
      case 17:
        linearize(pair);
        break;
      case 18:
        exchangeBuffers(pair, any());
        break;
      case 19:
        search(pair);
        break;
      case 20:
        read(pair);
        break;
      default:
        if (depth < 2) {
          lend(pair, depth);
        }
    }
    expectCalls();
    expectContents(pair);
    if (below(16) == 0) {
      for (const Pair& each : pairs_) {
        expectContents(each);
      }
      expectFragments();
    }
  }

  void append(Pair& pair) {
    const std::string text = newText(size(40'000));
    pair.buffer->append(text);
    add(pair, text);
  }
  void prepend(Pair& pair) {
    const std::string text = newText(size(20'000));
    pair.buffer->prepend(text);
    addInFront(pair, text);
  }
  void appendInteger(Pair& pair) {
    const auto value = static_cast<uint32_t>(below_(uint64_t{1} << 32));
    pair.buffer->appendBigEndian(value);
    for (const int shift : {24, 16, 8, 0}) {
      const char byte = static_cast<char>(value >> shift);
      add(pair, {&byte, 1});
    }
  }
  void appendFragment(Pair& pair) {
    const uint32_t id = ++last_id_;
    auto memory = std::make_unique<std::string>(newText(size(20'000)));
    add(pair, *memory, id);
    std::string* const raw = memory.get();
    fragments_.emplace(id, std::move(memory));
    pair.buffer->appendFragment(*raw, [this, id] { release(id); });
  }
  // Called by a buffer, which does not let exceptions through.
  void release(uint32_t id) {
    const auto fragment = fragments_.find(id);
    if (fragment == fragments_.end()) {
      released_twice_ = true;
      return;
    }
    std::fill(fragment->second->begin(), fragment->second->end(), '!');
    fragments_.erase(fragment);
  }

  void move(Pair& to, Pair& from) {
    if (&to == &from) {
      return;
    }
    const std::size_t moved = size(from.text.size());
    if (moved == from.text.size() && below(2) == 0) {
      to.buffer->append(std::move(*from.buffer));
    } else {
      to.buffer->move(*from.buffer, moved);
    }
    moveFront(to, from, moved);
    expectContents(from);
  }
  void drain(Pair& pair, std::size_t drained) {
    removeFrontFor(pair, drained, DrainResult::Drained);
    pair.buffer->drain(drained);
  }
  void replace(Pair& pair) {
    drop(pair);
    switch (below(3)) {
      case 0:
        pair.buffer->clear();
        break;
      case 1:
        pair.buffer.reset();
        pair.buffer.emplace();
        break;
      default:
        *pair.buffer = Buffer("new");
        add(pair, "new");
    }
  }
  void track(Pair& pair) {
    const uint32_t id = ++last_id_;
    if (pair.text.empty()) {
      expected_.push_back({id, DrainResult::Drained});
    } else {
      pair.trackers.push_back({pair.text.size(), id});
    }
    pair.buffer->addDrainTracker([this, id](DrainResult result) { calls_.push_back({id, result}); });
  }
  void exchangeBuffers(Pair& a, Pair& b) {
    switch (below(3)) {
      case 0: {
        Buffer other(std::move(*a.buffer));
        expect(a.buffer->empty(), "a buffer that was moved from is empty");
        *a.buffer = std::move(other);
        break;
      }
      case 1:
        if (&a != &b) {
          drop(a);
          moveFront(a, b, b.text.size());
          *a.buffer = std::move(*b.buffer);
        }
        break;
      default:
        if (&a != &b) {
          exchange(a, b);
        }
        a.buffer->swap(*b.buffer);
    }
    expectContents(b);
  }

  void reserve(Pair& pair) {
    const std::size_t wanted = size(100'000);
    const bool contiguous = below(2) == 0;
    Reservation room = contiguous ? pair.buffer->reserveContiguous(wanted) : pair.buffer->reserve(wanted);
    expect(room.size() >= wanted || room.spans().size() == Reservation::kMaxSpans, "there is room");
    expect(!contiguous || room.front().size() == room.size(), "a contiguous reservation is one span");
    if (below(4) == 0) {
      return;
    }
    const std::string text = newText(size(room.size()));
    absl::string_view left = text;
    for (const iovec& span : room.spans()) {
      left.remove_prefix(left.copy(static_cast<char*>(span.iov_base), span.iov_len));
    }
    expect(left.empty(), "the spans are as large as they say");
    room.commit(text.size());
    add(pair, text);
  }

  // As a Connection that reads: the handler does this and that with all buffers, this one included.
  void lend(Pair& pair, int depth) {
    if (lending_ == &pair) {
      return;
    }
    Scratch scratch;
    const std::string text = newText(size(scratch.memory().size()));
    text.copy(scratch.memory().data(), text.size());
    scratch.lend(*pair.buffer, text.size());
    add(pair, text);
    Pair* const outer = std::exchange(lending_, &pair);
    for (std::size_t i = below(6); i > 0; --i) {
      operate(depth + 1);
    }
    lending_ = outer;
    scratch.takeBack();
    const absl::Span<char> memory = scratch.memory();
    std::fill(memory.begin(), memory.end(), '!');
  }

  // --- Reading.

  void linearize(Pair& pair) {
    const std::size_t wanted = size(pair.text.size());
    const absl::string_view view = pair.buffer->linearize(wanted);
    expect(view == absl::string_view(pair.text).substr(0, wanted), "linearize() returns the first bytes");
  }

  void search(Pair& pair) {
    const std::size_t start = size(pair.text.size() + 1);
    const std::size_t limit = below(2) == 0 ? Buffer::kAll : size(pair.text.size());
    const std::size_t place = below(pair.text.size() + 1);
    const std::string pattern = below(2) == 0 ? pair.text.substr(place, below(40)) : newText(below(12));
    const std::size_t found = start > pair.text.size() ? Buffer::kAll : pair.text.substr(start, limit).find(pattern);
    expect(pair.buffer->search(pattern, start, limit) ==
               (found == Buffer::kAll ? std::nullopt : std::optional<std::size_t>(start + found)),
           absl::StrCat("search() finds what find() does, from ", start));
    expect(pair.buffer->startsWith(pattern) == (pair.text.compare(0, pattern.size(), pattern) == 0),
           "startsWith() agrees");
  }

  void read(Pair& pair) {
    const std::size_t offset = size(pair.text.size() + 1);
    std::string out(size(20'000), '\0');
    const std::size_t there = offset < pair.text.size() ? std::min(out.size(), pair.text.size() - offset) : 0;
    expect(pair.buffer->copyOut(offset, absl::MakeSpan(out)) == there, "copyOut() counts");
    expect(there == 0 || out.compare(0, there, pair.text, offset, there) == 0, "copyOut() copies");
    if (pair.text.size() >= sizeof(uint16_t)) {
      const std::size_t at = below(pair.text.size() - 1);
      const auto high = static_cast<uint8_t>(pair.text[at]);
      const auto low = static_cast<uint8_t>(pair.text[at + 1]);
      expect(pair.buffer->peekBigEndian<uint16_t>(at) == high * 256 + low, "peekBigEndian() agrees");
    }
  }

  // --- What must hold.

  void expectCalls() {
    expect(calls_ == expected_, "trackers are called as they must be");
    calls_.clear();
    expected_.clear();
    expect(!released_twice_, "a fragment is released once");
  }

  static void expectContents(const Pair& pair) {
    expect(pair.buffer->length() == pair.text.size(), "the length is right");
    expect(pair.buffer->empty() == pair.text.empty(), "empty() is right");
    std::vector<iovec> spans(64);
    std::size_t count = pair.buffer->fill(absl::MakeSpan(spans));
    while (count == spans.size()) {
      spans.resize(2 * spans.size());
      count = pair.buffer->fill(absl::MakeSpan(spans));
    }
    absl::string_view left = pair.text;
    for (const iovec& span : absl::MakeSpan(spans).subspan(0, count)) {
      const absl::string_view slice(static_cast<char*>(span.iov_base), span.iov_len);
      expect(!slice.empty(), "no slice is empty");
      expect(left.substr(0, slice.size()) == slice, "the bytes are right");
      left.remove_prefix(slice.size());
    }
    expect(left.empty(), "all bytes are there");
  }

  // Of each fragment that is not released, a byte is there.
  void expectFragments() {
    std::set<uint32_t> there;
    for (const Pair& pair : pairs_) {
      uint32_t last = kNone;
      for (const uint32_t fragment : pair.fragment_of) {
        if (fragment != last) {
          there.insert(fragment);
          last = fragment;
        }
      }
    }
    for (const auto& [id, memory] : fragments_) {
      expect(there.contains(id), "a fragment is released with its last byte");
    }
  }

  const std::function<uint64_t(uint64_t)> below_;
  Pair* lending_ = nullptr;
  uint32_t last_id_ = kNone;
  std::map<uint32_t, std::unique_ptr<std::string>> fragments_;  // that are not released
  bool released_twice_ = false;
  std::vector<Call> expected_;
  std::vector<Call> calls_;
  std::array<Pair, kBuffers> pairs_;  // destroyed first, since they call back
};

}  // namespace nuncio::network
