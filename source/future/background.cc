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
  BackgroundTask(LoopCore& loop, PostCb cb) : loop_(loop), cb_(std::move(cb)) {}
  ~BackgroundTask() = default;

  void runTask() override {
    const std::unique_ptr<BackgroundTask> self(this);
    auto& loop = static_cast<Loop&>(loop_);
    const Loop::CallbackScope seen(loop, CallbackId::ofCallable(*cb_.operations()));
    loop.call("background", cb_);
  }
  void refuseTask() noexcept override { delete this; }

private:
  LoopCore& loop_;  // which runs it, or refuses it
  PostCb cb_;
};

}  // namespace

bool Background::post(PostCb cb) {
  if (!NUNCIO_CONTRACT(cb != nullptr, "-", "Background::post", "null callback")) {
    return false;
  }
  LoopCore& loop = *loop_;
  std::unique_ptr<BackgroundTask> task(new (std::nothrow) BackgroundTask(loop, std::move(cb)));
  if (task == nullptr || loop.ended()) {
    return false;
  }
  if (loop.onLoopThread() && !loop.closing()) {
    loop.addBackground(*task.release());
    return true;
  }
  PostCb arrival = [&loop, task = std::move(task)]() mutable { loop.addBackground(*task.release()); };
  return loop.tryPost(arrival);
}

Future<void> Background::turn(std::source_location place) {
  if (loop_->dispatcher() == nullptr) {
    return makeFailedFuture<void>(absl::CancelledError("Background::turn: the dispatcher is gone"), place);
  }
  auto [promise, future] = makePromise<void>(*loop_->dispatcher(), place);
  post([promise = std::move(promise)]() mutable { promise.setValue(); });
  return std::move(future);
}

}  // namespace nuncio
