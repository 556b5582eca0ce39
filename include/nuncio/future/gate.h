#pragma once

#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "nuncio/future/internal/wait_list.h"

namespace nuncio {
namespace future_internal {

struct GateAccess;

// What somebody else keeps at a gate: destroyed with it, first thing.
class GateAttachment {
public:
  virtual ~GateAttachment() = default;
};

}  // namespace future_internal

// Gate: counts the work that is under way, so that who shuts down can wait until all of it is done.
//
//   gate.with([this] { return serve(); }).detach();        // is inside until serve() is done
//   ...
//   co_await gate.close();                                 // nobody enters any more; all inside have left
//
// Where that does not come, whoIsInside() names those for whom it waits. WorkerPool::addGate() has a pool do all this.
//
// Threads: the dispatcher's only, the holders' destructors included. Lifetime: holders may outlive the gate. When it is
// destroyed, those who wait for close() fail with Cancelled. Cost: entering allocates nothing.
class Gate {
  struct State;

public:
  // Is inside until it is destroyed.
  class [[nodiscard]] Holder {
  public:
    Holder() = default;  // not inside
    Holder(Holder&& other) noexcept { takePlaceOf(other); }
    Holder& operator=(Holder&& other) noexcept {
      if (this != &other) {
        leave();
        takePlaceOf(other);
      }
      return *this;
    }
    ~Holder() { leave(); }

    // Leaves now.
    void leave() noexcept {
      if (state_ != nullptr) {
        leaveGate(*this);
      }
    }

  private:
    friend class Gate;
    Holder(State& state, const std::source_location& place) noexcept;

    // In the list of those inside, too, which keeps the order in which they entered.
    void takePlaceOf(Holder& other) noexcept {
      if (other.state_ == nullptr) {
        return;
      }
      state_ = std::exchange(other.state_, nullptr);
      place_ = other.place_;
      node_ = other.node_;
      link(*other.link_, other.next_);
    }
    // As the one before `next`, which may be null. `link`: what names that one now.
    void link(Holder*& link, Holder* next) noexcept {
      link_ = &link;
      link = this;
      next_ = next;
      if (next != nullptr) {
        next->link_ = &next_;
      }
    }

    State* state_ = nullptr;
    Holder** link_ = nullptr;  // the pointer of those inside that names this
    Holder* next_ = nullptr;   // who entered before this
    std::source_location place_;
    const future_internal::Node* node_ = nullptr;  // what leaves when its upstream is done; null: nothing knows
  };

  explicit Gate(Dispatcher& dispatcher);
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate();

  // FailedPrecondition once the gate is closed. `place`: what whoIsInside() says.
  absl::StatusOr<Holder> enter(std::source_location place = std::source_location::current());

  // Calls `f`, which takes nothing and returns what Future::then() allows, and is inside until its future is done. Once
  // the gate is closed f is not called, and the future fails with FailedPrecondition.
  template <class F>
    requires std::is_invocable_v<F&>
  auto with(F&& f, std::source_location place = std::source_location::current()) {
    using Result = future_internal::ResultOf<std::invoke_result_t<F&>>;
    if (closed()) {
      return future_internal::readyOn(loop(), Try<Result>::fromFailure(closedFailure()), place);
    }
    Holder holder = *enter(place);
    Future<Result> result = future_internal::callOn(loop(), place, f).ensure(Leave{std::move(holder)}, place);
    // What is pending is the continuation that leaves: then the holder, which it keeps, can tell what it waits for.
    if (future_internal::ResultNode<Result>* const node = future_internal::Access::node(result); node != nullptr) {
      using Op = future_internal::Ensure<Result, Leave>;
      static_cast<future_internal::Continuation<Result, Op>*>(node)->op().f.holder.node_ = node;
    }
    return result;
  }

  // Lets nobody in from now on; done when all have left. May be called again, and its future be cancelled, which does
  // not open the gate. Without memory it is closed all the same.
  Future<void> close(std::source_location place = std::source_location::current());

  bool closed() const;
  // How many are inside.
  uint64_t inside() const;

  // Those inside, in the order in which they entered: for each the place where it did, and in further lines, indented,
  // what the future waits for that with() waits for, as asyncTrace() has it. Of more than 1,000 the first, and how many
  // more there are. Costs some 100 bytes of text a line.
  std::vector<std::string> whoIsInside() const;

private:
  friend struct future_internal::GateAccess;

  struct Leave {
    void operator()() const {}  // the holder leaves right after, when this is destroyed
    Holder holder;
  };

  static void leaveGate(Holder& holder) noexcept;
  static future_internal::Failure* closedFailure() noexcept;
  LoopCore& loop() const;

  State* const state_;  // shared with those inside
  std::unique_ptr<future_internal::GateAttachment> attachment_;
};

namespace future_internal {

// For WorkerPool.
struct GateAccess {
  static LoopCore& loop(const Gate& gate) { return gate.loop(); }
  // In place of what was there. On the loop's thread.
  static void attach(Gate& gate, std::unique_ptr<GateAttachment> attachment) {
    gate.attachment_ = std::move(attachment);
  }
};

}  // namespace future_internal
}  // namespace nuncio
