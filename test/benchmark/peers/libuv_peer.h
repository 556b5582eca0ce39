#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include <uv.h>

#include "test/benchmark/peers/echo.h"
#include "test/benchmark/support.h"

// The peer `libuv`. It has no post(): as its guide says, the user adds a queue under a mutex and one uv_async_t, here
// sent only when the queue was empty, which is cheaper than to leave the merging to libuv.
namespace nuncio::bench {

class LibuvLoop {
public:
  LibuvLoop() {
    require(uv_loop_init(&loop_) == 0, "uv_loop_init");
    loop_.data = this;
    const auto run_posts = [](uv_async_t* async) { static_cast<LibuvLoop*>(async->loop->data)->runPosts(); };
    require(uv_async_init(&loop_, &async_, run_posts) == 0, "uv_async_init");
    require(uv_idle_init(&loop_, &idle_) == 0, "uv_idle_init");
  }
  ~LibuvLoop() {
    uv_close(reinterpret_cast<uv_handle_t*>(&async_), nullptr);
    uv_close(reinterpret_cast<uv_handle_t*>(&idle_), nullptr);
    uv_run(&loop_, UV_RUN_DEFAULT);
    require(uv_loop_close(&loop_) == 0, "uv_loop_close");
  }
  LibuvLoop(const LibuvLoop&) = delete;
  LibuvLoop& operator=(const LibuvLoop&) = delete;

  void run() { uv_run(&loop_, UV_RUN_DEFAULT); }
  void stop() { uv_stop(&loop_); }

  void runUntilIdle() {
    uv_unref(reinterpret_cast<uv_handle_t*>(&async_));
    run();
    uv_ref(reinterpret_cast<uv_handle_t*>(&async_));
  }

  void post(std::function<void()> callback) {
    bool wake = false;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      wake = posts_.empty();
      posts_.push_back(std::move(callback));
    }
    if (wake) {
      uv_async_send(&async_);
    }
  }

  // Calls `f` once in each of `count` iterations.
  template <class F>
  void runIterations(std::size_t count, F f) {
    std::function<void()> step = [&] {
      f();
      if (--count == 0) {
        uv_idle_stop(&idle_);
        stop();
      }
    };
    idle_.data = &step;
    uv_idle_start(&idle_, [](uv_idle_t* idle) { (*static_cast<std::function<void()>*>(idle->data))(); });
    run();
  }

  uv_loop_t* loop() { return &loop_; }

private:
  void runPosts() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      batch_.swap(posts_);
    }
    for (auto& callback : batch_) {
      callback();
    }
    batch_.clear();
  }

  uv_loop_t loop_{};
  uv_async_t async_{};
  uv_idle_t idle_{};
  std::mutex mutex_;
  std::vector<std::function<void()>> posts_;
  std::vector<std::function<void()>> batch_;
};

// Handles of one kind in the user's memory; closed together, which takes an iteration.
template <class Handle>
class LibuvHandles {
public:
  LibuvHandles(LibuvLoop& loop, std::size_t count) : loop_(loop), handles_(count) {}
  ~LibuvHandles() {
    for (Handle& handle : handles_) {
      uv_close(reinterpret_cast<uv_handle_t*>(&handle), nullptr);
    }
    uv_run(loop_.loop(), UV_RUN_NOWAIT);
  }
  LibuvHandles(const LibuvHandles&) = delete;
  LibuvHandles& operator=(const LibuvHandles&) = delete;

  uv_loop_t* loop() { return loop_.loop(); }
  Handle& add() { return handles_.emplace(); }
  Handle& operator[](std::size_t index) { return handles_[index]; }

private:
  LibuvLoop& loop_;
  Array<Handle> handles_;
};

// uv_timer_t counts in milliseconds.
class LibuvTimers {
public:
  LibuvTimers(LibuvLoop& loop, std::size_t count, uint64_t* fired) : timers_(loop, count) {
    for (std::size_t i = 0; i < count; ++i) {
      uv_timer_t& timer = timers_.add();
      require(uv_timer_init(timers_.loop(), &timer) == 0, "uv_timer_init");
      timer.data = fired;
    }
  }
  void arm(std::size_t index, uint64_t micros) {
    uv_timer_start(
        &timers_[index], [](uv_timer_t* timer) { ++*static_cast<uint64_t*>(timer->data); }, micros / 1000, 0);
  }

private:
  LibuvHandles<uv_timer_t> timers_;
};

// Watches descriptors for reading, and counts.
class LibuvFileEvents {
public:
  LibuvFileEvents(LibuvLoop& loop, const std::vector<int>& fds, uint64_t* ready) : polls_(loop, fds.size()) {
    for (const int fd : fds) {
      uv_poll_t& poll = polls_.add();
      require(uv_poll_init(polls_.loop(), &poll, fd) == 0, "uv_poll_init");
      poll.data = ready;
      uv_poll_start(&poll, UV_READABLE, [](uv_poll_t* self, int, int) { ++*static_cast<uint64_t*>(self->data); });
    }
  }

private:
  LibuvHandles<uv_poll_t> polls_;
};

// Streams with one buffer for all, and uv_try_write(), which saves the request that uv_write() needs.
class LibuvEcho {
public:
  LibuvEcho(LibuvLoop& loop, const std::vector<int>& fds) : connections_(loop, fds.size()) {
    for (const int fd : fds) {
      uv_tcp_t& connection = connections_.add();
      require(uv_tcp_init(connections_.loop(), &connection) == 0, "uv_tcp_init");
      require(uv_tcp_open(&connection, dup(fd)) == 0, "uv_tcp_open");  // uv_close() closes it
      connection.data = this;
      uv_read_start(reinterpret_cast<uv_stream_t*>(&connection), &LibuvEcho::onAlloc, &LibuvEcho::onRead);
    }
  }

private:
  static void onAlloc(uv_handle_t* handle, std::size_t, uv_buf_t* out) {
    auto& buffer = static_cast<LibuvEcho*>(handle->data)->buffer_;
    *out = uv_buf_init(buffer.data(), buffer.size());
  }
  static void onRead(uv_stream_t* stream, ssize_t size, const uv_buf_t* buffer) {
    if (size > 0) {
      const uv_buf_t data = uv_buf_init(buffer->base, static_cast<unsigned>(size));
      require(uv_try_write(stream, &data, 1) == size, "uv_try_write");
    }
  }

  std::array<char, kEchoBuffer> buffer_{};
  LibuvHandles<uv_tcp_t> connections_;
};

}  // namespace nuncio::bench
