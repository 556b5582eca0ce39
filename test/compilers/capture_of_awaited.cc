// A capture is what co_await gives.
#include "test/compilers/trap.h"

using namespace trap;

Future<void> form() {
  const auto f = [counted = co_await later(Counted(7))] { return counted.value(); };
  expect(f() == 7);
}

int main() { return runWholly(form); }
