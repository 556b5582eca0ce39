#include "source/common/fork.h"

#include <atomic>
#include <csignal>
#include <pthread.h>

#include "absl/base/thread_annotations.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/mutex.h"

namespace nuncio {
namespace {

// How many threads are in a NoFork scope, and whether a fork is under way.
constexpr uint32_t kForking = uint32_t{1} << 31;
constinit std::atomic<uint32_t> scopes{0};

// Of the calling thread's NoFork scopes, and its fork.
thread_local constinit uint32_t depth = 0;

constinit std::atomic<uint32_t> generation{0};  // relaxed: it changes only in a child that has one thread

}  // namespace

void NoFork::enter() noexcept {
  if (depth++ != 0) {
    return;
  }
  // Acquired and released as a lock is.
  uint32_t now = scopes.load(std::memory_order_relaxed);
  for (;;) {
    if ((now & kForking) != 0) {
      scopes.wait(now, std::memory_order_relaxed);
      now = scopes.load(std::memory_order_relaxed);
    } else if (scopes.compare_exchange_weak(now, now + 1, std::memory_order_acquire, std::memory_order_relaxed)) {
      return;
    }
  }
}

void NoFork::leave() noexcept {
  if (--depth == 0 && (scopes.fetch_sub(1, std::memory_order_release) & kForking) != 0) {
    scopes.notify_all();
  }
}

// In this order: the lock of forks, the end of all scopes, the lock of the list, the objects in the order of the list.
class Forks {
public:
  static void add(ForkAware& object) {
    const MutexLock lock(list_lock_);
    object.next_ = first_;
    if (first_ != nullptr) {
      first_->previous_ = &object;
    }
    first_ = &object;
  }

  static void remove(ForkAware& object) {
    const MutexLock lock(list_lock_);
    (object.previous_ != nullptr ? object.previous_->next_ : first_) = object.next_;
    if (object.next_ != nullptr) {
      object.next_->previous_ = object.previous_;
    }
  }

  static void before() ABSL_NO_THREAD_SAFETY_ANALYSIS {  // it gives up in after()
    fork_lock_.lock();
    const uint32_t own = depth++ != 0 ? 1 : 0;
    uint32_t now = scopes.fetch_or(kForking, std::memory_order_acquire) | kForking;
    while (now != (kForking | own)) {
      scopes.wait(now, std::memory_order_relaxed);
      now = scopes.load(std::memory_order_acquire);
    }
    list_lock_.lock();
    for (ForkAware* object = first_; object != nullptr; object = object->next_) {
      if (object->lock_ != nullptr) {
        object->lock_->lock();
      }
      object->beforeFork();
    }
    sigset_t all;
    sigfillset(&all);
    NUNCIO_RELEASE_ASSERT(pthread_sigmask(SIG_SETMASK, &all, &signals_before_) == 0, "pthread_sigmask");
  }

  static void after() ABSL_NO_THREAD_SAFETY_ANALYSIS {  // as above
    for (ForkAware* object = first_; object != nullptr; object = object->next_) {
      if (object->lock_ != nullptr) {
        object->lock_->unlock();
      }
    }
    list_lock_.unlock();
    --depth;
    scopes.fetch_and(~kForking, std::memory_order_release);
    scopes.notify_all();
    const sigset_t signals = signals_before_;
    fork_lock_.unlock();
    NUNCIO_RELEASE_ASSERT(pthread_sigmask(SIG_SETMASK, &signals, nullptr) == 0, "pthread_sigmask");
  }

  static void afterInChild() ABSL_NO_THREAD_SAFETY_ANALYSIS {  // as above
    generation.fetch_add(1, std::memory_order_relaxed);
    for (ForkAware* object = first_; object != nullptr; object = object->next_) {
      object->afterForkInChild();
    }
    after();
  }

private:
  static inline constinit Mutex fork_lock_;  // one fork at a time
  static inline constinit Mutex list_lock_;
  static inline constinit ForkAware* first_ ABSL_GUARDED_BY(list_lock_) = nullptr;
  static inline sigset_t signals_before_ ABSL_GUARDED_BY(fork_lock_);
};

void ForkAware::watchForks() { Forks::add(*this); }
void ForkAware::unwatchForks() { Forks::remove(*this); }

uint32_t forkGeneration() noexcept { return generation.load(std::memory_order_relaxed); }

namespace {

struct AtStart {
  AtStart() noexcept {
    NUNCIO_RELEASE_ASSERT(pthread_atfork(&Forks::before, &Forks::after, &Forks::afterInChild) == 0,
                          "no memory for the handlers of forks");
  }
};
const AtStart kAtStart;

}  // namespace
}  // namespace nuncio
