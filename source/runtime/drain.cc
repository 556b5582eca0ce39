#include "source/runtime/drain.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <memory>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/common/time.h"
#include "nuncio/future/call.h"
#include "nuncio/future/cancellation.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/time.h"
#include "source/common/errno_status.h"

namespace nuncio {
namespace runtime_internal {
namespace {

using std::chrono::nanoseconds;

// After the deadline: how long workers may take to answer, then to end, and what is left to be destroyed. Each has its
// own, since a worker that takes all of it is not to make the others look stalled.
constexpr std::chrono::seconds kPatience{1};
constexpr std::chrono::hours kLongest{24 * 365 * 68};

// A drain() that is under way, on the loop of who called it. Shared by its steps, of which some are given up at the
// deadline, and may be under way still.
class Drain : public std::enable_shared_from_this<Drain> {
public:
  Drain(std::shared_ptr<Workers> workers, Dispatcher& home, std::chrono::milliseconds deadline,
        std::source_location place)
      : workers_(std::move(workers)),
        home_(home),
        place_(place),
        began_(now()),
        end_(began_ + std::min<nanoseconds>(future_internal::inNanoseconds(deadline), kLongest)),
        answers_(workers_->all().size()),
        stalled_(workers_->all().size()) {}

  static Future<DrainReport> run(std::shared_ptr<Drain> drain);

private:
  // What a worker said at the deadline, lines on who is inside; not ready: nothing.
  using Answer = Try<std::vector<std::string>>;

  MonotonicTime now() const { return home_.timeSource().monotonicTime(); }
  nanoseconds left() const { return std::max(nanoseconds(0), nanoseconds(end_ - now())); }
  Worker& worker(std::size_t index) { return workers_->all()[index]; }

  static Future<void> closeGates(const std::shared_ptr<Drain>& drain);
  static Future<bool> stopAll(std::shared_ptr<Drain> drain);
  static Future<void> ask(const std::shared_ptr<Drain>& drain);
  void noteAnswer(std::size_t index);
  void noteTheRest();
  Future<void> whenEnded();
  Future<void> stop(Stoppable& stoppable);
  static Future<void> destroyTheRest(std::shared_ptr<Drain> drain);
  void abandonTheRest();
  void noteStalled(std::size_t index);

  const std::shared_ptr<Workers> workers_;
  Dispatcher& home_;
  const std::source_location place_;
  const MonotonicTime began_;
  const MonotonicTime end_;
  std::vector<Answer> answers_;
  std::vector<bool> stalled_;
  std::shared_ptr<Stoppable> stopping_;  // what was not in time
  DrainReport report_;
};

// Whether all of it is done within `limit`, and has not failed. What is not is asked to stop, and left alone.
Future<bool> inTime(Future<void> future, nanoseconds limit) {
  Future<void> limited = within(abandon(std::move(future)), limit);
  Try<void> result = co_await asTry(std::move(limited));
  const bool in_time = result.hasValue();
  if (!in_time && !absl::IsDeadlineExceeded(result.status())) {
    co_await Future<void>(std::move(result));
  }
  co_return in_time;
}

// When all of `futures` are done, whatever comes of them.
Future<void> allEnded(std::vector<Future<void>> futures) {
  return collectAll(std::move(futures)).then([](const std::vector<Try<void>>& /*results*/) {});
}

Future<DrainReport> Drain::run(std::shared_ptr<Drain> drain) {
  Drain& self = *drain;
  Workers& workers = *self.workers_;
  workers.stoppables()->close();
  Future<bool> gates_closed = inTime(closeGates(drain), self.left());
  bool in_time = co_await std::move(gates_closed);
  if (in_time) {
    Future<bool> stopped = stopAll(drain);
    in_time = co_await std::move(stopped);
  }
  if (!in_time && !workers.leftBehind()) {
    Future<bool> asked = inTime(ask(drain), kPatience);
    static_cast<void>(co_await std::move(asked));
    for (std::size_t i = 0; i < self.answers_.size(); ++i) {
      self.noteAnswer(i);
    }
    self.noteTheRest();
  }
  if (workers.leftBehind()) {
    Future<DrainReport> failed = makeFailedFuture<DrainReport>(
        absl::FailedPreconditionError("WorkerPool::drain: the workers are in the parent of this process"), self.place_);
    co_return co_await std::move(failed);
  }
  for (Worker& worker : workers.all()) {
    worker.exit();
  }
  Future<bool> ended = inTime(self.whenEnded(), in_time ? std::max<nanoseconds>(self.left(), kPatience) : kPatience);
  static_cast<void>(co_await std::move(ended));
  for (std::size_t i = 0; i < self.answers_.size() && !workers.leftBehind(); ++i) {
    if (self.worker(i).ended()) {
      self.worker(i).join();
    } else {
      self.noteStalled(i);
      self.worker(i).setStalled();
    }
  }
  if (!in_time && self.report_.stalled_workers.empty()) {
    Future<bool> destroyed = inTime(destroyTheRest(drain), kPatience);
    static_cast<void>(co_await std::move(destroyed));
  }
  self.abandonTheRest();
  self.report_.waited = self.now() - self.began_;
  co_return std::move(self.report_);
}

// Done when all have left the gates of workers that are there. The closing is a post, which comes to pass also where
// the worker gets to it after the deadline; only the waiting is given up.
Future<void> Drain::closeGates(const std::shared_ptr<Drain>& drain) {
  std::vector<Future<void>> closed;
  for (Worker& worker : drain->workers_->all()) {
    if (!worker.dispatcher().post([&worker] { worker.closeGates(); }) && worker.dispatcher().handle().alive()) {
      return makeFailedFuture<void>(noMemoryStatus("closing the gates of a worker"));
    }
    closed.push_back(call(worker.dispatcher(), [drain, &worker] { return worker.gatesLeft(); }));
  }
  return collectAll(std::move(closed)).then([drain](std::vector<Try<void>> results) {
    for (std::size_t i = 0; i < results.size(); ++i) {
      if (results[i].failed() && drain->worker(i).dispatcher().handle().alive()) {
        return std::move(results[i]);
      }
    }
    return Try<void>(Unit());
  });
}

// Whether all has stopped in time. After the deadline no stop() begins.
Future<bool> Drain::stopAll(std::shared_ptr<Drain> drain) {
  Stoppables& stoppables = *drain->workers_->stoppables();
  while (const std::shared_ptr<Stoppable> last = stoppables.last()) {
    if (drain->left() == nanoseconds(0)) {
      co_return false;
    }
    Future<bool> stopped = inTime(drain->stop(*last), drain->left());
    const bool in_time = co_await std::move(stopped);
    if (!in_time) {
      drain->report_.still_stopping.push_back(last->name());
      last->abandon();
      drain->stopping_ = last;
      co_return false;
    }
    stoppables.remove(*last);
  }
  co_return true;
}

// Done when it has stopped, here; a failure on the way goes to the report.
Future<void> Drain::stop(Stoppable& stoppable) {
  return stoppable.stop(place_).via(home_).then([drain = shared_from_this(), stopped = &stoppable](Try<void>&& result) {
    // One that is there still lacked memory for it.
    if (const std::shared_ptr<Stoppable> last = drain->workers_->stoppables()->last();
        result.failed() && last.get() != stopped) {
      drain->report_.failures.push_back(absl::StrCat(stopped->name(), ": ", result.status().ToString()));
      return Try<void>(Unit());
    }
    return std::move(result);
  });
}

Future<void> Drain::ask(const std::shared_ptr<Drain>& drain) {
  std::vector<Future<void>> asked;
  for (std::size_t i = 0; i < drain->answers_.size(); ++i) {
    Worker& worker = drain->worker(i);
    asked.push_back(
        call(worker.dispatcher(), [drain, &worker] {
          return worker.stillInside();
        }).then([drain, i](Try<std::vector<std::string>>&& answer) { drain->answers_[i] = std::move(answer); }));
  }
  return allEnded(std::move(asked));
}

// A worker that has gone has nobody inside; of one that could not tell, nothing is known.
void Drain::noteAnswer(std::size_t index) {
  Answer& answer = answers_[index];
  if (!answer.ready()) {
    noteStalled(index);
  } else if (answer.hasValue()) {
    std::move(answer->begin(), answer->end(), std::back_inserter(report_.still_inside));
  } else if (worker(index).dispatcher().handle().alive()) {
    report_.still_inside.push_back(
        absl::StrCat(worker(index).name(), ": who is inside is not known: ", answer.status().ToString()));
  }
}

// What waits for its turn, which does not come.
void Drain::noteTheRest() {
  const std::vector<std::shared_ptr<Stoppable>> all = workers_->stoppables()->all();
  for (auto next = all.rbegin(); next != all.rend(); ++next) {
    if (*next != stopping_) {
      report_.still_stopping.push_back((*next)->name());
    }
  }
}

// Of the workers that answer.
Future<void> Drain::whenEnded() {
  std::vector<Future<void>> ended;
  for (std::size_t i = 0; i < answers_.size(); ++i) {
    if (!stalled_[i]) {
      ended.push_back(worker(i).whenEnded(home_));
    }
  }
  return allEnded(std::move(ended));
}

// What is left, when all loops have been shut down, and so nothing uses it any more.
Future<void> Drain::destroyTheRest(std::shared_ptr<Drain> drain) {
  Stoppables& stoppables = *drain->workers_->stoppables();
  // The first one may have come to its end meanwhile, and not be among them.
  std::shared_ptr<Stoppable> next = drain->stopping_ != nullptr ? drain->stopping_ : stoppables.last();
  for (; next != nullptr; next = stoppables.last()) {
    Future<void> stopped = next->stop(drain->place_).via(drain->home_);
    static_cast<void>(co_await asTry(std::move(stopped)));
    next->destroyRest();
    next->abandon();  // for one that there was no memory to stop
    stoppables.remove(*next);
  }
}

void Drain::abandonTheRest() {
  Stoppables& stoppables = *workers_->stoppables();
  while (std::shared_ptr<Stoppable> last = stoppables.last()) {
    last->abandon();
    stoppables.remove(*last);
    workers_->keep(std::move(last));
  }
}

void Drain::noteStalled(std::size_t index) {
  if (stalled_[index]) {
    return;
  }
  stalled_[index] = true;
  const std::string callback = worker(index).callbackName();
  std::string line = absl::StrCat(worker(index).name(), callback.empty() ? "" : ", in ", callback);
  report_.stalled_workers.push_back(std::move(line));
}

}  // namespace

Future<DrainReport> drainWorkers(std::shared_ptr<Workers> workers, Dispatcher& home, std::chrono::milliseconds deadline,
                                 std::source_location place) {
  return Drain::run(std::make_shared<Drain>(std::move(workers), home, deadline, place));
}

}  // namespace runtime_internal

std::string DrainReport::toString() const {
  const std::string time = absl::StrCat(std::chrono::duration_cast<std::chrono::milliseconds>(waited).count(), " ms");
  std::string text = absl::StrCat(ok() ? "drained in " : "not drained in time; after ", time);
  const auto add = [&text](const char* what, const std::vector<std::string>& lines) {
    for (const std::string& line : lines) {
      absl::StrAppend(&text, "\n", what, line);
    }
  };
  add("still inside: ", still_inside);
  add("still stopping: ", still_stopping);
  add("stalled: ", stalled_workers);
  add("failed: ", failures);
  return text;
}

}  // namespace nuncio
