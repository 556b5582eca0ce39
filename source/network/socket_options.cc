#include "nuncio/network/socket_options.h"

#include <cstdint>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace nuncio::network {

namespace {

constexpr int64_t kMostBytes = int64_t{1} << 30;  // the kernel doubles it
constexpr int64_t kMostKeepAliveSeconds = 32767;
constexpr int64_t kMostKeepAliveProbes = 127;
constexpr int64_t kMostMilliseconds = std::numeric_limits<int>::max();
constexpr int64_t kMostTrafficClass = 255;

// Checks one value after the other, until one is out of its range.
class Checker {
public:
  void within(int64_t value, int64_t least, int64_t most, absl::string_view name, absl::string_view unit = "") {
    if (status_.ok() && (value < least || value > most)) {
      status_ = absl::InvalidArgumentError(
          absl::StrCat("socket option ", name, ": ", value, unit, " is not within ", least, " to ", most, unit));
    }
  }
  void bytesIfAny(std::optional<int> value, absl::string_view name) {
    if (value.has_value()) {
      within(*value, 1, kMostBytes, name);
    }
  }

  absl::Status status() && { return std::move(status_); }

private:
  absl::Status status_;
};

}  // namespace

absl::Status check(const SocketOptions& options) {
  Checker checker;
  if (options.keep_alive.has_value()) {
    checker.within(options.keep_alive->idle.count(), 1, kMostKeepAliveSeconds, "keep_alive.idle", " s");
    checker.within(options.keep_alive->interval.count(), 1, kMostKeepAliveSeconds, "keep_alive.interval", " s");
    checker.within(options.keep_alive->count, 1, kMostKeepAliveProbes, "keep_alive.count");
  }
  checker.bytesIfAny(options.send_buffer_bytes, "send_buffer_bytes");
  checker.bytesIfAny(options.receive_buffer_bytes, "receive_buffer_bytes");
  checker.bytesIfAny(options.not_sent_low_watermark_bytes, "not_sent_low_watermark_bytes");
  if (options.user_timeout.has_value()) {
    checker.within(options.user_timeout->count(), 1, kMostMilliseconds, "user_timeout", " ms");
  }
  if (options.traffic_class.has_value()) {
    checker.within(*options.traffic_class, 0, kMostTrafficClass, "traffic_class");
  }
  return std::move(checker).status();
}

}  // namespace nuncio::network
