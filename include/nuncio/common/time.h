#pragma once

#include <chrono>

namespace nuncio {

// A point in time that never goes back, for deadlines and for measuring; says nothing about the date.
using MonotonicTime = std::chrono::time_point<std::chrono::steady_clock>;

// A point on the calendar, for people and for other machines; may jump.
using SystemTime = std::chrono::time_point<std::chrono::system_clock>;

// TimeSource: where code asks for the time, so that a test can be the one that answers.
//
// Threads: any.
class TimeSource {
public:
  virtual ~TimeSource() = default;

  virtual MonotonicTime monotonicTime() const = 0;
  virtual SystemTime systemTime() const = 0;
};

}  // namespace nuncio
