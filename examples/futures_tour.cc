// The program that docs/futures.md builds step by step: a weather station.
//
//   tools/bazelw run //examples:futures_tour

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/lifetime_guard.h"
#include "nuncio/future/cancellation.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/retry.h"
#include "nuncio/future/submit.h"
#include "nuncio/future/time.h"
#include "nuncio/runtime/worker_pool.h"

using nuncio::Dispatcher;
using nuncio::Future;
using nuncio::Promise;
using nuncio::Try;
using std::chrono::milliseconds;

// [sensor]
// A thermometer that takes its time.
class Sensor {
public:
  Sensor(Dispatcher& dispatcher, double celsius, milliseconds takes)
      : dispatcher_(dispatcher), celsius_(celsius), takes_(takes) {}

  Future<double> read() {
    promise_ = Promise<double>();
    promise_.onCancel([this] { timer_->disableTimer(); });
    timer_->enableTimer(takes_);
    return promise_.future(dispatcher_);
  }

private:
  Dispatcher& dispatcher_;
  const double celsius_;
  const milliseconds takes_;
  Promise<double> promise_;
  const nuncio::TimerPtr timer_ = dispatcher_.createTimer([this] { promise_.setValue(celsius_); });
};
// [sensor]

// [then]
Future<void> printFahrenheit(Sensor& roof) {
  return roof.read().then([](double celsius) { return celsius * 9 / 5 + 32; }).then([](double fahrenheit) {
    std::printf("roof: %.1f F\n", fahrenheit);
  });
}
// [then]

// [errors]
Future<double> plausible(Future<double> reading) {
  return std::move(reading).then([](double celsius) -> absl::StatusOr<double> {
    if (celsius < -90) {
      return absl::OutOfRangeError("no place on Earth is so cold");
    }
    return celsius;
  });
}

Future<void> printPlausible(Sensor& broken) {
  return plausible(broken.read())
      .then([](double celsius) { return celsius + 0.5; })  // skipped
      .thenError([](const absl::Status& status) {
        std::printf("broken sensor: %s\n", std::string(status.message()).c_str());
        return 15.0;
      })
      .ensure([] { std::puts("whatever came, the reading is over"); })
      .then([](double celsius) { std::printf("going on with %.1f C\n", celsius); });
}
// [errors]

// [exceptions]
Future<int> parse(Future<std::string> text) {
  return std::move(text)
      .then([](const std::string& digits) { return std::stoi(digits); })  // may throw
      .thenError<std::invalid_argument>([](const std::invalid_argument&) { return 0; });
}
// [exceptions]

// [flatten]
Future<double> difference(Sensor& roof, Sensor& cellar) {
  return roof.read().then(
      [&cellar](double above) { return cellar.read().then([above](double below) { return above - below; }); });
}
// [flatten]

// [submit]
Future<void> printSum(Dispatcher& here, Dispatcher& worker) {
  return nuncio::submit(worker,
                        [] {
                          uint64_t sum = 0;  // computed on the worker's thread
                          for (uint64_t i = 1; i <= 1'000'000; ++i) {
                            sum += i;
                          }
                          return sum;
                        })
      .via(here)
      .then([](uint64_t sum) { std::printf("the worker says %ju\n", uintmax_t{sum}); });
}
// [submit]

// [cancel]
Future<void> readAndCancel(Sensor& slow) {
  Future<double> reading = slow.read()
                               .then([](double celsius) {
                                 std::puts("never printed");
                                 return celsius;
                               })
                               .ensure([] { std::puts("cancelled, and cleaned up"); });
  reading.cancel();  // the sensor's timer is disarmed by now
  return std::move(reading).then([](const Try<double>& result) {
    std::printf("the result is %s\n", absl::StatusCodeToString(result.status().code()).c_str());
  });
}
// [cancel]

// [time]
Future<void> readInTime(Sensor& slow) {
  return nuncio::within(slow.read(), milliseconds(10)).then([](const Try<double>& result) {
    std::printf("the slow sensor: %s\n", absl::StatusCodeToString(result.status().code()).c_str());
  });
}
// [time]

// [retry]
Future<void> readAgain(Dispatcher& dispatcher) {
  const nuncio::RetryPolicy policy{.max_attempts = 3, .initial_backoff = milliseconds(1)};
  return nuncio::retrying(dispatcher, policy,
                          [attempt = 0]() mutable -> absl::StatusOr<int> {
                            if (++attempt < 3) {
                              return absl::UnavailableError("the sensor is busy");
                            }
                            return attempt;
                          })
      .then([](int attempts) { std::printf("read in attempt %d\n", attempts); });
}
// [retry]

// [collect]
Future<void> printBoth(Sensor& roof, Sensor& cellar) {
  return nuncio::collect(roof.read(), cellar.read()).then([](std::tuple<double, double> both) {
    std::printf("roof %.1f C, cellar %.1f C\n", std::get<0>(both), std::get<1>(both));
  });
}

Future<void> printFaster(Sensor& roof, Sensor& slow) {
  std::vector<Future<double>> readings;
  readings.push_back(slow.read());
  readings.push_back(roof.read());
  return nuncio::collectAny(std::move(readings)).then([](const std::pair<size_t, Try<double>>& first) {
    std::printf("sensor %zu was first\n", first.first);  // the other one is cancelled
  });
}
// [collect]

// [coroutine]
Future<double> differenceLater(Sensor& roof, Sensor& cellar) {
  const double above = co_await roof.read();
  co_await milliseconds(5);
  const double below = co_await cellar.read();
  co_return above - below;
}
// [coroutine]

// [as try]
Future<double> readOrGuess(Sensor& sensor) {
  Future<double> future = plausible(sensor.read());
  const Try<double> reading = co_await nuncio::asTry(std::move(future));
  if (reading.failed()) {
    co_return 15.0;
  }
  co_return *reading;
}
// [as try]

// [order]
Future<void> printOrder(Dispatcher& dispatcher) {
  Promise<void> a;
  Promise<void> b;
  Future<void> after_b = b.future(dispatcher).then([] { std::puts("third: b, whose then() came first"); });
  Future<void> after_a = a.future(dispatcher).then([] { std::puts("second: a, which became ready first"); });
  a.setValue();
  b.setValue();
  std::puts("first: setValue() runs no continuation");
  return nuncio::collect(std::move(after_a), std::move(after_b)).then([](const auto&) {});
}
// [order]

// [keep alive]
Future<void> printNamed(Sensor& sensor, std::string name) {
  return nuncio::keepAlive([&sensor, name = std::move(name)]() -> Future<void> {
    const double celsius = co_await sensor.read();
    std::printf("%s: %.1f C\n", name.c_str(), celsius);  // without keepAlive() the lambda would be gone, and `name`
  });
}
// [keep alive]

// [parameters]
Future<void> printLater(std::string name, double celsius) {  // copies: `const std::string&` would dangle
  co_await milliseconds(1);
  std::printf("%s: %.1f C, a little later\n", name.c_str(), celsius);
}
// [parameters]

// [guard]
class Display {
public:
  explicit Display(Sensor& sensor) : sensor_(sensor) {}

  void refresh() {
    sensor_.read().then(guard_.wrap([this](double celsius) { shown_ = celsius; })).detach();
  }
  // What is still on its way is not wanted any more.
  void clear() {
    guard_.reset();
    shown_ = 0;
  }
  double shown() const { return shown_; }

private:
  Sensor& sensor_;
  double shown_ = 0;
  nuncio::LifetimeGuard guard_;
};
// [guard]

// [lend]
// The inner coroutine refers to a variable of this one, and may: whenever and however this one is cancelled, the inner
// one has ended before the variable goes.
Future<void> watch(Sensor& sensor, std::vector<double>& seen) {
  for (;;) {
    Future<double> reading = sensor.read();
    const double celsius = co_await std::move(reading);
    seen.push_back(celsius);
  }
}

Future<void> watchForAWhile(Sensor& sensor) {
  std::vector<double> seen;
  Future<void> watching = nuncio::within(watch(sensor, seen), milliseconds(20));
  auto wrapped = nuncio::asTry(std::move(watching));
  const Try<void> result = co_await std::move(wrapped);
  std::printf("%s, after some readings: %s\n", absl::StatusCodeToString(result.status().code()).c_str(),
              seen.empty() ? "no" : "yes");
}
// [lend]

// [hard deadline]
Future<void> askTheWorker(Dispatcher& here, Dispatcher& worker) {
  // Without abandon() the deadline would wait for the worker's answer, since the lambda might refer to what is here.
  Future<int> answer = nuncio::submit(worker, [] { return 42; }).via(here);
  Future<int> in_time = nuncio::within(nuncio::abandon(std::move(answer)), std::chrono::seconds(10));
  const int number = co_await std::move(in_time);
  std::printf("the worker answers %d\n", number);
}
// [hard deadline]

// [owner]
class Station {
public:
  Station(Dispatcher& dispatcher, Sensor& sensor) : dispatcher_(dispatcher), work_(run(sensor)) {}
  // All that is on this dispatcher, and does not take its time, is over when cancel() returns.
  ~Station() { work_.cancel(); }

  // For what does take its time. To be awaited before the station is destroyed.
  Future<void> stop() { return nuncio::cancelAndWait(std::move(work_)); }

private:
  Future<void> run(Sensor& sensor) {
    return watch(sensor, seen_).ensure([this] {
      return nuncio::sleepFor(dispatcher_, milliseconds(1)).then([this] {
        std::printf("the station is stored: %s\n", seen_.empty() ? "no" : "yes");
      });
    });
  }

  Dispatcher& dispatcher_;
  std::vector<double> seen_;
  Future<void> work_;
};

Future<void> runAStation(Dispatcher& dispatcher, Sensor& sensor) {
  Station station(dispatcher, sensor);
  co_await milliseconds(20);
  Future<void> stopped = station.stop();
  co_await std::move(stopped);  // now nothing of it is left
}
// [owner]

// [shutdown]
void shutDown() {
  const nuncio::DispatcherPtr dispatcher = nuncio::createDispatcher({.name = "short-lived"});
  Promise<int> promise;
  Future<int> future = promise.future(*dispatcher).then([](int answer) { return answer + 1; });
  dispatcher->shutdown();
  const absl::Status status = std::move(future).get().status();
  std::printf("after a shutdown: %s\n", absl::StatusCodeToString(status.code()).c_str());
  std::printf("setValue() is of use: %s\n", promise.setValue(42) ? "yes" : "no");
}
// [shutdown]

Future<void> tour(Dispatcher& dispatcher, Dispatcher& worker) {
  Sensor roof(dispatcher, 21.5, milliseconds(2));
  Sensor cellar(dispatcher, 12, milliseconds(3));
  Sensor broken(dispatcher, -300, milliseconds(1));
  Sensor slow(dispatcher, 20, std::chrono::hours(1));

  co_await printFahrenheit(roof);
  co_await printPlausible(broken);
  const double above_cellar = co_await difference(roof, cellar);
  std::printf("the roof is %.1f C warmer\n", above_cellar);
  const double later = co_await differenceLater(roof, cellar);
  const double guess = co_await readOrGuess(broken);
  std::printf("again: %.1f C warmer; guessed: %.1f C\n", later, guess);
  const int parsed = co_await parse(nuncio::makeReadyFuture(std::string("warm")));
  std::printf("parsed: %d\n", parsed);
  co_await printSum(dispatcher, worker);
  co_await readAndCancel(slow);
  co_await readInTime(slow);
  co_await readAgain(dispatcher);
  co_await printBoth(roof, cellar);
  co_await printFaster(roof, slow);
  co_await printOrder(dispatcher);
  std::string name = "cellar";
  co_await printNamed(cellar, std::move(name));
  std::string other = "roof";
  co_await printLater(std::move(other), 21.5);
  Display display(roof);
  display.refresh();
  display.clear();
  co_await milliseconds(10);
  std::printf("the cleared display shows %.1f\n", display.shown());
  co_await watchForAWhile(roof);
  co_await askTheWorker(dispatcher, worker);
  co_await runAStation(dispatcher, cellar);
  shutDown();
}

// [main]
int main() {
  const nuncio::DispatcherPtr dispatcher = nuncio::createDispatcher({.name = "station"});
  const auto workers = nuncio::WorkerPool::create({.threads = 1});
  if (dispatcher == nullptr || !workers.ok()) {
    return 1;
  }
  tour(*dispatcher, (*workers)->next())
      .thenError([](const absl::Status& status) { std::printf("the tour ends: %s\n", status.ToString().c_str()); })
      .ensure([&] { dispatcher->exit(); })
      .detach();
  dispatcher->run(nuncio::RunType::RunUntilExit);
  (*workers)->stop();
  return 0;
}
// [main]
