// Processes: a parent that forks workers, stops them, and waits for their end; each goes on with the loop it was forked
// with, and gets the signals that are sent to it.
//
//   tools/bazelw run //examples:prefork

#include <chrono>
#include <csignal>
#include <cstdio>
#include <set>
#include <sys/wait.h>
#include <unistd.h>

#include "absl/status/statusor.h"

#include "nuncio/event/dispatcher.h"

int main() {
  nuncio::DispatcherPtr dispatcher = nuncio::createDispatcher({.name = "prefork"});
  if (dispatcher == nullptr) {
    return 1;  // the log says why
  }

  // Made before the fork, so that no worker is ever without it: SIGTERM ends the run of the process it is sent to.
  absl::StatusOr<nuncio::SignalEventPtr> stop = dispatcher->listenForSignal(SIGTERM, [&] { dispatcher->exit(); });
  std::set<pid_t> workers;
  absl::StatusOr<nuncio::SignalEventPtr> worker_ended = dispatcher->listenForSignal(SIGCHLD, [&] {
    int how = 0;
    for (pid_t worker; (worker = waitpid(-1, &how, WNOHANG)) > 0;) {  // equal signals may merge: all that have ended
      workers.erase(worker);
      std::printf("a worker has ended with %d\n", WEXITSTATUS(how));
    }
    if (workers.empty()) {
      dispatcher->exit();
    }
  });
  if (!stop.ok() || !worker_ended.ok()) {
    return 1;
  }

  for (int number = 0; number < 3; ++number) {
    const pid_t worker = fork();
    if (worker == 0) {
      worker_ended->reset();  // what is to be the parent's alone
      dispatcher->run(nuncio::RunType::RunUntilExit);
      _exit(0);
    }
    workers.insert(worker);
  }

  nuncio::TimerPtr enough = dispatcher->createTimer([&] {
    for (const pid_t worker : workers) {
      kill(worker, SIGTERM);
    }
  });
  enough->enableTimer(std::chrono::milliseconds(50));
  dispatcher->run(nuncio::RunType::RunUntilExit);
  std::puts("all workers have ended");
}
