// The right way to say that: a constructor or a function takes the parts.
#include "test/compilers/trap.h"

using namespace trap;

class Two {
public:
  Two(Counted a, Counted b) : a_(std::move(a)), b_(std::move(b)) {}
  int sum() const { return a_.value() + b_.value(); }

private:
  Counted a_;
  Counted b_;
};

Future<void> form() {
  const Two two(co_await later(Counted(1)), co_await later(Counted(2)));
  expect(two.sum() == 3);
}

int main() { return runCutShort(form); }
