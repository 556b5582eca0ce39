#include "nuncio/future/background.h"

#include <memory>
#include <new>
#include <utility>

#include "absl/status/status.h"

#include "nuncio/common/assert.h"
#include "nuncio/future/promise.h"
#include "source/event/loop.h"

namespace nuncio {
namespace {

// A callback on its way to the background list, and in it.
class BackgroundTask final : public Task {
public:
  explicit BackgroundTask(LoopCore& loop) : loop_(loop) {}
  ~BackgroundTask() = default;

  void runTask() override {
    const std::unique_ptr<BackgroundTask> self(this);
    auto& loop = static_cast<Loop&>(loop_);
    const Loop::CallbackScope seen(loop, CallbackId::ofCallable(*cb.operations()));
    loop.call("background", cb);
  }
  void refuseTask() noexcept override { delete this; }

  PostCb cb;

private:
  LoopCore& loop_;  // which runs it, or refuses it
};
using BackgroundTaskPtr = std::unique_ptr<BackgroundTask>;

// False when the loop refuses it, which is destroyed then.
bool hand(LoopCore& loop, BackgroundTaskPtr task) {
  if (loop.onLoopThread() && !loop.closing()) {
    loop.addBackground(*task.release());
    return true;
  }
  PostCb arrival = [&loop, task = std::move(task)]() mutable { loop.addBackground(*task.release()); };
  return loop.tryPost(arrival);
}

}  // namespace

bool Background::post(PostCb cb) {
  if (!NUNCIO_CONTRACT(cb != nullptr, "-", "Background::post", "null callback")) {
    return false;
  }
  BackgroundTaskPtr task(new (std::nothrow) BackgroundTask(*loop_));
  if (task == nullptr) {
    return false;
  }
  task->cb = std::move(cb);
  return hand(*loop_, std::move(task));
}

Future<void> Background::whenIdle(std::source_location place) {
  if (loop_->dispatcher() == nullptr) {
    return makeFailedFuture<void>(absl::CancelledError("Background::whenIdle: the dispatcher is gone"), place);
  }
  BackgroundTaskPtr task(new (std::nothrow) BackgroundTask(*loop_));
  if (task == nullptr) {
    return Future<void>(future_internal::failed<void>(future_internal::Reason::NoMemory), place);
  }
  auto [promise, future] = makePromise<void>(*loop_->dispatcher(), place);
  task->cb = [done = std::move(promise)]() mutable { done.setValue(); };
  hand(*loop_, std::move(task));
  return std::move(future);
}

}  // namespace nuncio
