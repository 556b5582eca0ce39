#include "source/event/dispatcher_impl.h"

#include <algorithm>
#include <limits>
#include <new>
#include <sched.h>
#include <typeinfo>
#include <utility>

#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/logging.h"
#include "source/common/errno_status.h"
#include "source/common/pause.h"
#include "source/event/crash_handler.h"
#include "source/event/file_event_impl.h"
#include "source/event/schedulable_callback_impl.h"
#include "source/event/signal_event_impl.h"
#include "source/event/timer_impl.h"

namespace nuncio {
namespace {

// A destructor that defers or posts in shutdown() keeps it going; at some point that is taken for a loop.
constexpr int kMaxShutdownRounds = 1'000'000;

// While busy polling, how often the loop asks for posts before it asks the kernel for descriptors, and how many
// iterations may go by in which posts alone kept it busy.
constexpr int kSpinsPerPoll = 64;
constexpr uint32_t kMaxPollsSkipped = 8;

// For how long background work waits for all else to end, in nanoseconds; in simulated time, which may stand still
// meanwhile, so many iterations.
constexpr uint64_t kBackgroundPatience = 10'000'000;
constexpr uint32_t kBackgroundIterationsSimulated = 20;

std::chrono::nanoseconds clampToAYear(std::chrono::microseconds duration) {
  return std::min<std::chrono::microseconds>(duration, std::chrono::hours(24 * 365));
}

// In which the loop lingers: there has to be another CPU's time to wait for.
uint64_t lingerOf(const DispatcherOptions& options, const Loop& loop) {
  return loop.realTime() ? static_cast<uint64_t>(options.linger.count()) : 0;
}

uint64_t nanoseconds(MonotonicTime time) { return static_cast<uint64_t>(time.time_since_epoch().count()); }

// max() for what lies beyond it, which is never.
MonotonicTime monotonicTime(uint64_t nanoseconds) {
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  return MonotonicTime(std::chrono::nanoseconds(static_cast<int64_t>(std::min(nanoseconds, kMax))));
}

// Never rings: in the child of a fork, until there is another, or where none could be made.
class NoAlarm final : public Alarm {
public:
  void set(MonotonicTime /*due*/, MonotonicTime /*latest*/) override {}
  void setRunning(bool /*running*/) override {}
  bool rang() override { return false; }
};

}  // namespace

absl::StatusOr<DispatcherPtr> tryCreateDispatcher(const DispatcherOptions& options) {
  try {
    return DispatcherImpl::create(options);
  } catch (const std::bad_alloc&) {
    return noMemoryStatus("a dispatcher");
  }
}

DispatcherPtr createDispatcher(const DispatcherOptions& options) {
  absl::StatusOr<DispatcherPtr> dispatcher = tryCreateDispatcher(options);
  if (!dispatcher.ok()) {
    NUNCIO_LOG(Event, err, "cannot create dispatcher {}: {}", options.name, dispatcher.status().ToString());
    return nullptr;
  }
  return *std::move(dispatcher);
}

absl::StatusOr<DispatcherPtr> DispatcherImpl::create(const DispatcherOptions& options) {
  if (options.max_post_batches_per_iteration == 0 || options.max_callback_time_per_iteration.count() <= 0 ||
      options.busy_poll.count() < 0 || options.linger.count() < 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("dispatcher ", options.name,
                     ": the limits of an iteration must be greater than 0, and busy_poll and linger not negative"));
  }
  absl::StatusOr<std::unique_ptr<Backend>> backend = Backend::create(options.backend);
  if (!backend.ok()) {
    return backend.status();
  }
  absl::StatusOr<std::unique_ptr<Waker>> waker = (*backend)->createWaker();
  if (!waker.ok()) {
    return waker.status();
  }
  std::shared_ptr<PostQueue> posts(new PostQueue(options.name, *std::move(waker)));
  TimeSystem& time_system = options.time_system != nullptr ? *options.time_system : realTimeSystem();
  LoopPtr loop(
      new Loop(std::move(posts), time_system, *std::move(backend), options.terminate_on_exception, options.figures));
  std::unique_ptr<DispatcherImpl> dispatcher(new DispatcherImpl(options, std::move(loop)));
  if (absl::Status status = dispatcher->open(); !status.ok()) {
    return status;
  }
  return dispatcher;
}

DispatcherImpl::DispatcherImpl(const DispatcherOptions& options, LoopPtr loop)
    : loop_(std::move(loop)),
      posts_(loop_->posts),
      max_batches_(options.max_post_batches_per_iteration),
      max_time_(clampToAYear(options.max_callback_time_per_iteration)),
      busy_poll_(clampToAYear(options.busy_poll)),
      linger_(lingerOf(options, *loop_)) {
  loop_->attach(*this, batch_);
  loop_->limitFileEvents(static_cast<uint64_t>(max_time_.count()));
}

absl::Status DispatcherImpl::open() {
  if (absl::Status status = loop_->backend().open(*loop_); !status.ok()) {
    return status;
  }
  return createAlarm();
}

absl::Status DispatcherImpl::createAlarm() {
  absl::StatusOr<AlarmPtr> alarm = loop_->timeSystem().createAlarm(*this);
  if (!alarm.ok()) {
    return alarm.status();
  }
  alarm_ = *std::move(alarm);
  return absl::OkStatus();
}

void DispatcherImpl::checkFork() {
  if (!loop_->takeObjectsInherited()) [[likely]] {
    return;
  }
  loop_->checkFork();
  // Each event of a descriptor of the parent goes before the descriptor does, and that before its number is used again:
  // where the child has closed it, it may be another's by then.
  alarm_ = std::make_unique<NoAlarm>();
  absl::Status status = loop_->backend().reopen();
  posts_->forgetFailure();
  if (status.ok()) {
    status = createAlarm();
    alarm_->setRunning(true);
  }
  if (!status.ok()) {
    posts_->fail(absl::StrCat("in the child of a fork: ", status.ToString()).c_str());
  }
}

// A thread that was left in the parent may be in the midst of any part of it: all of it stays as it is.
void DispatcherImpl::operator delete(DispatcherImpl* dispatcher, std::destroying_delete_t) {
  if (dispatcher->loop_->lost()) {
    return;
  }
  dispatcher->~DispatcherImpl();
  ::operator delete(dispatcher, std::align_val_t(alignof(DispatcherImpl)));
}

DispatcherImpl::~DispatcherImpl() {
  loop_->checkThreadOfDestructor("Dispatcher::~Dispatcher");
  shutdown();
  // shutdown() refuses while the loop runs, which breaks the contract: its listeners must not outlive it nonetheless.
  SignalEventImpl::stopAll(*loop_);
  loop_->handlesMayBeAnywhere();
  // In the child of a fork: else what is taken out of the event_base is taken out of the parent's epoll, with the base.
  loop_->checkFork();
  alarm_.reset();
  loop_->backend().close();
  // What was deferred since, or is left over where shutdown() gave up.
  for (int round = 0; round < kMaxShutdownRounds && !deferred_now_->empty(); ++round) {
    clearDeferredDeleteList();
  }
  loop_.release()->dispatcherGone(ready_);
}

absl::StatusOr<FileEventPtr> DispatcherImpl::createFileEvent(int fd, FileReadyCb cb, FileTriggerType trigger,
                                                             uint32_t events) {
  try {
    return FileEventImpl::create(*loop_, fd, std::move(cb), trigger, events);
  } catch (const std::bad_alloc&) {
    return noMemoryStatus("a file event");
  }
}

TimerPtr DispatcherImpl::createTimer(TimerCb cb) {
  loop_->checkThread("Dispatcher::createTimer");
  NUNCIO_CONTRACT(cb != nullptr, name(), "Dispatcher::createTimer", "null callback");
  return TimerImpl::create(*loop_, std::move(cb));
}

SchedulableCallbackPtr DispatcherImpl::createSchedulableCallback(SchedulableCb cb) {
  loop_->checkThread("Dispatcher::createSchedulableCallback");
  NUNCIO_CONTRACT(cb != nullptr, name(), "Dispatcher::createSchedulableCallback", "null callback");
  return SchedulableCallbackPtr(new SchedulableCallbackImpl(*loop_, std::move(cb)));
}

absl::StatusOr<SignalEventPtr> DispatcherImpl::listenForSignal(int signal, SignalCb cb) {
  try {
    return SignalEventImpl::create(*loop_, signal, std::move(cb));
  } catch (const std::bad_alloc&) {
    return noMemoryStatus("a signal event");
  }
}

void DispatcherImpl::deferredDelete(DeferredDeletablePtr object) {
  loop_->checkThread("Dispatcher::deferredDelete");
  if (object != nullptr && !loop_->lost()) {
    deferred_now_->push_back(nullptr);  // without memory it throws, and `object` is destroyed
    deferred_now_->back() = object.release();
  }
}

void DispatcherImpl::deleteInDispatcherThread(DeferredDeletablePtr object) {
  if (object != nullptr) {
    post([object = std::move(object)] {});
  }
}

void DispatcherImpl::clearDeferredDeleteList() {
  loop_->checkThread("Dispatcher::clearDeferredDeleteList");
  if (loop_->lost() || deleting_ || deferred_now_->empty()) {
    return;
  }
  // Two lists, so that what destructors defer never joins the list that is being destroyed.
  DeferredList& doomed = *deferred_now_;
  deferred_now_ = &doomed == &deferred_[0] ? &deferred_[1] : &deferred_[0];
  deleting_ = true;
  const CallbackId outer = loop_->callback();  // who called this may go on afterwards, or nothing runs
  for (DeferredDeletable* const object : doomed) {
    const Loop::CallbackScope seen(*loop_, CallbackId::ofDestroyed(typeid(*object)));
    delete object;
  }
  loop_->nameCallback(outer);
  doomed.clear();
  deleting_ = false;
}

// The scope of a run, which ends also where its thread ends in the midst of a callback, or is cancelled: the loop is
// the one that runs on this thread, named in assertions and when the thread crashes.
class DispatcherImpl::RunScope {
public:
  explicit RunScope(DispatcherImpl& dispatcher) : dispatcher_(dispatcher), running_(&*dispatcher.loop_) {
    prepareThreadForCrash();
    setCurrentDispatcherName(dispatcher.loop_->name().c_str());
  }
  ~RunScope() {
    dispatcher_.loop_->noCallback();
    dispatcher_.endWork();
    dispatcher_.posts_->awake();
    dispatcher_.setAlarm();  // a time system may want to know of timers while nothing runs
    dispatcher_.alarm_->setRunning(false);
    dispatcher_.linger_.stop();
    dispatcher_.posts_->waitForLeaving();
    dispatcher_.posts_->forgetExit();
    dispatcher_.loop_->endRun();
    setCurrentDispatcherName(outer_ != nullptr ? outer_->name().c_str() : nullptr);
  }
  RunScope(const RunScope&) = delete;
  RunScope& operator=(const RunScope&) = delete;

private:
  DispatcherImpl& dispatcher_;
  const Loop* const outer_ = Loop::runningHere();  // a callback may run another dispatcher
  const LoopCore::RunScope running_;
};

void DispatcherImpl::run(RunType type) {
  if (loop_->lost()) {
    return;
  }
  const bool begun = loop_->beginRun();
  if (!NUNCIO_CONTRACT(begun, name(), "Dispatcher::run",
                       "it runs already, on this thread or on another; post() what is to come next")) {
    return;
  }
  if (posts_->closed()) {
    loop_->endRun();
    return;
  }
  loop_->bindToThread();
  const RunScope run_scope(*this);
  checkFork();
  if (failed()) {
    return;
  }
  alarm_->setRunning(true);
  may_sleep_ = type != RunType::NonBlock;
  look_at_timers_ = true;  // a run begins with a look at the clock, whether or not the alarm has rung

  loop_->invalidateApproximateTime();
  loop_->beginIteration();
  loop_->beginRunPolled();
  if (FiguresRecorder* const figures = loop_->figures(); figures != nullptr) [[unlikely]] {
    figures->beginWork(loop_->deadlineClock(), loop_->callbacks());
  }
  runWork();  // what was posted before run() comes before any event
  for (bool leave = false; !leave;) {
    if (type == RunType::Block && nothingCanCallBack()) {
      break;
    }
    leave = type == RunType::NonBlock || posts_->exitRequested();
    iterate(/*block=*/!leave);
    leave = leave || posts_->exitRequested() || failed();
  }
}

bool DispatcherImpl::failed() {
  if (loop_->backend().signalsFailed()) [[unlikely]] {
    SignalEventImpl::reportFailure(*loop_);
  }
  return posts_->failed();
}

void DispatcherImpl::shutdown() {
  constexpr const char* kOperation = "Dispatcher::shutdown";
  if (loop_->lost()) {
    return;
  }
  loop_->checkThreadOfDestructor(kOperation);
  if (!NUNCIO_CONTRACT(!loop_->inRun(), name(), kOperation,
                       "called while the loop runs; exit() first, then shut down when run() has returned")) {
    return;
  }
  posts_->close();
  loop_->bindToThread();  // what is destroyed now may look for its dispatcher's thread
  loop_->beginShutdown();
  for (int round = 0;; ++round) {
    clearDeferredDeleteList();
    batch_.destroyAll();
    posts_->take(batch_);
    const bool had_tasks = loop_->shutdownRound();
    if (batch_.empty() && deferred_now_->empty() && !had_tasks && loop_->endShutdown(/*force=*/false)) {
      break;
    }
    if (round == kMaxShutdownRounds) {
      loop_->endShutdown(/*force=*/true);
      NUNCIO_LOG(Event, err, "dispatcher {}: destructors still defer deletions after {} rounds of shutdown; giving up",
                 loop_->name(), kMaxShutdownRounds);
      break;
    }
  }
  SignalEventImpl::stopAll(*loop_);
  loop_->logExceptionsLeftOut();
  loop_->handlesMayBeAnywhere();
}

MonotonicTime DispatcherImpl::approximateMonotonicTime() {
  loop_->checkThread("Dispatcher::approximateMonotonicTime");
  return loop_->approximateTime();
}

void DispatcherImpl::updateApproximateMonotonicTime() {
  loop_->checkThread("Dispatcher::updateApproximateMonotonicTime");
  loop_->setApproximateTime(loop_->timeSystem().monotonicTime());
}

bool DispatcherImpl::shouldYield() {
  loop_->checkThread("Dispatcher::shouldYield");
  return !loop_->lost() && loop_->inRun() && loop_->shouldYield();
}

void DispatcherImpl::pushTrackedObject(const TrackedObject* object) {
  loop_->checkThread("Dispatcher::pushTrackedObject");
  if (loop_->lost()) {
    return;
  }
  NUNCIO_ASSERT(object != nullptr, "null object");
  if (loop_->tracked_depth < Loop::kMaxTracked) {
    loop_->tracked[loop_->tracked_depth] = object;
  }
  ++loop_->tracked_depth;
}

void DispatcherImpl::popTrackedObject(const TrackedObject* object) {
  loop_->checkThread("Dispatcher::popTrackedObject");
  if (loop_->lost()) {
    return;
  }
  const std::size_t depth = loop_->tracked_depth;
  if (!NUNCIO_CONTRACT(depth > 0 && (depth > Loop::kMaxTracked || loop_->tracked[depth - 1] == object), name(),
                       "Dispatcher::popTrackedObject", "not the object that was pushed last")) {
    return;
  }
  --loop_->tracked_depth;
}

DispatcherStats DispatcherImpl::stats() const {
  return {.iterations = counters_.iterations.get(),
          .posts_run = loop_->postsRun(),
          .tasks_run = counters_.tasks_run.get(),
          .timers_fired = counters_.timers_fired.get(),
          .wakeups = posts_->wakeups(),
          .callback_exceptions = loop_->callback_exceptions.get(),
          .lingers = linger_.lingers(),
          .linger_hits = linger_.hits(),
          .posts_waiting = batch_.size() + posts_->size()};
}

LoopFigures DispatcherImpl::figures() const {
  LoopFigures figures;
  figures.dispatcher = loop_->name();
  figures.iterations = counters_.iterations.get();
  figures.posts_run = loop_->postsRun();
  figures.tasks_run = counters_.tasks_run.get();
  figures.timers_fired = counters_.timers_fired.get();
  figures.wakeups = posts_->wakeups();
  figures.callback_exceptions = loop_->callback_exceptions.get();
  figures.lingers = linger_.lingers();
  figures.linger_hits = linger_.hits();
  figures.posts_waiting = posts_->sizeElsewhere();
  if (const FiguresRecorder* const recorder = loop_->figures(); recorder != nullptr) {
    recorder->addTo(figures);
  }
  return figures;
}

void DispatcherImpl::iterate(bool block) {
  counters_.iterations.add(1);
  loop_->beginIteration();
  checkFork();
  if (posts_->failed()) [[unlikely]] {
    return;
  }
  ready_.append(loop_->next_iteration);
  loop_->invalidateApproximateTime();
  // Of the timers, only those armed before this iteration fire in it.
  const uint64_t timers_mark = loop_->timers.orderMark();
  const uint64_t timer_due_at = loop_->timer_due_at;
  const bool timer_due = std::exchange(loop_->timer_due, false);
  const bool sleep = block && !timer_due && prepareToSleep();
  if (loop_->figures() != nullptr) [[unlikely]] {
    pollTimed(sleep);
  } else {
    poll(sleep);
  }
  if (alarm_->rang() || look_at_timers_ || timer_due) {
    runTimers(timers_mark, timer_due_at);
  }
  Budget budget = newBudget();
  runWorkList(ready_, budget);
  runWork();
  if (loop_->hasBackground()) [[unlikely]] {
    runBackground();
  }
}

// The same as poll(), between the ends of two iterations' work.
void DispatcherImpl::pollTimed(bool block) {
  FiguresRecorder& figures = *loop_->figures();
  endWork();
  const uint64_t due = block ? loop_->timers.nextWake().latest : UINT64_MAX;
  const uint64_t callbacks = loop_->callbacks();
  poll(block);
  // Where it did not ask the kernel at all, the work goes on without a break.
  const uint64_t now = loop_->timePasses() ? std::max(loop_->polledAt(), figures.endedAt()) : loop_->deadlineClock();
  if (due != UINT64_MAX) {
    figures.polled(now, due);
  }
  figures.beginWork(now, callbacks);
}

void DispatcherImpl::endWork() {
  if (FiguresRecorder* const figures = loop_->figures(); figures != nullptr) [[unlikely]] {
    figures->endWork(loop_->deadlineClock(), loop_->callbacks());
    loop_->forgetLastCallback();
  }
}

// File events and signals call back in here.
void DispatcherImpl::poll(bool block) {
  loop_->noCallback();
  setAlarm();
  if (block && alarm_->rang()) {  // simulated time may have passed it before it was set
    look_at_timers_ = true;
    block = false;
  }
  if (block && busy_poll_.count() > 0 && spin()) {
    return;
  }
  pollDescriptors(block);
  posts_->awake();
}

void DispatcherImpl::pollDescriptors(bool block) {
  loop_->beginPoll(/*work_waits=*/!block);
  if (block) {
    loop_->traceSleep();
  }
  loop_->backend().poll(block);
  loop_->endPoll();
  if (std::exchange(loop_->poll_broken_off, false)) {
    look_at_timers_ = true;  // the alarm may be among what is left
  }
}

// True when there is something to do before the loop would sleep.
bool DispatcherImpl::spin() {
  std::chrono::steady_clock::time_point end{};
  for (;;) {
    for (int i = 0; i < kSpinsPerPoll; ++i) {
      if (posts_->pending() || posts_->exitRequested()) {
        if (++polls_skipped_ < kMaxPollsSkipped) {
          return true;
        }
        break;
      }
      pauseProcessor();
    }
    polls_skipped_ = 0;
    const uint64_t delivered = loop_->events_delivered;
    pollDescriptors(/*block=*/false);
    if (loop_->events_delivered != delivered || posts_->pending() || failed()) {
      return true;
    }
    const auto now = std::chrono::steady_clock::now();
    if (end == std::chrono::steady_clock::time_point()) {
      end = now + busy_poll_;
    } else if (now >= end) {
      return !posts_->announceSleep();
    }
  }
}

void DispatcherImpl::setAlarm() {
  const TimerQueue::Wake wake = loop_->timers.nextWake();
  alarm_->set(monotonicTime(wake.due), monotonicTime(wake.latest));
}

// Fires what is due and was armed before `mark`; `due_at` is the latest deadline of those armed with no delay.
void DispatcherImpl::runTimers(uint64_t mark, uint64_t due_at) {
  look_at_timers_ = false;
  if (loop_->timers.size() == 0) {
    return;
  }
  MonotonicTime time = loop_->timeSystem().monotonicTime();
  while (nanoseconds(time) < due_at) {  // for a microsecond or two; see FastClock
    time = loop_->timeSystem().monotonicTime();
  }
  loop_->setApproximateTime(time);
  const uint64_t now = nanoseconds(time);
  loop_->timers.beginRound();
  Budget budget = newBudget();
  while (TimerQueue::Node* const node = loop_->timers.popDue(now, mark)) {
    counters_.timers_fired.add(1);
    static_cast<TimerImpl*>(node)->fire();
    budget.countCallback();
    if (budget.spent()) {
      loop_->timer_due = true;
      return;
    }
  }
  if (loop_->timers.endRound()) {
    loop_->timer_due = true;
  }
}

void DispatcherImpl::runWorkList(WorkList& list, Budget& budget) {
  while (!list.empty() && !budget.spent()) {
    list.takeFirst().runWork();
    budget.countCallback();
  }
}

// Those added meanwhile included.
void DispatcherImpl::runTasks(Budget& budget) {
  while (!loop_->empty() && !budget.spent()) {
    counters_.tasks_run.add(1);
    {
      const Loop::CallbackScope seen(*loop_, CallbackId::ofTask());
      loop_->runFirst();
    }
    budget.countCallback();
  }
}

// In turns: callbacks scheduled for this iteration, tasks, deferred deletion, a batch of posts; until nothing is left,
// or the iteration has done enough.
void DispatcherImpl::runWork() {
  Budget scheduled_budget = newBudget();
  Budget tasks_budget = newBudget();
  Budget posts_budget = newBudget();
  // After the last batch there is one more turn, without a batch: for what that scheduled and made ready. 64 bits,
  // since max_batches_ may be the greatest number of 32.
  for (uint64_t turn = 0; turn <= max_batches_; ++turn) {
    // Each list is looked at here: it saves the calls for each batch of posts, a tenth of what a batch of one costs.
    if (!loop_->current_iteration.empty()) {
      runWorkList(loop_->current_iteration, scheduled_budget);
    }
    if (!loop_->empty()) {
      runTasks(tasks_budget);
    }
    if (!deferred_now_->empty()) {
      clearDeferredDeleteList();
    }
    if (turn < max_batches_ && takeBatch()) {
      if (!runBatch(posts_budget)) {
        clearDeferredDeleteList();
        return;
      }
    } else if (deferred_now_->empty() && (loop_->current_iteration.empty() || scheduled_budget.spent()) &&
               (loop_->empty() || tasks_budget.spent())) {
      return;  // else a destructor or a task has made more work
    }
  }
}

bool DispatcherImpl::takeBatch() {
  if (!batch_.empty()) {
    return true;  // left over from the iteration before
  }
  if (linger_.wanted() && may_sleep_ && !hasOwnWork()) {
    lookForPosts();  // also where posts are there already: more of them then come under one lock
  }
  if (!posts_->take(batch_)) {
    return false;
  }
  if (loop_->timed() || loop_->figures() != nullptr) [[unlikely]] {
    noteBatch();
  }
  return true;
}

[[gnu::noinline]] void DispatcherImpl::noteBatch() {
  loop_->traceBatch(batch_.size());
  if (FiguresRecorder* const figures = loop_->figures(); figures != nullptr) {
    loop_->forgetLastCallback();
    if (batch_.postedAt() != 0) {
      figures->tookBatch(loop_->deadlineClock(), batch_.postedAt());
    }
  }
}

// What is for when nothing else is left; where something always is, a batch of it nonetheless, now and then.
void DispatcherImpl::runBackground() {
  const uint64_t now = loop_->deadlineClock();
  if (background_waits_++ == 0) {
    background_waits_since_ = now;
  }
  const bool waited = loop_->timePasses() ? now - background_waits_since_ >= kBackgroundPatience
                                          : background_waits_ >= kBackgroundIterationsSimulated;
  const auto others_wait = [this] { return hasForeground() || posts_->pending() || posts_->exitRequested(); };
  if (!waited && others_wait()) {
    return;
  }
  Budget budget = newBudget();
  do {
    loop_->runFirstBackground();
    budget.countCallback();
  } while (loop_->hasBackground() && !budget.spent() && (waited || !others_wait()));
  background_waits_ = 0;
}

// False when the iteration is to end with it: its time is over, or the next post is still being moved into place.
bool DispatcherImpl::runBatch(Budget& budget) {
  const uint64_t first = loop_->postsRun();
  const int posters_cpu = batch_.postersCpu();
  while (!batch_.empty() && !budget.spent()) {
    if (!batch_.firstIsPlain() || loop_->timed()) [[unlikely]] {
      if (!batch_.firstFinished()) {  // in a moment: see PostQueue
        return false;
      }
      runWatched();
    } else {
      const PostQueue::Posted posted = batch_.takePlain();
      loop_->beginPosted(posted.id());
      loop_->call("posted", posted);
    }
    budget.countCallback();
  }
  if (batch_.empty() && posters_cpu != PostQueue::Batch::kOwnPosts) {
    linger_.ranBatch(loop_->postsRun() - first, busy_poll_.count() == 0 && posters_cpu != sched_getcpu());
  }
  return !budget.spent();
}

// The first of a batch, where it is traced or timed, or was given up in a fork: kept out of the way of the others,
// which are nearly all, since it made a tenth of what a post costs.
[[gnu::noinline]] void DispatcherImpl::runWatched() {
  const PostQueue::Posted posted = batch_.takeFirst();
  const Loop::CallbackScope seen(*loop_, posted);
  loop_->call("posted", posted);
}

// Lingers, until there are posts, or the time is over. What else may come up meanwhile ends it for this iteration, and
// the next one, which does not sleep, goes on with it: a timer; and where descriptors are watched, each look.
void DispatcherImpl::lookForPosts() {
  loop_->noCallback();
  uint64_t now = loop_->deadlineClock();
  const uint64_t end = linger_.begin(now);
  const uint64_t timer_due = loop_->timers.nextWake().due;
  do {
    const uint64_t looks_at = std::min(now + Linger::kLook, timer_due);
    do {
      pauseProcessor();
      now = loop_->deadlineClock();
    } while (now < looks_at);
    if (posts_->pending()) {
      linger_.hit();
    } else if (now >= timer_due) {
      look_at_timers_ = true;
    } else if (now >= end || posts_->exitRequested()) {
      linger_.inVain();
    }
  } while (linger_.wanted() && !look_at_timers_ && !loop_->watches());
}

// Whether something is to be done without waiting for the kernel, beside posts of other threads, which come at any time
// and are asked for where it is asked: the one list of what keeps a loop awake. Loop::endFileEvents() has those of it
// that can come up during a poll.
bool DispatcherImpl::hasOwnWork() const { return hasForeground() || loop_->hasBackground(); }

bool DispatcherImpl::hasForeground() const {
  return !loop_->current_iteration.empty() || !loop_->next_iteration.empty() || !ready_.empty() || !loop_->empty() ||
         !deferred_now_->empty() || !batch_.empty() || posts_->pendingFromLoop() || loop_->timer_due || look_at_timers_;
}

// Asked once, before the poll. True when nothing is to be done, and the next post will wake the loop; while busy
// polling, it is spin() that announces that, and sees to posts that have come meanwhile: without a system call.
bool DispatcherImpl::prepareToSleep() {
  return !hasOwnWork() && !linger_.wanted() && !posts_->exitRequested() &&
         (busy_poll_.count() > 0 || (!posts_->pending() && posts_->announceSleep()));
}

bool DispatcherImpl::nothingCanCallBack() const {
  return !hasOwnWork() && !posts_->pending() && !loop_->watches() && loop_->timers.size() == 0 && !posts_->kept();
}

}  // namespace nuncio
