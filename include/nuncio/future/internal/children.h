#pragma once

#include <cstddef>
#include <source_location>
#include <utility>

#include "nuncio/common/linked_list.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/wait_list.h"

// Futures that an AsyncScope or a Race has running, and may ask to stop.
namespace nuncio::future_internal {

class Children;

// One of them. A derived class has ended(Try<T>* result), called once, with what came of it, or with null when it was
// cancelled; and calls Children::remove() there. On the loop's thread.
class Child : public ListLink {
public:
  // Has been asked to stop: whatever comes of it is not wanted any more.
  bool asked() const { return asked_; }
  // Nothing waits for it yet.
  bool starting() const { return ended_ != nullptr; }

protected:
  ~Child() = default;

private:
  friend class Children;

  Future<void> end_;       // what waits for its end, and is cancelled to stop it; none once it was
  bool* ended_ = nullptr;  // while it is starting: to be told
  bool asked_ = false;
};

// The continuation of a child: tells it how it ended, or, when it is destroyed instead of called, that it was
// cancelled.
template <class T, class C>
class EndOfChild {
public:
  explicit EndOfChild(C& child) : child_(&child) {}
  EndOfChild(EndOfChild&& other) noexcept : child_(std::exchange(other.child_, nullptr)) {}
  EndOfChild& operator=(EndOfChild&&) = delete;
  ~EndOfChild() {
    if (child_ != nullptr && !child_->starting()) {
      child_->ended(nullptr);
    }
  }
  void operator()(Try<T>&& result) { std::exchange(child_, nullptr)->ended(&result); }

private:
  C* child_;
};

// What the owner shares with its children. On the heap; goes when the owner is gone and all children have ended, as
// they are asked to when the owner goes. On the loop's thread.
class Children {
public:
  explicit Children(Dispatcher& dispatcher) : loop_(dispatcher) {}
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;
  virtual ~Children() = default;

  LoopCore& loop() const { return *loop_; }
  // How many have not ended.
  std::size_t running() const { return running_; }

  // Waits for `future` as `child`. Where it cannot, for lack of memory, or since there is no future, or no loop any
  // more, that is what comes of the child.
  template <class T, class C>
  void start(Future<T>&& future, C& child, const std::source_location& place) {
    const Busy busy(*this);
    bool ended = false;
    addStarting(child, ended);
    Future<void> end = Access::viaLoop(std::move(future), *loop_).then(EndOfChild<T, C>(child), place);
    if (ended) {
      return;  // in place
    }
    if (end.isReady()) {  // its function was not taken
      Try<T> failure = Try<T>::failureOf(std::move(end).get());
      child.ended(&failure);
    } else {
      list(child, std::move(end));
    }
  }

  // Asks all to stop. Runs functions of users, which may do anything.
  void cancelAll() noexcept;

  // The last thing that the owner does.
  void removeOwner() noexcept;

protected:
  // Keeps this while functions of users may run.
  class Busy {
  public:
    explicit Busy(Children& children) : children_(children) { ++children_.busy_; }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;
    ~Busy() {
      --children_.busy_;
      children_.freeIfUnused();
    }

  private:
    Children& children_;
  };

  bool owned() const { return owned_; }
  // `child`, which has ended, is not waited for any more.
  void remove(Child& child) noexcept;
  // It has been dealt with. While this is busy.
  void removed() noexcept {
    if (--running_ == 0) {
      allEnded();
    }
  }
  // None is running any more.
  virtual void allEnded() noexcept = 0;

private:
  void addStarting(Child& child, bool& ended) noexcept;
  void list(Child& child, Future<void>&& end) noexcept;
  void freeIfUnused() noexcept;

  const LoopRef loop_;
  std::size_t running_ = 0;
  std::size_t busy_ = 0;
  bool owned_ = true;
  bool cancelling_ = false;
  LinkedList<Child> listed_;  // those that have not been asked to stop
};

}  // namespace nuncio::future_internal
