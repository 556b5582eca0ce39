#pragma once

#include <chrono>
#include <memory>
#include <source_location>

#include "nuncio/future/future.h"
#include "nuncio/runtime/drain_report.h"
#include "source/runtime/workers.h"

namespace nuncio::runtime_internal {

// What WorkerPool::drain() does, on `home`, whose thread calls. `deadline`: not negative.
Future<DrainReport> drainWorkers(std::shared_ptr<Workers> workers, Dispatcher& home, std::chrono::milliseconds deadline,
                                 std::source_location place);

}  // namespace nuncio::runtime_internal
