// A list in braces, of objects with a destructor, is an argument of what is awaited.
#include <vector>

#include "test/compilers/trap.h"

using namespace trap;

Future<int> sum(std::vector<Counted> numbers) {
  co_await Yield();
  co_return numbers[0].value() + numbers[1].value();
}

Future<void> form() {
  const int three = co_await sum({Counted(1), Counted(2)});
  expect(three == 3);
}

int main() { return runWholly(form); }
