// FileEvent against a kernel that counts what it is asked, and refuses when a test says so. This program's epoll_ctl
// takes the place of the C library's.

#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/log_capture.h"

namespace {
std::atomic<int> epoll_calls{0};
std::atomic<int> epoll_error{0};  // what adding and changing fails with; 0: nothing
}  // namespace

extern "C" int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) noexcept {
  ++epoll_calls;
  if (epoll_error != 0 && operation != EPOLL_CTL_DEL) {
    errno = epoll_error;
    return -1;
  }
  return static_cast<int>(syscall(SYS_epoll_ctl, epoll, operation, fd, event));
}

namespace nuncio::test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint32_t kRead = FileReadyType::Read;
constexpr uint32_t kWrite = FileReadyType::Write;

class FileEventKernelTest : public testing::Test {
protected:
  ~FileEventKernelTest() override { epoll_error = 0; }

  absl::StatusOr<FileEventPtr> watch(FileTriggerType trigger, uint32_t events) {
    return dispatcher_->createFileEvent(
        pair_.watched.get(), [this](uint32_t ready) { seen_.push_back(ready); }, trigger, events);
  }
  std::vector<uint32_t> iterate() {
    seen_.clear();
    dispatcher_->run(RunType::NonBlock);
    return seen_;
  }
  template <class F>
  int callsOf(F f) {
    const int before = epoll_calls;
    f();
    return epoll_calls - before;
  }

  std::vector<uint32_t> seen_;
  Pair pair_ = makeSocketPair();
  DispatcherPtr dispatcher_ = createDispatcher({.name = "kernel_test"});
};

TEST_F(FileEventKernelTest, CallsAreCounted) {
  EXPECT_GE(callsOf([&] { EXPECT_TRUE(watch(FileTriggerType::Level, kRead).ok()); }), 1);
}

TEST_F(FileEventKernelTest, UnchangedMaskCostsNoSystemCallWithLevel) {
  auto event = watch(FileTriggerType::Level, kRead);
  ASSERT_TRUE(event.ok());
  EXPECT_EQ(0, callsOf([&] { EXPECT_TRUE((*event)->setEnabled(kRead)); }));
  EXPECT_TRUE((*event)->setEnabled(0));
  EXPECT_EQ(0, callsOf([&] { EXPECT_TRUE((*event)->setEnabled(0)); }));
}

TEST_F(FileEventKernelTest, ChangedMaskCostsAtMostTwoSystemCallsWithLevel) {
  auto event = watch(FileTriggerType::Level, kRead);
  ASSERT_TRUE(event.ok());
  EXPECT_LE(callsOf([&] { EXPECT_TRUE((*event)->setEnabled(kRead | kWrite)); }), 2);
  EXPECT_LE(callsOf([&] { EXPECT_TRUE((*event)->setEnabled(kWrite)); }), 2);
}

TEST_F(FileEventKernelTest, DeliveryAndActivationCostNoChangeOfTheRegistration) {
  auto event = watch(FileTriggerType::Level, kWrite);
  ASSERT_TRUE(event.ok());
  iterate();
  EXPECT_EQ(0, callsOf([&] {
              iterate();
              (*event)->activate(kRead);
              iterate();
            }));
}

TEST_F(FileEventKernelTest, LimitOfWatchesIsResourceExhausted) {
  epoll_error = ENOSPC;
  const auto event = watch(FileTriggerType::Edge, kRead);
  EXPECT_TRUE(absl::IsResourceExhausted(event.status())) << event.status();
  EXPECT_THAT(std::string(event.status().message()),
              AllOf(HasSubstr(absl::StrCat(pair_.watched.get())), HasSubstr("No space")));
}

TEST_F(FileEventKernelTest, LackOfMemoryIsResourceExhausted) {
  epoll_error = ENOMEM;
  const auto event = watch(FileTriggerType::Edge, kRead);
  EXPECT_TRUE(absl::IsResourceExhausted(event.status())) << event.status();
}

TEST_F(FileEventKernelTest, DescriptorMayBeWatchedOnceTheKernelHasRoomAgain) {
  epoll_error = ENOSPC;
  EXPECT_FALSE(watch(FileTriggerType::Edge, kWrite).ok());
  epoll_error = 0;
  auto event = watch(FileTriggerType::Edge, kWrite);
  ASSERT_TRUE(event.ok());
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
}

TEST_F(FileEventKernelTest, SetEnabledThatTheKernelRefusesIsFalseLoggedAndEnablesNothing) {
  for (const FileTriggerType trigger : {FileTriggerType::Edge, FileTriggerType::Level}) {
    auto event = watch(trigger, kRead);
    ASSERT_TRUE(event.ok());
    LogCapture log(LogLayer::Event);
    epoll_error = ENOSPC;
    EXPECT_FALSE((*event)->setEnabled(kRead | kWrite));
    epoll_error = 0;
    EXPECT_THAT(log.text(), AllOf(HasSubstr("[error]"), HasSubstr(absl::StrCat(pair_.watched.get()))));
    EXPECT_THAT(iterate(), IsEmpty());
    EXPECT_TRUE((*event)->setEnabled(kRead | kWrite));
    EXPECT_THAT(iterate(), ElementsAre(kWrite));
  }
}

TEST_F(FileEventKernelTest, SetEnabledWithTheFormerMaskMayBeTriedAgainAfterARefusal) {
  auto event = watch(FileTriggerType::Level, kWrite);
  ASSERT_TRUE(event.ok());
  LogCapture log(LogLayer::Event);
  epoll_error = ENOMEM;
  EXPECT_FALSE((*event)->setEnabled(kRead | kWrite));
  epoll_error = 0;
  EXPECT_TRUE((*event)->setEnabled(kWrite));  // not taken for an unchanged mask
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
}

TEST_F(FileEventKernelTest, RefusedEventLeavesNothingThatKeepsTheLoopRunning) {
  epoll_error = ENOSPC;
  EXPECT_FALSE(watch(FileTriggerType::Edge, kRead).ok());
  epoll_error = 0;
  dispatcher_->run(RunType::Block);
}

}  // namespace
}  // namespace nuncio::test
