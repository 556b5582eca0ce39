#pragma once

#include <array>
#include <cstddef>

// For sharded.h.
namespace nuncio::runtime_internal {

// The number of a slot, with which its pointers are reached; a copy of it does not keep the slot.
class LocalSlotNumber {
public:
  // Of the calling thread.
  void* get() const { return number_ < kFast ? fast_[number_] : getSlow(); }
  // May throw std::bad_alloc.
  void set(void* pointer) const {
    if (number_ < kFast) {
      fast_[number_] = pointer;
    } else {
      setSlow(pointer);
    }
  }

protected:
  explicit LocalSlotNumber(std::size_t number) : number_(number) {}
  std::size_t number() const { return number_; }

private:
  static constexpr std::size_t kFast = 64;
  static inline thread_local constinit std::array<void*, kFast> fast_{};

  void* getSlow() const;
  void setSlow(void* pointer) const;

  std::size_t number_;
};

// LocalSlot: a pointer for each thread, null at first. One that is destroyed leaves what was set in it: its number is
// used again, so that each thread takes back what it has set.
//
// The first ones are in an array of fixed size, which costs a thread-local read and an index; what comes after them, in
// a vector. Threads: any.
class LocalSlot : public LocalSlotNumber {
public:
  LocalSlot();
  ~LocalSlot();
  LocalSlot(const LocalSlot&) = delete;
  LocalSlot& operator=(const LocalSlot&) = delete;
};

}  // namespace nuncio::runtime_internal
