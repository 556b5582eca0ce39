#include "source/event/post_queue.h"

#include <cerrno>
#include <cstring>
#include <new>
#include <pthread.h>
#include <sched.h>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/logging.h"
#include "nuncio/event/keep_running.h"
#include "nuncio/event/post_handle.h"
#include "source/event/fast_clock.h"
#include "source/event/trace_ring.h"

namespace nuncio {
namespace {

// Chunks that an idle queue keeps, for producers and for the loop: what they need to pass the ball without the
// allocator.
constexpr std::size_t kMaxSpares = 64;
constexpr std::size_t kMaxLoopSpares = 2;

// Asks for ownership of memory that will be written soon, and that another core read last; __builtin_prefetch would
// only ask to read it. On the way from core to core, this is most of the cost of a post.
void prefetchForWriting([[maybe_unused]] void* memory) {
#ifdef __x86_64__
  asm volatile("prefetchw (%0)" : : "r"(memory));
#endif
}
constexpr std::size_t kPrefetchBytes = 256;

void freeAll(PostQueue::Chunk* chunk) {
  while (chunk != nullptr) {
    delete std::exchange(chunk, chunk->next);
  }
}

}  // namespace

void PostQueue::Batch::nextChunk() {
  Chunk* const done = std::exchange(first_, first_->next);
  done->next = std::exchange(used_, done);
  read_ = 0;
}

void PostQueue::Batch::destroyAll() {
  while (!empty()) {
    while (!firstFinished()) {
      sched_yield();
    }
    const Posted destroyed = takeFirst();
  }
  freeAll(std::exchange(used_, nullptr));
}

void PostQueue::Batch::giveUpUnfinished() {
  if (!empty()) {
    PostQueue::giveUpUnfinished(first_, read_);
  }
}

void PostQueue::giveUpUnfinished(Chunk* chunk, std::size_t offset) {
  for (; chunk != nullptr; chunk = chunk->next, offset = 0) {
    while (offset < chunk->end) {
      Header& header = *reinterpret_cast<Header*>(chunk->data + offset);
      const uintptr_t word = header.load(std::memory_order_relaxed);
      if ((word & kUnfinished) != 0) {
        header.store((word & ~kUnfinished) | kGivenUp, std::memory_order_relaxed);
      }
      offset += kHeaderBytes + operationsOf(word)->size + ((word & kTraced) != 0 ? sizeof(Flow) : 0);
    }
  }
}

// A record that the forking thread itself is at work on is finished by it nonetheless.
void PostQueue::afterForkInChild() {
  giveUpUnfinished(posted_.first, 0);
  leaving_.store(0, std::memory_order_relaxed);
  waker_->leaveToParent();
  keepers_.store(0, std::memory_order_relaxed);
}

void PostQueue::lose() {
  closed_ = true;
  closed_hint_.store(true, std::memory_order_relaxed);
  waker_->lose();
}

PostQueue::PostQueue(std::string name, std::unique_ptr<Waker> waker)
    : ForkAware(&lock_), name_(std::move(name)), waker_(std::move(waker)) {
  watchForks();
}

void PostQueue::waitForLeaving() const {
  while (leaving_.load(std::memory_order_acquire) > 0) {
    sched_yield();
  }
}

PostQueue::~PostQueue() {
  waitForLeaving();
  unwatchForks();
  Batch left;
  take(left);
  left.destroyAll();
  freeAll(from_loop_.spare);
  const MutexLock lock(lock_);
  freeAll(posted_.spare);
}

bool PostQueue::Chunks::allocateSpare() {
  auto* const chunk = new (std::nothrow) Chunk;
  return chunk != nullptr && keepSpare(chunk, SIZE_MAX);
}

// Null where there is neither room nor a spare chunk. Calls nothing, so that postFromLoop() has no registers to save.
inline std::byte* PostQueue::Chunks::write(std::size_t bytes) {
  if (first == nullptr || last->end + bytes > Chunk::kBytes) {
    if (spare == nullptr) [[unlikely]] {
      return nullptr;
    }
    Chunk* const chunk = std::exchange(spare, spare->next);
    --spares;
    chunk->next = nullptr;
    chunk->end = 0;
    (first != nullptr ? last->next : first) = chunk;
    last = chunk;
  }
  std::byte* const record = last->data + last->end;
  prefetchForWriting(record + kPrefetchBytes);
  last->end += bytes;
  ++size;
  return record;
}

namespace {

// The header of a record, with its flow behind the capture.
uintptr_t headerWord(const PostCb::Operations* operations, std::byte* record, PostQueue::Flow flow) {
  const auto word = reinterpret_cast<uintptr_t>(operations);
  if (flow == 0) [[likely]] {
    return word;
  }
  std::memcpy(record + PostQueue::kHeaderBytes + operations->size, &flow, sizeof(flow));
  return word | PostQueue::kTraced;
}

}  // namespace

inline bool PostQueue::Chunks::append(PostCb& cb, Flow flow) {
  std::byte* const record = write(recordBytes(cb, flow));
  if (record == nullptr) [[unlikely]] {
    return false;
  }
  ::new (record) Header(headerWord(cb.operations(), record, flow));
  cb.relocateBytesTo(record + kHeaderBytes);
  return true;
}

inline PostQueue::Header* PostQueue::Chunks::reserve(const PostCb& cb, Flow flow) {
  std::byte* const record = write(recordBytes(cb, flow));
  return record != nullptr ? ::new (record) Header(headerWord(cb.operations(), record, flow) | kUnfinished) : nullptr;
}

inline PostQueue::Flow PostQueue::newFlow() const { return traced_.load(std::memory_order_relaxed) ? tracePost() : 0; }

bool PostQueue::post(PostCb& cb) {
  if (!NUNCIO_CONTRACT(cb != nullptr, name_, "Dispatcher::post", "null callback")) {
    return false;
  }
  const bool at_once = cb.operations()->relocate == nullptr;
  const Flow flow = newFlow();
  Header* header = nullptr;
  bool wake_loop = false;
  {
    const MutexLock lock(lock_);
    if (closed_) {
      return false;
    }
    const bool first = posted_.first == nullptr;
    if (at_once) {
      if (!posted_.appendOrAllocate(cb, flow)) [[unlikely]] {
        return false;
      }
    } else {
      header = posted_.reserveOrAllocate(cb, flow);
      if (header == nullptr) [[unlikely]] {
        return false;
      }
    }
    if (first) {
      posters_cpu_ = sched_getcpu();  // reads a word that the kernel keeps in this thread's memory
      pending_.store(true, std::memory_order_release);
      if (timed_) [[unlikely]] {
        posted_at_ = steadyNanoseconds();
      }
    }
    if (sleeping_.load(std::memory_order_relaxed)) {
      sleeping_.store(false, std::memory_order_relaxed);
      wake_loop = true;
    }
    if (at_once && wake_loop) {
      leaving_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  // From here on `cb` may have run, and this may be gone, but where it leaves, or is not finished.
  if (!at_once) {
    if (wake_loop) {
      leaving_.fetch_add(1, std::memory_order_relaxed);
    }
    finish(*header, cb);
  }
  if (wake_loop) {
    wakeups_.fetch_add(1, std::memory_order_relaxed);  // a statistic
    wake();
    static_cast<void>(failed());  // which logs it, where the wake-up failed
    leaving_.fetch_sub(1, std::memory_order_release);
  }
  return true;
}

bool PostQueue::postFromLoop(PostCb& cb) {
  if (pending_.load(std::memory_order_acquire) || cb == nullptr || cb.operations()->relocate != nullptr ||
      traced_.load(std::memory_order_relaxed) || !from_loop_.append(cb, /*flow=*/0)) [[unlikely]] {
    return postFromLoopSlowly(cb);
  }
  return true;
}

// Apart, so that the usual case needs no stack.
[[gnu::noinline]] bool PostQueue::postFromLoopSlowly(PostCb& cb) {
  if (pending_.load(std::memory_order_acquire) || cb == nullptr) {
    return post(cb) || refuse(cb);
  }
  const Flow flow = newFlow();
  if (cb.operations()->relocate == nullptr) {
    return from_loop_.appendOrAllocate(cb, flow) || refuse(cb);
  }
  Header* const header = from_loop_.reserveOrAllocate(cb, flow);
  if (header == nullptr) {
    return refuse(cb);
  }
  finish(*header, cb);
  return true;
}

void PostQueue::finish(Header& header, PostCb& cb) {
  const uintptr_t word = header.load(std::memory_order_relaxed) & ~kUnfinished;
  cb.relocateTo(reinterpret_cast<std::byte*>(&header) + kHeaderBytes);
  header.store(word, std::memory_order_release);
}

namespace {

// Those that are refused while one that was refused is destroyed.
struct Refused {
  Refused* next;
  PostCb cb;
};
struct Refusals {
  Refused* first = nullptr;
  Refused** end = &first;
};
thread_local constinit Refusals* refusals = nullptr;

}  // namespace

bool PostQueue::refuse(PostCb& cb) noexcept {
  if (refusals != nullptr) {
    if (auto* const refused = new (std::nothrow) Refused{nullptr, std::move(cb)}; refused != nullptr) {
      *refusals->end = refused;
      refusals->end = &refused->next;
      return false;
    }
  }
  Refusals inside;
  Refusals* const outside = std::exchange(refusals, &inside);
  cb = nullptr;
  while (inside.first != nullptr) {
    Refused* const refused = inside.first;
    inside.first = refused->next;
    if (inside.first == nullptr) {
      inside.end = &inside.first;
    }
    delete refused;
  }
  refusals = outside;
  return false;
}

void PostQueue::requestExit() {
  const Leaving leaving(*this);
  exit_requested_.store(true, std::memory_order_release);
  wake();
}

void PostQueue::stopKeeping() {
  const Leaving leaving(*this);
  if (keepers_.fetch_sub(1, std::memory_order_release) == 1) {
    wake();
  }
}

std::size_t PostQueue::size() {
  const MutexLock lock(lock_);
  return from_loop_.size + posted_.size;
}

std::size_t PostQueue::sizeElsewhere() {
  const MutexLock lock(lock_);
  return posted_.size;
}

bool PostQueue::Chunks::keepSpare(Chunk* chunk, std::size_t limit) {
  if (spares == limit) {
    return false;
  }
  chunk->next = std::exchange(spare, chunk);
  ++spares;
  return true;
}

void PostQueue::wake() {
  const int saved_errno = errno;  // for signal handlers
  if (const int error = waker_->wake(); error != 0) [[unlikely]] {
    int none = kNoFailure;
    failure_.compare_exchange_strong(none, error, std::memory_order_relaxed);
  }
  errno = saved_errno;
}

void PostQueue::fail(const char* what) noexcept {
  if (failure_.exchange(kFailureReported, std::memory_order_relaxed) == kFailureReported) {
    return;
  }
  int cancelable = 0;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);  // a log may be a place where a thread is cancelled
  NUNCIO_LOG(Event, err, "dispatcher {}: {}. Its run ends, and none can follow", name_, what);
  pthread_setcancelstate(cancelable, nullptr);
}

void PostQueue::fail(const char* call, int fd, int error) noexcept {
  try {
    fail(absl::StrCat(call, fd < 0 ? "" : absl::StrCat(" on fd ", fd), ": ", std::generic_category().message(error),
                      "; was a descriptor of it closed behind its back?")
             .c_str());
  } catch (const std::bad_alloc&) {
    fail(call);
  }
}

bool PostQueue::reportFailedWake(int error) noexcept {
  fail(waker_->call(), waker_->fd(), error);
  return true;
}

bool PostQueue::take(Batch& batch) {
  // In this order: what the loop posted itself is older than what is pending.
  batch.first_ = std::exchange(from_loop_.first, nullptr);
  batch.size_ = std::exchange(from_loop_.size, 0);
  batch.posters_cpu_ = Batch::kOwnPosts;
  batch.posted_at_ = 0;
  Chunk* const last_from_loop = batch.empty() ? nullptr : from_loop_.last;
  while (batch.used_ != nullptr) {
    Chunk* const chunk = batch.used_;
    Chunk* const next = chunk->next;
    if (!from_loop_.keepSpare(chunk, kMaxLoopSpares)) {
      break;
    }
    batch.used_ = next;
  }
  if (!pending() && batch.used_ == nullptr) {
    return last_from_loop != nullptr;
  }
  Chunk* used = std::exchange(batch.used_, nullptr);
  {
    const MutexLock lock(lock_);
    while (used != nullptr) {
      Chunk* const next = used->next;
      if (!posted_.keepSpare(used, kMaxSpares)) {
        break;
      }
      used = next;
    }
    if (posted_.first != nullptr) {
      (last_from_loop != nullptr ? last_from_loop->next : batch.first_) = std::exchange(posted_.first, nullptr);
      batch.size_ += std::exchange(posted_.size, 0);
      pending_.store(false, std::memory_order_relaxed);
      batch.posters_cpu_ = posters_cpu_;
      batch.posted_at_ = posted_at_;
    }
  }
  freeAll(used);
  return !batch.empty();
}

bool PostQueue::announceSleep() {
  const MutexLock lock(lock_);
  if (posted_.first != nullptr) {
    return false;
  }
  sleeping_.store(true, std::memory_order_relaxed);
  return true;
}

void PostQueue::close() {
  const MutexLock lock(lock_);
  closed_ = true;
  closed_hint_.store(true, std::memory_order_release);
}

bool PostHandle::post(PostCb cb) const { return tryPost(cb) || PostQueue::refuse(cb); }
bool PostHandle::tryPost(PostCb& cb) const { return queue_ != nullptr && queue_->post(cb); }
bool PostHandle::exit() const {
  if (!alive()) {
    return false;
  }
  queue_->requestExit();
  return true;
}
absl::string_view PostHandle::name() const { return queue_ != nullptr ? queue_->name() : absl::string_view("-"); }
void PostHandle::wake() const {
  if (queue_ != nullptr) {
    queue_->wake();
  }
}
KeepRunning::KeepRunning(std::shared_ptr<PostQueue> queue)
    : queue_(std::move(queue)), fork_generation_(forkGeneration()) {
  queue_->keepRunning();
}
KeepRunning& KeepRunning::operator=(KeepRunning&& other) noexcept {
  if (this != &other) {
    reset();
    queue_ = std::move(other.queue_);
    fork_generation_ = other.fork_generation_;
  }
  return *this;
}
void KeepRunning::reset() noexcept {
  if (const std::shared_ptr<PostQueue> queue = std::move(queue_);
      queue != nullptr && fork_generation_ == forkGeneration()) {
    queue->stopKeeping();
  }
}

bool PostHandle::alive() const { return queue_ != nullptr && !queue_->closed(); }

}  // namespace nuncio
