// A structured binding to a pair is alive while the coroutine waits, in a loop. Reported for g++ 15 and 16, where the
// pair would never be destroyed (GCC's bug 124584).
#include "test/compilers/trap.h"

using namespace trap;

Future<std::pair<Counted, Counted>> two() {
  std::pair<Counted, Counted> pair(1, 2);
  co_await Yield();
  co_return std::move(pair);
}

Future<void> form() {
  for (int i = 0; i < 2; ++i) {
    auto [a, b] = co_await two();
    co_await later(1);
    expect(a.value() == 1 && b.value() == 2);
  }
}

int main() { return runCutShort(form); }
