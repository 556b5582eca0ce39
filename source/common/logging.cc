#include "nuncio/common/logging.h"

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "spdlog/sinks/stdout_sinks.h"

namespace nuncio {
namespace {

constexpr std::array<absl::string_view, kLogLayers> kNames = {"common", "event", "future", "runtime", "network", "exe"};

using Loggers = std::array<std::shared_ptr<spdlog::logger>, kLogLayers>;

// Never destroyed: threads that outlive main may still log.
Loggers& loggers() {
  static Loggers& loggers = *[] {
    auto* made = new Loggers;
    auto sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    for (int i = 0; i < kLogLayers; ++i) {
      (*made)[i] = std::make_shared<spdlog::logger>(absl::StrCat("nuncio.", kNames[i]), sink);
      (*made)[i]->set_level(spdlog::level::trace);  // logEnabled decides
      (*made)[i]->set_pattern("[%Y-%m-%d %H:%M:%S.%e] [%t] [%l] [%n] %v");
      (*made)[i]->flush_on(spdlog::level::err);
    }
    return made;
  }();
  return loggers;
}

}  // namespace

spdlog::logger& logger(LogLayer layer) { return *loggers()[static_cast<int>(layer)]; }

absl::Status setLogLevel(absl::string_view layer, absl::string_view level) {
  const spdlog::level::level_enum parsed = spdlog::level::from_str(std::string(level));
  if (parsed == spdlog::level::off && level != "off") {
    return absl::InvalidArgumentError(
        absl::StrCat("unknown log level '", level, "'; one of: trace, debug, info, warning, error, critical, off"));
  }
  bool found = false;
  for (int i = 0; i < kLogLayers; ++i) {
    if (layer == "all" || layer == kNames[i]) {
      logging_internal::levels[i].store(parsed, std::memory_order_relaxed);
      found = true;
    }
  }
  if (!found) {
    return absl::InvalidArgumentError(
        absl::StrCat("unknown log layer '", layer, "'; one of: all, common, event, future, runtime, network, exe"));
  }
  return absl::OkStatus();
}

}  // namespace nuncio
