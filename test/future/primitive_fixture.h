#pragma once

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {

// A dispatcher in simulated time whose loop runs on the test's thread when the test says so.
class PrimitiveTest : public testing::Test {
protected:
  PrimitiveTest() { dispatcher_->run(RunType::NonBlock); }  // from now on this thread is the loop's

  // Runs all continuations that can run.
  void drain() { dispatcher_->run(RunType::Block); }

  SimulatedTimeSystem time_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "test", .time_system = &time_});
};

// A million, and fewer where that takes too long.
#ifdef __OPTIMIZE__
inline constexpr int kMany = kSanitizer ? 100'000 : 1'000'000;
#else
inline constexpr int kMany = 100'000;
#endif

// The seed of a randomized test: another one in each run, or that of the environment, to repeat one.
inline uint64_t testSeed() {
  const char* const given = std::getenv("NUNCIO_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
}

// The future has failed with a status of this code whose message has this part.
template <class T>
testing::AssertionResult failedWith(Future<T>& future, absl::StatusCode code, const char* part) {
  if (!future.isReady()) {
    return testing::AssertionFailure() << "it is pending";
  }
  const absl::Status status = future.result().status();
  if (status.code() == code && absl::StrContains(status.message(), part)) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "its status is " << status;
}

}  // namespace nuncio::test
