#include "source/runtime/thread_stack.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <dlfcn.h>
#include <execinfo.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "absl/debugging/symbolize.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "nuncio/common/mutex.h"
#include "nuncio/common/no_fork.h"

namespace nuncio {
namespace {

constexpr std::size_t kMaxFrames = 64;
constexpr std::size_t kHandlersFrames = 2;  // the handler's own, and the kernel's way back

// What is asked, and answered. It is never freed: a signal may be under way for as long as the thread blocks it.
enum class State : uint8_t { Idle, Asked, Answering, Answered };
struct Question {
  // Who is asked, and how far that is, in one word: a thread that gets the signal late does not answer for another.
  // Acquired by who goes on with what is below, released when that is there.
  static constexpr uint64_t word(int thread, State state) {
    return static_cast<uint64_t>(thread) << 2 | static_cast<uint64_t>(state);
  }
  bool is(State state) const { return (asked.load(std::memory_order_acquire) & 3) == static_cast<uint64_t>(state); }
  bool change(int thread, State from, State to) {
    uint64_t expected = word(thread, from);
    return asked.compare_exchange_strong(expected, word(thread, to), std::memory_order_acq_rel,
                                         std::memory_order_relaxed);
  }

  std::atomic<uint64_t> asked{word(0, State::Idle)};
  int size = 0;
  std::array<void*, kMaxFrames> frames{};
};
constinit Question question;

constinit std::atomic<int> stack_signal{0};  // 0: none yet

// The lock of who asks, and of preparing; taken within NoFork.
Mutex& asking() {
  static constinit Mutex mutex;
  return mutex;
}

void onStackSignal(int /*signal*/) {
  const int saved_errno = errno;
  const auto here = static_cast<int>(::syscall(SYS_gettid));
  if (question.change(here, State::Asked, State::Answering)) {
    question.size = ::backtrace(question.frames.data(), static_cast<int>(kMaxFrames));
    question.change(here, State::Answering, State::Answered);
  }
  errno = saved_errno;
}

// Whether it was answered in time.
bool waitForAnswer() {
  constexpr std::chrono::milliseconds kPatience{50};
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!question.is(State::Answered)) {
    if (std::chrono::steady_clock::now() >= end) {
      return false;
    }
    constexpr timespec kPause{.tv_sec = 0, .tv_nsec = 100'000};
    ::nanosleep(&kPause, nullptr);
  }
  return true;
}

std::string describeAddress(void* address) {
  std::string text = absl::StrCat("0x", absl::Hex(reinterpret_cast<uintptr_t>(address)));
  std::array<char, 512> symbol{};
  if (absl::Symbolize(address, symbol.data(), static_cast<int>(symbol.size()))) {
    absl::StrAppend(&text, " in ", symbol.data());
  }
  Dl_info info{};
  if (::dladdr(address, &info) != 0 && info.dli_fname != nullptr) {
    const absl::string_view path(info.dli_fname);
    const std::size_t offset = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(info.dli_fbase);
    absl::StrAppend(&text, " (", path.substr(path.rfind('/') + 1), "+0x", absl::Hex(offset), ")");
  }
  return text;
}

}  // namespace

absl::Status prepareThreadStacks() {
  const NoFork no_fork;
  const MutexLock lock(asking());
  if (stack_signal.load(std::memory_order_relaxed) != 0) {
    return absl::OkStatus();
  }
  // Its first call loads a library, which a handler must not.
  std::array<void*, 1> frame{};
  ::backtrace(frame.data(), static_cast<int>(frame.size()));
  for (int signal = SIGRTMAX; signal >= SIGRTMIN; --signal) {
    struct sigaction action{};
    if (::sigaction(signal, nullptr, &action) != 0 || (action.sa_flags & SA_SIGINFO) != 0 ||
        action.sa_handler != SIG_DFL) {
      continue;
    }
    action.sa_handler = &onStackSignal;
    action.sa_flags = SA_RESTART | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    if (::sigaction(signal, &action, nullptr) == 0) {
      stack_signal.store(signal, std::memory_order_relaxed);
      return absl::OkStatus();
    }
  }
  return absl::ResourceExhaustedError("all real-time signals have handlers already; a guard dog needs one");
}

int threadStackSignal() { return stack_signal.load(std::memory_order_relaxed); }

std::vector<void*> stackOfThread(int kernel_thread) {
  const NoFork no_fork;
  const MutexLock lock(asking());
  if (question.is(State::Answering)) {
    return {};  // a thread that was asked long ago is still at it
  }
  question.asked.store(Question::word(kernel_thread, State::Asked), std::memory_order_release);
  const bool sent = ::syscall(SYS_tgkill, ::getpid(), kernel_thread, threadStackSignal()) == 0;
  if (!sent || !waitForAnswer()) {
    if (question.change(kernel_thread, State::Asked, State::Idle) || !waitForAnswer()) {
      return {};
    }
  }
  const auto size = static_cast<std::size_t>(std::max(question.size, 0));
  void* const* const frames = question.frames.data();
  return {frames + std::min(kHandlersFrames, size), frames + size};
}

std::vector<std::string> describeStack(const std::vector<void*>& stack) {
  std::vector<std::string> lines;
  lines.reserve(stack.size());
  for (std::size_t i = 0; i < stack.size(); ++i) {
    // A return address may be the first of the next line, or function: the call is before it.
    lines.push_back(describeAddress(static_cast<std::byte*>(stack[i]) - (i == 0 ? 0 : 1)));
  }
  return lines;
}

}  // namespace nuncio
