#pragma once

#include <new>

#include "nuncio/event/callback.h"
#include "nuncio/event/schedulable_callback.h"
#include "source/event/loop.h"

namespace nuncio {

class SchedulableCallbackImpl final : public SchedulableCallback, private WorkItem {
public:
  SchedulableCallbackImpl(Loop& loop, SchedulableCb cb) : loop_(loop.countHandle()), cb_(std::move(cb)) {}
  ~SchedulableCallbackImpl() override = default;
  static void operator delete(SchedulableCallbackImpl* callback, std::destroying_delete_t) {
    Loop::destroyHandle(callback);
  }

  // SchedulableCallback
  void scheduleCurrentIteration() override;
  void scheduleNextIteration() override;
  void cancel() override;
  bool enabled() const override {
    loop_->checkThread("SchedulableCallback::enabled");
    return queued();
  }

private:
  friend class Loop;
  void leaveLoop();
  static void freeMemory(Loop&, SchedulableCallbackImpl* callback) { ::operator delete(callback); }
  void schedule(WorkList& list, const char* operation);
  void runWork() override { loop_->callOwned("schedulable", *this); }

  Loop* const loop_;
  SchedulableCb cb_;
};

}  // namespace nuncio
