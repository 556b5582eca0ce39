#pragma once

#include <cstddef>
#include <source_location>
#include <type_traits>
#include <utility>

#include "absl/status/status.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/internal/combine.h"

namespace nuncio {
namespace future_internal {

// Calls `f` and keeps it until what it returned has ended.
template <class F>
Future<void> callKept(Dispatcher& /*dispatcher*/, F f) {
  auto running = f();
  co_await std::move(running);
}

}  // namespace future_internal

struct AsyncScopeOptions {
  // The first failure asks the others to stop, and closes the scope.
  bool cancel_on_failure = false;
};

// AsyncScope: runs any number of futures in the background, so that all of them can be stopped, and waited for: Flow's
// ActorCollection, folly's AsyncScope.
//
//   AsyncScope sessions(dispatcher);
//   sessions.spawn(serve(connection)).IgnoreError();                   // a future
//   sessions.spawn([peer]() -> Future<void> { ... }).IgnoreError();    // or what makes one
//   ...
//   sessions.cancel();           // asks all of them to stop
//   co_await sessions.join();    // all have ended: what they used may be destroyed
//
// It is for one life: cancel() and join() close it, and what is spawned later is stopped at once. Where children are to
// stop one by one, keep their futures instead.
//
// The first failure is that of join(); each further one is logged, as a dropped future's, and so is the first one when
// nobody joins. A child that was asked to stop counts as no failure, whatever comes of it.
//
// Threads: the dispatcher's only; the children's futures are brought to it. Lifetime: its destructor asks the children
// that are left to stop, and does not wait; they may outlive it while another dispatcher has not answered, so that a
// child must own what it uses there. Those who wait for join() then fail with Cancelled when all have ended. A
// dispatcher that shuts down ends them all.
// Cost: a child that is pending a continuation and an allocation, both freed when it ends; spawning and ending take
// constant time, whatever the number of children. A ready one allocates nothing.
class AsyncScope {
public:
  explicit AsyncScope(Dispatcher& dispatcher, AsyncScopeOptions options = {});
  AsyncScope(const AsyncScope&) = delete;
  AsyncScope& operator=(const AsyncScope&) = delete;
  ~AsyncScope();

  // Takes `child` in. FailedPrecondition once the scope is closed, Cancelled once the dispatcher shuts down: then the
  // child has been asked to stop, and nobody waits for it. Without memory it counts as failed with ResourceExhausted,
  // though it may go on alone.
  absl::Status spawn(Future<void> child, std::source_location place = std::source_location::current());

  // Calls `f`, which takes nothing and returns a future of nothing, or what makes one (see Future::then()), and takes
  // that in. f is kept until the child has ended, so it may be a coroutine with captures. It is not called where no
  // child would be taken in.
  template <class F>
    requires std::is_invocable_v<std::decay_t<F>&>
  absl::Status spawn(F&& f, std::source_location place = std::source_location::current()) {
    using Function = std::decay_t<F>;
    static_assert(std::is_void_v<future_internal::ResultOf<std::invoke_result_t<Function&>>>, "f gives no value");
    absl::Status status = mayTake();
    if (!status.ok()) {
      return status;
    }
    if constexpr (future_internal::kFutureFrom<Function>) {
      return spawn(future_internal::callKept<Function>(*loop().dispatcher(), std::forward<F>(f)), place);
    } else {
      return spawn(future_internal::callOn(loop(), place, f), place);
    }
  }

  // Asks all children to stop, and closes the scope.
  void cancel();

  // Closes the scope. Done when all children have ended: with the first failure, if there was one. May be called again,
  // and its future be cancelled, which concerns neither the children nor the other joins.
  Future<void> join(std::source_location place = std::source_location::current());

  bool closed() const;
  // How many have not ended.
  std::size_t size() const;

private:
  class State;

  absl::Status mayTake() const;
  LoopCore& loop() const;

  State* const state_;  // shared with the children
};

}  // namespace nuncio
