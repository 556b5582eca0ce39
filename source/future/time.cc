#include "nuncio/future/time.h"

#include <chrono>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"

namespace nuncio::future_internal {
namespace {

std::string inMilliseconds(std::chrono::nanoseconds duration) {
  return absl::StrCat(static_cast<double>(duration.count()) / 1e6, " ms");
}

// A timer's future.
class SleepNode final : public ResultNode<void>, public PendingOperation {
public:
  void start(std::chrono::nanoseconds delay) {
    timer_ = startTimer(*this, delay, [](Node& node) { static_cast<SleepNode&>(node).finish(false); });
    loop_->addPending(*this);
  }

  void runTask() noexcept override {}
  void cancelHere() noexcept override { finish(true); }
  const char* kind() const noexcept override { return "sleep"; }

private:
  void destroy() noexcept override { this->~SleepNode(); }
  void abandonOperation() noexcept override { finish(true); }
  void finish(bool cancelled) {
    timer_.reset();
    unlist();
    if (cancelled) {
      set(kNoResult);
    } else {
      result_ = Try<void>(Unit());
    }
    complete(*this);
  }

  TimerPtr timer_;
};

}  // namespace

TimerPtr startTimer(Node& node, std::chrono::nanoseconds delay, void (*expired)(Node& node)) {
  TimerPtr timer = node.loop_->dispatcher()->createTimer([&node, expired] { expired(node); });
  timer->enableHRTimer(std::chrono::ceil<std::chrono::microseconds>(delay));
  return timer;
}

Failure* deadlineFailure(std::chrono::nanoseconds limit) noexcept {
  return makeFailure(
      absl::DeadlineExceededError(absl::StrCat("the future was not ready within ", inMilliseconds(limit))));
}

Failure* negativeDuration(std::chrono::nanoseconds duration) noexcept {
  return makeFailure(absl::InvalidArgumentError(absl::StrCat("negative duration: ", inMilliseconds(duration))));
}

Future<void> sleepOn(TaskQueue* loop, std::chrono::nanoseconds delay, const std::source_location& place) {
  if (delay.count() < 0) {
    return Future<void>(Try<void>::fromFailure(negativeDuration(delay)), place);
  }
  if (loop == nullptr) {
    return Future<void>(failed<void>(Reason::NoDispatcher), place);
  }
  if (!loop->onLoopThread() || loop->dispatcher() == nullptr) {
    // By way of the loop.
    Promise<void> promise(place);
    Future<void> future = Access::viaLoop(promise.semiFuture(), *loop);
    promise.setValue();
    return std::move(future).then([loop, delay, place] { return sleepOn(loop, delay, place); }, place);
  }
  SleepNode* const node = makeNode<SleepNode>(nullptr, loop, place);
  if (node == nullptr) {
    return Future<void>(failed<void>(Reason::NoMemory), place);
  }
  node->start(delay);
  return Access::future<void>(node);
}

}  // namespace nuncio::future_internal
