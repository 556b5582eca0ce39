// ?: is in an argument of what is awaited.
#include "test/compilers/trap.h"

using namespace trap;

Future<int> use(Counted counted) {
  co_await Yield();
  co_return counted.value();
}

Future<void> form() {
  for (const bool first : {true, false}) {
    const int number = co_await use(first ? Counted(1) : Counted(2));
    expect(number == (first ? 1 : 2));
  }
}

int main() { return runWholly(form); }
