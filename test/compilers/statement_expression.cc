// A statement expression, as macros like ASSIGN_OR_RETURN use it, awaits and returns.
#include "test/compilers/trap.h"

using namespace trap;

Future<int> unwrap() {
  const Counted two = ({
    Counted counted = co_await later(Counted(2));
    if (counted.value() < 0) {
      co_return -1;
    }
    std::move(counted);
  });
  co_return two.value();
}
Future<void> form() {
  const int two = co_await unwrap();
  expect(two == 2);
}

int main() { return runWholly(form); }
