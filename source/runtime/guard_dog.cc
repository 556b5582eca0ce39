#include "nuncio/runtime/guard_dog.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <ctime>
#include <latch>
#include <map>
#include <new>
#include <optional>
#include <pthread.h>
#include <sys/syscall.h>
#include <system_error>
#include <thread>
#include <unistd.h>

#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/logging.h"
#include "nuncio/common/mutex.h"
#include "nuncio/event/internal/loop_core.h"
#include "nuncio/event/periodic_timer.h"
#include "source/common/errno_status.h"
#include "source/common/fork.h"
#include "source/runtime/thread_stack.h"

namespace nuncio {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// Looks in the shortest time that is to be noticed. What it reports is off by less than one look.
constexpr int kLooks = 8;
constexpr nanoseconds kMinLook{500'000};
constexpr auto kMinute = std::chrono::minutes(1);

// What thread `kernel_thread` has had of a processor; 0 when it has ended.
nanoseconds cpuTime(int kernel_thread) {
  // As the kernel numbers the clocks of threads; the C library makes such numbers only from a pthread_t, of which
  // nobody knows whether it is still there.
  constexpr clockid_t kClockOfThread = 6;
  timespec time{};
  if (::clock_gettime(~kernel_thread * 8 | kClockOfThread, &time) != 0) {
    return nanoseconds(0);
  }
  return std::chrono::seconds(time.tv_sec) + nanoseconds(time.tv_nsec);
}

nanoseconds timeBetweenLooks(const GuardDogOptions& options) {
  nanoseconds shortest = options.stall;
  for (const milliseconds limit : {options.miss, options.megamiss, options.kill, options.multikill}) {
    shortest = limit.count() != 0 ? std::min<nanoseconds>(shortest, limit) : shortest;
  }
  return std::max(shortest / kLooks, kMinLook);
}

// "Never" is often said by the greatest duration that there is.
GuardDogOptions clamped(GuardDogOptions options) {
  constexpr milliseconds kLongest = std::chrono::hours(24 * 365 * 68);
  for (milliseconds* const limit :
       {&options.stall, &options.miss, &options.megamiss, &options.kill, &options.multikill}) {
    *limit = std::min(*limit, kLongest);
  }
  return options;
}

absl::Status checkOptions(const GuardDogOptions& options) {
  if (options.stall < milliseconds(1)) {
    return absl::InvalidArgumentError("guard dog: stall has to be at least 1 ms");
  }
  for (const milliseconds duration : {options.miss, options.megamiss, options.kill, options.multikill}) {
    if (duration < milliseconds(0)) {
      return absl::InvalidArgumentError("guard dog: miss, megamiss, kill and multikill must not be negative");
    }
  }
  if (!(options.multikill_share >= 0 && options.multikill_share <= 1)) {
    return absl::InvalidArgumentError("guard dog: multikill_share is a part of all, from 0 to 1");
  }
  if (options.reports_per_minute < 0) {
    return absl::InvalidArgumentError("guard dog: reports_per_minute must not be negative");
  }
  return absl::OkStatus();
}

absl::string_view nameOf(StallReport::Kind kind) {
  switch (kind) {
    case StallReport::Kind::Stall:
      return "stall";
    case StallReport::Kind::Miss:
      return "miss";
    case StallReport::Kind::MegaMiss:
      return "megamiss";
    case StallReport::Kind::Kill:
      return "kill";
    case StallReport::Kind::MultiKill:
      break;
  }
  return "multikill";
}

}  // namespace

std::string StallReport::toString() const {
  std::string text =
      absl::StrCat(nameOf(kind), ": dispatcher ", dispatcher, " has been in one callback for ",
                   duration_cast<milliseconds>(running).count(), " ms (", computes() ? "computes" : "blocked", ": ",
                   duration_cast<milliseconds>(cpu).count(), " ms of CPU): ", callback);
  if (suppressed != 0) {
    absl::StrAppend(&text, "; ", suppressed, " more stalls were not reported");
  }
  for (const std::string& frame : stack) {
    absl::StrAppend(&text, "\n  ", frame);
  }
  return text;
}

// What the dog knows of a dispatcher. All but the first three are the dog's thread's.
struct GuardDog::Watch::Watched {
  Watched(Dispatcher& dispatcher, absl::string_view group_name)
      : loop(dispatcher), name(dispatcher.name()), group(group_name) {}

  const LoopRef loop;
  const std::string name;
  const std::string group;

  // The callback that it was in at the last look; none: it was in none.
  CallbackId callback;
  uint64_t number = 0;     // LoopCore::callbacks()
  MonotonicTime since;     // that it has been in it
  nanoseconds cpu_before;  // of the thread
  milliseconds report_at;
  bool missed = false;
  bool megamissed = false;
  bool overdue = false;  // for long enough for a multikill
};

// The watched, shared by the dog and all watches.
class GuardDog::Watch::WatchList final : ForkAware {
public:
  WatchList() : ForkAware(&lock_) { watchForks(); }
  ~WatchList() override { unwatchForks(); }

  void add(const std::shared_ptr<Watched>& watched) {
    const MutexLock lock(lock_);
    watched_.push_back(watched);
  }
  void remove(const std::shared_ptr<Watched>& watched) {
    const MutexLock lock(lock_);
    std::erase(watched_, watched);  // the caller has one, so that no loop goes under the lock
  }
  // So that what is done with them is not done under the lock.
  std::vector<std::shared_ptr<Watched>> all() {
    const MutexLock lock(lock_);
    return watched_;
  }

private:
  Mutex lock_;
  std::vector<std::shared_ptr<Watched>> watched_ ABSL_GUARDED_BY(lock_);
};

GuardDog::Watch& GuardDog::Watch::operator=(Watch&& other) noexcept {
  if (this != &other) {
    stop();
    watch_list_ = std::move(other.watch_list_);
    watched_ = std::move(other.watched_);
  }
  return *this;
}

void GuardDog::Watch::stop() noexcept {
  if (const std::shared_ptr<WatchList> watch_list = std::move(watch_list_); watch_list != nullptr) {
    watch_list->remove(watched_);
    watched_ = nullptr;
  }
}

class GuardDogImpl final : public GuardDog {
  using Watched = Watch::Watched;
  using WatchList = Watch::WatchList;

public:
  explicit GuardDogImpl(GuardDogOptions options)
      : options_(std::move(options)), look_(timeBetweenLooks(options_)), watch_list_(std::make_shared<WatchList>()) {}

  ~GuardDogImpl() override {
    if (thread_.joinable()) {
      dispatcher_->exit();
      thread_.join();
    }
  }
  // In the child of a fork its thread is not there, and cannot be joined; nor can a thread join itself.
  static void operator delete(GuardDogImpl* dog, std::destroying_delete_t) {
    if (dog->fork_generation_ != forkGeneration() ||
        !NUNCIO_CONTRACT(dog->thread_.get_id() != std::this_thread::get_id(), "guard_dog", "GuardDog::~GuardDog",
                         "called in on_event, on its own thread; post() it to another dispatcher")) {
      return;
    }
    dog->~GuardDogImpl();
    ::operator delete(dog);
  }

  absl::Status start(TimeSystem* time_system) {
    if (absl::Status status = prepareThreadStacks(); !status.ok()) {
      return status;
    }
    absl::StatusOr<DispatcherPtr> dispatcher =
        tryCreateDispatcher({.name = "guard_dog", .time_system = time_system, .linger = nanoseconds(0)});
    if (!dispatcher.ok()) {
      return dispatcher.status();
    }
    dispatcher_ = *std::move(dispatcher);
    looked_at_ = minute_began_ = dispatcher_->timeSource().monotonicTime();
    timer_.emplace(*dispatcher_, [this](uint64_t /*missed*/) { look(); });
    timer_->start(duration_cast<std::chrono::microseconds>(look_));
    // It is at work when it is handed out: nobody else's thread is taken for the one that runs its dispatcher.
    std::latch running(1);
    if (!dispatcher_->post([&running] { running.count_down(); })) {
      return noMemoryStatus("a guard dog");
    }
    try {
      thread_ = std::thread([this] {
        pthread_setname_np(pthread_self(), "guard_dog");
        dispatcher_->run(RunType::RunUntilExit);
      });
    } catch (const std::system_error& e) {
      return absl::ResourceExhaustedError(absl::StrCat("cannot start the guard dog's thread: ", e.what()));
    }
    running.wait();
    return absl::OkStatus();
  }

  // GuardDog
  Watch watch(Dispatcher& dispatcher, absl::string_view group) override {
    auto watched = std::make_shared<Watched>(dispatcher, group);
    watch_list_->add(watched);
    return Watch(watch_list_, std::move(watched));
  }
  GuardDogStats stats() const override {
    return {.stalls = stalls_.get(),
            .suppressed = suppressed_.get(),
            .misses = misses_.get(),
            .megamisses = megamisses_.get()};
  }

private:
  // Those that a group has, and those of them that are in one callback for long enough for a multikill.
  struct Group {
    std::size_t size = 0;
    std::size_t overdue = 0;
  };

  void look();
  void lookAt(Watched& watched, MonotonicTime now, Group& group);
  void report(StallReport::Kind kind, const Watched& watched, nanoseconds running);
  bool mayReportStall(MonotonicTime now);
  [[noreturn]] void kill(StallReport::Kind kind, const Watched& watched, nanoseconds running);

  GuardDogOptions options_;
  const nanoseconds look_;
  const std::shared_ptr<WatchList> watch_list_;
  const uint32_t fork_generation_ = forkGeneration();
  DispatcherPtr dispatcher_;
  std::optional<PeriodicTimer> timer_;
  std::thread thread_;

  // The dog's thread's.
  MonotonicTime looked_at_;
  MonotonicTime minute_began_;
  int reports_ = 0;           // in this minute
  uint64_t not_told_of_ = 0;  // stalls, since the last report
  Counter stalls_;
  Counter suppressed_;
  Counter misses_;
  Counter megamisses_;
};

void GuardDogImpl::look() {
  const MonotonicTime now = dispatcher_->timeSource().monotonicTime();
  std::map<absl::string_view, Group> groups;
  const std::vector<std::shared_ptr<Watched>> all = watch_list_->all();
  for (const std::shared_ptr<Watched>& watched : all) {
    lookAt(*watched, now, groups[watched->group]);
  }
  looked_at_ = now;
  for (const std::shared_ptr<Watched>& watched : all) {
    const Group& group = groups[watched->group];
    const auto share = static_cast<std::size_t>(std::ceil(options_.multikill_share * static_cast<double>(group.size)));
    if (watched->overdue && group.overdue >= std::max<std::size_t>(2, share)) {
      kill(StallReport::Kind::MultiKill, *watched, now - watched->since);
    }
  }
}

void GuardDogImpl::lookAt(Watched& watched, MonotonicTime now, Group& group) {
  LoopCore& loop = *watched.loop;
  watched.overdue = false;
  if (loop.ended()) {
    watched.callback = CallbackId();
    return;
  }
  ++group.size;
  const CallbackId callback = loop.callback();
  const uint64_t number = loop.callbacks();
  if (callback.none() || watched.callback.none() || number != watched.number) {
    watched.callback = callback;
    watched.number = number;
    // It has begun since the last look; where the dog itself was late, that says little.
    watched.since = std::max(looked_at_, now - look_);
    watched.report_at = options_.stall;
    watched.missed = watched.megamissed = false;
    watched.cpu_before = callback.none() ? nanoseconds(0) : cpuTime(loop.kernelThread());
    return;
  }
  watched.callback = callback;  // of which more may be known by now
  const nanoseconds running = now - watched.since;
  const auto lasts = [running](milliseconds limit) { return limit.count() != 0 && running >= limit; };
  if (running >= watched.report_at) {
    while (running >= watched.report_at) {
      watched.report_at *= 2;
    }
    if (mayReportStall(now)) {
      report(StallReport::Kind::Stall, watched, running);
    }
  }
  if (lasts(options_.miss) && !std::exchange(watched.missed, true)) {
    misses_.add(1);
    report(StallReport::Kind::Miss, watched, running);
  }
  if (lasts(options_.megamiss) && !std::exchange(watched.megamissed, true)) {
    megamisses_.add(1);
    report(StallReport::Kind::MegaMiss, watched, running);
  }
  if (lasts(options_.kill)) {
    kill(StallReport::Kind::Kill, watched, running);
  }
  watched.overdue = lasts(options_.multikill);
  group.overdue += watched.overdue ? 1 : 0;
}

bool GuardDogImpl::mayReportStall(MonotonicTime now) {
  if (now - minute_began_ >= kMinute) {
    minute_began_ = now;
    reports_ = 0;
  }
  if (reports_ >= options_.reports_per_minute) {
    ++not_told_of_;
    suppressed_.add(1);
    return false;
  }
  ++reports_;
  stalls_.add(1);
  return true;
}

void GuardDogImpl::report(StallReport::Kind kind, const Watched& watched, nanoseconds running) {
  const LoopCore& loop = *watched.loop;
  const bool with_stack = kind != StallReport::Kind::Miss && kind != StallReport::Kind::MegaMiss;
  StallReport report{.kind = kind,
                     .dispatcher = watched.name,
                     .callback = watched.callback.text(),
                     .running = running,
                     .cpu = std::max(nanoseconds(0), cpuTime(loop.kernelThread()) - watched.cpu_before),
                     .stack = {},
                     .suppressed = kind == StallReport::Kind::Stall ? std::exchange(not_told_of_, 0) : 0};
  if (with_stack) {
    const std::vector<void*> stack = stackOfThread(loop.kernelThread());
    if (loop.callbacks() == watched.number && !loop.callback().none()) {  // else it is that of what came next
      report.stack = describeStack(stack);
    }
  }
  NUNCIO_LOG(Runtime, warn, "{}", report.toString());
  if (options_.on_event != nullptr) {
    options_.on_event(report);
  }
}

void GuardDogImpl::kill(StallReport::Kind kind, const Watched& watched, nanoseconds running) {
  report(kind, watched, running);
  NUNCIO_LOG(Runtime, critical, "guard dog: ends the process, since dispatcher {} does not come back", watched.name);
  ::syscall(SYS_tgkill, ::getpid(), watched.loop->kernelThread(), SIGABRT);
  // That thread may block the signal.
  constexpr timespec kPatience{.tv_sec = 5, .tv_nsec = 0};
  ::nanosleep(&kPatience, nullptr);
  std::abort();
}

int GuardDog::stackSignal() { return threadStackSignal(); }

absl::StatusOr<std::unique_ptr<GuardDog>> GuardDog::create(GuardDogOptions options, TimeSystem* time_system) {
  if (absl::Status status = checkOptions(options); !status.ok()) {
    return status;
  }
  try {
    auto dog = std::make_unique<GuardDogImpl>(clamped(std::move(options)));
    if (absl::Status status = dog->start(time_system); !status.ok()) {
      return status;
    }
    return dog;
  } catch (const std::bad_alloc&) {
    return noMemoryStatus("a guard dog");
  }
}

}  // namespace nuncio
