#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/log_capture.h"

namespace nuncio::test {

// A dispatcher on simulated time. The test is a part of its run, as a callback would be. Nothing may be logged by
// futures.
class LoopFixture : public ::testing::Test {
protected:
  LoopFixture() { turn(); }
  ~LoopFixture() override { EXPECT_EQ(log_.text(), ""); }

  // One iteration.
  void turn() { dispatcher_->run(RunType::NonBlock); }
  void advance(std::chrono::microseconds duration) { time_.advanceTimeAndRun(duration); }
  std::chrono::microseconds now() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(time_.monotonicTime().time_since_epoch());
  }

  LogCapture log_{LogLayer::Future};
  SimulatedTimeSystem time_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "test", .time_system = &time_});
  const LoopCore::RunScope running_{&future_internal::loopOf(*dispatcher_)};
};

// Many promises, and their futures on a dispatcher.
template <class T>
struct Inputs {
  Inputs(Dispatcher& dispatcher, std::size_t count) : promises(count), cancelled(count) {
    futures.reserve(count);
    for (std::size_t i = 0; i < count; ++i) {
      promises[i].onCancel([this, i] { ++cancelled[i]; });
      futures.push_back(promises[i].future(dispatcher));
    }
  }
  Inputs(const Inputs&) = delete;
  Inputs& operator=(const Inputs&) = delete;
  ~Inputs() {
    for (Future<T>& future : futures) {  // those that were not used
      std::move(future).detach();
    }
  }

  std::vector<Promise<T>> promises;
  std::vector<Future<T>> futures;
  std::vector<int> cancelled;  // how often each was
};

// Takes the result, so that a failure counts as handled. Unimplemented when there is none yet.
template <class T>
absl::Status statusOf(Future<T>& future) {
  return future.isReady() ? std::move(future).get().status() : absl::UnimplementedError("not ready");
}
template <class T>
absl::StatusCode codeOf(Future<T>& future) {
  return statusOf(future).code();
}

}  // namespace nuncio::test
