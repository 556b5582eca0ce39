#pragma once

#include <atomic>

namespace nuncio {

// MadeOnce: an object that is made when it is first asked for, and never destroyed, so that it may be used after main.
//
//   constinit MadeOnce<Handlers> handlers;
//   Handlers& all = handlers.get([] { return new Handlers; });
//
// Unlike a static variable of a function it has no lock, which the child of a fork would find taken by a thread that it
// does not have. Threads that ask for it at the same time may each make one; the first stays. Threads: any.
template <class T>
class MadeOnce {
public:
  // What `make` returns is owned, and deleted where another thread was first.
  template <class Make>
  T& get(Make make) {
    T* made = made_.load(std::memory_order_acquire);
    if (made == nullptr) [[unlikely]] {
      T* const mine = make();
      if (made_.compare_exchange_strong(made, mine, std::memory_order_acq_rel, std::memory_order_acquire)) {
        return *mine;
      }
      delete mine;
    }
    return *made;
  }
  T& get() {
    return get([] { return new T; });
  }

  // Null when nobody has asked for it yet.
  T* peek() const { return made_.load(std::memory_order_acquire); }

private:
  std::atomic<T*> made_{nullptr};  // released when the object is whole
};

}  // namespace nuncio
