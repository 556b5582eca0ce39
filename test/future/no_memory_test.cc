// What becomes of futures when there is no memory: of each operation in the table, its first allocation fails, then its
// second, and so on, until it needs no more of them. Whatever fails, it comes to an end, as its value or as
// ResourceExhausted; nothing leaks, and all goes on.
//
// A new operation is a new line in one of the tables below.

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <ostream>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/after.h"
#include "nuncio/future/any_of.h"
#include "nuncio/future/async_mutex.h"
#include "nuncio/future/async_scope.h"
#include "nuncio/future/async_var.h"
#include "nuncio/future/background.h"
#include "nuncio/future/cancellation.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/dropped_failure.h"
#include "nuncio/future/future.h"
#include "nuncio/future/gate.h"
#include "nuncio/future/hold_while.h"
#include "nuncio/future/latch.h"
#include "nuncio/future/loops.h"
#include "nuncio/future/queue.h"
#include "nuncio/future/race.h"
#include "nuncio/future/rate_limiter.h"
#include "nuncio/future/read_write_lock.h"
#include "nuncio/future/retry.h"
#include "nuncio/future/semaphore.h"
#include "nuncio/future/sequence.h"
#include "nuncio/future/shared_future.h"
#include "nuncio/future/status_error.h"
#include "nuncio/future/stream.h"
#include "nuncio/future/submit.h"
#include "nuncio/future/time.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/count_allocations.h"
#include "test/test_support/sanitizers.h"

#ifndef NUNCIO_TEST_SANITIZER  // which brings its own malloc

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using future_internal::AsTry;

std::atomic<int> living{0};

// Counts the captures, parameters and variables that live.
class Probe {
public:
  Probe() { ++living; }
  Probe(Probe&& /*other*/) noexcept { ++living; }
  Probe& operator=(Probe&&) = delete;
  ~Probe() { --living; }
};
// One that is too large for a continuation or a post.
struct LargeProbe {
  Probe probe;
  std::array<std::byte, 2000> bytes{};
};
// One whose move allocates, and so may throw, as that of a const std::string does.
struct ThrowingProbe {
  static ThrowingProbe make() {
    const FailuresPaused paused;
    return ThrowingProbe();
  }
  ThrowingProbe(ThrowingProbe&& other) : text(other.text) {}  // NOLINT(performance-*)
  ThrowingProbe& operator=(ThrowingProbe&&) = delete;
  ~ThrowingProbe() = default;
  Probe probe;
  const std::string text = std::string(100, 'x');

private:
  ThrowingProbe() = default;
};

// A thread that does one thing at a time, while the test waits, and goes on counting down where the test is.
class OtherThread {
public:
  ~OtherThread() {
    doThere(nullptr);
    thread_.join();
  }

  void doThere(const std::function<void()>* what) {
    const int64_t until_failure = std::exchange(allocations_until_failure, -1);
    const bool fail_on = std::exchange(allocations_fail_on, false);
    {
      std::unique_lock<std::mutex> lock(mutex_);
      until_failure_ = until_failure;
      fail_on_ = fail_on;
      what_ = what;
      busy_ = true;
      changed_.notify_all();
      changed_.wait(lock, [this] { return !busy_; });
    }
    allocations_until_failure = until_failure_;
    allocations_fail_on = fail_on;
  }

private:
  void loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (bool ends = false; !ends;) {
      changed_.wait(lock, [this] { return busy_; });
      ends = what_ == nullptr;
      if (!ends) {
        allocations_until_failure = until_failure_;
        allocations_fail_on = fail_on_;
        (*what_)();
        allocations_fail_on = false;
        until_failure_ = std::exchange(allocations_until_failure, -1);
      }
      busy_ = false;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  const std::function<void()>* what_ = nullptr;
  int64_t until_failure_ = -1;
  bool fail_on_ = false;
  bool busy_ = false;
  std::thread thread_{[this] { loop(); }};
};

// Futures of a dispatcher, and what brings their results: 1, 2, 3 and 4.
struct Numbers {
  explicit Numbers(Dispatcher& dispatcher) {
    for (std::size_t i = 0; i < promises.size(); ++i) {
      futures[i] = promises[i].future(dispatcher);
    }
  }
  void settle() {
    int value = 0;
    for (Promise<int>& promise : promises) {
      promise.setValue(++value);
    }
  }

  std::array<Promise<int>, 4> promises;
  std::array<Future<int>, 4> futures;
};

// What operations are begun with: all made before allocations fail.
class World {
  SimulatedTimeSystem time_;
  OtherThread& thread_;
  const DispatcherPtr here_ = createDispatcher({.name = "here", .time_system = &time_});
  const DispatcherPtr there_ = createDispatcher({.name = "there", .time_system = &time_});
  std::optional<LoopCore::RunScope> running_;

public:
  explicit World(OtherThread& thread) : thread_(thread) {
    here.run(RunType::NonBlock);
    doThere([this] { there.run(RunType::NonBlock); });
    running_.emplace(&future_internal::loopOf(here));
    ready_promise_.setValue(1);
    locked = mutex.tryLock();
    limiter.tryAcquire();
    inside = *gate.enter();
  }

  Dispatcher& here = *here_;    // of the test's thread, in its run
  Dispatcher& there = *there_;  // of another thread

  template <class... Futures>
  static std::vector<Future<int>> vectorOf(Futures... futures) {
    const FailuresPaused paused;
    std::vector<Future<int>> all;
    (all.push_back(std::move(futures)), ...);
    return all;
  }

  // Futures of `here` and of `there` that will be numbers, that will fail with NotFound, and that are ready.
  Future<int> number() { return std::move(here_numbers_.futures[used_++]); }
  Future<int> numberThere() { return std::move(there_numbers_.futures[used_there_++]); }
  SemiFuture<int> semi() { return semi_promise_.semiFuture(); }
  Future<int> failing() { return failing_promise_.future(here); }
  Future<int> ready() { return ready_promise_.future(here); }

  // From now on this is as elsewhere than in the run of a loop.
  void leaveLoop() { running_.reset(); }
  template <class F>
  void doThere(F f) {
    const std::function<void()> what = std::ref(f);
    thread_.doThere(&what);
  }

  // The results come.
  void settle() {
    here_numbers_.settle();
    semi_promise_.setValue(1);
    failing_promise_.setTry(Try<int>(not_found_));
    shared_promise_.setValue(1);
    doThere([this] { there_numbers_.settle(); });
  }
  // All that has to run does, for three hours.
  void runAll() {
    for (int hour = 0; hour < 3; ++hour) {
      for (int i = 0; i < 6; ++i) {
        here.run(RunType::NonBlock);
        doThere([this] { there.run(RunType::NonBlock); });
      }
      time_.advanceTimeAsync(1h);
    }
  }

  Queue<int> queue{here, 100};
  Queue<int> rendezvous{here, 0};
  PromiseStream<int> sender{here};
  FutureStream<int> stream = sender.stream();
  Semaphore semaphore{here, 0};
  AsyncMutex mutex{here};
  std::optional<AsyncMutex::Guard> locked;
  ReadWriteLock lock{here};
  std::optional<ReadWriteLock::Guard> written = lock.tryWriteLock();
  AsyncScope scope{here};
  Race<int> race{here};
  AsyncVar<int> variable{here, 0};
  Gate gate{here};
  Gate::Holder inside;
  Latch latch{here, 1};
  RateLimiter limiter{here, 1, 1};
  Sequence sequence{here};
  std::optional<Promise<int>> promise;  // for operations that make one
  const absl::Status reason = absl::AbortedError("a reason");
  int calls = 0;

private:
  Numbers here_numbers_{here};
  Numbers there_numbers_{there};
  std::size_t used_ = 0;
  std::size_t used_there_ = 0;
  Promise<int> semi_promise_;
  Promise<int> failing_promise_;
  Promise<int> ready_promise_;
  const absl::Status not_found_ = absl::NotFoundError("no number");
  Promise<int> shared_promise_;

public:
  SharedFuture<int> shared{shared_promise_.future(here)};
};

struct Outcome {
  bool exhausted = false;  // an allocation failed
  bool threw = false;
  bool ready = false;
  absl::StatusCode code = absl::StatusCode::kOk;
};

struct Operation {
  std::string name;
  std::function<Outcome(World& world, int64_t allocation, Fails fails)> run;
  absl::StatusCode expected = absl::StatusCode::kOk;
  absl::StatusCode without_memory = absl::StatusCode::kResourceExhausted;
  bool may_throw = false;
  bool goes_on = true;

  // What comes of it where nothing is lacking.
  Operation& failsWith(absl::StatusCode code) {
    expected = code;
    return *this;
  }
  // What may come of it without memory, besides that and ResourceExhausted.
  Operation& orWith(absl::StatusCode code) {
    without_memory = code;
    return *this;
  }
  // It takes a function whose move throws, or makes an object that cannot be without memory.
  void mayThrow() { may_throw = true; }
  // A dispatcher is shut down.
  void shutsDown() { goes_on = false; }
};
std::ostream& operator<<(std::ostream& stream, const Operation& operation) { return stream << operation.name; }

// `begin(world)` returns a future of the operation, and `bring(world)` causes what that waits for.
template <class Begin, class Bring>
Outcome run(Begin begin, Bring bring, World& world, int64_t allocation, Fails fails) {
  std::invoke_result_t<Begin&, World&> future;
  Outcome outcome;
  failAllocation(allocation, fails);
  try {
    future = begin(world);
    bring(world);
  } catch (const std::bad_alloc&) {
    outcome.threw = true;
  }
  world.runAll();
  outcome.exhausted = stopFailing();
  world.runAll();  // there is memory again
  const auto look = [&] {
    outcome.ready = future.isReady();
    if (outcome.ready) {
      outcome.code = future.result().status().code();
    }
  };
  look();
  if (!outcome.ready) {  // it may be of `there`
    world.doThere(look);
  }
  std::move(future).detach();
  return outcome;
}

class Table {
public:
  template <class Begin, class Bring>
  Operation& add(std::string name, Begin begin, Bring bring) {
    operations_.push_back({std::move(name), [begin, bring](World& world, int64_t allocation, Fails fails) {
                             return run(begin, bring, world, allocation, fails);
                           }});
    return operations_.back();
  }
  template <class Begin>
  Operation& add(std::string name, Begin begin) {
    return add(std::move(name), begin, [](World& world) { world.settle(); });
  }
  std::vector<Operation> take() { return std::move(operations_); }

private:
  std::vector<Operation> operations_;
};

// For operations that say by a bool that they had no memory.
Future<void> done(bool had_memory) {
  return had_memory ? makeReadyFuture()
                    : Future<void>(future_internal::failed<void>(future_internal::Reason::NoMemory));
}

// --- The tables.

Future<int> returnsAtOnce(Dispatcher& /*dispatcher*/, Probe /*parameter*/) { co_return 1; }
Future<void> returnsNothingAtOnce(Dispatcher& /*dispatcher*/, Probe /*parameter*/) { co_return; }
Future<int> awaits(Dispatcher& /*dispatcher*/, Future<int> future, Probe /*parameter*/) {
  const Probe variable;
  const int number = co_await std::move(future);
  co_return number;
}
Future<int> awaitsSemi(Dispatcher& /*dispatcher*/, SemiFuture<int> future, Probe /*parameter*/) {
  const Probe variable;
  const int number = co_await std::move(future);
  co_return number;
}
Future<int> awaitsAsTry(Dispatcher& /*dispatcher*/, Future<int> future, Probe /*parameter*/) {
  const Probe variable;
  AsTry<int> wrapped = asTry(std::move(future));
  Try<int> number = co_await std::move(wrapped);
  co_return std::move(number);
}
Future<int> awaitsWithoutDispatcher(Future<int> future, Probe /*parameter*/) {
  const Probe variable;
  const int number = co_await std::move(future);
  co_return number;
}
Future<void> sleeps(Dispatcher& /*dispatcher*/, Probe /*parameter*/) {
  const Probe variable;
  co_await 1ms;
}
Future<void> yields(Dispatcher& /*dispatcher*/, Probe /*parameter*/) {
  const Probe variable;
  co_await yield();
}
Future<void> toAndFro(Dispatcher& home, Dispatcher& away, Probe /*parameter*/) {
  const Probe variable;
  co_await resumeOn(away);
  co_await resumeOn(home);
  co_await resumeOn(away);
}

std::vector<Operation> chains() {
  Table table;
  table.add(
      "promise",
      [](World& world) {
        world.promise.emplace();
        return world.promise->semiFuture();
      },
      [](World& world) { world.promise->setValue(1); });
  table.add(
      "promise of a dispatcher",
      [](World& world) {
        world.promise.emplace();
        return world.promise->future(world.here);
      },
      [](World& world) { world.promise->setValue(1); });
  table.add(
      "promise of a dispatcher elsewhere",
      [](World& world) {
        world.promise.emplace();
        return world.promise->future(world.there);
      },
      [](World& world) { world.promise->setValue(1); });
  table.add("then", [](World& world) { return world.number().then([probe = Probe()](int number) { return number; }); });
  table.add("then with a large capture",
            [](World& world) { return world.number().then([probe = LargeProbe()](int number) { return number; }); });
  table
      .add("then with a capture whose move throws",
           [](World& world) {
             return world.number().then([probe = ThrowingProbe::make()](int number) { return number; });
           })
      .mayThrow();
  table.add("then in place",
            [](World& world) { return world.ready().then([probe = LargeProbe()](int number) { return number; }); });
  table.add("then of a ready future that has to wait", [](World& world) {
    Future<int> ready = world.ready();
    world.number().then([](int) {}).detach();
    world.settle();  // now a task waits
    return std::move(ready).then([probe = Probe()](int number) { return number; });
  });
  table.add("then of a Try", [](World& world) {
    return world.number().then([probe = Probe()](Try<int>&& number) { return std::move(number); });
  });
  table.add("then that returns a future", [](World& world) {
    return world.number().then([&world, probe = Probe()](int) { return world.number(); });
  });
  table.add("then that returns a future from elsewhere", [](World& world) {
    return world.number().then([&world, probe = Probe()](int) { return world.numberThere(); });
  });
  table.add("then that returns a SemiFuture",
            [](World& world) { return world.number().then([&world, probe = Probe()](int) { return world.semi(); }); });
  table.add("then in place that returns a SemiFuture",
            [](World& world) { return world.ready().then([&world, probe = Probe()](int) { return world.semi(); }); });
  table.add("then of a future from elsewhere",
            [](World& world) { return world.numberThere().then([probe = Probe()](int number) { return number; }); });
  table.add("then of a ready future without a dispatcher", [](World& world) {
    world.leaveLoop();
    return makeReadyFuture(1).then([probe = Probe()](int number) { return number; });
  });
  table.add("thenError", [](World& world) {
    return world.failing().thenError([probe = Probe()](const absl::Status&) { return 1; });
  });
  table.add("thenError of a value", [](World& world) {
    return world.number().thenError([probe = Probe()](const absl::Status&) { return 1; });
  });
  table.add("thenError that returns a future", [](World& world) {
    return world.failing().thenError([&world, probe = Probe()](const absl::Status&) { return world.number(); });
  });
  table.add("thenError of an exception", [](World& world) {
    return world.number()
        .then([](int) -> int { throw std::out_of_range("x"); })
        .thenError<std::exception>([probe = Probe()](const std::exception&) { return 1; });
  });
  table
      .add("thenError of a StatusError",
           [](World& world) {
             return world.failing().thenError<StatusError>([probe = Probe()](StatusError&) { return 1; });
           })
      .orWith(absl::StatusCode::kNotFound);  // the exception cannot be made
  table.add("ensure", [](World& world) { return world.number().ensure([probe = Probe()] {}); });
  table.add("ensure in place", [](World& world) { return world.ready().ensure([probe = Probe()] {}); });
  table.add("ensure that returns a future", [](World& world) {
    return world.number().ensure([&world, probe = Probe()] { return world.number().then([](int) {}); });
  });
  table.add("a chain of many", [](World& world) {
    Future<int> chain = world.number();
    for (int i = 0; i < 30; ++i) {
      chain = std::move(chain).then([probe = Probe()](int number) { return number; });
    }
    return chain;
  });
  table.add("via", [](World& world) { return world.number().via(world.there); });
  table.add("via of a ready future", [](World& world) {
    return world.ready().via(world.there).then([probe = Probe()](int number) { return number; });
  });
  table.add("via and back", [](World& world) {
    return world.number()
        .via(world.there)
        .then([probe = Probe()](int number) { return number; })
        .via(world.here)
        .then([probe = Probe()](int number) { return number; });
  });
  table.add("semi", [](World& world) { return world.number().semi(); });
  table.add("semi of a future from elsewhere", [](World& world) { return world.numberThere().semi(); });
  table.add("SemiFuture via", [](World& world) { return world.semi().via(world.here); });
  table.add("SemiFuture via elsewhere", [](World& world) { return world.semi().via(world.there); });
  table.add("forwardTo", [](World& world) {
    Promise<int> promise;
    SemiFuture<int> target = promise.semiFuture();
    world.number().forwardTo(std::move(promise));
    return target;
  });
  table.add("forwardTo from elsewhere", [](World& world) {
    Promise<int> promise;
    Future<int> target = promise.future(world.here);
    world.numberThere().forwardTo(std::move(promise));
    return target;
  });
  table.add("wait", [](World& world) {
    world.leaveLoop();
    Future<int> number = world.numberThere();
    static_cast<void>(number.wait(0ns).ok());
    return number;
  });
  table.add("wait for a SemiFuture", [](World& world) {
    world.leaveLoop();
    SemiFuture<int> number = world.semi();
    static_cast<void>(number.wait(0ns).ok());
    return number;
  });
  return table.take();
}

std::vector<Operation> ends() {
  Table table;
  table
      .add("cancel",
           [](World& world) {
             Future<int> future = world.number().then([probe = Probe()](int number) { return number; });
             future.cancel();
             return future;
           })
      .failsWith(absl::StatusCode::kCancelled);
  table
      .add("cancel with a reason",
           [](World& world) {
             Future<int> future = world.number().then([probe = Probe()](int number) { return number; });
             future.cancel(world.reason);
             return future;
           })
      .failsWith(absl::StatusCode::kAborted)
      .orWith(absl::StatusCode::kCancelled);
  table
      .add("cancel of a chain with an ensure that returns a future",
           [](World& world) {
             Future<int> future =
                 world.number().ensure([&world, probe = Probe()] { return sleepFor(world.here, 1ms); });
             future.cancel();
             return future;
           })
      .failsWith(absl::StatusCode::kCancelled);
  table
      .add("cancel of a coroutine in within in a join",
           [](World& world) {
             auto joined = collect(within(awaits(world.here, world.number(), Probe()), 1h), world.number());
             joined.cancel();
             return joined;
           })
      .failsWith(absl::StatusCode::kCancelled);
  table
      .add("cancel of what waits for another dispatcher",
           [](World& world) {
             Future<int> future =
                 world.numberThere().via(world.here).then([probe = Probe()](int number) { return number; });
             future.cancel();
             return future;
           })
      .failsWith(absl::StatusCode::kCancelled);
  table
      .add("cancel elsewhere",
           [](World& world) {
             Future<int> future = world.numberThere().then([probe = Probe()](int number) { return number; });
             future.cancel();
             return future;
           })
      .failsWith(absl::StatusCode::kCancelled)
      .orWith(absl::StatusCode::kOk);
  table.add("cancelAndWait", [](World& world) { return cancelAndWait(awaits(world.here, world.number(), Probe())); });
  table.add("cancelAndWait elsewhere", [](World& world) {
    return cancelAndWait(world.numberThere().then([probe = Probe()](int number) { return number; }));
  });
  table.add("abandon", [](World& world) { return abandon(world.number()); });
  table
      .add("abandon that is cancelled",
           [](World& world) {
             Future<int> future = abandon(world.numberThere().via(world.here));
             future.cancel();
             return future;
           })
      .failsWith(absl::StatusCode::kCancelled);
  table.add("uncancellable", [](World& world) { return uncancellable(world.number()); });
  table
      .add("uncancellable that is cancelled",
           [](World& world) {
             Future<int> future = uncancellable(awaits(world.here, world.number(), Probe()));
             future.cancel();
             return future;
           })
      .failsWith(absl::StatusCode::kCancelled);
  table.add("holdWhile", [](World& world) { return holdWhile(LargeProbe(), world.number()); });
  table.add("drop", [](World& world) {
    world.number().then([probe = Probe()](int) {}).detach();
    return world.number();
  });
  table.add("drop elsewhere", [](World& world) {
    world.numberThere().then([probe = Probe()](int) {}).detach();
    return world.number();
  });
  table.add("drop of a SemiFuture", [](World& world) {
    world.numberThere().semi().detach();
    return world.number();
  });
  table
      .add("onCancel",
           [](World& world) {
             world.promise.emplace();
             world.promise->onCancel([probe = Probe()] {});
             Future<int> future = world.promise->future(world.here);
             future.cancel();
             return future;
           })
      .failsWith(absl::StatusCode::kCancelled)
      .mayThrow();
  table
      .add(
          "shutdown",
          [](World& world) {
            world.numberThere().via(world.here).then([probe = Probe()](int) {}).detach();
            world.queue.pop().detach();
            return collect(within(awaits(world.here, world.number(), Probe()), 1h),
                           delayed(world.number().ensure([probe = Probe()] {}), 1h), yields(world.here, Probe()));
          },
          [](World& world) {
            world.leaveLoop();
            world.here.shutdown();
          })
      .failsWith(absl::StatusCode::kCancelled)
      .shutsDown();
  table
      .add(
          "shutdown elsewhere",
          [](World& world) {
            sleepFor(world.there, 1h).detach();
            world.number().via(world.there).then([probe = Probe()](int) {}).detach();
            return world.numberThere().via(world.here).then([probe = Probe()](int number) { return number; });
          },
          [](World& world) { world.doThere([&world] { world.there.shutdown(); }); })
      .failsWith(absl::StatusCode::kCancelled)
      .shutsDown();
  return table.take();
}

// Failures with a message of their own.
std::vector<Operation> messages() {
  Table table;
  table
      .add("broken promise",
           [](World& world) {
             Promise<int> promise;
             return promise.future(world.here);
           })
      .failsWith(absl::StatusCode::kAborted);
  table
      .add("broken stream",
           [](World& world) {
             FutureStream<int> stream;
             {
               const FailuresPaused paused;
               stream = PromiseStream<int>(world.here).stream();
             }
             return stream.next();
           })
      .failsWith(absl::StatusCode::kAborted);
  table
      .add("destroyed queue",
           [](World& world) {
             std::optional<Queue<int>> queue(std::in_place, world.here, 0);
             Future<int> item = queue->pop();
             queue.reset();
             return item;
           })
      .failsWith(absl::StatusCode::kCancelled);
  table
      .add("push to a closed queue",
           [](World& world) {
             {
               const FailuresPaused paused;
               world.queue.close();
             }
             return world.queue.push(1);
           })
      .failsWith(absl::StatusCode::kFailedPrecondition);
  table.add("collectAny of nothing", [](World&) { return collectAny(std::vector<Future<int>>()); })
      .failsWith(absl::StatusCode::kInvalidArgument);
  table.add("collectN of too many", [](World& world) { return collectN(World::vectorOf(world.number()), 2); })
      .failsWith(absl::StatusCode::kInvalidArgument);
  table
      .add("destroyed semaphore",
           [](World& world) {
             std::optional<Semaphore> semaphore;
             {
               const FailuresPaused paused;
               semaphore.emplace(world.here, 0);
             }
             Future<Semaphore::Units> units = semaphore->acquire();
             semaphore.reset();
             return units;
           })
      .failsWith(absl::StatusCode::kCancelled);
  table
      .add("exception with a message",
           [](World& world) {
             return world.number().then(
                 [probe = Probe()](int) -> int { throw std::runtime_error("a message that is no short string"); });
           })
      .failsWith(absl::StatusCode::kUnknown);
  // Breaks its promise.
  table.add("submit of a capture whose move may throw",
            [](World& world) { return submit(world.there, [probe = ThrowingProbe::make()] { return 1; }); });
  return table.take();
}

std::vector<Operation> coroutines() {
  Table table;
  table.add("coroutine", [](World& world) { return returnsAtOnce(world.here, Probe()); });
  table.add("coroutine without a result", [](World& world) { return returnsNothingAtOnce(world.here, Probe()); });
  table.add("coroutine elsewhere", [](World& world) { return returnsAtOnce(world.there, Probe()); });
  table.add("co_await", [](World& world) { return awaits(world.here, world.number(), Probe()); });
  table.add("co_await of a ready future", [](World& world) { return awaits(world.here, world.ready(), Probe()); });
  table.add("co_await from elsewhere", [](World& world) { return awaits(world.here, world.numberThere(), Probe()); });
  table.add("co_await elsewhere", [](World& world) { return awaits(world.there, world.numberThere(), Probe()); });
  table.add("co_await elsewhere of what is here",
            [](World& world) { return awaits(world.there, world.number(), Probe()); });
  table.add("co_await of a SemiFuture", [](World& world) { return awaitsSemi(world.here, world.semi(), Probe()); });
  table.add("co_await of asTry", [](World& world) { return awaitsAsTry(world.here, world.number(), Probe()); });
  table.add("co_await without a dispatcher", [](World& world) {
    world.leaveLoop();
    return awaitsWithoutDispatcher(world.number(), Probe());
  });
  table.add("co_await of a duration", [](World& world) { return sleeps(world.here, Probe()); });
  table.add("co_await of a duration elsewhere", [](World& world) { return sleeps(world.there, Probe()); });
  table.add("co_await yield", [](World& world) { return yields(world.here, Probe()); });
  table.add("co_await yield elsewhere", [](World& world) { return yields(world.there, Probe()); });
  table.add("co_await resumeOn", [](World& world) { return toAndFro(world.here, world.there, Probe()); });
  table.add("keepAlive", [](World& world) {
    return keepAlive([&world, probe = Probe()]() -> Future<int> {
      Future<int> number = world.number();
      co_return co_await std::move(number);
    });
  });
  return table.take();
}

std::vector<Operation> timesAndSubmits() {
  Table table;
  table.add("sleepFor", [](World& world) { return sleepFor(world.here, 1ms); });
  table.add("sleepFor elsewhere", [](World& world) { return sleepFor(world.there, 1ms); });
  table.add("sleepFor a negative time", [](World& world) { return sleepFor(world.here, -1ms); })
      .failsWith(absl::StatusCode::kInvalidArgument);
  table.add("within", [](World& world) { return within(world.number(), 1ms); });
  table.add("within of a ready future", [](World& world) { return within(world.ready(), 1ms); });
  table.add("within elsewhere", [](World& world) { return within(world.numberThere(), 1h); });
  table.add(
           "within that is struck", [](World& world) { return within(world.number(), 1ms); }, [](World&) {})
      .failsWith(absl::StatusCode::kDeadlineExceeded);
  table.add("within a negative time", [](World& world) { return within(world.number(), -1ms); })
      .failsWith(absl::StatusCode::kInvalidArgument);
  table.add("within a negative time elsewhere", [](World& world) { return within(world.numberThere(), -1ms); })
      .failsWith(absl::StatusCode::kInvalidArgument);
  table.add("after", [](World& world) {
    return after(world.number(), 1ms, [probe = Probe()](Future<int> late) { return late; });
  });
  table.add(
      "after that is struck",
      [](World& world) {
        return after(world.number(), 1ms, [&world, probe = Probe()](Future<int> late) {
          std::move(late).detach();
          return sleepFor(world.here, 1ms).then([] { return 1; });
        });
      },
      [](World&) {});
  table.add("after elsewhere", [](World& world) {
    return after(world.numberThere(), 1h, [probe = Probe()](Future<int> late) { return late; });
  });
  table.add("delayed", [](World& world) { return delayed(world.number(), 1ms); });
  table.add("delayed of a ready future", [](World& world) { return delayed(world.ready(), 1ms); });
  table.add("delayed elsewhere", [](World& world) { return delayed(world.numberThere(), 1ms); });
  table.add("delayed a negative time", [](World& world) { return delayed(world.number(), -1ms); })
      .failsWith(absl::StatusCode::kInvalidArgument);

  table.add("submit", [](World& world) { return submit(world.there, [probe = Probe()] { return 1; }); });
  table.add("submit without a result", [](World& world) { return submit(world.there, [probe = Probe()] {}); });
  table.add("submit of a large capture",
            [](World& world) { return submit(world.there, [probe = LargeProbe()] { return 1; }); });
  table.add("submit to a handle", [](World& world) {
    PostHandle handle = world.there.handle();
    return submit(handle, [probe = Probe()] { return 1; });
  });
  table.add("submit here", [](World& world) { return submit(world.here, [probe = Probe()] { return 1; }); });
  table.add("submit of what returns a future",
            [](World& world) { return submit(world.there, [&world] { return world.numberThere(); }); });
  table.add("submit of what returns a future from elsewhere",
            [](World& world) { return submit(world.there, [&world] { return world.number(); }); });
  table.add("submit of what returns a SemiFuture",
            [](World& world) { return submit(world.there, [&world] { return world.semi(); }); });
  table.add("submit and via", [](World& world) {
    return submit(world.there, [probe = Probe()] { return 1; }).via(world.here).then([](int number) { return number; });
  });
  return table.take();
}

std::vector<Operation> joins() {
  Table table;
  table.add("collect",
            [](World& world) { return collect(World::vectorOf(world.number(), world.ready(), world.number())); });
  table.add("collect of several types",
            [](World& world) { return collect(world.number(), world.number().then([](int) {})); });
  table.add("collect of several dispatchers",
            [](World& world) { return collect(world.number(), world.numberThere(), world.ready()); });
  table.add("collect elsewhere", [](World& world) { return collect(world.numberThere(), world.numberThere()); });
  table.add("collect of a failure", [](World& world) { return collect(world.failing(), world.number()); })
      .failsWith(absl::StatusCode::kNotFound);
  table.add("collectAll", [](World& world) { return collectAll(World::vectorOf(world.number(), world.failing())); });
  table.add("collectAll of several types",
            [](World& world) { return collectAll(world.failing(), world.number().then([](int) {})); });
  table.add("collectAny", [](World& world) { return collectAny(World::vectorOf(world.number(), world.number())); });
  table.add("collectAny of several types",
            [](World& world) { return collectAny(world.number(), sleepFor(world.here, 1h)); });
  table.add("collectN",
            [](World& world) { return collectN(World::vectorOf(world.number(), world.failing(), world.number()), 2); });
  table.add("anyOf", [](World& world) { return anyOf(world.number(), sleepFor(world.here, 1h)); });
  table.add("anyOf of several dispatchers", [](World& world) { return anyOf(world.number(), world.numberThere()); });
  table.add("anyOf with a loser elsewhere",
            [](World& world) { return anyOf(world.number(), sleepFor(world.there, 1h)); });
  table.add("allOf", [](World& world) { return allOf(world.number(), world.number()); });
  return table.take();
}

std::vector<Operation> loops() {
  Table table;
  for (const bool in_run : {true, false}) {
    const auto name = [in_run](const char* loop) { return std::string(loop) + (in_run ? "" : " outside of the run"); };
    const auto begin = [in_run](World& world) {
      if (!in_run) {
        world.leaveLoop();
      }
    };
    table.add(name("repeat"), [begin](World& world) {
      begin(world);
      return repeat(world.here, [&world, probe = Probe()] {
        return sleepFor(world.here, 1ms).then([&world] { return ++world.calls < 3; });
      });
    });
    table.add(name("doUntil"), [begin](World& world) {
      begin(world);
      return doUntil(
          world.here, [&world, probe = Probe()] { return sleepFor(world.here, 1ms); },
          [&world] { return ++world.calls == 3; });
    });
    table.add(name("forEach"), [begin](World& world) {
      begin(world);
      return forEach(world.here, std::array<int, 4>{1, 2, 3, 4}, 3,
                     [&world, probe = Probe()](int) { return sleepFor(world.here, 1ms); });
    });
    table.add(name("forEach with coroutines"), [begin](World& world) {
      begin(world);
      return forEach(world.here, std::array<int, 3>{1, 2, 3}, 2,
                     [&world](int) { return awaits(world.here, world.number(), Probe()); });
    });
    table.add(name("mapWindow"), [begin](World& world) {
      begin(world);
      return mapWindow(world.here, std::array<int, 3>{1, 2, 3}, 2,
                       [&world, probe = Probe()](int) { return world.number(); });
    });
    table.add(name("reduce"), [begin](World& world) {
      begin(world);
      return reduce(world.here, std::array<int, 3>{1, 2, 3}, 0, [&world, probe = Probe()](int sum, int number) {
        return sleepFor(world.here, 1ms).then([sum, number] { return sum + number; });
      });
    });
    table.add(name("retrying"), [begin](World& world) {
      begin(world);
      const RetryPolicy policy{.initial_backoff = 1ms,
                               .retryable = [](const absl::Status& status) { return absl::IsAborted(status); }};
      return retrying(world.here, policy, [&world, probe = Probe()] {
        return sleepFor(world.here, 1ms).then([&world] { return ++world.calls < 3 ? world.reason : absl::OkStatus(); });
      });
    });
  }
  return table.take();
}

std::vector<Operation> primitives() {
  Table table;
  table.add("Queue push", [](World& world) { return world.queue.push(1); });
  table.add("Queue tryPush", [](World& world) { return done(world.queue.tryPush(1)); });
  table.add(
      "Queue push that waits", [](World& world) { return world.rendezvous.push(1); },
      [](World& world) { world.rendezvous.tryPop(); });
  table.add("Queue pop", [](World& world) { return world.queue.pop(); }, [](World& world) { world.queue.tryPush(1); });
  table.add("Queue pop of what is there", [](World& world) {
    Future<void> pushed = world.queue.push(1);
    return std::move(pushed).then([&world] { return world.queue.pop(); });
  });
  table.add("Queue pop that nobody looked at", [](World& world) {
    Future<void> pushed = world.queue.push(1);
    return std::move(pushed).then([&world] {
      world.queue.pop().detach();
      return world.queue.pop();
    });
  });
  table
      .add(
          "Queue pop of a closed queue", [](World& world) { return world.queue.pop(); },
          [](World& world) { world.queue.close(world.reason); })
      .failsWith(absl::StatusCode::kAborted);
  table.add("PromiseStream send", [](World& world) { return done(world.sender.send(1)); });
  table.add(
      "FutureStream next", [](World& world) { return world.stream.next(); },
      [](World& world) { world.sender.send(1); });
  table.add("FutureStream next of what is there",
            [](World& world) { return done(world.sender.send(1)).then([&world] { return world.stream.next(); }); });
  table.add(
      "FutureStream next of a closed stream", [](World& world) { return world.stream.next(); },
      [](World& world) { world.sender.close(); });
  table.add(
      "Semaphore acquire", [](World& world) { return world.semaphore.acquire(); },
      [](World& world) { world.semaphore.release(1); });
  table.add("Semaphore acquire of what is free", [](World& world) {
    world.semaphore.release(1);
    return world.semaphore.acquire();
  });
  table.add(
      "AsyncMutex lock", [](World& world) { return world.mutex.lock(); }, [](World& world) { world.locked.reset(); });
  table.add(
      "ReadWriteLock readLock", [](World& world) { return world.lock.readLock(); },
      [](World& world) { world.written.reset(); });
  table.add(
      "ReadWriteLock writeLock", [](World& world) { return world.lock.writeLock(); },
      [](World& world) { world.written.reset(); });
  table
      .add("AsyncScope join",
           [](World& world) {
             world.scope.spawn(world.number().then([probe = Probe()](int) {})).IgnoreError();
             world.scope.spawn([&world, probe = Probe()] { return sleepFor(world.here, 1ms); }).IgnoreError();
             return world.scope.join();
           })
      .mayThrow();
  table.add("Race next", [](World& world) {
    return done(world.race.add(world.number()) && world.race.add(world.number())).then([&world] {
      return world.race.next();
    });
  });
  table.add("Race wait", [](World& world) {
    return done(world.race.add(world.number())).then([&world] { return world.race.wait(); });
  });
  table.add(
      "AsyncVar onChange", [](World& world) { return world.variable.onChange(); },
      [](World& world) { world.variable.set(1); });
  table.add("Background", [](World& world) { return Background(world.here).whenIdle(); });
  table.add("Gate close", [](World& world) { return world.gate.close(); }, [](World& world) { world.inside.leave(); });
  table.add("Gate with",
            [](World& world) { return world.gate.with([&world, probe = Probe()] { return world.number(); }); });
  table
      .add("Gate with that is closed",
           [](World& world) {
             world.gate.close().detach();
             return world.gate.with([probe = Probe()] { return 1; });
           })
      .failsWith(absl::StatusCode::kFailedPrecondition);
  table.add(
      "Latch wait", [](World& world) { return world.latch.wait(); }, [](World& world) { world.latch.countDown(); });
  table.add("RateLimiter acquire", [](World& world) { return world.limiter.acquire(); });
  table.add("RateLimiter acquire behind another", [](World& world) {
    Future<void> first = world.limiter.acquire();
    std::move(first).detach();
    return world.limiter.acquire();
  });
  table.add("RateLimiter acquire of too many", [](World& world) { return world.limiter.acquire(2); })
      .failsWith(absl::StatusCode::kInvalidArgument);
  table.add("Sequence run", [](World& world) { return world.sequence.run([probe = Probe()] { return 1; }); });
  table.add("Sequence run that waits", [](World& world) {
    Future<int> first = world.sequence.run([&world, probe = Probe()] { return world.number(); });
    Future<int> second = world.sequence.run([&world, probe = Probe()] { return world.number(); });
    return collect(std::move(first), std::move(second));
  });
  table.add("share", [](World& world) { return share(world.number()).future(); });
  table.add("share of a ready future", [](World& world) { return share(world.ready()).future(); });
  table.add("SharedFuture future", [](World& world) { return world.shared.future(); });
  table.add("SharedFuture semiFuture", [](World& world) { return world.shared.semiFuture(); });
  table.add("SharedFuture via", [](World& world) { return world.shared.via(world.there); });
  return table.take();
}

class NoMemoryTest : public testing::TestWithParam<Operation> {
protected:
  NoMemoryTest() : former_(setDroppedFailureHandler([](const absl::Status&, const std::source_location&) {})) {}
  ~NoMemoryTest() override { setDroppedFailureHandler(std::move(former_)); }

  // Once, in a new world, which goes on afterwards.
  Outcome runOnce(int64_t allocation, Fails fails) {
    World world(thread_);
    Outcome outcome = GetParam().run(world, allocation, fails);
    if (GetParam().goes_on) {
      expectGoesOn(world);
    }
    return outcome;
  }
  static void expectGoesOn(World& world) {
    Promise<int> promise;
    Future<int> sum = collect(promise.future(world.here).then([](int number) { return number; }),
                              submit(world.there, [] { return 1; }).via(world.here))
                          .then([](const std::tuple<int, int>& both) { return std::get<0>(both) + std::get<1>(both); });
    promise.setValue(1);
    world.runAll();
    ASSERT_TRUE(sum.isReady());
    EXPECT_EQ(*sum.result(), 2);
  }
  static void expectEnded(const Outcome& outcome) {
    const Operation& operation = GetParam();
    if (outcome.threw) {
      EXPECT_TRUE(operation.may_throw) << "it throws";
      return;
    }
    ASSERT_TRUE(outcome.ready) << "it hangs";
    EXPECT_TRUE(outcome.code == operation.expected ||
                (outcome.exhausted &&
                 (outcome.code == absl::StatusCode::kResourceExhausted || outcome.code == operation.without_memory)))
        << outcome.code;
  }

  // All of its allocations in turn.
  void failEach(Fails fails) {
    expectEnded(runOnce(-1, fails));  // whatever is allocated once only
    for (int64_t allocation = 0; !HasFailure(); ++allocation) {
      const testing::ScopedTrace trace(__FILE__, __LINE__, "allocation " + std::to_string(allocation));
      Outcome outcome;
      int64_t left = -1;
      for (int time = 0; time < 2 && left != 0; ++time) {  // what is left the first time may be there for good
        outcome = Outcome();
        const int64_t before = allocations - frees;
        outcome = runOnce(allocation, fails);
        left = allocations - frees - before;
      }
      expectEnded(outcome);
      EXPECT_EQ(left, 0) << "allocations leak";
      EXPECT_EQ(living, 0) << "captures or variables leak";
      if (!outcome.exhausted) {
        break;
      }
    }
  }

private:
  DroppedFailureHandler former_;
  OtherThread thread_;
};

Future<int> notesThatItRuns(Dispatcher& /*dispatcher*/, bool& runs) {
  runs = true;
  co_return 1;
}

TEST(NoMemoryForACoroutineTest, ItsBodyDoesNotRun) {
  DispatcherPtr dispatcher = createDispatcher({.name = "no memory"});
  dispatcher->run(RunType::NonBlock);
  bool runs = false;
  for (int64_t allocation = 0; !runs; ++allocation) {
    failAllocation(allocation, Fails::One);
    Future<int> future = notesThatItRuns(*dispatcher, runs);
    EXPECT_EQ(stopFailing(), !runs) << allocation;
    ASSERT_TRUE(future.isReady());
    EXPECT_EQ(future.result().status().code(), runs ? absl::StatusCode::kOk : absl::StatusCode::kResourceExhausted);
    std::move(future).detach();
    ASSERT_LT(allocation, 3);
  }
}

TEST(NoMemoryForACollectTest, ItsInputsAreAskedToStop) {
  DispatcherPtr dispatcher = createDispatcher({.name = "no memory"});
  dispatcher->run(RunType::NonBlock);
  bool collected = false;
  for (int64_t allocation = 0; !collected; ++allocation) {
    Promise<int> promise;
    bool asked = false;
    promise.onCancel([&asked] { asked = true; });
    std::vector<Future<int>> inputs;
    inputs.push_back(promise.future(*dispatcher));
    failAllocation(allocation, Fails::One);
    Future<std::vector<int>> all = collect(std::move(inputs));
    collected = !stopFailing();
    EXPECT_EQ(asked, !collected) << allocation;
    EXPECT_EQ(absl::IsResourceExhausted(std::move(all).get().status()), !collected) << allocation;
    ASSERT_LT(allocation, 5);
  }
}

TEST_P(NoMemoryTest, EndsWhicheverAllocationFails) { failEach(Fails::One); }
TEST_P(NoMemoryTest, EndsWhenAllFailFromAnyOnwards) { failEach(Fails::AllFromThere); }

std::string nameOf(const testing::TestParamInfo<Operation>& info) {
  std::string name = info.param.name;
  std::replace_if(name.begin(), name.end(), [](char c) { return std::isalnum(c) == 0; }, '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Chains, NoMemoryTest, testing::ValuesIn(chains()), nameOf);
INSTANTIATE_TEST_SUITE_P(Ends, NoMemoryTest, testing::ValuesIn(ends()), nameOf);
INSTANTIATE_TEST_SUITE_P(Messages, NoMemoryTest, testing::ValuesIn(messages()), nameOf);
INSTANTIATE_TEST_SUITE_P(Coroutines, NoMemoryTest, testing::ValuesIn(coroutines()), nameOf);
INSTANTIATE_TEST_SUITE_P(TimesAndSubmits, NoMemoryTest, testing::ValuesIn(timesAndSubmits()), nameOf);
INSTANTIATE_TEST_SUITE_P(Joins, NoMemoryTest, testing::ValuesIn(joins()), nameOf);
INSTANTIATE_TEST_SUITE_P(Loops, NoMemoryTest, testing::ValuesIn(loops()), nameOf);
INSTANTIATE_TEST_SUITE_P(Primitives, NoMemoryTest, testing::ValuesIn(primitives()), nameOf);

}  // namespace
}  // namespace nuncio::test

#endif
