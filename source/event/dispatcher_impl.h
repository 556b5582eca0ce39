#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/internal/loop_core.h"
#include "source/event/callback_budget.h"
#include "source/event/linger.h"
#include "source/event/loop.h"
#include "source/event/post_queue.h"

namespace nuncio {

// DispatcherImpl: the iteration, and what only it works on. docs/event_loop.md explains the order of things.
class DispatcherImpl final : public Dispatcher {
public:
  static absl::StatusOr<DispatcherPtr> create(const DispatcherOptions& options);
  ~DispatcherImpl() override;
  static void operator delete(DispatcherImpl* dispatcher, std::destroying_delete_t);

  // Dispatcher
  absl::StatusOr<FileEventPtr> createFileEvent(int fd, FileReadyCb cb, FileTriggerType trigger,
                                               uint32_t events) override;
  TimerPtr createTimer(TimerCb cb) override;
  SchedulableCallbackPtr createSchedulableCallback(SchedulableCb cb) override;
  absl::StatusOr<SignalEventPtr> listenForSignal(int signal, SignalCb cb) override;
  bool post(PostCb cb) override {
    return LoopCore::current() == &*loop_ ? posts_->postFromLoop(cb) : posts_->post(cb) || PostQueue::refuse(cb);
  }
  void deferredDelete(DeferredDeletablePtr object) override;
  void deleteInDispatcherThread(DeferredDeletablePtr object) override;
  void clearDeferredDeleteList() override;
  void run(RunType type) override;
  void exit() override { posts_->requestExit(); }
  KeepRunning keepRunning() override { return KeepRunning(posts_); }
  void shutdown() override;
  bool isThreadSafe() const override { return loop_->boundHere(); }
  absl::string_view name() const override { return loop_->name(); }
  TimeSource& timeSource() override { return loop_->timeSystem(); }
  MonotonicTime approximateMonotonicTime() override;
  void updateApproximateMonotonicTime() override;
  bool shouldYield() override;
  PostHandle handle() override { return PostHandle(posts_); }
  LoopCore& loop() override { return *loop_; }
  void pushTrackedObject(const TrackedObject* object) override;
  void popTrackedObject(const TrackedObject* object) override;
  DispatcherStats stats() const override;
  LoopFigures figures() const override;

private:
  using Budget = CallbackBudget<Loop>;

  // Where the dispatcher comes to be only in part.
  struct GiveUpLoop {
    void operator()(Loop* loop) const {
      WorkList none;
      loop->dispatcherGone(none);
    }
  };
  using LoopPtr = std::unique_ptr<Loop, GiveUpLoop>;

  DispatcherImpl(const DispatcherOptions& options, LoopPtr loop);

  absl::Status open();
  absl::Status createAlarm();
  void checkFork();

  class RunScope;
  void iterate(bool block);
  bool failed();  // the run is to end, and none can follow
  void poll(bool block);
  void pollDescriptors(bool block);
  bool spin();
  void lookForPosts();
  void setAlarm();
  void runTimers(uint64_t mark, uint64_t due_at);
  void pollTimed(bool block);
  void endWork();
  void runTasks(Budget& budget);
  void runWorkList(WorkList& list, Budget& budget);
  void runWork();
  Budget newBudget() const { return Budget(max_time_, *loop_); }
  bool takeBatch();
  void noteBatch();
  bool runBatch(Budget& budget);
  void runWatched();
  void runBackground();
  bool hasForeground() const;
  bool hasOwnWork() const;
  bool prepareToSleep();
  bool nothingCanCallBack() const;

  LoopPtr loop_;
  const std::shared_ptr<PostQueue> posts_;
  const uint32_t max_batches_;
  const std::chrono::nanoseconds max_time_;
  const std::chrono::nanoseconds busy_poll_;

  AlarmPtr alarm_;

  // From here on what the loop writes all the time, apart from what is above, which those who post read.
  alignas(64) bool look_at_timers_ = false;
  PostQueue::Batch batch_;  // what is left of it when an iteration ran out of time
  WorkList ready_;          // scheduled for this iteration by the one before
  uint32_t polls_skipped_ = 0;
  Linger linger_;
  bool may_sleep_ = false;         // in this run
  uint64_t background_waits_ = 0;  // so many iterations, since that time by deadlineClock()
  uint64_t background_waits_since_ = 0;

  using DeferredList = std::vector<DeferredDeletable*>;  // owned; bare, so that a list is emptied without another look
  std::array<DeferredList, 2> deferred_;
  DeferredList* deferred_now_ = &deferred_[0];  // the other one is being destroyed
  bool deleting_ = false;

  struct Counters {
    Counter iterations;
    Counter tasks_run;
    Counter timers_fired;
  };
  Counters counters_;
};

}  // namespace nuncio
