#pragma once

#include <source_location>

#include "nuncio/event/callback.h"
#include "nuncio/event/internal/loop_core.h"
#include "nuncio/future/future.h"

namespace nuncio {

// Background: work for when a dispatcher has nothing else to do.
//
//   Background background(dispatcher);
//   background.post([this] { compactOnePart(); });
//   while (compactOnePart()) co_await background.turn();
//
// It runs at the end of an iteration in which nothing is left of all else: posts, continuations, timers, scheduled
// callbacks; until something comes up, or the iteration's time is over (max_callback_time_per_iteration), so that
// descriptors are looked at between. Where all else never ends, a batch of it, of that much time, runs every 10 ms
// nonetheless. First in, first out, of all Backgrounds of a dispatcher. A loop with such work does not sleep, and
// run(Block) waits for it.
//
// Threads: post() from any, turn() on the dispatcher's. Lifetime: may outlive the dispatcher; what was posted stays with
// that, and is destroyed without running when it shuts down. Cost: an allocation each; nothing where there is none.
class Background {
public:
  explicit Background(Dispatcher& dispatcher) : loop_(dispatcher) {}

  // Runs `cb` on the dispatcher's thread, and destroys it right after. False when the dispatcher is shut down, or
  // without memory: `cb` is then destroyed here. A null one breaks the contract: fatal in debug, refused in release.
  bool post(PostCb cb);

  // Done when it is the turn of what is posted now; what comes then is no background work, until the next turn. Fails
  // with ResourceExhausted without memory, and as a promise's future does when the dispatcher shuts down.
  Future<void> turn(std::source_location place = std::source_location::current());

private:
  const LoopRef loop_;
};

}  // namespace nuncio
