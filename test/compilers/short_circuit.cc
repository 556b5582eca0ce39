// && and || await their right side only when they need it.
#include "test/compilers/trap.h"

using namespace trap;

Future<bool> answer(int& asked, bool yes) {
  ++asked;
  return later(yes);
}

Future<void> form() {
  int asked = 0;
  const bool no = co_await answer(asked, false) && co_await answer(asked, true);
  const bool yes = co_await answer(asked, true) || co_await answer(asked, true);
  const bool both = co_await answer(asked, true) && co_await answer(asked, true);
  expect(!no && yes && both && asked == 4);
}

int main() { return runCutShort(form); }
