// The same with `switch`, on a member of what co_await gives.
#include "test/compilers/trap.h"

using namespace trap;

struct Point {
  int x;
};
int chosen = 0;

Future<void> choose() {
  switch ((co_await later(Point{2})).x) {
    case 2:
      chosen = 2;
      break;
    default:
      chosen = -1;
  }
}
Future<void> form() {
  chosen = 0;
  co_await choose();
  expect(chosen == 2);
}

int main() { return runWholly(form); }
