#pragma once

#include <source_location>

#include "nuncio/event/callback.h"
#include "nuncio/event/internal/loop_core.h"
#include "nuncio/future/future.h"

namespace nuncio {

// Background: work for when a dispatcher has nothing else to do.
//
//   Background background(dispatcher);
//   background.post(lifetime_guard_.wrap([this] { compactOnePart(); }));
//   while (compactOnePart()) co_await background.whenIdle();
//
// It runs at the end of an iteration in which nothing is left of all else: posts, continuations, timers, scheduled
// callbacks; until something comes up, or the iteration's time is over (max_callback_time_per_iteration), so that
// descriptors are looked at between. Where all else never ends, a batch of it, of that much time, runs every 10 ms
// nonetheless. First in, first out, of all Backgrounds of a dispatcher. A loop with such work does not sleep, and
// run(Block) waits for it.
//
// What it captures has to last: work for an object that may go first holds a Gate of that object, or is wrapped by its
// LifetimeGuard. WorkerPool::drain() waits for what holds a registered gate, and destroys the rest with the dispatcher.
//
// Threads: post() from any, whenIdle() on the dispatcher's. Lifetime: may outlive the dispatcher; what was posted stays
// with that, and is destroyed without running when it shuts down. Cost: an allocation each; nothing where there is
// none.
class Background {
public:
  explicit Background(Dispatcher& dispatcher) : loop_(dispatcher) {}

  // Runs `cb` on the dispatcher's thread, and destroys it right after. False when the dispatcher is shut down, or
  // without memory: `cb` is then destroyed here. A null one breaks the contract: fatal in debug, refused in release.
  bool post(PostCb cb);

  // Done when what post() takes now would run. What continues then is no background work, until it waits again. Fails
  // with ResourceExhausted without memory, and as a promise's future does when the dispatcher shuts down.
  Future<void> whenIdle(std::source_location place = std::source_location::current());

private:
  const LoopRef loop_;
};

}  // namespace nuncio
