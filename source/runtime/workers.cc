#include "source/runtime/workers.h"

#include <cstdint>
#include <mutex>
#include <optional>
#include <pthread.h>
#include <sched.h>
#include <source_location>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/logging.h"
#include "nuncio/event/internal/loop_core.h"
#include "nuncio/future/coroutine.h"

namespace nuncio::runtime_internal {

absl::Status Worker::start(int cpu) {
  cpu_ = cpu;
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error& e) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot start ", name(), ": ", e.what()));
  }
  return absl::OkStatus();
}

void Worker::run() {
  current_ = this;
  const std::string name(dispatcher_->name().substr(0, 15));  // the longest that Linux takes
  pthread_setname_np(pthread_self(), name.c_str());
  if (cpu_ >= 0) {
    pin();
  }
  dispatcher_->run(RunType::RunUntilExit);
  if (ends_unposted_.load(std::memory_order_acquire)) {
    runPosted();
  }
  // The gates outlast the list.
  takes_gates_ = false;
  for (LinkedList<DrainedGate>* const list : {&gates_, &closed_gates_}) {
    while (!list->empty()) {
      list->takeFirst();
    }
  }
  dispatcher_->shutdown();
  tellEnded();
}

void Worker::pin() const {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu_, &set);
  if (pthread_setaffinity_np(pthread_self(), sizeof(set), &set) != 0) {
    NUNCIO_LOG(Runtime, warn, "cannot pin {} to CPU {}; it runs on any", name(), cpu_);
  }
}

// Runs what is posted, and what that posts; at some point that is taken for a loop.
void Worker::runPosted() {
  constexpr int kMaxRounds = 1000;
  bool any = true;
  for (int round = 0; any && round < kMaxRounds; ++round) {
    const uint64_t run_before = dispatcher_->stats().posts_run;
    dispatcher_->run(RunType::NonBlock);
    any = dispatcher_->stats().posts_run != run_before;
  }
}

void Worker::exit() {
  if (!dispatcher_->post([dispatcher = dispatcher_.get()] { dispatcher->exit(); }) && !ended()) {
    ends_unposted_.store(true, std::memory_order_release);
    dispatcher_->exit();
  }
}

void Worker::join() {
  const std::lock_guard<std::mutex> lock(join_lock_);
  if (thread_.joinable()) {
    thread_.join();
  } else {
    dispatcher_->shutdown();  // never started
  }
}

void Worker::leaveBehind() {
  const std::lock_guard<std::mutex> lock(join_lock_);
  if (thread_.joinable()) {
    thread_.detach();
  }
}

bool Worker::ended() const {
  const MutexLock lock(end_lock_);
  return ended_;
}

Future<void> Worker::whenEnded(Dispatcher& home) {
  auto [promise, future] = makePromise<void>(home, std::source_location::current());
  const MutexLock lock(end_lock_);
  if (ended_) {
    promise.setValue();
  } else {
    when_ended_ = std::move(promise);
  }
  return std::move(future);
}

// The last that the thread does with this: who has been told may join it, and free this.
void Worker::tellEnded() {
  if (owner_.leftBehind()) {
    return;  // who waits is in the parent
  }
  std::optional<Promise<void>> told;
  {
    const MutexLock lock(end_lock_);
    ended_ = true;
    told = std::move(when_ended_);
  }
  if (told.has_value()) {
    told->setValue();
  }
}

void Worker::add(DrainedGate& gate) {
  if (takes_gates_) {
    gates_.add(gate);
  }
  if (closes_gates_ || !takes_gates_) {
    gate.gate().close().detach();
  }
}

void Worker::closeGates() {
  closes_gates_ = true;
  for (DrainedGate* gate = gates_.empty() ? nullptr : &gates_.first(); gate != nullptr; gate = gates_.after(*gate)) {
    gate->gate().close().detach();
  }
}

Future<void> Worker::gatesLeft() {
  while (!gates_.empty()) {
    if (gates_.first().gate().inside() == 0) {
      closed_gates_.add(gates_.takeFirst());
      continue;
    }
    const uint64_t waits_for = gates_.first().number();
    Future<void> left = gates_.first().gate().close();
    Try<void> result = co_await asTry(std::move(left));
    // It has not gone: there is no memory to wait, or nobody waits for this any more.
    if (result.failed() && !gates_.empty() && gates_.first().number() == waits_for) {
      co_await Future<void>(std::move(result));
    }
  }
}

std::vector<std::string> Worker::stillInside() {
  std::vector<std::string> all;
  for (DrainedGate* gate = gates_.empty() ? nullptr : &gates_.first(); gate != nullptr; gate = gates_.after(*gate)) {
    for (const std::string& holder : gate->gate().whoIsInside()) {
      all.push_back(absl::StrCat(gate->name(), " on ", name(), ": ", holder));
    }
  }
  return all;
}

std::string Worker::callbackName() const { return dispatcher_->loop().callbackName(); }

}  // namespace nuncio::runtime_internal
