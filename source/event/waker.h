#pragma once

namespace nuncio {

// Waker: makes the poll of a loop return, now or the next time. It belongs to the queue of posts, so that it may
// outlive the loop. Threads: any, unless said otherwise.
class Waker {
public:
  virtual ~Waker() = default;

  // 0, or the errno of the system call that failed. On Linux safe in a signal handler.
  virtual int wake() noexcept = 0;

  // For messages: that system call, and its descriptor, or -1.
  virtual const char* call() const = 0;
  virtual int fd() const = 0;

  // In the child of a fork, before any other thread is there: it wakes nobody, until the backend has reopened.
  virtual void leaveToParent() noexcept = 0;
  // The same, for a loop that was left in the parent: gives up what the child need not keep.
  virtual void lose() noexcept = 0;
};

}  // namespace nuncio
