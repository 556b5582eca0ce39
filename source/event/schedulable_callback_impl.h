#pragma once

#include "nuncio/event/callback.h"
#include "nuncio/event/schedulable_callback.h"
#include "source/event/loop.h"

namespace nuncio {

class SchedulableCallbackImpl final : public SchedulableCallback, private WorkItem {
public:
  SchedulableCallbackImpl(const LoopRef& loop, SchedulableCb cb) : loop_(loop), cb_(std::move(cb)) {}
  ~SchedulableCallbackImpl() override;

  // SchedulableCallback
  void scheduleCurrentIteration() override;
  void scheduleNextIteration() override;
  void cancel() override;
  bool enabled() const override {
    loop_->checkThread("SchedulableCallback::enabled");
    return queued();
  }

private:
  void schedule(WorkList& list, const char* operation);
  void runWork() override { loop_->callOwned("schedulable", cb_); }

  LoopRef loop_;
  SchedulableCb cb_;
};

}  // namespace nuncio
