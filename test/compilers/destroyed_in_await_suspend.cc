// await_suspend() destroys the coroutine that is being suspended, in its first run. Reported for g++ 15.2, which reads
// the frame afterwards (GCC's bug 121961).
#include <cstdlib>
#include <cstring>

#include "test/compilers/trap.h"

using trap::Counted;

struct Task {};
// What has been freed keeps its bytes, so that a write to it shows.
unsigned char* freed = nullptr;
std::size_t freed_size = 0;

class DestroyingAwaiter {
public:
  DestroyingAwaiter() = default;
  bool await_ready() const { return false; }
  bool await_suspend(std::coroutine_handle<> frame) const {
    frame.destroy();
    return true;
  }
  void await_resume() const { trap::mistake("resumed"); }

private:
  Counted counted_{1};
};

template <>
struct std::coroutine_traits<Task> {
  struct promise_type {
    static void* operator new(std::size_t size) { return std::malloc(size); }
    static void operator delete(void* frame, std::size_t size) {
      freed = static_cast<unsigned char*>(frame);
      freed_size = size;
      std::memset(frame, 0xdb, size);
    }
    Task get_return_object() const { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const {}
    void unhandled_exception() const { std::terminate(); }
  };
};

Task destroyed() {
  const Counted variable(2);
  co_await DestroyingAwaiter();
  trap::mistake("went on");
}

int main() {
  destroyed();
  bool written = false;
  for (std::size_t i = 0; i < freed_size; ++i) {
    written = written || freed[i] != 0xdb;
  }
  return trap::mistakes != 0 || written || trap::living != 0 ? 1 : 0;
}
