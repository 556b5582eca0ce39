#pragma once

#include <cstdint>
#include <functional>
#include <new>
#include <source_location>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/dropped_failure.h"
#include "nuncio/future/try.h"
#include "test/test_support/count_allocations.h"

// What becomes of futures when there is no memory. Not under a sanitizer, where no allocation can fail.
namespace nuncio::test {

// Counts the captures that live. Its moves may allocate, and so throw, as those of a const std::string do.
struct Capture {
  explicit Capture(int& count) : living(&count) { ++*living; }
  Capture(Capture&& other) : text(other.text), living(other.living) { ++*living; }  // NOLINT(performance-*)
  Capture& operator=(Capture&&) = delete;
  ~Capture() { --*living; }
  const std::string text = std::string(100, 'x');
  int* living;
};

// Runs `scenario` with the first allocation failing, the second, and so on, until it needs no more of them. It returns
// whether all is as it should be.
inline void failEachAllocationOf(const std::function<bool()>& scenario) {
  DroppedFailureHandler former = setDroppedFailureHandler([](const absl::Status&, const std::source_location&) {});
  ASSERT_TRUE(scenario());  // whatever is allocated once only
  for (int64_t n = 0;; ++n) {
    ASSERT_LT(n, 10'000);
    bool failed = false;
    int64_t before = 0;
    for (int time = 0; time < 2; ++time) {  // the first one allocates what the library says then, for good
      before = allocations - frees;
      allocations_until_failure = n;
      bool good = false;
      bool threw = false;
      try {
        good = scenario();
      } catch (const std::bad_alloc&) {
        threw = true;
      }
      failed = allocations_until_failure < 0;
      allocations_until_failure = -1;
      EXPECT_TRUE(good || threw) << "allocation " << n;
    }
    EXPECT_EQ(allocations - frees, before) << "allocation " << n << " leaks";
    if (!failed) {
      break;
    }
  }
  setDroppedFailureHandler(std::move(former));
}

// What may come of a future without memory.
template <class T>
bool expected(const Try<T>& result) {
  return result.hasValue() || absl::IsResourceExhausted(result.status()) || absl::IsUnknown(result.status());
}

class NoMemoryTest : public testing::Test {
protected:
  // With a dispatcher of its own, whose memory is not used again; made before allocations fail.
  template <class F>
  void failEachAllocation(F work) {
    failEachAllocationOf([&] {
      const int64_t until_failure = std::exchange(allocations_until_failure, -1);
      DispatcherPtr dispatcher = createDispatcher({.name = "no memory"});
      dispatcher->run(RunType::NonBlock);
      allocations_until_failure = until_failure;
      bool good = false;
      try {
        good = work(*dispatcher);
      } catch (...) {
        const int64_t rest = std::exchange(allocations_until_failure, -1);
        dispatcher.reset();
        allocations_until_failure = rest;
        throw;
      }
      const int64_t rest = std::exchange(allocations_until_failure, -1);
      dispatcher.reset();
      allocations_until_failure = rest;
      return good && living_ == 0;
    });
    EXPECT_EQ(living_, 0);
  }

  int living_ = 0;
};

}  // namespace nuncio::test
