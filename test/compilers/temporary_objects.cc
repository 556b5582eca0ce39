// Temporary objects live until the end of the expression that awaits, and no longer: arguments by value and by
// reference, and the object whose member function is called.
#include <memory>

#include "test/compilers/trap.h"

using namespace trap;

class Adder {
public:
  explicit Adder(int number) : number_(number) {}
  Future<int> add(Counted a, const Counted& b) const {
    co_await Yield();
    co_return number_.value() + a.value() + b.value();
  }

private:
  Counted number_;
};

Future<void> form() {
  const int six = co_await std::make_unique<Adder>(1)->add(co_await later(Counted(2)), Counted(3));
  expect(six == 6 && living == 0);
}

int main() { return runCutShort(form); }
