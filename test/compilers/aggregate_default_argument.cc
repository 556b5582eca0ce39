// An aggregate is a default argument of what is awaited: the braces are elsewhere.
#include "test/compilers/trap.h"

using namespace trap;

struct Options {
  int attempts = 1;
  Counted name = Counted(7);
};
Future<int> use(Options options = {}) {
  co_await Yield();
  co_return options.attempts + options.name.value();
}

Future<void> form() {
  const int eight = co_await use();
  expect(eight == 8);
}

int main() { return runWholly(form); }
