// `if` and `while` await in their condition, and the outermost block of the coroutine declares no variable: what the
// co_await needs is not kept in the frame.
#include "test/compilers/trap.h"

using namespace trap;

int count = 0;

Future<void> countToThree() {
  if (co_await later(true)) {
    count = 1;
  }
  while (co_await later(count < 3)) {
    ++count;
  }
}
Future<void> form() {
  count = 0;
  co_await countToThree();
  expect(count == 3);
}

int main() { return runWholly(form); }
