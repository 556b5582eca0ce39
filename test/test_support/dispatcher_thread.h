#pragma once

#include <thread>

#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "test/test_support/notification.h"

namespace nuncio::test {

// DispatcherThread: runs a dispatcher on a thread of its own, from construction until stop() or destruction.
//
//   DispatcherThread thread(*dispatcher);
//   thread.call([&] { timer = dispatcher->createTimer(cb); });
class DispatcherThread {
public:
  explicit DispatcherThread(Dispatcher& dispatcher) : dispatcher_(dispatcher) {
    Notification running;
    EXPECT_TRUE(dispatcher.post([&running] { running.notify(); }));
    thread_ = std::thread([this] { dispatcher_.run(RunType::RunUntilExit); });
    EXPECT_TRUE(running.wait());
  }
  ~DispatcherThread() { stop(); }
  DispatcherThread(const DispatcherThread&) = delete;
  DispatcherThread& operator=(const DispatcherThread&) = delete;

  // Ends the loop and joins the thread. What is posted and has not run by then stays posted.
  void stop() {
    if (thread_.joinable()) {
      dispatcher_.exit();
      thread_.join();
    }
  }

  // Runs `f` on the loop's thread and waits until it has returned.
  template <class F>
  void call(F&& f) {
    Notification done;
    ASSERT_TRUE(dispatcher_.post([&f, &done] {
      f();
      done.notify();
    }));
    ASSERT_TRUE(done.wait());
  }

  std::thread::id id() const { return thread_.get_id(); }

private:
  Dispatcher& dispatcher_;
  std::thread thread_;
};

}  // namespace nuncio::test
