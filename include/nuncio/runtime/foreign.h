#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/internal/loop_core.h"

namespace nuncio {

// Foreign: owns an object of another dispatcher, and destroys it there.
//
//   Foreign<Connection> connection = co_await call(worker, [&worker] {
//     return Foreign<Connection>(std::make_unique<Connection>(), worker);
//   });
//   call(worker, [c = connection.get()] { c->close(); });  // used there
//   // here, or on any thread, `connection` goes: the object is destroyed on the worker
//
// Where the home has been shut down, the object is destroyed on the thread that gives it up, or on the one that has to
// do with what is left of the home at the moment.
//
// Threads: made, and the object used, on the home's; moved and destroyed on any. Cost: one allocation when it is made,
// none when it goes: an object is never lost, nor destroyed on a wrong thread, for want of memory.
template <class T>
class Foreign {
public:
  // No object.
  Foreign() = default;
  Foreign(std::nullptr_t) {}  // NOLINT(google-explicit-constructor): as std::unique_ptr's
  // Takes `object`, which is of `home`; none where it is null. Throws std::bad_alloc, and has destroyed it.
  Foreign(std::unique_ptr<T> object, Dispatcher& home) : held_(object != nullptr ? new Held(home.loop()) : nullptr) {
    if (held_ != nullptr) {
      held_->object = std::move(object);
    }
  }
  Foreign(Foreign&& other) noexcept : held_(std::exchange(other.held_, nullptr)) {}
  Foreign& operator=(Foreign&& other) noexcept {
    if (this != &other) {
      reset();
      held_ = std::exchange(other.held_, nullptr);
    }
    return *this;
  }
  ~Foreign() { reset(); }

  // Gives the object up: destroyed now on the home's thread; from any other one, as soon as the home gets to it.
  void reset() noexcept {
    if (Held* const held = std::exchange(held_, nullptr); held != nullptr) {
      if (held->loop->onLoopThread()) {
        delete held;
      } else {
        held->loop->deliver(*held);
      }
    }
  }

  T* get() const { return held_ != nullptr ? held_->object.get() : nullptr; }
  T& operator*() const { return *get(); }
  T* operator->() const { return get(); }
  explicit operator bool() const { return held_ != nullptr; }

private:
  // Is the task by which it goes home.
  struct Held final : Task {
    explicit Held(LoopCore& home) : loop(home) {}
    ~Held() = default;
    void runTask() override { delete this; }
    void refuseTask() noexcept override { delete this; }

    const LoopRef loop;  // last to go
    std::unique_ptr<T> object;
  };

  Held* held_ = nullptr;
};

}  // namespace nuncio
