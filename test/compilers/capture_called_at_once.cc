// The lambda is the coroutine that is awaited, and is called where it stands; it lives until the end of the expression.
#include "test/compilers/trap.h"

using namespace trap;

Future<void> form() {
  const Counted counted(7);
  const int seven = co_await [counted]() -> Future<int> {
    co_await Yield();
    co_return counted.value();
  }();
  expect(seven == 7);
}

int main() { return runWholly(form); }
