#include "source/event/crash_handler.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <utility>

#include "nuncio/common/no_fork.h"
#include "source/event/loop.h"

namespace nuncio {
namespace {

constexpr std::array<int, 5> kFatalSignals = {SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGILL};

std::array<struct sigaction, kFatalSignals.size()> former_actions;
std::atomic<bool> installed{false};  // release/acquire: former_actions come before

std::size_t indexOf(int signal) {
  return static_cast<std::size_t>(std::find(kFatalSignals.begin(), kFatalSignals.end(), signal) -
                                  kFatalSignals.begin());
}

const char* nameOf(int signal) {
  constexpr std::array<const char*, kFatalSignals.size()> kNames = {"SIGSEGV", "SIGABRT", "SIGFPE", "SIGBUS", "SIGILL"};
  return kNames[indexOf(signal)];
}

void dumpLoop(const Loop& loop, CrashOutput& out) {
  // A second crash, in dumpState or on a loop that is itself damaged, ends the process at once.
  const LoopCore::RunScope none(nullptr);
  out << "nuncio: dispatcher " << loop.name() << " was working on " << loop.tracked_depth << " tracked object(s)\n";
  const std::size_t shown = std::min(loop.tracked_depth, Loop::kMaxTracked);
  for (std::size_t i = shown; i-- > 0;) {
    out << "nuncio:   #" << (shown - 1 - i) << " ";
    loop.tracked[i]->dumpState(out);
    out << "\n";
  }
}

void onFatalSignal(int signal, siginfo_t* info, void*) {
  CrashOutput out;
  out << "nuncio: " << nameOf(signal) << " on thread " << static_cast<uint64_t>(syscall(SYS_gettid));
  if (signal == SIGSEGV || signal == SIGBUS) {
    out << ", address " << reinterpret_cast<uintptr_t>(info->si_addr);
  }
  out << "\n";
  sigaction(signal, &former_actions[indexOf(signal)], nullptr);
  if (const Loop* const loop = Loop::runningHere(); loop != nullptr) {
    dumpLoop(*loop, out);
  } else {
    out << "nuncio: no dispatcher runs on this thread\n";
  }
  // Blocked until this handler returns, and then delivered as if this handler had not been there.
  raise(signal);
}

constexpr std::size_t kSignalStackBytes = 64 * 1024;
pthread_key_t signal_stack_key;   // of the memory, owned
bool give_signal_stacks = false;  // there is such a key; both are set before `installed`

void freeSignalStack(void* memory) {
  const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
  if (sigaltstack(&none, nullptr) == 0) {  // else something runs on it
    std::free(memory);
  }
}

// Gives this thread a stack for handlers of signals, until it ends, unless it has one. Without memory it has none, and
// a stack overflow goes unreported. A thread_local object would not do: where there is no memory to note its
// destructor, the C library aborts.
void giveSignalStack() {
  stack_t current{};
  if (sigaltstack(nullptr, &current) != 0 || (current.ss_flags & SS_DISABLE) == 0) {
    return;
  }
  void* const memory = std::malloc(kSignalStackBytes);
  if (memory == nullptr) {
    return;
  }
  const stack_t stack{.ss_sp = memory, .ss_flags = 0, .ss_size = kSignalStackBytes};
  if (pthread_setspecific(signal_stack_key, memory) != 0 || sigaltstack(&stack, nullptr) != 0) {
    (void)pthread_setspecific(signal_stack_key, nullptr);
    std::free(memory);
  }
}

void writeAll(const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(STDERR_FILENO, data, size);
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      return;
    }
    data += written;
    size -= static_cast<std::size_t>(written);
  }
}

}  // namespace

CrashOutput& CrashOutput::operator<<(absl::string_view text) {
  writeAll(text.data(), text.size());
  return *this;
}

CrashOutput& CrashOutput::operator<<(uint64_t number) {
  std::array<char, 20> digits;
  std::size_t first = digits.size();
  do {
    digits[--first] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  writeAll(&digits[first], digits.size() - first);
  return *this;
}

void installCrashHandler() {
  const NoFork no_fork;  // a child could find it begun
  static std::once_flag once;
  std::call_once(once, [] {
    if (pthread_key_create(&signal_stack_key, &freeSignalStack) == 0) {
      give_signal_stacks = true;
    }
    struct sigaction action{};
    action.sa_sigaction = &onFatalSignal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < kFatalSignals.size(); ++i) {
      sigaction(kFatalSignals[i], &action, &former_actions[i]);
    }
    installed.store(true, std::memory_order_release);
  });
}

void prepareThreadForCrash() {
  if (installed.load(std::memory_order_acquire) && give_signal_stacks) {
    thread_local constinit bool looked_at = false;
    if (!std::exchange(looked_at, true)) {
      giveSignalStack();
    }
  }
}

}  // namespace nuncio
