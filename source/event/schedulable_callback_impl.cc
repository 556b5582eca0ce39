#include "source/event/schedulable_callback_impl.h"

namespace nuncio {

void SchedulableCallbackImpl::leaveLoop() {
  loop_->checkThreadOfDestructor("SchedulableCallback::~SchedulableCallback");
  unlink();
}

void SchedulableCallbackImpl::scheduleCurrentIteration() {
  schedule(loop_->current_iteration, "SchedulableCallback::scheduleCurrentIteration");
}

void SchedulableCallbackImpl::scheduleNextIteration() {
  schedule(loop_->next_iteration, "SchedulableCallback::scheduleNextIteration");
}

void SchedulableCallbackImpl::schedule(WorkList& list, const char* operation) {
  loop_->checkThread(operation);
  if (!loop_->over() && !queued()) {
    list.add(*this);
  }
}

void SchedulableCallbackImpl::cancel() {
  loop_->checkThread("SchedulableCallback::cancel");
  if (!loop_->lost()) {
    loop_->withEndLock([this] { unlink(); });
  }
}

}  // namespace nuncio
