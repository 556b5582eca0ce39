#pragma once

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

// For the headers beside this one.
namespace nuncio::future_internal {

// A queue in a ring of memory that grows by doubling, and is kept: in steady state it allocates nothing.
template <class T>
class Fifo {
public:
  Fifo() = default;
  Fifo(Fifo&& other) noexcept
      : items_(std::exchange(other.items_, nullptr)),
        capacity_(std::exchange(other.capacity_, 0)),
        first_(std::exchange(other.first_, 0)),
        size_(std::exchange(other.size_, 0)) {}
  Fifo& operator=(Fifo&&) = delete;
  ~Fifo() {
    while (!empty()) {
      static_cast<void>(pop());  // T may be [[nodiscard]]
    }
    release();
  }

  bool empty() const { return size_ == 0; }
  std::size_t size() const { return size_; }

  // False, and `item` untouched, without memory.
  bool push(T&& item) noexcept {
    if (size_ == capacity_ && !grow()) {
      return false;
    }
    ::new (static_cast<void*>(items_ + index(size_))) T(std::move(item));
    ++size_;
    return true;
  }
  // Not when empty.
  T pop() noexcept {
    T& front = items_[first_];
    T item(std::move(front));
    first_ = index(1);
    --size_;
    front.~T();
    return item;
  }

private:
  static_assert(std::is_nothrow_move_constructible_v<T>, "an item must move without throwing");
  static constexpr std::align_val_t kAlignment{alignof(T)};
  static constexpr std::size_t kFirstCapacity = 8;  // a power of 2

  std::size_t index(std::size_t offset) const { return (first_ + offset) & (capacity_ - 1); }

  bool grow() noexcept {
    const std::size_t capacity = capacity_ == 0 ? kFirstCapacity : 2 * capacity_;
    T* const items = static_cast<T*>(::operator new(capacity * sizeof(T), kAlignment, std::nothrow));
    if (items == nullptr) {
      return false;
    }
    for (std::size_t i = 0; i < size_; ++i) {
      T& item = items_[index(i)];
      ::new (static_cast<void*>(items + i)) T(std::move(item));
      item.~T();
    }
    release();
    items_ = items;
    capacity_ = capacity;
    first_ = 0;
    return true;
  }
  void release() { ::operator delete(items_, kAlignment); }

  T* items_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t first_ = 0;
  std::size_t size_ = 0;
};

}  // namespace nuncio::future_internal
