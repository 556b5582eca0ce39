// The range of a `for` is what co_await gives, and the body waits.
#include <vector>

#include "test/compilers/trap.h"

using namespace trap;

Future<std::vector<Counted>> numbers() {
  std::vector<Counted> vector;
  vector.emplace_back(1);
  vector.emplace_back(2);
  co_await Yield();
  co_return std::move(vector);
}

Future<void> form() {
  int sum = 0;
  for (const Counted& number : co_await numbers()) {
    const int value = co_await later(number.value());
    sum += value;
  }
  expect(sum == 3);
}

int main() { return runCutShort(form); }
