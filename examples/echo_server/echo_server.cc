// Echo server: sends back what it is sent, with a thread and a listening socket for each CPU.
//
//   tools/bazelw run -c opt //examples:echo_server
//   printf 'hello\n' | nc -q1 127.0.0.1 8007
//
// connection.h is one client, worker.h is what one thread owns, this file the main thread. Threads talk by post().

#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <netinet/tcp.h>
#include <string>
#include <sys/socket.h>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

#include "examples/echo_server/worker.h"
#include "nuncio/common/file_descriptor.h"
#include "nuncio/common/logging.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/event/loop_trace.h"
#include "nuncio/runtime/worker_pool.h"

ABSL_FLAG(std::string, address, "127.0.0.1", "IPv4 address to listen on; 0.0.0.0 for all");
ABSL_FLAG(uint16_t, port, 8007, "port to listen on; 0 takes any free one");
ABSL_FLAG(uint16_t, workers, 0, "threads; 0 is one for each CPU");
ABSL_FLAG(uint32_t, max_buffer, 64 * 1024, "bytes kept for a client that does not read, at least 1");
ABSL_FLAG(absl::Duration, idle_timeout, absl::Minutes(1), "a client that neither sends nor reads is closed after this");
ABSL_FLAG(absl::Duration, drain_timeout, absl::Seconds(5), "how long SIGINT and SIGTERM wait for clients to finish");
ABSL_FLAG(std::string, trace, "",
          "file for a picture of the last moments before the stop, for https://ui.perfetto.dev");
ABSL_FLAG(std::string, log_level, "warning", "of the library: trace, debug, info, warning, error, critical or off");

namespace echo_server {
namespace {

// What fails at the start ends the program.
[[noreturn]] void die(const absl::Status& status) {
  absl::FPrintF(stderr, "echo_server: %s\n", status.message());
  std::_Exit(1);  // no destructors: other threads may run already
}

template <class T>
T orDie(absl::StatusOr<T> result) {
  if (!result.ok()) {
    die(result.status());
  }
  return *std::move(result);
}

// Listens on `address`, and stores in it the port that was chosen if it was 0.
absl::StatusOr<nuncio::FileDescriptor> createListener(sockaddr_in& address, bool first) {
  nuncio::FileDescriptor listener(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const auto set = [&listener, on = 1](int level, int option) {
    return ::setsockopt(listener.get(), level, option, &on, sizeof(on)) == 0;
  };
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof(address);
  // The first takes the port for itself and shares it afterwards: else a second server could join it unnoticed.
  const bool listening = set(SOL_SOCKET, SO_REUSEADDR) && (first || set(SOL_SOCKET, SO_REUSEPORT)) &&
                         ::bind(listener.get(), generic, size) == 0 && set(SOL_SOCKET, SO_REUSEPORT) &&
                         set(IPPROTO_TCP, TCP_NODELAY) &&  // accepted sockets inherit it
                         ::listen(listener.get(), kBacklog) == 0 && ::getsockname(listener.get(), generic, &size) == 0;
  if (listening) {
    return listener;
  }
  const int error = errno;
  const char* const advice = error == EADDRINUSE ? "; stop the server that has it, or choose another with --port" : "";
  return absl::UnavailableError(absl::StrCat("cannot listen on ", inet_ntoa(address.sin_addr), " port ",
                                             ntohs(address.sin_port), ": ", std::strerror(error), advice));
}

// Server: the main thread, which starts the workers, adds up what they report, and stops them.
class Server {
public:
  // Returns when a signal has stopped the server and its clients are served.
  void run() {
    start();
    main_->run(nuncio::RunType::RunUntilExit);
    for (auto& worker : workers_) {
      // Its sockets and timers belong to its dispatcher's thread, so that is where it is destroyed.
      nuncio::Dispatcher& dispatcher = worker->dispatcher();
      dispatcher.deleteInDispatcherThread(std::move(worker));
    }
    pool_->stop();
    main_->run(nuncio::RunType::NonBlock);  // the workers' last reports
    if (const std::string file = absl::GetFlag(FLAGS_trace); !file.empty()) {
      trace_.stop();
      if (!(std::ofstream(file) << trace_.chromeJson() << std::flush)) {
        absl::FPrintF(stderr, "echo_server: cannot write --trace=%s\n", file);
      }
    }
    absl::PrintF("stopped; ");
    print();
  }

private:
  void start() {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(absl::GetFlag(FLAGS_port));
    if (const std::string text = absl::GetFlag(FLAGS_address); !inet_aton(text.c_str(), &address.sin_addr)) {
      die(absl::InvalidArgumentError(absl::StrCat("--address=", text, " is not an IPv4 address such as 127.0.0.1")));
    }
    const Limits limits{.max_buffer = absl::GetFlag(FLAGS_max_buffer),
                        .idle_timeout = absl::ToChronoMilliseconds(absl::GetFlag(FLAGS_idle_timeout))};
    const auto report = [this](const Stats& stats) { main_->post([this, stats] { add(stats); }); };
    for (size_t i = 0; i < pool_->size(); ++i) {
      nuncio::FileDescriptor listener = orDie(createListener(address, i == 0));
      workers_.push_back(std::make_unique<Worker>(pool_->dispatcher(i), limits, std::move(listener), report));
    }
    if (!absl::GetFlag(FLAGS_trace).empty()) {
      traceAll();
    }
    for (const auto& worker : workers_) {
      worker->dispatcher().post([worker = worker.get()] {
        if (absl::Status status = worker->start(); !status.ok()) {
          die(status);
        }
      });
    }
    const char* const host = inet_ntoa(address.sin_addr);
    absl::PrintF("listening on %s:%d with %d workers; stop with Ctrl-C\n", host, ntohs(address.sin_port),
                 pool_->size());
    absl::PrintF("try: printf 'hello\\n' | nc -q1 %s %d\n", host, ntohs(address.sin_port));
  }

  void traceAll() {
    for (const auto& worker : workers_) {
      if (absl::Status status = trace_.add(worker->dispatcher()); !status.ok()) {
        die(status);
      }
    }
    if (absl::Status status = trace_.add(*main_); !status.ok()) {
      die(status);
    }
  }

  void drain() {
    if (std::exchange(draining_, true)) {
      main_->exit();  // asked twice: no more waiting
      return;
    }
    absl::PrintF("waiting for clients to finish; Ctrl-C again to stop at once\n");
    workers_with_clients_ = workers_.size();
    drain_timer_->enableTimer(absl::ToChronoMilliseconds(absl::GetFlag(FLAGS_drain_timeout)));
    const auto drained = [this] {
      main_->post([this] {
        if (--workers_with_clients_ == 0) {
          main_->exit();
        }
      });
    };
    for (const auto& worker : workers_) {
      worker->dispatcher().post([worker = worker.get(), drained] { worker->drain(drained); });
    }
  }

  void add(const Stats& stats) {
    total_.accepted += stats.accepted;
    total_.closed += stats.closed;
    total_.echoed_bytes += stats.echoed_bytes;
    total_.accept_pauses += stats.accept_pauses;
    if (!print_timer_->enabled()) {
      print_timer_->enableTimer(std::chrono::seconds(1));
    }
  }

  void print() const {
    absl::PrintF("clients: %d now, %d in all; echoed %d bytes", total_.accepted - total_.closed, total_.accepted,
                 total_.echoed_bytes);
    if (total_.accept_pauses > 0) {
      absl::PrintF("; %d pauses for want of descriptors (ulimit -n)", total_.accept_pauses);
    }
    absl::PrintF("\n");
  }

  const nuncio::DispatcherPtr main_ = orDie(nuncio::tryCreateDispatcher({.name = "main"}));
  const nuncio::SignalEventPtr sigint_ = orDie(main_->listenForSignal(SIGINT, [this] { drain(); }));
  const nuncio::SignalEventPtr sigterm_ = orDie(main_->listenForSignal(SIGTERM, [this] { drain(); }));
  const nuncio::TimerPtr print_timer_ = main_->createTimer([this] { print(); });
  const nuncio::TimerPtr drain_timer_ = main_->createTimer([this] { main_->exit(); });
  Stats total_;
  bool draining_ = false;
  size_t workers_with_clients_ = 0;  // while draining
  std::vector<std::unique_ptr<Worker>> workers_;
  const std::unique_ptr<nuncio::WorkerPool> pool_ =
      orDie(nuncio::WorkerPool::create({.threads = absl::GetFlag(FLAGS_workers)}));
  nuncio::LoopTrace trace_;
};

absl::Status checkFlags() {
  if (absl::GetFlag(FLAGS_max_buffer) == 0 || absl::GetFlag(FLAGS_idle_timeout) < absl::Milliseconds(1) ||
      absl::GetFlag(FLAGS_drain_timeout) < absl::ZeroDuration()) {
    return absl::InvalidArgumentError("at least: --max_buffer=1, --idle_timeout=1ms, --drain_timeout=0");
  }
  return nuncio::setLogLevel("all", absl::GetFlag(FLAGS_log_level));
}

}  // namespace
}  // namespace echo_server

int main(int argc, char** argv) {
  absl::SetProgramUsageMessage("Sends back what it is sent.");
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  if (arguments.size() > 1) {
    echo_server::die(absl::InvalidArgumentError(absl::StrCat("unexpected argument ", arguments[1], "; see --help")));
  }
  if (const absl::Status status = echo_server::checkFlags(); !status.ok()) {
    echo_server::die(status);
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // also into a pipe
  echo_server::Server().run();
}
