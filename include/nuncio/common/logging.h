#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "spdlog/spdlog.h"

#include "nuncio/common/no_fork.h"

// Logging on spdlog, with a logger for each layer.
//
//   NUNCIO_LOG(Event, warn, "accept on fd {} failed: {}", fd, strerror(errno));
//   absl::Status status = setLogLevel("event", "debug"); // at run time, by name; "all" sets every layer
//
// A line below its layer's level costs one relaxed load and a branch: its arguments are not evaluated. Levels: trace,
// debug, info (the default), warning, error, critical, off. Lines go to stderr until logger(layer).sinks() is changed,
// which is to be done before dispatchers run. A line for which there is no memory is dropped. Threads: any. A fork
// waits for the lines that other threads are writing, so that a child can log whatever its sinks lock; those need no
// handlers of their own for forks.
namespace nuncio {

enum class LogLayer : uint8_t { Common, Event, Future, Runtime, Network, Exe };
inline constexpr int kLogLayers = static_cast<int>(LogLayer::Exe) + 1;

// The layer's spdlog logger, named "nuncio.<layer>", to change sinks or pattern. Set levels with setLogLevel, not here.
spdlog::logger& logger(LogLayer layer);

// `layer`: common, event, future, runtime, network, exe, or all. `level`: a name from above. InvalidArgument, naming
// what is accepted, when either is unknown; without memory to say so it throws std::bad_alloc.
absl::Status setLogLevel(absl::string_view layer, absl::string_view level);

namespace logging_internal {
// Relaxed throughout: a level says nothing about other memory, and a late change only delays a line.
inline constinit std::array<std::atomic<int>, kLogLayers> levels = {spdlog::level::info, spdlog::level::info,
                                                                    spdlog::level::info, spdlog::level::info,
                                                                    spdlog::level::info, spdlog::level::info};
}  // namespace logging_internal

inline bool logEnabled(LogLayer layer, spdlog::level::level_enum level) {
  return logging_internal::levels[static_cast<int>(layer)].load(std::memory_order_relaxed) <= level;
}

}  // namespace nuncio

#define NUNCIO_LOG(layer_name, level_name, ...)                                                \
  do {                                                                                         \
    if (::nuncio::logEnabled(::nuncio::LogLayer::layer_name, ::spdlog::level::level_name)) {   \
      try {                                                                                    \
        const ::nuncio::NoFork nuncio_no_fork;                                                 \
        ::nuncio::logger(::nuncio::LogLayer::layer_name)                                       \
            .log(::spdlog::source_loc{__FILE__, __LINE__, static_cast<const char*>(__func__)}, \
                 ::spdlog::level::level_name, __VA_ARGS__);                                    \
      } catch (const ::std::bad_alloc&) {                                                      \
      }                                                                                        \
    }                                                                                          \
  } while (false)
