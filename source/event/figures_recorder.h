#pragma once

#include <cstdint>

#include "nuncio/event/dispatcher.h"
#include "nuncio/event/histogram.h"
#include "nuncio/event/loop_figures.h"

namespace nuncio {

// FiguresRecorder: the histograms of a loop. It is told of the borders of an iteration's phases, with times of one
// clock in nanoseconds, which are read there only: two reads an iteration beside the one that the loop does anyway, one
// a batch of posts by who posts first, and one by the loop.
//
// Threads: the loop's, but addTo(), from any.
class FiguresRecorder {
public:
  explicit FiguresRecorder(FigureDetail detail) : times_callbacks_(detail == FigureDetail::Callbacks) {}

  bool timesCallbacks() const { return times_callbacks_; }

  // The poll is over, or a run begins. `callbacks`: that have begun so far.
  void beginWork(uint64_t now, uint64_t callbacks) {
    working_since_ = now;
    callbacks_before_ = callbacks;
  }
  // It is about to poll, or the run ends.
  void endWork(uint64_t now, uint64_t callbacks) {
    if (working_since_ == 0) {
      return;  // nothing has begun
    }
    loop_duration_.record(now - working_since_);
    callbacks_.record(callbacks - callbacks_before_);
    working_since_ = 0;
    ended_at_ = now;
  }
  uint64_t endedAt() const { return ended_at_; }
  // A poll that was to be over by `due` was so at `now`.
  void polled(uint64_t now, uint64_t due) {
    if (now >= due) {
      poll_delay_.record(now - due);
    }
  }
  // A batch was taken, whose first post came at `posted_at`; the clocks of two threads may differ by microseconds.
  void tookBatch(uint64_t now, uint64_t posted_at) { post_wait_.record(now > posted_at ? now - posted_at : 0); }
  void ranCallback(uint64_t nanoseconds) { callback_duration_.record(nanoseconds); }

  void addTo(LoopFigures& figures) const {
    figures.loop_duration = loop_duration_.snapshot();
    figures.poll_delay = poll_delay_.snapshot();
    figures.post_wait = post_wait_.snapshot();
    figures.callback_duration = callback_duration_.snapshot();
    figures.callbacks = callbacks_.snapshot();
  }

private:
  const bool times_callbacks_;
  uint64_t working_since_ = 0;  // 0: it does not
  uint64_t ended_at_ = 0;
  uint64_t callbacks_before_ = 0;
  Histogram loop_duration_;
  Histogram poll_delay_;
  Histogram post_wait_;
  Histogram callback_duration_;
  Histogram callbacks_;
};

}  // namespace nuncio
