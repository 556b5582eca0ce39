// A container's list of initial elements is what co_await gives.
#include <vector>

#include "test/compilers/trap.h"

using namespace trap;

Future<void> form() {
  const std::vector<Counted> two{co_await later(Counted(1)), co_await later(Counted(2))};
  expect(two[0].value() == 1 && two[1].value() == 2);
}

int main() { return runWholly(form); }
