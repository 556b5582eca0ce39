// A closure with a capture is made in the operand of co_await: g++ destroys the capture twice. The parameter's form is
// of no importance: by value, by reference, type-erased or a template.
#include "test/compilers/trap.h"

using namespace trap;

Future<void> form() {
  const Counted counted(7);
  const int seven = co_await callLater([counted] { return counted.value(); });
  expect(seven == 7);
}

int main() { return runWholly(form); }
