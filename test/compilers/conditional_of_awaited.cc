// One branch of ?: awaits, and the result has a destructor. Numbers are no trap.
#include "test/compilers/trap.h"

using namespace trap;

Future<Counted> pick(bool first) { co_return first ? co_await later(Counted(1)) : Counted(2); }

Future<void> form() {
  const Counted one = co_await pick(true);
  const Counted two = co_await pick(false);
  expect(one.value() == 1 && two.value() == 2);
}

int main() { return runWholly(form); }
