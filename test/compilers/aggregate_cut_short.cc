// The same, but the coroutine is cancelled, or what it awaits fails, when a part is there already: it is never
// destroyed.
#include "test/compilers/trap.h"

using namespace trap;

struct Two {
  Counted a;
  Counted b;
};

Future<void> form() {
  const Two two{co_await later(Counted(1)), co_await later(Counted(2))};
  expect(two.a.value() == 1 && two.b.value() == 2);
}

int main() { return runCutShort(form); }
