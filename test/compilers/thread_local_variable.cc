// The coroutine goes on on another thread, as after resumeOn(): a thread_local variable is that thread's from then on.
#include <thread>

#include "test/compilers/trap.h"

using namespace trap;

thread_local int number = 0;

Future<void> form() {
  number = 1;
  co_await Yield();
  trap::expect(number == 2);
}

int main() {
  run = Run::Waiting;
  const Future<void> future = form();
  std::thread([] {
    number = 2;
    queue[0].resume();
  }).join();
  return mistakes == 0 && number == 1 ? 0 : 1;
}
