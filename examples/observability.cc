// Two workers that ask each other, one of which has a callback that takes too long: what a program says of its loops.
//
//   tools/bazelw run //examples:observability
//
// The program of docs/observability.md.

#include <chrono>
#include <cstdio>
#include <latch>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/loop_figures.h"
#include "nuncio/event/loop_trace.h"
#include "nuncio/runtime/guard_dog.h"
#include "nuncio/runtime/worker_pool.h"

using namespace std::chrono_literals;
using nuncio::FigureDetail;
using nuncio::GuardDog;
using nuncio::LoopFigures;
using nuncio::LoopTrace;
using nuncio::StallReport;
using nuncio::WorkerPool;

namespace {

// [figures]
// For the page that a Prometheus server asks for: of all workers, read here, while they go on.
std::string metricsPage(WorkerPool& pool) {
  std::vector<LoopFigures> figures;
  figures.reserve(pool.size());
  for (std::size_t i = 0; i < pool.size(); ++i) {
    figures.push_back(pool.dispatcher(i).figures());
  }
  return nuncio::prometheusText(figures);
}
// [figures]

// [trace]
// What the workers do while `load` runs, as a file for https://ui.perfetto.dev.
template <class Load>
std::string traceOf(WorkerPool& pool, Load load) {
  LoopTrace trace;
  for (std::size_t i = 0; i < pool.size(); ++i) {
    trace.add(pool.dispatcher(i)).IgnoreError();  // else it is not in the picture
  }
  load();
  trace.stop();
  return trace.chromeJson();
}
// [trace]

// Waits on this thread, as main() may.
void pingPong(WorkerPool& pool, int trips) {
  std::latch done(1);
  struct Ball {
    WorkerPool& pool;
    int left;
    std::latch& done;

    void hit(std::size_t worker) {
      pool.dispatcher(worker).post([this, worker] {
        if (--left == 0) {
          done.count_down();
        } else {
          hit(1 - worker);
        }
      });
    }
  } ball{pool, trips, done};
  ball.hit(0);
  done.wait();
}

int run() {
  absl::StatusOr<std::unique_ptr<WorkerPool>> pool =
      WorkerPool::create({.threads = 2, .dispatcher = {.figures = FigureDetail::Iterations}});
  if (!pool.ok()) {
    return 1;
  }
  const std::string picture = traceOf(**pool, [&] { pingPong(**pool, 100); });
  std::printf("the picture has %s\n", absl::StrContains(picture, "\"ph\":\"s\"") ? "arrows" : "no arrows");

  std::latch told(1);
  // [guard_dog]
  nuncio::GuardDogOptions options{.stall = 20ms, .reports_per_minute = 1};
  options.on_event = [&told](const StallReport& report) {
    if (report.kind == StallReport::Kind::Stall) {  // it is in the log, too
      std::printf("%s is stuck\n", report.dispatcher.c_str());
      told.count_down();
    }
  };
  absl::StatusOr<std::unique_ptr<GuardDog>> dog = GuardDog::create(std::move(options));
  if (!dog.ok()) {
    return 1;
  }
  std::vector<GuardDog::Watch> watches;
  watches.reserve((*pool)->size());
  for (std::size_t i = 0; i < (*pool)->size(); ++i) {
    watches.push_back((*dog)->watch((*pool)->dispatcher(i)));
  }
  // [guard_dog]
  (*pool)->dispatcher(1).post([&told] { told.wait(); });  // until the dog has seen it
  told.wait();

  std::printf("%s", absl::StrContains(metricsPage(**pool), "nuncio_loop_posts_total{dispatcher=\"worker_1\"}")
                        ? "there are figures of worker_1\n"
                        : "");
  (*pool)->stop();
  return 0;
}

}  // namespace

int main() { return run(); }
