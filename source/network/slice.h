#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/strings/string_view.h"

#include "nuncio/network/buffer.h"

// What a Buffer is made of.
namespace nuncio::network::buffer_internal {

// Farewell: whom to call once a byte has left: a drain tracker, or the owner of a fragment. On the heap; it deletes
// itself with the call.
class Farewell {
public:
  Farewell() = default;
  Farewell(const Farewell&) = delete;
  Farewell& operator=(const Farewell&) = delete;
  virtual ~Farewell() = default;

  // What users' functions throw is logged.
  virtual void call(DrainResult result) noexcept = 0;

  // A tracker's: one behind the byte that it is tied to, in the memory of the slice whose list it is in.
  const char* at = nullptr;

private:
  friend class Farewells;
  Farewell* next_ = nullptr;
};

// Farewells: first in, first out; owned, and called when this is destroyed at the latest. One pointer, since each slice
// has one: to the last, whose next is the first.
class Farewells {
public:
  Farewells() = default;
  Farewells(const Farewells&) = delete;
  Farewells& operator=(const Farewells&) = delete;
  ~Farewells() { callAll(DrainResult::Dropped); }

  bool empty() const { return last_ == nullptr; }
  // Not when empty.
  Farewell& first() const { return *last_->next_; }
  void add(Farewell& farewell) noexcept;
  // Not when empty. Owned by the caller.
  Farewell& takeFirst() noexcept;

  // In order. Those that are added meanwhile, too.
  void callAll(DrainResult result) noexcept;

private:
  Farewell* last_ = nullptr;
};

// Slice: a piece of memory with bytes in the middle.
//
//   storage()          begin             end              limit
//      | headroom()      | bytes, size() | room()           |
//
// But for fragments, the header is followed by its memory.
struct Slice {
  // How much memory it has: see SlicePool. Odd: as much as was asked for. Fragment: none of its own.
  enum class Kind : uint8_t { Small, Large, Scratch, Odd, Fragment };

  Slice(Kind of_kind, char* memory, std::size_t used, std::size_t all)
      : begin(memory), end(memory + used), limit(memory + all), kind(of_kind) {}

  char* storage() { return reinterpret_cast<char*>(this + 1); }
  std::size_t size() const { return static_cast<std::size_t>(end - begin); }
  std::size_t room() const { return static_cast<std::size_t>(limit - end); }
  // What prepend() may write to.
  std::size_t headroom() { return kind == Kind::Fragment || lent ? 0 : static_cast<std::size_t>(begin - storage()); }
  absl::string_view bytes() const { return {begin, size()}; }

  // Behind the bytes that are there, as many as there is room for; returns the rest of `bytes`.
  absl::string_view write(absl::string_view bytes) noexcept;
  // The same before them: the last of `bytes`, as many as fit between storage() and what is there.
  absl::string_view writeInFront(absl::string_view bytes) noexcept;
  // Its first `bytes` become the last of `to`, which has room for them, and so do their trackers.
  void moveFrontTo(Slice& to, std::size_t bytes) noexcept;
  // Its first `bytes` are gone, those whom that concerns are added to `gone`.
  void removeFront(std::size_t bytes, Farewells& gone) noexcept;

  Slice* next = nullptr;
  char* begin;
  char* end;
  char* limit;
  Farewells trackers;  // in the order of the bytes that they are tied to
  const Kind kind;
  bool lent = false;  // it belongs to a Scratch
};

// Fragment: bytes that somebody else owns, and is given back by a call.
struct Fragment final : Slice, Farewell {
  // Not written to: it has neither room nor headroom.
  Fragment(absl::string_view memory, ReleaseCb cb)
      : Slice(Kind::Fragment, const_cast<char*>(memory.data()), memory.size(), memory.size()), release(std::move(cb)) {}

  void call(DrainResult result) noexcept override;

  ReleaseCb release;
};

// Calls a user's function, null or not.
void callRelease(ReleaseCb& release) noexcept;
void callTracker(DrainTrackerCb& tracker, DrainResult result) noexcept;

// SpareSlices: empty slices of the pool, which return there, unless they are taken.
class SpareSlices {
public:
  SpareSlices() = default;
  SpareSlices(SpareSlices&& other) noexcept : list_(std::exchange(other.list_, {})) {}
  SpareSlices& operator=(SpareSlices&&) = delete;
  ~SpareSlices();

  bool empty() const { return list_.empty(); }
  void add(Slice& slice) noexcept { list_.pushBack(slice); }
  // Not when empty. Owned by the caller.
  Slice& take() noexcept { return list_.popFront(); }
  SliceList takeAll() noexcept { return std::exchange(list_, {}); }

private:
  SliceList list_;
};

}  // namespace nuncio::network::buffer_internal
