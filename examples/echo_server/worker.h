#pragma once

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <sys/socket.h>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"

#include "examples/echo_server/connection.h"
#include "nuncio/common/file_descriptor.h"
#include "nuncio/event/dispatcher.h"

namespace echo_server {

// However many clients knock at once, those who are connected wait for no more than this many to be let in.
inline constexpr int kAcceptsPerEvent = 32;
inline constexpr int kBacklog = 4096;
inline constexpr std::chrono::milliseconds kAcceptPause{100};
inline constexpr std::chrono::milliseconds kReportDelay{100};

struct Stats {
  uint64_t accepted = 0;
  uint64_t closed = 0;
  uint64_t echoed_bytes = 0;
  uint64_t accept_pauses = 0;
};

// Worker: all that one thread owns: a listening socket and the clients that came by it. The kernel spreads new clients
// over the sockets of all workers (SO_REUSEPORT): workers share nothing, and there is not a lock in this program.
//
// Threads: constructed on any; everything else, the destructor too, on the dispatcher's.
class Worker : public nuncio::DeferredDeletable {
public:
  using ReportCb = std::function<void(const Stats& since_last_report)>;

  Worker(nuncio::Dispatcher& dispatcher, const Limits& limits, nuncio::FileDescriptor listener, ReportCb report)
      : report_(std::move(report)),
        context_{.dispatcher = dispatcher,
                 .limits = limits,
                 .on_echoed = [this](uint64_t bytes) { count().echoed_bytes += bytes; },
                 .on_closed = [this](int fd) { remove(fd); },
                 .scratch = {}},
        listener_(std::move(listener)) {}
  ~Worker() override { report_(stats_); }

  absl::Status start() {
    report_timer_ = dispatcher().createTimer([this] { report_(std::exchange(stats_, {})); });
    resume_timer_ = dispatcher().createTimer([this] {
      if (!accept_event_->setEnabled(nuncio::FileReadyType::Read)) {
        pauseAccepting();
      }
    });
    auto event = dispatcher().createFileEvent(
        listener_.get(), [this](uint32_t) { accept(kAcceptsPerEvent); }, nuncio::FileTriggerType::Level,
        nuncio::FileReadyType::Read);
    if (!event.ok()) {
      return event.status();
    }
    accept_event_ = *std::move(event);
    return absl::OkStatus();
  }

  // Lets nobody in any more, and the others finish. Calls `drained` once the last one is gone.
  void drain(std::function<void()> drained) {
    accept(kBacklog);  // to those in the kernel's queue it looks as if we had answered already
    accept_event_.reset();
    resume_timer_.reset();
    listener_ = {};
    drained_ = std::move(drained);
    context_.draining = true;
    for (auto& [fd, connection] : connections_) {
      connection->restartIdleTimer();
    }
    callIfDrained();
  }

  nuncio::Dispatcher& dispatcher() { return context_.dispatcher; }

private:
  void accept(int limit) {
    for (int i = 0; i < limit; ++i) {
      nuncio::FileDescriptor socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (socket.get() < 0) {
        if (errno == ECONNABORTED) {
          continue;  // a client that did not wait
        }
        if (errno != EAGAIN) {
          pauseAccepting();
        }
        return;
      }
      const int fd = socket.get();
      auto connection = std::make_unique<Connection>(std::move(socket), context_);
      if (!connection->start().ok()) {
        return pauseAccepting();
      }
      connections_.emplace(fd, std::move(connection));
      ++count().accepted;
    }
  }

  // Out of descriptors (EMFILE, ENFILE), memory or epoll's watches. A client that stays in the kernel's queue would be
  // reported again at once and for ever, which would burn a CPU until somebody leaves: we look away for a while.
  void pauseAccepting() {
    accept_event_->setEnabled(0);
    resume_timer_->enableTimer(kAcceptPause);
    ++count().accept_pauses;
  }

  void remove(int fd) {
    dispatcher().deferredDelete(std::move(connections_.extract(fd).mapped()));
    ++count().closed;
    callIfDrained();
  }

  void callIfDrained() {
    if (context_.draining && connections_.empty()) {
      drained_();
    }
  }

  // The statistics, to be changed and soon reported. While nothing changes, nothing wakes up.
  Stats& count() {
    if (!report_timer_->enabled()) {
      report_timer_->enableTimer(kReportDelay);
    }
    return stats_;
  }

  const ReportCb report_;
  Context context_;
  Stats stats_;
  nuncio::TimerPtr report_timer_;
  nuncio::FileDescriptor listener_;
  nuncio::FileEventPtr accept_event_;
  nuncio::TimerPtr resume_timer_;
  std::function<void()> drained_;
  absl::flat_hash_map<int, std::unique_ptr<Connection>> connections_;  // by descriptor
};

}  // namespace echo_server
