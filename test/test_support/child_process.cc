#include "test/test_support/child_process.h"

#include <cstdio>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

namespace nuncio::test {
namespace {
constexpr unsigned kChildSeconds = 120;  // a child that hangs is killed, so that the test fails in place of hanging
}  // namespace

pid_t startChild(InlineFunction<void(), 64> f) {
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(kChildSeconds);
    f();
    _exit(0);
  }
  return pid;
}

std::string waitForChild(pid_t pid) {
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid) {
    return "no child";
  }
  if (WIFSIGNALED(status)) {
    return absl::StrCat("child killed by signal ", WTERMSIG(status));
  }
  return WEXITSTATUS(status) == 0 ? "" : absl::StrCat("child exited with ", WEXITSTATUS(status));
}

std::string runInChild(InlineFunction<void(), 64> f) { return waitForChild(startChild(std::move(f))); }

void failChild(const char* file, int line, const char* condition) {
  dprintf(STDERR_FILENO, "%s:%d: in the child: %s is false\n", file, line, condition);
  _exit(1);
}

}  // namespace nuncio::test
