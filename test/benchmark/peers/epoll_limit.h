#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <vector>

#include "test/benchmark/peers/echo.h"
#include "test/benchmark/support.h"

// The baseline `limit`: the system calls alone, with no loop, queue or callback around them.
namespace nuncio::bench {

// A thread that sleeps in epoll_wait() until another one wakes it. The eventfd is edge-triggered, so that it need not
// be read: one system call to wake, one to sleep.
class EpollWaiter {
public:
  EpollWaiter() {
    require(epoll_ >= 0 && eventfd_ >= 0, "epoll_create1, eventfd");
    epoll_event interest{};
    interest.events = EPOLLIN | EPOLLET;
    require(epoll_ctl(epoll_, EPOLL_CTL_ADD, eventfd_, &interest) == 0, "epoll_ctl");
  }
  ~EpollWaiter() {
    close(eventfd_);
    close(epoll_);
  }
  EpollWaiter(const EpollWaiter&) = delete;
  EpollWaiter& operator=(const EpollWaiter&) = delete;

  void wait() const {
    epoll_event event;
    while (epoll_wait(epoll_, &event, 1, -1) != 1) {
    }
  }
  void wake() const {
    const uint64_t one = 1;
    require(write(eventfd_, &one, sizeof(one)) == sizeof(one), "write");
  }

private:
  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  const int eventfd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
};

// A level-triggered epoll loop that reads and writes in place. post() only serves to start and to stop it.
class EpollEchoLoop {
public:
  EpollEchoLoop() {
    require(epoll_ >= 0, "epoll_create1");
    add(eventfd_);
  }
  ~EpollEchoLoop() {
    close(eventfd_);
    close(epoll_);
  }
  EpollEchoLoop(const EpollEchoLoop&) = delete;
  EpollEchoLoop& operator=(const EpollEchoLoop&) = delete;

  void add(int fd) const {
    epoll_event interest{};
    interest.events = EPOLLIN;
    interest.data.fd = fd;
    require(epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &interest) == 0, "epoll_ctl");
  }

  template <class F>
  void post(F callback) {
    callback();
  }
  void stop() const {
    const uint64_t one = 1;
    require(write(eventfd_, &one, sizeof(one)) == sizeof(one), "write");
  }

  void run() const {
    std::array<epoll_event, 256> events;
    for (;;) {
      const int count = epoll_wait(epoll_, events.data(), events.size(), -1);
      for (int i = 0; i < count; ++i) {
        if (events[i].data.fd == eventfd_) {
          return;
        }
        echoOnce(events[i].data.fd);
      }
    }
  }

private:
  const int epoll_ = epoll_create1(EPOLL_CLOEXEC);
  const int eventfd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
};

class EpollEcho {
public:
  EpollEcho(EpollEchoLoop& loop, const std::vector<int>& fds) {
    for (const int fd : fds) {
      loop.add(fd);
    }
  }
};

}  // namespace nuncio::bench
