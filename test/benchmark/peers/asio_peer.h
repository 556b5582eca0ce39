#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include <asio.hpp>

#include "test/benchmark/peers/echo.h"
#include "test/benchmark/support.h"

// The peer `asio`. The concurrency hint is 1, which asio recommends for a context that one thread runs: posts from
// other threads stay safe (that is not ASIO_CONCURRENCY_HINT_UNSAFE), and a post from its own thread takes no lock.
namespace nuncio::bench {

class AsioLoop {
public:
  AsioLoop() : AsioLoop(true) {}

  void run() {
    context_.restart();
    context_.run();
  }
  void runUntilIdle() {
    work_.reset();
    run();
  }
  void stop() { context_.stop(); }
  template <class F>
  void post(F&& callback) {
    asio::post(context_, std::forward<F>(callback));
  }

  // Calls `f` once in each of `count` iterations.
  template <class F>
  void runIterations(std::size_t count, F f) {
    struct Step {
      AsioLoop* loop;
      std::size_t* left;
      F* f;
      void operator()() const {
        (*f)();
        if (--*left == 0) {
          loop->stop();
        } else {
          loop->post(*this);
        }
      }
    };
    post(Step{this, &count, &f});
    run();
  }

  asio::io_context& context() { return context_; }

protected:
  explicit AsioLoop(bool reactor) {
    if (reactor) {
      reactor_.emplace(context_);
    }
  }

private:
  asio::io_context context_{1};
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work_{context_.get_executor()};
  // The first I/O object gives an io_context its reactor, as it has in a program that does I/O: it sleeps in
  // epoll_wait(), and polls between handlers.
  std::optional<asio::steady_timer> reactor_;
};

// The peer `asio_no_io`: without any I/O object an io_context is a task queue that sleeps on a condition variable.
class AsioNoIoLoop : public AsioLoop {
public:
  AsioNoIoLoop() : AsioLoop(false) {}
};

// expires_after() completes the wait that it replaces with operation_aborted: that callback is part of a re-arm.
class AsioTimers {
public:
  AsioTimers(AsioLoop& loop, std::size_t count, uint64_t* fired) : timers_(count), fired_(fired) {
    for (std::size_t i = 0; i < count; ++i) {
      timers_.emplace(loop.context());
    }
  }
  void arm(std::size_t index, uint64_t micros) {
    asio::steady_timer& timer = timers_[index];
    timer.expires_after(std::chrono::microseconds(micros));
    timer.async_wait([fired = fired_](const asio::error_code& error) {
      if (!error) {
        ++*fired;
      }
    });
  }

private:
  Array<asio::steady_timer> timers_;
  uint64_t* const fired_;
};

// Watches descriptors for reading, and counts.
class AsioFileEvents {
public:
  AsioFileEvents(AsioLoop& loop, const std::vector<int>& fds, uint64_t* ready) : sockets_(fds.size()) {
    for (const int fd : fds) {
      sockets_.emplace(loop.context(), fd)
          .async_wait(asio::posix::stream_descriptor::wait_read, [ready](const asio::error_code&) { ++*ready; });
    }
  }
  ~AsioFileEvents() {
    for (auto& socket : sockets_) {
      socket.release();  // the descriptor is the caller's
    }
  }
  AsioFileEvents(const AsioFileEvents&) = delete;
  AsioFileEvents& operator=(const AsioFileEvents&) = delete;

private:
  Array<asio::posix::stream_descriptor> sockets_;
};

// The echo server of asio's own examples.
class AsioEcho {
public:
  AsioEcho(AsioLoop& loop, const std::vector<int>& fds) {
    for (const int fd : fds) {
      connections_.push_back(std::make_unique<Connection>(loop, dup(fd)));
      connections_.back()->read();
    }
  }

private:
  struct Connection {
    Connection(AsioLoop& loop, int fd) : socket(loop.context(), asio::ip::tcp::v4(), fd) {}
    void read() {
      socket.async_read_some(asio::buffer(data), [this](const asio::error_code& error, std::size_t size) {
        if (!error) {
          write(size);
        }
      });
    }
    void write(std::size_t size) {
      asio::async_write(socket, asio::buffer(data, size), [this](const asio::error_code& error, std::size_t) {
        if (!error) {
          read();
        }
      });
    }
    asio::ip::tcp::socket socket;
    std::array<char, kEchoBuffer> data;
  };
  std::vector<std::unique_ptr<Connection>> connections_;
};

}  // namespace nuncio::bench
