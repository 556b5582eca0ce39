// A variable whose alignment is more than what operator new gives: the frame is not aligned for it.
#include <cstdint>

#include "test/compilers/trap.h"

using namespace trap;

struct alignas(256) Line {
  char bytes[256];
};

Future<void> form() {
  Line line;
  Line* volatile address = &line;
  co_await later(1);
  expect(reinterpret_cast<std::uintptr_t>(address) % 256 == 0);
}

int main() {
  // One frame of them could be aligned by chance.
  int result = 0;
  for (int i = 0; i < 8; ++i) {
    result |= runWholly(form);
    static_cast<void>(new char[48]);
  }
  return result;
}
