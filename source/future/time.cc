#include "nuncio/future/time.h"

#include <chrono>
#include <new>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "source/future/failure.h"

namespace nuncio::future_internal {
namespace {

std::string inMilliseconds(std::chrono::nanoseconds duration) {
  return absl::StrCat(static_cast<double>(duration.count()) / 1e6, " ms");
}

// A timer's future.
class SleepNode final : public ResultNode<void>, public PendingOperation {
public:
  // False without memory.
  bool start(std::chrono::nanoseconds delay) {
    timer_ = startTimer(*this, delay, [](Node& node) { static_cast<SleepNode&>(node).finish(false); });
    if (timer_ == nullptr) {
      return false;
    }
    loop_->addPending(*this);
    return true;
  }

  void runTask() noexcept override {}
  Node* stopHere(const Failure* /*reason*/) noexcept override {
    finish(true);
    return nullptr;
  }
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

TimerPtr startTimer(Node& node, std::chrono::nanoseconds delay, void (*expired)(Node& node)) noexcept {
  try {
    TimerPtr timer = node.loop_->dispatcher()->createTimer([&node, expired] { expired(node); });
    timer->enableHRTimer(std::chrono::ceil<std::chrono::microseconds>(delay));
    return timer;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

Failure* deadlineFailure(std::chrono::nanoseconds limit) noexcept {
  return makeFailureOf([limit] {
    return absl::DeadlineExceededError(absl::StrCat("the future was not ready within ", inMilliseconds(limit)));
  });
}

Failure* negativeDuration(std::chrono::nanoseconds duration) noexcept {
  return makeFailureOf(
      [duration] { return absl::InvalidArgumentError(absl::StrCat("negative duration: ", inMilliseconds(duration))); });
}

Future<void> sleepOn(LoopCore* loop, std::chrono::nanoseconds delay, const std::source_location& place) {
  if (delay.count() < 0) {
    return Future<void>(Try<void>::fromFailure(negativeDuration(delay)), place);
  }
  if (loop == nullptr) {
    return Future<void>(failed<void>(Reason::NoDispatcher), place);
  }
  if (loop->ended()) {
    return Future<void>(failed<void>(Reason::LoopGone), place);
  }
  if (!loop->onLoopThread()) {
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
  if (!node->start(delay)) {
    node->free();
    return Future<void>(failed<void>(Reason::NoMemory), place);
  }
  return Access::future<void>(node);
}

}  // namespace nuncio::future_internal
