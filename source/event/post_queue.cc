#include "source/event/post_queue.h"

#include <cerrno>
#include <cstring>
#include <new>
#include <pthread.h>
#include <sys/eventfd.h>
#include <utility>

#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/event/post_handle.h"
#include "source/common/errno_status.h"

namespace nuncio {
namespace {

// Chunks that an idle queue keeps: what a loop and its producers need to pass the ball without the allocator.
constexpr std::size_t kMaxSpares = 64;

// How far ahead of the writes the queue asks for ownership of its memory, which the loop's core read last.
constexpr std::size_t kPrefetchBytes = 512;

PostQueue::Chunk* freeAll(PostQueue::Chunk* chunk) {
  while (chunk != nullptr) {
    delete std::exchange(chunk, chunk->next);
  }
  return nullptr;
}

absl::StatusOr<FileDescriptor> openEventFd() {
  FileDescriptor fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (fd.get() < 0) {
    return errnoStatus(errno, "eventfd for a dispatcher");
  }
  return fd;
}

}  // namespace

// Holds the locks of all queues over a fork, so that the child finds none locked by a thread that it does not have, and
// every queue whole.
class ForkGuard {
public:
  static ForkGuard& get() {
    static ForkGuard& guard = *new ForkGuard;  // never destroyed: queues may outlive main
    return guard;
  }

  void add(PostQueue* queue) {
    const MutexLock lock(lock_);
    queue->registry_next_ = first_;
    if (first_ != nullptr) {
      first_->registry_prev_ = queue;
    }
    first_ = queue;
  }

  void remove(PostQueue* queue) {
    const MutexLock lock(lock_);
    (queue->registry_prev_ != nullptr ? queue->registry_prev_->registry_next_ : first_) = queue->registry_next_;
    if (queue->registry_next_ != nullptr) {
      queue->registry_next_->registry_prev_ = queue->registry_prev_;
    }
  }

private:
  ForkGuard() { pthread_atfork(&lockAll, &unlockAll, &unlockAll); }

  static void lockAll() ABSL_NO_THREAD_SAFETY_ANALYSIS {  // the analysis does not follow a list of locks
    get().lock_.lock();
    for (PostQueue* queue = get().first_; queue != nullptr; queue = queue->registry_next_) {
      queue->lock_.lock();
    }
  }
  static void unlockAll() ABSL_NO_THREAD_SAFETY_ANALYSIS {  // as above
    for (PostQueue* queue = get().first_; queue != nullptr; queue = queue->registry_next_) {
      queue->lock_.unlock();
    }
    get().lock_.unlock();
  }

  Mutex lock_;
  PostQueue* first_ ABSL_GUARDED_BY(lock_) = nullptr;
};

void PostQueue::Batch::nextChunk() {
  Chunk* const done = std::exchange(first_, first_->next);
  done->next = std::exchange(used_, done);
  read_ = 0;
}

void PostQueue::Batch::destroyAll() {
  while (!empty()) {
    runFirst([](auto&&) {});
  }
  used_ = freeAll(used_);
}

absl::StatusOr<std::shared_ptr<PostQueue>> PostQueue::create(std::string name) {
  absl::StatusOr<FileDescriptor> fd = openEventFd();
  if (!fd.ok()) {
    return fd.status();
  }
  return std::shared_ptr<PostQueue>(new PostQueue(std::move(name), *std::move(fd)));
}

PostQueue::PostQueue(std::string name, FileDescriptor wake_fd) : name_(std::move(name)), wake_fd_(std::move(wake_fd)) {
  ForkGuard::get().add(this);
}

PostQueue::~PostQueue() {
  ForkGuard::get().remove(this);
  Batch left;
  take(left, false);
  left.destroyAll();
  const MutexLock lock(lock_);
  spare_ = freeAll(spare_);
}

absl::Status PostQueue::reopen() {
  absl::StatusOr<FileDescriptor> fd = openEventFd();
  if (fd.ok()) {
    wake_fd_ = *std::move(fd);
  }
  return fd.status();
}

bool PostQueue::post(PostCb&& cb) {
  if (!NUNCIO_CONTRACT(cb != nullptr, name_, "Dispatcher::post", "null callback")) {
    return false;
  }
  bool wake_loop = false;
  {
    const MutexLock lock(lock_);
    if (closed_) {
      return false;
    }
    const std::size_t bytes = sizeof(PostCb::Operations*) + cb.operations()->size;
    if (tail_ == nullptr || tail_->end + bytes > Chunk::kBytes) {
      Chunk* const chunk = newChunk();
      if (chunk == nullptr) {
        return false;
      }
      (tail_ != nullptr ? tail_->next : head_) = chunk;
      tail_ = chunk;
    }
    std::byte* const record = tail_->data + tail_->end;
    __builtin_prefetch(record + kPrefetchBytes, 1);
    *reinterpret_cast<const PostCb::Operations**>(record) = cb.operations();
    cb.relocateTo(record + sizeof(PostCb::Operations*));
    if (tail_ == head_ && tail_->end == 0) {
      pending_.store(true, std::memory_order_release);
    }
    tail_->end += bytes;
    if (sleeping_.load(std::memory_order_relaxed)) {
      sleeping_.store(false, std::memory_order_relaxed);
      wake_loop = true;
    }
  }
  if (wake_loop) {
    wakeups_.fetch_add(1, std::memory_order_relaxed);  // a statistic
    wake();
  }
  return true;
}

PostQueue::Chunk* PostQueue::newChunk() {
  Chunk* chunk = spare_;
  if (chunk != nullptr) {
    spare_ = chunk->next;
    --spares_;
  } else {
    chunk = new (std::nothrow) Chunk;
    if (chunk == nullptr) {
      return nullptr;
    }
  }
  chunk->next = nullptr;
  chunk->end = 0;
  return chunk;
}

void PostQueue::wake() {
  const int saved_errno = errno;  // for signal handlers
  const uint64_t one = 1;
  // Cannot fail in a way that matters: EAGAIN means 2^64 wake-ups that were never read.
  [[maybe_unused]] const ssize_t written = ::write(wake_fd_.get(), &one, sizeof(one));
  errno = saved_errno;
}

bool PostQueue::take(Batch& batch, bool will_sleep) {
  Chunk* excess = nullptr;
  bool taken = false;
  {
    const MutexLock lock(lock_);
    while (batch.used_ != nullptr) {
      Chunk* const chunk = std::exchange(batch.used_, batch.used_->next);
      Chunk*& list = spares_ < kMaxSpares ? spare_ : excess;
      spares_ += spares_ < kMaxSpares ? 1 : 0;
      chunk->next = std::exchange(list, chunk);
    }
    if (head_ != nullptr) {
      batch.first_ = std::exchange(head_, nullptr);
      tail_ = nullptr;
      pending_.store(false, std::memory_order_relaxed);
      taken = true;
    } else if (will_sleep) {
      sleeping_.store(true, std::memory_order_relaxed);
    }
  }
  freeAll(excess);
  return taken;
}

void PostQueue::close() {
  const MutexLock lock(lock_);
  closed_ = true;
  closed_hint_.store(true, std::memory_order_release);
}

bool PostHandle::post(PostCb cb) const { return queue_->post(std::move(cb)); }
absl::string_view PostHandle::name() const { return queue_->name(); }
bool PostHandle::alive() const { return !queue_->closed(); }

}  // namespace nuncio
