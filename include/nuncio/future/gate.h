#pragma once

#include <cstdint>
#include <source_location>
#include <type_traits>
#include <utility>

#include "absl/status/statusor.h"

#include "nuncio/future/internal/wait_list.h"

namespace nuncio {

// Gate: counts the work that is under way, so that who shuts down can wait until all of it is done.
//
//   gate.with([this] { return serve(); }).detach();        // is inside until serve() is done
//   ...
//   co_await gate.close();                                 // nobody enters any more; all inside have left
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
    Holder(Holder&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    Holder& operator=(Holder&& other) noexcept {
      if (this != &other) {
        leave();
        state_ = std::exchange(other.state_, nullptr);
      }
      return *this;
    }
    ~Holder() { leave(); }

    // Leaves now.
    void leave() noexcept {
      if (state_ != nullptr) {
        leaveGate(*std::exchange(state_, nullptr));
      }
    }

  private:
    friend class Gate;
    explicit Holder(State& state) : state_(&state) {}

    State* state_ = nullptr;
  };

  explicit Gate(Dispatcher& dispatcher);
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  ~Gate();

  // FailedPrecondition once the gate is closed.
  absl::StatusOr<Holder> enter();

  // Calls `f`, which takes nothing and returns what Future::then() allows, and is inside until its future is done. Once
  // the gate is closed f is not called, and the future fails with FailedPrecondition.
  template <class F>
  auto with(F&& f, std::source_location place = std::source_location::current()) {
    using Result = future_internal::ResultOf<std::invoke_result_t<F&>>;
    if (closed()) {
      return future_internal::readyOn(loop(), Try<Result>::fromFailure(closedFailure()), place);
    }
    Holder holder = *enter();
    return future_internal::callOn(loop(), place, f).ensure([holder = std::move(holder)] {}, place);
  }

  // Lets nobody in from now on; done when all have left. May be called again, and its future be cancelled, which does
  // not open the gate.
  Future<void> close(std::source_location place = std::source_location::current());

  bool closed() const;
  // How many are inside.
  uint64_t inside() const;

private:
  static void leaveGate(State& state) noexcept;
  static future_internal::Failure* closedFailure() noexcept;
  LoopCore& loop() const;

  State* const state_;  // shared with those inside
};

}  // namespace nuncio
