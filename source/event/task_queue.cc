#include "nuncio/event/task_queue.h"

#include <utility>
#include <vector>

#include "nuncio/common/mutex.h"
#include "nuncio/event/post_handle.h"

namespace nuncio {

// What other threads need.
struct TaskQueue::Remote {
  explicit Remote(const PostHandle& handle) : posts(handle) {}

  const PostHandle posts;
  Mutex lock;
  // Handed over when posts were refused already: the thread that shuts down refuses them.
  std::vector<Task*> late ABSL_GUARDED_BY(lock);
};

namespace {

// A task on its way through the queue of posts.
class PostedTask {
public:
  PostedTask(TaskQueue& queue, Task& task) : queue_(&queue), task_(&task) {}
  PostedTask(PostedTask&& other) noexcept : queue_(other.queue_), task_(std::exchange(other.task_, nullptr)) {}
  PostedTask& operator=(PostedTask&&) = delete;
  ~PostedTask() {
    // On another thread it was post() that refused; postTask() sees to that.
    if (task_ != nullptr && queue_->onLoopThread()) {
      task_->refuseTask();
    }
  }
  void operator()() { std::exchange(task_, nullptr)->runTask(); }

private:
  TaskQueue* queue_;
  Task* task_;
};

}  // namespace

TaskQueue* TaskQueue::create(const PostHandle& posts, Dispatcher& dispatcher) {
  return new TaskQueue(posts, dispatcher);
}

TaskQueue::TaskQueue(const PostHandle& posts, Dispatcher& dispatcher)
    : dispatcher_(&dispatcher), remote_(new Remote(posts)) {
  pending_end_.previous_ = pending_end_.next_ = &pending_end_;
}

TaskQueue::~TaskQueue() {
  small_.clear();
  large_.clear();
  delete remote_;
}

void TaskQueue::bindToThread() {
  static std::atomic<uint64_t> threads{0};
  if (thread_ == 0) {
    thread_ = threads.fetch_add(1, std::memory_order_relaxed) + 1;
  }
  owner_.store(thread_, std::memory_order_relaxed);
}

bool TaskQueue::postTask(Task& task) {
  if (remote_->posts.post(PostedTask(*this, task))) {
    return true;
  }
  if (onLoopThread()) {
    return true;  // it is shutting down, and has refused the task
  }
  const MutexLock lock(remote_->lock);
  if (ended()) {
    return false;
  }
  remote_->late.push_back(&task);
  return true;
}

bool TaskQueue::shutdownRound() {
  const Running running(this);
  bool any = false;
  for (; pending_end_.next_ != &pending_end_; any = true) {
    PendingOperation& operation = *pending_end_.next_;
    operation.unlist();
    operation.abandonOperation();
  }
  for (; !empty(); any = true) {
    runFirst();
  }
  std::vector<Task*> late;
  {
    const MutexLock lock(remote_->lock);
    late.swap(remote_->late);
  }
  for (Task* const task : late) {
    task->refuseTask();
  }
  return any || !late.empty();
}

bool TaskQueue::endShutdown(bool force) {
  const MutexLock lock(remote_->lock);
  if (!remote_->late.empty() && !force) {
    return false;
  }
  if (!ended()) {
    owner_.store(kNoThread, std::memory_order_relaxed);
    references_.fetch_add(std::exchange(local_references_, 0), std::memory_order_relaxed);  // kOpen is there still
    ended_.store(true, std::memory_order_release);
  }
  return true;
}

void TaskQueue::dispatcherGone() {
  dispatcher_ = nullptr;
  if (references_.fetch_sub(kOpen, std::memory_order_acq_rel) == kOpen) {
    delete this;
  }
}

void TaskQueue::releaseShared() {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    delete this;
  }
}

}  // namespace nuncio
