// The exception is made of what co_await gives.
#include "test/compilers/trap.h"

using namespace trap;

Future<void> form() {
  int seven = 0;
  try {
    throw Counted(co_await later(7));
  } catch (const Counted& counted) {
    seven = counted.value();
  }
  expect(seven == 7);
}

int main() { return runWholly(form); }
