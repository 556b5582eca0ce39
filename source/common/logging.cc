#include "nuncio/common/logging.h"

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>

#include "absl/strings/str_cat.h"
#include "spdlog/sinks/base_sink-inl.h"  // for a mutex of our own

#include "source/common/made_once.h"

namespace nuncio {
namespace {

constexpr std::array<absl::string_view, kLogLayers> kNames = {"common", "event", "future", "runtime", "network", "exe"};

using Loggers = std::array<std::shared_ptr<spdlog::logger>, kLogLayers>;

// A lock that no child of a fork finds taken.
class SinkMutex {
public:
  void lock() {
    NoFork::enter();
    mutex_.lock();
  }
  void unlock() {
    mutex_.unlock();
    NoFork::leave();
  }

private:
  std::mutex mutex_;
};

// Not spdlog's: all of its console sinks share a lock, also with those that the program uses without us, so that a
// child could find it taken.
class StderrSink final : public spdlog::sinks::base_sink<SinkMutex> {
protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    // There is nowhere to say that it failed.
    (void)std::fwrite(line.data(), 1, line.size(), stderr);
    flush_();
  }
  void flush_() override { (void)std::fflush(stderr); }
};

constinit MadeOnce<Loggers> made_loggers;

Loggers* makeLoggers() {
  auto made = std::make_unique<Loggers>();
  auto sink = std::make_shared<StderrSink>();
  for (int i = 0; i < kLogLayers; ++i) {
    (*made)[i] = std::make_shared<spdlog::logger>(absl::StrCat("nuncio.", kNames[i]), sink);
    (*made)[i]->set_level(spdlog::level::trace);  // logEnabled decides
    (*made)[i]->set_pattern("[%Y-%m-%d %H:%M:%S.%e] [%t] [%l] [%n] %v");
    (*made)[i]->flush_on(spdlog::level::err);
  }
  return made.release();
}

// Never destroyed: threads that outlive main may still log.
Loggers& loggers() { return made_loggers.get(&makeLoggers); }

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
