#include "test/mocks/future.h"

#include <memory>
#include <utility>

#include "gtest/gtest.h"

namespace nuncio {
namespace {

// Holds one while a test runs, its fixture included.
class Listener final : public testing::EmptyTestEventListener {
private:
  void OnTestStart(const testing::TestInfo& /*info*/) override { failures_ = std::make_unique<NoDroppedFailures>(); }
  void OnTestEnd(const testing::TestInfo& /*info*/) override { failures_.reset(); }

  std::unique_ptr<NoDroppedFailures> failures_;
};

}  // namespace

NoDroppedFailures::NoDroppedFailures()
    : former_(setDroppedFailureHandler([this](const absl::Status& status, const std::source_location& place) {
        const MutexLock lock(lock_);
        dropped_.push_back({status, place});
      })) {}

NoDroppedFailures::~NoDroppedFailures() {
  setDroppedFailureHandler(former_);
  for (const DroppedFailure& failure : take()) {
    ADD_FAILURE_AT(failure.place.file_name(), static_cast<int>(failure.place.line()))
        << "a failed future was dropped: " << failure.status << "; it was made here, in "
        << failure.place.function_name() << "; handle the failure, or say detach()";
  }
}

std::vector<DroppedFailure> NoDroppedFailures::take() {
  const MutexLock lock(lock_);
  return std::exchange(dropped_, {});
}

void failTestsOnDroppedFailures() { testing::UnitTest::GetInstance()->listeners().Append(new Listener); }

}  // namespace nuncio
