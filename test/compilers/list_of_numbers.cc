// A list in braces, of numbers, is an argument of what is awaited.
#include <vector>

#include "test/compilers/trap.h"

using namespace trap;

Future<int> sum(std::vector<int> numbers) {
  co_await Yield();
  co_return numbers[0] + numbers[1];
}

Future<void> form() {
  const int three = co_await sum({1, 2});
  expect(three == 3);
}

int main() { return runWholly(form); }
