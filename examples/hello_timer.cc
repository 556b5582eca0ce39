// Timers: one that fires once, one that arms itself anew, one that is pushed back until nothing happens any more.
//
//   tools/bazelw run //examples:hello_timer

#include <chrono>
#include <cstdio>

#include "nuncio/event/dispatcher.h"

using std::chrono::milliseconds;

int main() {
  const nuncio::DispatcherPtr dispatcher = nuncio::createDispatcher({.name = "hello"});
  if (dispatcher == nullptr) {
    return 1;  // the log says why
  }

  const nuncio::TimerPtr hello = dispatcher->createTimer([] { std::puts("hello, once"); });
  hello->enableTimer(milliseconds(10));

  // A timer fires once. What is to go on arms it again, counted from now: a late tick delays the next ones
  // (PeriodicTimer keeps to a grid).
  int ticks = 0;
  nuncio::TimerPtr ticker;
  // An idle timeout is a timer that each event pushes back, which costs next to nothing.
  const nuncio::TimerPtr idle = dispatcher->createTimer([] { std::puts("idle for 50 ms, good bye"); });
  ticker = dispatcher->createTimer([&] {
    std::printf("tick %d\n", ++ticks);
    idle->enableTimer(milliseconds(50));
    if (ticks < 3) {
      ticker->enableTimer(milliseconds(20));
    }
  });
  ticker->enableTimer(milliseconds(20));

  // Block returns when nothing is armed any more that could call back.
  dispatcher->run(nuncio::RunType::Block);
  return 0;
}
