#pragma once

#include <cstddef>
#include <source_location>
#include <type_traits>
#include <utility>

#include "nuncio/event/task_queue.h"
#include "nuncio/future/future.h"

// The lines in which futures wait at a semaphore, a queue and their like; for the headers beside this one.
namespace nuncio::future_internal {

// A loop, kept.
class LoopRef {
public:
  explicit LoopRef(Dispatcher& dispatcher) : LoopRef(taskQueueOf(dispatcher)) {}
  explicit LoopRef(TaskQueue& loop) : loop_(loop) { loop_.retain(); }
  LoopRef(const LoopRef&) = delete;
  LoopRef& operator=(const LoopRef&) = delete;
  ~LoopRef() { loop_.release(); }

  TaskQueue& operator*() const { return loop_; }
  TaskQueue* operator->() const { return &loop_; }

private:
  TaskQueue& loop_;
};

// In a debug build: aborts with the name of `operation` when another thread than the loop's may be at work here.
void checkThreadSlow(const TaskQueue& loop, const char* operation);
inline void checkThread(const TaskQueue& loop, const char* operation) {
  if (!loop.onLoopThread()) [[unlikely]] {
    checkThreadSlow(loop, operation);
  }
}

// Cancelled: the `name` was destroyed.
Failure* destroyedFailure(const char* name) noexcept;

// A ready future of `loop`.
template <class T>
Future<T> readyOn(TaskQueue& loop, Try<T>&& result, const std::source_location& place) {
  return Access::viaLoop(Future<T>(std::move(result), place), loop);
}

// Calls `f` now, on the thread of `loop`; what it returns or throws, as a future of `loop`.
template <class F>
auto callOn(TaskQueue& loop, F& f, const std::source_location& place) -> Future<ResultOf<std::invoke_result_t<F&>>> {
  using U = ResultOf<std::invoke_result_t<F&>>;
  if constexpr (kFutureFrom<F>) {
    loop.retain();
    InPlaceOut<U> out(&loop, place);
    callForFuture<U>(out, f);
    return std::move(out).take();
  } else {
    return readyOn<U>(loop, callInto<U>(f), place);
  }
}

template <class T, class Payload>
class WaitList;

// A future in a line, with what it waits for, or what it brings: `payload`. Cancelling it takes it out of the line.
template <class T, class Payload>
class WaitNode final : public ResultNode<T>, public PendingOperation {
public:
  WaitNode(WaitList<T, Payload>& list, Payload&& brought) : payload(std::move(brought)), list_(&list) {}

  void runTask() noexcept override {}
  void cancelHere() noexcept override { leaveLine(); }
  const char* kind() const noexcept override { return name_; }

  // Takes it out of the line, and completes it.
  void finish(Try<T>&& result) noexcept {
    list_->remove(*this);
    this->result_ = std::move(result);
    complete(*this);
  }

  [[no_unique_address]] Payload payload;

private:
  friend class WaitList<T, Payload>;

  void destroy() noexcept override { this->~WaitNode(); }
  void abandonOperation() noexcept override { leaveLine(); }

  void leaveLine() noexcept {
    if (list_ == nullptr) {
      return;
    }
    WaitList<T, Payload>& list = *list_;
    list.remove(*this);
    this->set(kNoResult);
    list.left_(list.owner_);  // last for the list: completing may run destructors, which may destroy it
    complete(*this);
  }

  WaitList<T, Payload>* list_;  // null when it has left
  const char* name_ = nullptr;
  WaitNode* previous_ = nullptr;
  WaitNode* next_ = nullptr;
};

// A line of futures, first in, first out, linked: joining allocates the future's node, and nothing else does. Those
// that wait when it is destroyed fail. On the loop's thread.
template <class T, class Payload = Unit>
class WaitList {
public:
  using Waiter = WaitNode<T, Payload>;

  // `name`: of the primitive, for messages, constant. `left(owner)`: called after a waiter was cancelled: it may be
  // the turn of those behind it.
  WaitList(TaskQueue& loop, const char* name, void* owner, void (*left)(void* owner))
      : loop_(loop), name_(name), owner_(owner), left_(left) {}
  WaitList(TaskQueue& loop, const char* name) : WaitList(loop, name, nullptr, [](void*) {}) {}
  WaitList(const WaitList&) = delete;
  WaitList& operator=(const WaitList&) = delete;
  ~WaitList() {
    while (!empty()) {
      failAll(Try<void>::fromFailure(destroyedFailure(name_)));
    }
  }

  bool empty() const { return first_ == nullptr; }
  std::size_t size() const { return size_; }
  const char* name() const { return name_; }
  // Not when empty.
  Waiter& front() const { return *first_; }

  // A future at the end of the line.
  Future<T> wait(Payload&& payload, const std::source_location& place) {
    if (loop_.closing()) {
      return Future<T>(failed<T>(Reason::LoopGone), place);
    }
    Waiter* const waiter = makeNode<Waiter>(nullptr, &loop_, place, *this, std::move(payload));
    if (waiter == nullptr) {
      return Future<T>(failed<T>(Reason::NoMemory), place);
    }
    waiter->name_ = name_;
    waiter->previous_ = last_;
    (last_ != nullptr ? last_->next_ : first_) = waiter;
    last_ = waiter;
    ++size_;
    loop_.addPending(*waiter);
    return Access::future<T>(waiter);
  }

  // Completes all that wait now with an empty value.
  void finishAll() {
    for (std::size_t left = size_; left > 0 && !empty(); --left) {
      front().finish(Try<T>(Stored<T>()));
    }
  }
  // The same with a failure.
  void failAll(const Try<void>& failure) {
    for (std::size_t left = size_; left > 0 && !empty(); --left) {
      front().finish(Try<T>::failureOf(Try<void>(failure)));
    }
  }

private:
  friend Waiter;

  void remove(Waiter& waiter) noexcept {
    waiter.unlist();
    waiter.list_ = nullptr;
    (waiter.previous_ != nullptr ? waiter.previous_->next_ : first_) = waiter.next_;
    (waiter.next_ != nullptr ? waiter.next_->previous_ : last_) = waiter.previous_;
    --size_;
  }

  TaskQueue& loop_;  // kept by the primitive
  const char* const name_;
  void* const owner_;
  void (*const left_)(void* owner);
  Waiter* first_ = nullptr;
  Waiter* last_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace nuncio::future_internal
