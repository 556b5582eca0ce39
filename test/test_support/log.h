#pragma once

#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace nuncio::test {

// Log: what happened, on whatever thread, in order.
class Log {
public:
  void add(const std::string& line) {
    const std::lock_guard<std::mutex> guard(lock_);
    lines_.push_back(line);
  }
  std::vector<std::string> take() {
    const std::lock_guard<std::mutex> guard(lock_);
    return std::exchange(lines_, {});
  }

private:
  std::mutex lock_;
  std::vector<std::string> lines_;
};

}  // namespace nuncio::test
