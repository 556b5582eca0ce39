#pragma once

#include <source_location>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"

#include "nuncio/common/mutex.h"
#include "nuncio/future/dropped_failure.h"

// Makes failures that a test, or the code under test, ignores fail the test.
//
//   class ClientTest : public testing::Test {
//     NoDroppedFailures no_dropped_failures_;  // the first member, so that the others are destroyed before it
//   };
//
// A future that failed and was dropped, neither handled nor given to detach(), is a failure of the test that names the
// status, and the place where the future was made. Those that the test means to drop it takes:
//
//   EXPECT_THAT(no_dropped_failures_.take(), ElementsAre(Field(&DroppedFailure::status, IsUnavailable())));
//
// Threads: construct and destroy it while no other thread uses futures; take() from any. One within another takes what
// is dropped meanwhile. Cost: none until a failure is dropped.
namespace nuncio {

struct DroppedFailure {
  absl::Status status;
  std::source_location place;  // where the future was made
};

class NoDroppedFailures {
public:
  NoDroppedFailures();
  // Fails the running GoogleTest test, without ending it, for each that was not taken.
  ~NoDroppedFailures();
  NoDroppedFailures(const NoDroppedFailures&) = delete;
  NoDroppedFailures& operator=(const NoDroppedFailures&) = delete;

  // Those since the last call, in the order in which they were dropped. They do not fail the test.
  std::vector<DroppedFailure> take();

private:
  Mutex lock_;
  std::vector<DroppedFailure> dropped_ ABSL_GUARDED_BY(lock_);
  const DroppedFailureHandler former_;
};

// The same for each test of the program: to be called in main(), before RUN_ALL_TESTS(). A test's own NoDroppedFailures
// goes before it.
void failTestsOnDroppedFailures();

}  // namespace nuncio
