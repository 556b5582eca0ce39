// An aggregate is made in the operand of co_await, from braces.
#include "test/compilers/trap.h"

using namespace trap;

struct Options {
  int attempts = 1;
  Counted name = Counted(7);
};
Future<int> use(Options options) {
  co_await Yield();
  co_return options.attempts + options.name.value();
}

Future<void> form() {
  const int nine = co_await use({.attempts = 2});
  expect(nine == 9);
}

int main() { return runWholly(form); }
