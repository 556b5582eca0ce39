// Publish and subscribe, with subscribers divided among the workers of a pool, which send each other all that is
// published. It ends in order, whenever that is: everything that was published is delivered.
//
//   tools/bazelw run //examples:pubsub          # until SIGINT or SIGTERM
//   tools/bazelw run //examples:pubsub -- 100   # each worker publishes 100 times

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/gate.h"
#include "nuncio/runtime/sharded.h"
#include "nuncio/runtime/worker_pool.h"

using nuncio::Dispatcher;
using nuncio::DrainReport;
using nuncio::Future;
using nuncio::Gate;
using nuncio::Promise;
using nuncio::Sharded;
using nuncio::WorkerPool;

constexpr std::array<const char*, 3> kTopics = {"news", "sports", "weather"};

// What came of it, of all workers.
struct Totals {
  std::atomic<uint64_t> published{0};
  std::atomic<uint64_t> delivered{0};
};

// [broker]
// What one worker has: its subscribers, and what it publishes.
class Broker {
public:
  Broker(WorkerPool& pool, Dispatcher& worker, Sharded<Broker>& all, Totals& totals)
      : publishing_(worker), all_(all), totals_(totals) {
    pool.addGate(publishing_, "publishing");
  }

  void subscribe(const std::string& topic, std::function<void(const std::string& text)> subscriber) {
    subscribers_[topic].push_back(std::move(subscriber));
  }

  // So many texts (0: without end), one after the other, until the gate is closed.
  Future<void> publish(uint64_t count) {
    return publishing_.with([this, count] { return publishAll(count); });
  }
  void deliver(const std::string& topic, const std::string& text) {
    for (const auto& subscriber : subscribers_[topic]) {
      subscriber(text);
    }
  }

private:
  Future<void> publishAll(uint64_t count) {
    while (!publishing_.closed() && (count == 0 || published_ < count)) {
      const std::string topic = kTopics[published_ % kTopics.size()];
      const std::string text = "number " + std::to_string(published_++);
      ++totals_.published;
      // Each worker has subscribers of its own. None is gone while one of us is inside of its gate.
      Future<void> delivered = all_.callAll([topic, text](Broker& broker) { broker.deliver(topic, text); });
      co_await std::move(delivered);
    }
  }

  Gate publishing_;
  Sharded<Broker>& all_;
  Totals& totals_;
  std::map<std::string, std::vector<std::function<void(const std::string&)>>> subscribers_;
  uint64_t published_ = 0;
};
// [broker]

// On main()'s loop.
class Program {
public:
  Program(Dispatcher& here, WorkerPool& pool) : here_(here), pool_(pool) {}

  Future<void> start() {
    return brokers_.start(pool_, [this](Dispatcher& worker, std::size_t /*index*/) {
      auto broker = std::make_unique<Broker>(pool_, worker, brokers_, totals_);
      for (const char* const topic : kTopics) {
        broker->subscribe(topic, [this](const std::string& /*text*/) { ++totals_.delivered; });
      }
      return broker;
    });
  }
  void publish(uint64_t count) {
    brokers_.callAll([count](Broker& broker) { return broker.publish(count); })
        .then([this] { end_.setValue(); })
        .detach();
  }
  void interrupt() { end_.setValue(); }

  // [drain]
  // Until all is published, or a signal comes.
  Future<bool> run() {
    Future<void> ended = end_.future(here_);
    co_await std::move(ended);
    Future<DrainReport> draining = pool_.drain(std::chrono::seconds(5));
    const DrainReport report = co_await std::move(draining);
    if (!report.ok()) {
      std::fprintf(stderr, "%s\n", report.toString().c_str());
    }
    co_return report.ok();
  }
  // [drain]

  // After run().
  void print() const {
    const uint64_t delivered = totals_.delivered;  // first: a worker that has stalled may go on
    const uint64_t lost = totals_.published * pool_.size() - delivered;
    std::printf("%llu published on %zu workers, %llu lost\n", static_cast<unsigned long long>(totals_.published),
                pool_.size(), static_cast<unsigned long long>(lost));
  }

private:
  Dispatcher& here_;
  WorkerPool& pool_;
  Totals totals_;
  Sharded<Broker> brokers_;
  Promise<void> end_;
};

int main(int argc, char** argv) {
  const uint64_t count = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 0;
  const nuncio::DispatcherPtr dispatcher = nuncio::createDispatcher({.name = "main"});
  absl::StatusOr<std::unique_ptr<WorkerPool>> pool = WorkerPool::create({.threads = 4});
  if (dispatcher == nullptr || !pool.ok()) {
    std::fprintf(stderr, "%s\n", pool.status().ToString().c_str());
    return 1;
  }
  Program program(*dispatcher, **pool);
  std::vector<nuncio::SignalEventPtr> signals;
  for (const int number : {SIGINT, SIGTERM}) {
    auto signal = dispatcher->listenForSignal(number, [&program] { program.interrupt(); });
    if (!signal.ok()) {
      std::fprintf(stderr, "%s\n", signal.status().ToString().c_str());
      return 1;
    }
    signals.push_back(*std::move(signal));
  }
  bool in_order = false;
  dispatcher->post([&] {
    program.start()
        .then([&] {
          std::puts("publishing");
          std::fflush(stdout);
          program.publish(count);
          return program.run();
        })
        .then([&](nuncio::Try<bool>&& ended) {
          in_order = ended.hasValue() && *ended;
          dispatcher->exit();
        })
        .detach();
  });
  dispatcher->run(nuncio::RunType::RunUntilExit);
  program.print();
  return in_order ? 0 : 1;
}
