// A closure with a capture is made in an expression that awaits something else.
#include "test/compilers/trap.h"

using namespace trap;

template <class F>
int call(F f, int argument) {
  return f(argument);
}

Future<void> form() {
  const Counted counted(7);
  const int ten = call([counted](int argument) { return counted.value() + argument; }, co_await later(3));
  expect(ten == 10);
}

int main() { return runWholly(form); }
