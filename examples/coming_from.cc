// What other libraries mean by their words, in ours: the code of docs/coming_from.md.
//
//   tools/bazelw run //examples:coming_from

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/loops.h"
#include "nuncio/future/time.h"

using nuncio::Dispatcher;
using nuncio::Future;
using nuncio::RunType;
using nuncio::Try;
using std::chrono::milliseconds;

// [envoy file event]
// Envoy: createFileEvent() never fails; it ends the process when there is no descriptor.
absl::Status watch(Dispatcher& dispatcher, int fd, nuncio::FileEventPtr& watched) {
  absl::StatusOr<nuncio::FileEventPtr> event = dispatcher.createFileEvent(
      fd, [](uint32_t /*events*/) {}, nuncio::FileTriggerType::Edge, nuncio::FileReadyType::Read);
  if (!event.ok()) {
    return event.status();  // says which descriptor, and why
  }
  watched = *std::move(event);
  return absl::OkStatus();
}
// [envoy file event]

// [envoy non block]
// Envoy: run(NonBlock) iterates until nothing is ready. Here it is one iteration; say how long to go on.
void runUntil(Dispatcher& dispatcher, const bool& done) {
  while (!done) {
    dispatcher.run(RunType::NonBlock);
  }
}
// [envoy non block]

// [first value]
// libprocess: select(). folly: collectAnyWithoutException(). The first value; failures before it are passed over.
template <class T>
Future<T> firstValue(std::vector<Future<T>> futures) {
  return nuncio::collectN(std::move(futures), 1).then([](std::vector<std::pair<std::size_t, T>> first) {
    return std::move(first.front().second);
  });
}
// [first value]

// [first results]
// folly: collectN(), which counts failures too. A Try that a function returns is unwrapped; in a struct it is a value.
template <class T>
struct Result {
  Try<T> result;
};

template <class T>
Future<std::vector<std::pair<std::size_t, Result<T>>>> firstResults(std::vector<Future<T>> futures, std::size_t n) {
  std::vector<Future<Result<T>>> results;
  results.reserve(futures.size());
  for (Future<T>& future : futures) {
    results.push_back(std::move(future).then([](Try<T> result) { return Result<T>{std::move(result)}; }));
  }
  return nuncio::collectN(std::move(results), n);
}
// [first results]

// [join]
// KJ: joinPromises(). Seastar: when_all_succeed(). Waits for all, also when one has failed; then all values, or the
// failure that stands first.
template <class T>
Future<std::vector<T>> join(std::vector<Future<T>> futures) {
  return nuncio::collectAll(std::move(futures)).then([](std::vector<Try<T>> results) {
    std::vector<T> values;
    values.reserve(results.size());
    for (Try<T>& result : results) {
      values.push_back(std::move(result).value());  // throws a failure, which becomes the future's
    }
    return values;
  });
}
// [join]

// [parallel for each]
// Seastar: max_concurrent_for_each(); with SIZE_MAX for `concurrency`, parallel_for_each(). `f` gives a Future<void>.
// Takes all elements, whatever fails; then fails as the first that failed, an exception as Unknown.
template <class Range, class F>
Future<void> parallelForEach(Dispatcher& dispatcher, Range range, std::size_t concurrency, F f) {
  auto first = std::make_shared<absl::Status>();
  return nuncio::forEach(dispatcher, std::move(range), concurrency,
                         [f = std::move(f), first](auto& element) mutable {
                           return f(element).thenError([first](const absl::Status& status) { first->Update(status); });
                         })
      .then([first] { return *first; });
}
// [parallel for each]

// [do until]
// Seastar: do_until(stop, step). folly: whileDo(goOn, step). Asks before each step, the first one too.
template <class P, class F>
Future<void> stepUntil(Dispatcher& dispatcher, P stop, F step) {
  return nuncio::repeat(dispatcher, [stop = std::move(stop), step = std::move(step)]() mutable {
    return stop() ? nuncio::makeReadyFuture(false) : step().then([] { return true; });
  });
}
// [do until]

// [after]
// libprocess: future.after(duration, f), with an f that discards the future and gives another value.
Future<int> orElse(Future<int> future, milliseconds limit, int otherwise) {
  return nuncio::within(std::move(future), limit)
      .thenError([otherwise](const absl::Status& status) -> absl::StatusOr<int> {
        if (absl::IsDeadlineExceeded(status)) {
          return otherwise;
        }
        return status;
      });
}
// [after]

Future<int> later(Dispatcher& dispatcher, milliseconds delay, absl::StatusOr<int> result) {
  return nuncio::sleepFor(dispatcher, delay).then([result = std::move(result)] { return result; });
}

// A failure after 1 ms, values after 2 and 3 ms.
std::vector<Future<int>> inputs(Dispatcher& dispatcher) {
  std::vector<Future<int>> futures;
  futures.push_back(later(dispatcher, milliseconds(3), 30));
  futures.push_back(later(dispatcher, milliseconds(1), absl::NotFoundError("no such replica")));
  futures.push_back(later(dispatcher, milliseconds(2), 20));
  return futures;
}

std::string describe(const Try<int>& result) {
  return result.hasValue() ? std::to_string(*result) : std::string(result.status().message());
}

Future<void> tour(Dispatcher& dispatcher) {
  Future<int> first_value = firstValue(inputs(dispatcher));
  const int value = co_await std::move(first_value);
  std::printf("first value: %d\n", value);

  auto first_results = firstResults(inputs(dispatcher), 2);
  const std::vector<std::pair<std::size_t, Result<int>>> results = co_await std::move(first_results);
  for (const auto& [index, result] : results) {
    std::printf("result of %zu: %s\n", index, describe(result.result).c_str());
  }

  const auto start = dispatcher.timeSource().monotonicTime();
  Future<std::vector<int>> joined = join(inputs(dispatcher));
  auto tried = nuncio::asTry(std::move(joined));
  const Try<std::vector<int>> all = co_await std::move(tried);
  const bool waited = dispatcher.timeSource().monotonicTime() - start >= milliseconds(3);
  std::printf("joined: %s; all were waited for: %s\n", std::string(all.status().message()).c_str(),
              waited ? "yes" : "no");

  std::vector<int> elements = {1, 2, 3};
  int visited = 0;
  Future<void> each =
      parallelForEach(dispatcher, std::move(elements), 2, [&dispatcher, &visited](int element) -> Future<void> {
        ++visited;
        return nuncio::sleepFor(dispatcher, milliseconds(1)).then([element] {
          return element == 1 ? absl::DataLossError("1 is broken") : absl::OkStatus();
        });
      });
  auto tried_each = nuncio::asTry(std::move(each));
  const Try<void> outcome = co_await std::move(tried_each);
  std::printf("for each: %d visited, %s\n", visited, std::string(outcome.status().message()).c_str());

  int left = 0;
  Future<void> steps = stepUntil(
      dispatcher, [&left] { return left == 0; },
      [&left] {
        --left;
        return nuncio::makeReadyFuture();
      });
  co_await std::move(steps);
  std::printf("no step was taken: %s\n", left == 0 ? "yes" : "no");

  Future<int> slow = later(dispatcher, std::chrono::hours(1), 1);
  Future<int> in_time = orElse(std::move(slow), milliseconds(1), 42);
  const int otherwise = co_await std::move(in_time);
  std::printf("or else: %d\n", otherwise);
}

int main() {
  const nuncio::DispatcherPtr dispatcher = nuncio::createDispatcher({.name = "main"});
  if (dispatcher == nullptr) {
    return 1;
  }
  nuncio::FileEventPtr event;
  std::printf("%s\n", watch(*dispatcher, -1, event).ToString().c_str());

  bool done = false;
  tour(*dispatcher)
      .thenError([](const absl::Status& status) { std::printf("the tour ends: %s\n", status.ToString().c_str()); })
      .ensure([&done] { done = true; })
      .detach();
  runUntil(*dispatcher, done);
  return 0;
}
