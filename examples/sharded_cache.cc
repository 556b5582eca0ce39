// A cache that is divided among the workers of a pool: each key belongs to one of them, which alone touches it.

#include <cstddef>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/call.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/runtime/foreign.h"
#include "nuncio/runtime/sharded.h"
#include "nuncio/runtime/worker_pool.h"

using nuncio::Dispatcher;
using nuncio::Foreign;
using nuncio::Future;
using nuncio::Sharded;
using nuncio::WorkerPool;

// [call]
// On any thread that runs a dispatcher: computed there, and continued here.
Future<int> twice(Dispatcher& worker, int number) {
  Future<int> answer = nuncio::call(worker, [number] { return 2 * number; });
  co_return co_await std::move(answer);
}
// [call]

// [shard]
// What one worker has of the cache. There is no lock: nobody else touches it.
class Shard {
public:
  void put(const std::string& key, const std::string& value) { values_[key] = value; }
  absl::StatusOr<std::string> get(const std::string& key) const {
    const auto found = values_.find(key);
    if (found == values_.end()) {
      return absl::NotFoundError("nothing is called " + key);
    }
    return found->second;
  }
  std::size_t size() const { return values_.size(); }

private:
  std::map<std::string, std::string> values_;
};
// [shard]

// [cache]
class Cache {
public:
  Future<void> start(WorkerPool& pool) {
    return shards_.start(pool, [](Dispatcher& /*worker*/, std::size_t /*index*/) { return std::make_unique<Shard>(); });
  }
  Future<void> put(const std::string& key, const std::string& value) {
    return shards_.call(ownerOf(key), [key, value](Shard& shard) { shard.put(key, value); });
  }
  Future<std::string> get(const std::string& key) {
    return shards_.call(ownerOf(key), [key](Shard& shard) { return shard.get(key); });
  }
  Future<std::size_t> size() {
    return shards_.mapReduce([](Shard& shard) { return shard.size(); }, std::size_t{0}, std::plus<>());
  }
  Future<void> stop() { return shards_.stop(); }

private:
  std::size_t ownerOf(const std::string& key) const { return std::hash<std::string>()(key) % shards_.size(); }

  Sharded<Shard> shards_;
};
// [cache]

// [foreign]
// A log that is written by one worker, and may be given up anywhere.
class Log {
public:
  void add(const std::string& line) { lines_ += line + "\n"; }
  ~Log() { std::fputs(lines_.c_str(), stdout); }

private:
  std::string lines_;
};

Future<Foreign<Log>> openLog(Dispatcher& writer) {
  return nuncio::call(writer, [&writer] { return Foreign<Log>(std::make_unique<Log>(), writer); });
}
Future<void> addTo(Dispatcher& writer, const Foreign<Log>& log, std::string line) {
  return nuncio::call(writer, [to = log.get(), line = std::move(line)] { to->add(line); });
}
// [foreign]

// On a worker's thread.
Future<void> useIt(Dispatcher& writer, Cache& cache) {
  Future<Foreign<Log>> opening = openLog(writer);
  const Foreign<Log> log = co_await std::move(opening);
  for (const std::string word : {"one", "two", "three"}) {
    Future<void> stored = cache.put(word, word + word);
    co_await std::move(stored);
    Future<std::string> found = cache.get(word);
    Future<void> logged = addTo(writer, log, co_await std::move(found));
    co_await std::move(logged);
  }
  Future<int> doubled = twice(writer, 21);
  const int answer = co_await std::move(doubled);
  Future<void> logged = addTo(writer, log, std::to_string(answer));
  co_await std::move(logged);
}

int main() {
  absl::StatusOr<std::unique_ptr<WorkerPool>> pool = WorkerPool::create({.threads = 3});
  if (!pool.ok()) {
    std::fprintf(stderr, "%s\n", pool.status().ToString().c_str());
    return 1;
  }
  // main() runs no dispatcher, and so may wait.
  Cache cache;
  if (const absl::Status started = cache.start(**pool).get().status(); !started.ok()) {
    std::fprintf(stderr, "%s\n", started.ToString().c_str());
    return 1;
  }
  Dispatcher& first = (*pool)->dispatcher(0);
  Dispatcher& writer = (*pool)->dispatcher(2);
  Future<void> used = nuncio::submit(first, [&] { return useIt(writer, cache); }).via(first);
  const bool ok = std::move(used).get().hasValue();
  std::printf("%zu entries\n", *cache.size().get());
  const bool stopped = cache.stop().get().hasValue();
  (*pool)->stop();
  return ok && stopped ? 0 : 1;
}
