#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "spdlog/sinks/base_sink.h"

#include "nuncio/common/logging.h"

namespace nuncio::test {

// LogCapture: keeps what a layer logs while it lives, instead of writing it to stderr.
//
// Threads: construct and destroy it while no other thread logs; text() from any.
class LogCapture {
public:
  explicit LogCapture(LogLayer layer) : layer_(layer), sink_(std::make_shared<Sink>()), former_(logger(layer).sinks()) {
    logger(layer).sinks() = {sink_};
  }
  ~LogCapture() { logger(layer_).sinks() = former_; }
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

  // One line a record: "[level] message".
  std::string text() const { return sink_->text(); }
  bool contains(absl::string_view part) const { return text().find(std::string(part)) != std::string::npos; }

private:
  class Sink : public spdlog::sinks::base_sink<std::mutex> {
  public:
    std::string text() {
      std::lock_guard<std::mutex> lock(mutex_);
      return text_;
    }

  protected:
    void sink_it_(const spdlog::details::log_msg& message) override {
      const auto level = spdlog::level::to_string_view(message.level);
      text_.append("[").append(level.data(), level.size()).append("] ");
      text_.append(message.payload.data(), message.payload.size()).append("\n");
    }
    void flush_() override {}

  private:
    std::string text_;
  };

  const LogLayer layer_;
  const std::shared_ptr<Sink> sink_;
  std::vector<spdlog::sink_ptr> former_;
};

}  // namespace nuncio::test
