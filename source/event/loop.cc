#include "source/event/loop.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

#include "nuncio/common/logging.h"
#include "nuncio/event/post_handle.h"
#include "source/event/signal_event_impl.h"
#include "source/event/timer_impl.h"

namespace nuncio {
namespace {

// The kernel's number of the calling thread, which is another in the child of a fork.
int callingThread() {
  thread_local constinit uint32_t known_in = 0;
  thread_local constinit int number = 0;
  if (number == 0 || known_in != forkGeneration()) {
    number = static_cast<int>(::syscall(SYS_gettid));
    known_in = forkGeneration();
  }
  return number;
}

}  // namespace

Loop::Loop(std::shared_ptr<PostQueue> post_queue, TimeSystem& time_system, std::unique_ptr<Backend> backend,
           bool terminate_on_exception, FigureDetail figures)
    : LoopCore(PostHandle(post_queue), time_system.passesByItself()),
      posts(std::move(post_queue)),
      timer_memory(sizeof(TimerImpl)),
      time_system_(time_system),
      terminate_on_exception_(terminate_on_exception),
      real_time_(&time_system == &realTimeSystem()),
      backend_(std::move(backend)),
      figures_(figures != FigureDetail::Counters ? new FiguresRecorder(figures) : nullptr),
      timed_(figures == FigureDetail::Callbacks) {
  poll_time_wanted_ = figures_ != nullptr;
  if (figures_ != nullptr && real_time_) {
    posts->timePosts();
  }
  setKernelThread(callingThread());
  watchForks();
}

Loop::~Loop() { unwatchForks(); }

void Loop::attach(Dispatcher& dispatcher, PostQueue::Batch& batch) {
  setDispatcher(&dispatcher);
  batch_ = &batch;
}

void Loop::dispatcherGone(WorkList& ready) {
  batch_ = nullptr;
  {
    const NoFork no_fork;
    const MutexLock lock(end_lock_);
    while (!ready.empty()) {
      ready.takeFirst();
    }
    setDispatcher(nullptr);  // handles ask whether it is there
  }
  LoopCore::dispatcherGone();
}

bool Loop::beginRun() {
  int nobody = 0;
  return running_thread_.compare_exchange_strong(nobody, callingThread(), std::memory_order_acquire,
                                                 std::memory_order_relaxed);
}

void Loop::bindToThread() {
  setKernelThread(callingThread());
  LoopCore::bindToThread();
}

// Outside of runs, too, the thread that made it, or ran it last, may be at work on it; one that has ended is not.
void Loop::beforeFork() {
  const int running = running_thread_.load(std::memory_order_relaxed);
  const int number = running != 0 ? running : kernelThread();
  const auto exists = [number] { return ::syscall(SYS_tgkill, ::getpid(), number, /*signal: none*/ 0) == 0; };
  thread_left_behind_ = number != callingThread() && (running != 0 || exists());
}

void Loop::afterForkInChild() {
  if (lost_) {
    return;
  }
  if (thread_left_behind_) {
    lost_ = true;
    setDispatcher(nullptr);
    running_ = &nobody_;
    posts->lose();
    return;
  }
  objects_inherited_ = true;
  base_inherited_ = !backend_->afterForkInChild();
  setKernelThread(callingThread());
  if (running_thread_.load(std::memory_order_relaxed) != 0) {
    running_thread_.store(callingThread(), std::memory_order_relaxed);
  }
  if (batch_ != nullptr) {
    batch_->giveUpUnfinished();
  }
}

absl::Status lostStatus(absl::string_view name) {
  return absl::FailedPreconditionError(
      absl::StrCat("dispatcher ", name, " is of a thread that this child of a fork does not have; create another"));
}

void Loop::callbackThrew(const char* kind, const char* message) {
  callback_exceptions.add(1);
  if (terminate_on_exception_) {
    NUNCIO_LOG(Event, critical, "dispatcher {}: {} callback threw: {}; terminating, as its options say", name(), kind,
               message);
    std::terminate();
  }
  const uint64_t now = deadlineClock();
  if (now < log_exceptions_at_) {
    ++exceptions_not_logged_;
    return;
  }
  constexpr uint64_t kOneSecond = 1'000'000'000;
  log_exceptions_at_ = now + kOneSecond;
  if (const uint64_t more = std::exchange(exceptions_not_logged_, 0); more > 0) {
    NUNCIO_LOG(Event, err, "dispatcher {}: {} callback threw: {}; the loop goes on ({} more since the last such line)",
               name(), kind, message, more);
  } else {
    NUNCIO_LOG(Event, err, "dispatcher {}: {} callback threw: {}; the loop goes on", name(), kind, message);
  }
}

void Loop::logExceptionsLeftOut() {
  if (exceptions_not_logged_ > 0) {
    NUNCIO_LOG(Event, err, "dispatcher {}: {} more callbacks threw since the last line that says so", name(),
               std::exchange(exceptions_not_logged_, 0));
  }
}

TraceRing* Loop::startTrace(std::size_t records, uint64_t& from) {
  const NoFork no_fork;
  const MutexLock lock(trace_lock_);
  if (ended() || ring() != nullptr) {
    return nullptr;
  }
  if (rings_.empty() || rings_.back().first < records) {
    rings_.reserve(rings_.size() + 1);
    rings_.emplace_back(records, std::make_unique<TraceRing>(records));
  }
  TraceRing* const ring = rings_.back().second.get();
  from = ring->written();
  ring_.store(ring, std::memory_order_release);
  timed_.store(true, std::memory_order_relaxed);
  posts->startTrace();
  return ring;
}

void Loop::stopTrace() {
  const NoFork no_fork;
  const MutexLock lock(trace_lock_);
  posts->stopTrace();
  timed_.store(figures_ != nullptr && figures_->timesCallbacks(), std::memory_order_relaxed);
  ring_.store(nullptr, std::memory_order_relaxed);
}

uint64_t tracePost() {
  Loop* const loop = Loop::runningHere();
  if (loop == nullptr || loop->ring() == nullptr) {
    return 0;
  }
  const uint64_t flow = TraceRing::nextFlow();
  loop->traceInstant(TraceRing::Kind::Post, loop->callback().word(), flow);
  return flow;
}

void Loop::traceInstant(TraceRing::Kind kind, uint64_t id, uint64_t flow) const {
  if (TraceRing* const trace = ring(); trace != nullptr) {
    const uint64_t now = TickClock::now();
    trace->add({.kind = kind, .begin = now, .end = now, .id = id, .flow = flow});
  }
}

void Loop::beginTimed(CallbackScope& callback) {
  callback.timed_ = true;
  callback.ring_ = ring();
  if (callback.ring_ != nullptr) {
    callback.began_ = TickClock::now();
    timed_since_.store(callback.began_, std::memory_order_relaxed);
  }
  if (figures_ != nullptr && figures_->timesCallbacks()) {
    // One that runs within this one looks itself.
    const uint64_t before = std::exchange(callback_ended_at_, 0);
    callback.since_ = before != 0 ? before : deadlineClock();
  }
}

// One look at the clock a callback, for figures: in a row, each begins where the one before ended.
void Loop::endTimed(const CallbackScope& callback) {
  timed_since_.store(0, std::memory_order_relaxed);
  if (callback.ring_ != nullptr) {  // named by what it became known as meanwhile
    callback.ring_->add({.kind = TraceRing::Kind::Callback,
                         .begin = callback.began_,
                         .end = TickClock::now(),
                         .id = this->callback().word(),
                         .flow = callback.flow_});
  }
  if (figures_ != nullptr && figures_->timesCallbacks()) {
    callback_ended_at_ = deadlineClock();
    figures_->ranCallback(callback_ended_at_ - callback.since_);
  }
}

void Loop::traceSlept() {
  const uint64_t since = std::exchange(sleeps_since_, 0);
  if (TraceRing* const trace = ring(); trace != nullptr) {
    trace->add({.kind = TraceRing::Kind::Sleep, .begin = since, .end = TickClock::now(), .id = 0, .flow = 0});
  }
}

void Loop::onSignals(uint64_t signals) { SignalEventImpl::dispatch(signals); }

bool Loop::shouldYield() {
  constexpr uint32_t kMaxCallsSimulated = 10'000;
  constexpr uint32_t kCallsPerLook = 16;
  constexpr uint64_t kQuickCall = 100;  // nanoseconds between two of them
  if (!timePasses()) {
    return ++yield_calls_ > kMaxCallsSimulated;
  }
  if (yield_looks_left_ > 0) {
    --yield_looks_left_;
    return false;
  }
  // Where calls come quickly one after the other, the clock is read for every 16th.
  const uint64_t now = deadlineClock();
  poll_time_wanted_ = true;
  if (polled_at_ == kNotLooked) {  // the first call of all
    polled_at_ = now;
  }
  const bool over = now - polled_at_ >= max_file_event_time_;
  const bool quick = now - yield_looked_at_ < kCallsPerLook * kQuickCall;
  yield_looks_left_ = quick && !over ? kCallsPerLook - 1 : 0;
  yield_looked_at_ = now;
  return over;
}

void Loop::breakPoll() {
  poll_broken_off = true;
  backend_->breakPoll();
}

// Their time is spent: breaks off when something else waits, else goes on.
void Loop::endFileEvents(uint64_t now) {
  if (work_waits_ || posts->pending() || posts->pendingFromLoop() || posts->exitRequested() ||
      !current_iteration.empty() || !next_iteration.empty() || !empty() || timer_due || timers.nextWake().due <= now) {
    breakPoll();
  }
  file_events_until_ = now + max_file_event_time_;
}

Loop::AddedWatcher Loop::addWatcher(int fd, bool edge) {
  const auto index = static_cast<std::size_t>(fd);
  if (index >= watchers_.size()) {
    watchers_.resize(index + 1);
  }
  Watchers& watchers = watchers_[index];
  if (watchers.count != 0 && watchers.edge != edge) {
    return AddedWatcher::OtherTriggerType;
  }
  if (watchers.count == kMaxWatchers) {
    return AddedWatcher::TooMany;
  }
  ++watchers.count;
  watchers.edge = edge;
  return AddedWatcher::Yes;
}

}  // namespace nuncio
