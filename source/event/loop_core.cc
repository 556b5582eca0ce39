#include "nuncio/event/internal/loop_core.h"

#include <bit>
#include <chrono>
#include <utility>

#include "nuncio/common/mutex.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/event/post_handle.h"
#include "source/common/fork.h"

namespace nuncio {

// What other threads need.
struct LoopCore::Remote final : ForkAware {
  // A visit that another thread was on at a fork goes on for ever in the child.
  explicit Remote(const PostHandle& handle) : ForkAware(&lock), posts(handle) { watchForks(); }
  ~Remote() override { unwatchForks(); }

  const PostHandle posts;
  Mutex lock;
  // Handed over when posts were refused: the loop runs them when it wakes, if there was no memory for a post; the
  // thread that shuts down, or visits the loop after its end, refuses them.
  LinkedList<Task> late ABSL_GUARDED_BY(lock);
  bool visited ABSL_GUARDED_BY(lock) = false;

  struct alignas(16) Reserved {
    std::byte bytes[kReservedBytes];
  };
  static constexpr uint32_t kReserve = 8;
  Reserved reserve[kReserve];
  std::atomic<uint32_t> reserve_used{0};  // by index; acquired when taken, released when given

  Task* takeLate() {
    const MutexLock guard(lock);
    return late.empty() ? nullptr : &late.takeFirst();
  }
};

namespace {

constexpr std::chrono::microseconds kMaxInPlace{500};

// A task on its way through the queue of posts.
class PostedTask {
public:
  using TriviallyRelocatable = void;

  PostedTask(LoopCore& loop, Task& task) : loop_(&loop), task_(&task) {}
  PostedTask(PostedTask&& other) noexcept : loop_(other.loop_), task_(std::exchange(other.task_, nullptr)) {}
  PostedTask& operator=(PostedTask&&) = delete;
  ~PostedTask() {
    // On another thread it was post() that refused; postTask() sees to that.
    if (task_ != nullptr && loop_->onLoopThread()) {
      task_->refuseTask();
    }
  }
  void operator()() { std::exchange(task_, nullptr)->runTask(); }

private:
  LoopCore* loop_;
  Task* task_;
};

}  // namespace

LoopCore::LoopCore(const PostHandle& posts, bool time_passes)
    : remote_(new Remote(posts)),
      time_passes_(time_passes),
      in_place_batch_(time_passes ? kInPlacePerLook : kMaxInPlaceSimulated),
      in_place_left_(in_place_batch_) {}

LoopCore::~LoopCore() { delete remote_; }

uint64_t LoopCore::threadNumber() {
  static std::atomic<uint64_t> threads{0};
  if (thread_ == 0) {
    thread_ = threads.fetch_add(1, std::memory_order_relaxed) + 1;
  }
  return thread_;
}

void LoopCore::bindToThread() {
  const uint64_t here = threadNumber();
  bound_.store(here, std::memory_order_relaxed);
  if (!ended()) {  // else who visits it owns it meanwhile
    owner_.store(here, std::memory_order_relaxed);
  }
}

bool LoopCore::renewInPlace() {
  if (!time_passes_) {  // without a look at the clock, so that each run is the same
    in_place_left_ = 0;
    return false;
  }
  const int64_t now = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  if (in_place_until_ == 0) {
    in_place_until_ = now + std::chrono::nanoseconds(kMaxInPlace).count();
  }
  in_place_left_ = now < in_place_until_ ? in_place_batch_ : 0;
  return in_place_left_ != 0;
}

bool LoopCore::postTask(Task& task) {
  PostCb posted{PostedTask(*this, task)};
  if (remote_->posts.tryPost(posted)) {
    return true;
  }
  if (onLoopThread()) {
    return true;  // it is shutting down, and refuses the task here
  }
  posted = nullptr;  // before others may see to the task, and free this
  const PostHandle posts = remote_->posts;
  {
    const MutexLock lock(remote_->lock);
    if (ended()) {
      return false;
    }
    remote_->late.add(task);
  }
  posts.wake();  // this may be gone
  return true;
}

bool LoopCore::tryPost(PostCb& cb) { return remote_->posts.tryPost(cb); }
bool LoopCore::takesPosts() const { return remote_->posts.alive(); }
bool LoopCore::isOf(const PostHandle& handle) const {
  return handle.queue_ != nullptr && handle.queue_ == remote_->posts.queue_;
}

void* LoopCore::takeReserved() noexcept {
  uint32_t used = remote_->reserve_used.load(std::memory_order_relaxed);
  int index;
  do {
    index = std::countr_one(used);
    if (index == Remote::kReserve) {
      return nullptr;
    }
  } while (!remote_->reserve_used.compare_exchange_weak(used, used | 1U << index, std::memory_order_acquire,
                                                        std::memory_order_relaxed));
  return &remote_->reserve[index];
}

bool LoopCore::giveReserved(void* memory) noexcept {
  const std::size_t offset = reinterpret_cast<uintptr_t>(memory) - reinterpret_cast<uintptr_t>(remote_->reserve);
  if (offset >= sizeof(remote_->reserve)) {
    return false;
  }
  remote_->reserve_used.fetch_and(~(1U << offset / sizeof(Remote::Reserved)), std::memory_order_release);
  return true;
}

void LoopCore::runLate() {
  for (Task* late = remote_->takeLate(); late != nullptr; late = remote_->takeLate()) {
    late->runTask();
  }
}

void LoopCore::deliver(Task& task) noexcept {
  if (!postTask(task) && enter(&task)) {
    task.refuseTask();
    leave();
  }
}

bool LoopCore::enter(Task* brought) {
  const MutexLock lock(remote_->lock);
  if (remote_->visited) {
    if (brought != nullptr) {
      remote_->late.add(*brought);
    }
    return false;
  }
  remote_->visited = true;
  references_.fetch_add(1, std::memory_order_relaxed);  // relaxed: the caller has one
  owner_.store(threadNumber(), std::memory_order_relaxed);
  return true;
}

void LoopCore::leave() {
  for (Task* late = nullptr;;) {
    while (!empty() || !pending_.empty()) {
      if (!empty()) {
        runFirst();
      } else {
        pending_.takeFirst().abandonOperation();
      }
    }
    {
      const MutexLock lock(remote_->lock);
      if (remote_->late.empty()) {
        owner_.store(kNoThread, std::memory_order_relaxed);
        remote_->visited = false;
        break;
      }
      late = &remote_->late.takeFirst();
    }
    late->refuseTask();
  }
  releaseShared();
}

bool LoopCore::shutdownRound() {
  if (ended()) {
    return false;
  }
  const RunScope running(this);
  bool any = false;
  for (; !pending_.empty(); any = true) {
    pending_.takeFirst().abandonOperation();
  }
  for (; !empty(); any = true) {
    runFirst();
  }
  for (; hasBackground(); any = true) {
    background_.takeFirst().refuseTask();
  }
  for (Task* late = remote_->takeLate(); late != nullptr; late = remote_->takeLate()) {
    late->refuseTask();
    any = true;
  }
  // What is left waits for other threads, or for itself.
  if (!any && !waiting_.empty()) {
    any = waiting_.first().endFutileWaits(waiting_);
  }
  LinkedList<PendingOperation> looked_at;  // each may be gone when the next one is looked at
  while (!any && !unanswered_.empty()) {
    PendingOperation& asked = unanswered_.takeFirst();
    looked_at.add(asked);
    any = asked.endFutileWait();
  }
  while (!looked_at.empty()) {
    unanswered_.add(looked_at.takeFirst());
  }
  return any;
}

bool LoopCore::endShutdown(bool force) {
  {
    const MutexLock lock(remote_->lock);
    if (!remote_->late.empty() && !force) {
      return false;
    }
    if (!ended()) {
      owner_.store(kNoThread, std::memory_order_relaxed);
      references_.fetch_add(std::exchange(local_references_, 0), std::memory_order_relaxed);  // kOpen is there still
      life_.store(Life::Ended, std::memory_order_release);
    }
  }
  if (force && enter(nullptr)) {  // what came last is refused by a visit
    leave();
  }
  return true;
}

LoopCore::Detached::Detached(Dispatcher& mock) : loop_(*new LoopCore(PostHandle(), /*time_passes=*/true)) {
  loop_.setDispatcher(&mock);
  loop_.bindToThread();
}

LoopCore::Detached::~Detached() {
  loop_.beginShutdown();
  while (loop_.shutdownRound()) {
  }
  loop_.endShutdown(/*force=*/true);
  loop_.dispatcherGone();
}

void LoopCore::dispatcherGone() {
  if (dispatcher_ != nullptr) {  // else Loop has cleared it under its lock, and handles of other threads read it
    dispatcher_ = nullptr;
  }
  if (references_.fetch_sub(kOpen, std::memory_order_acq_rel) == kOpen) {
    delete this;
  }
}

void LoopCore::releaseShared() {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    delete this;
  }
}

LoopRef::LoopRef(Dispatcher& dispatcher) : LoopRef(dispatcher.loop()) {}

}  // namespace nuncio
