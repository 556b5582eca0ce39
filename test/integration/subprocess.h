#pragma once

#include <chrono>
#include <csignal>
#include <cstddef>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace nuncio {

// How long a test waits for what must happen: long enough for a loaded machine and a sanitizer, and never waited for in
// full when all is well.
inline constexpr std::chrono::seconds kTestPatience{60};

// Subprocess: a program under test, with its stdout and stderr in one pipe. The destructor kills it.
class Subprocess {
public:
  // `max_descriptors`: the program's `ulimit -n`; 0 leaves it as it is.
  explicit Subprocess(const std::vector<std::string>& command, unsigned max_descriptors = 0);
  ~Subprocess();
  Subprocess(const Subprocess&) = delete;
  Subprocess& operator=(const Subprocess&) = delete;

  // Waits for the next line, which is returned without its end; nothing when the output has ended or patience has.
  std::optional<std::string> readLine();
  // Waits for a line that contains `text`. All that came before is skipped.
  bool waitForLineWith(const std::string& text);
  // Waits until the program has ended; its exit code, 128 + n when signal n ended it, or nothing when patience ended.
  std::optional<int> waitForExit();
  void signal(int number) const;

  // What was printed so far, and read by one of the functions above.
  const std::string& output() const { return output_; }

  // What the program used of the CPU until now.
  std::chrono::milliseconds cpuTime() const;
  // How much memory it occupies.
  size_t residentBytes() const;

private:
  bool readMore(std::chrono::steady_clock::time_point deadline);

  pid_t pid_ = -1;
  int pipe_ = -1;
  std::optional<int> exit_code_;
  std::string output_;
  size_t line_start_ = 0;
};

}  // namespace nuncio
