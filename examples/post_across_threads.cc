// Posts: how threads hand each other work. A pool of workers sums up numbers, and the main thread, which alone knows
// the total, needs no lock to add up what they post.
//
//   tools/bazelw run //examples:post_across_threads

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <vector>

#include "nuncio/event/dispatcher.h"
#include "nuncio/runtime/worker_pool.h"

int main() {
  const nuncio::DispatcherPtr main_dispatcher = nuncio::createDispatcher({.name = "main"});
  const auto workers = nuncio::WorkerPool::create({.threads = 2});
  if (main_dispatcher == nullptr || !workers.ok()) {
    std::fprintf(stderr, "%s\n", workers.status().ToString().c_str());
    return 1;
  }

  constexpr uint64_t kParts = 10;
  constexpr size_t kNumbersInPart = 1000;
  uint64_t total = 0;
  uint64_t missing = kParts;

  for (uint64_t part = 0; part < kParts; ++part) {
    std::vector<uint64_t> numbers(kNumbersInPart);
    std::iota(numbers.begin(), numbers.end(), part * kNumbersInPart + 1);

    // The callback owns what it works on: callbacks are move-only, so it is moved along and never copied.
    (*workers)->next().post([&, part, numbers = std::move(numbers)] {
      const uint64_t sum = std::accumulate(numbers.begin(), numbers.end(), uint64_t{0});

      main_dispatcher->post([&, part, sum] {  // runs on the main thread
        std::printf("part %ju: %ju\n", uintmax_t{part}, uintmax_t{sum});
        total += sum;
        if (--missing == 0) {
          main_dispatcher->exit();
        }
      });
    });
  }

  main_dispatcher->run(nuncio::RunType::RunUntilExit);
  (*workers)->stop();  // nobody posts to the main dispatcher after this
  std::printf("total: %ju\n", uintmax_t{total});
  return total == 50'005'000 ? 0 : 1;
}
