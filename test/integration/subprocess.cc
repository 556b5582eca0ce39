#include "test/integration/subprocess.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <poll.h>
#include <sstream>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace nuncio {

using std::chrono::steady_clock;

Subprocess::Subprocess(const std::vector<std::string>& command, unsigned max_descriptors) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    std::abort();
  }
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& argument : command) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(ends[1], STDOUT_FILENO);
    ::dup2(ends[1], STDERR_FILENO);
    if (max_descriptors > 0) {
      const rlimit limit{max_descriptors, max_descriptors};
      ::setrlimit(RLIMIT_NOFILE, &limit);
    }
    ::execv(arguments[0], arguments.data());
    ::perror(arguments[0]);
    ::_exit(127);
  }
  ::close(ends[1]);
  pipe_ = ends[0];
}

Subprocess::~Subprocess() {
  if (!exit_code_.has_value()) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  ::close(pipe_);
}

bool Subprocess::readMore(steady_clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now()).count();
  pollfd readable{pipe_, POLLIN, 0};
  if (::poll(&readable, 1, static_cast<int>(std::max<int64_t>(left, 0))) <= 0) {
    return false;
  }
  char buffer[4096];
  const ssize_t size = ::read(pipe_, buffer, sizeof(buffer));
  output_.append(buffer, static_cast<size_t>(std::max<ssize_t>(size, 0)));
  return size > 0;
}

std::optional<std::string> Subprocess::readLine() {
  const auto deadline = steady_clock::now() + kTestPatience;
  size_t end;
  while ((end = output_.find('\n', line_start_)) == std::string::npos) {
    if (!readMore(deadline)) {
      return std::nullopt;
    }
  }
  std::string line = output_.substr(line_start_, end - line_start_);
  line_start_ = end + 1;
  return line;
}

bool Subprocess::waitForLineWith(const std::string& text) {
  while (const std::optional<std::string> line = readLine()) {
    if (line->find(text) != std::string::npos) {
      return true;
    }
  }
  return false;
}

std::optional<int> Subprocess::waitForExit() {
  const auto deadline = steady_clock::now() + kTestPatience;
  while (readMore(deadline)) {
    // Until the end of the output, which is that of the program.
  }
  while (!exit_code_.has_value()) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    } else if (steady_clock::now() > deadline) {
      break;
    } else {
      // Between two looks, not a wait for something: there is no way to sleep until a child ends or a time comes.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  return exit_code_;
}

void Subprocess::signal(int number) const { ::kill(pid_, number); }

std::chrono::milliseconds Subprocess::cpuTime() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  // Fields 14 and 15, utime and stime. The second one, the name, may hold anything, but it ends with the last ')'.
  std::istringstream fields(text.substr(text.rfind(')') + 1));
  std::string skipped;
  for (int field = 3; field < 14; ++field) {
    fields >> skipped;
  }
  int64_t user = 0;
  int64_t system = 0;
  fields >> user >> system;
  return std::chrono::milliseconds((user + system) * 1000 / ::sysconf(_SC_CLK_TCK));
}

size_t Subprocess::residentBytes() const {
  std::ifstream file("/proc/" + std::to_string(pid_) + "/statm");
  size_t size = 0;
  size_t resident = 0;
  file >> size >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

}  // namespace nuncio
