// An aggregate is initialized with what co_await gives.
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

int main() { return runWholly(form); }
