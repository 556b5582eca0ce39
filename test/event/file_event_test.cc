#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <fcntl.h>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/future.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr uint32_t kRead = FileReadyType::Read;
constexpr uint32_t kWrite = FileReadyType::Write;
constexpr uint32_t kClosed = FileReadyType::Closed;

class FileEventTest : public testing::Test {
protected:
  // Watches `fd` and keeps what is reported in seen_.
  FileEventPtr watch(int fd, FileTriggerType trigger, uint32_t events) {
    auto event = dispatcher_->createFileEvent(fd, [this](uint32_t ready) { seen_.push_back(ready); }, trigger, events);
    EXPECT_TRUE(event.ok()) << event.status();
    return *std::move(event);
  }
  FileEventPtr watchEdge(uint32_t events) { return watch(pair_.watched.get(), FileTriggerType::Edge, events); }
  FileEventPtr watchLevel(uint32_t events) { return watch(pair_.watched.get(), FileTriggerType::Level, events); }

  // What one iteration reports.
  std::vector<uint32_t> iterate() {
    seen_.clear();
    dispatcher_->run(RunType::NonBlock);
    return seen_;
  }
  // Runs until something is reported; for what the kernel delivers a little later, over TCP.
  std::vector<uint32_t> iterateUntilSeen() {
    const auto end = std::chrono::steady_clock::now() + 60s;
    while (iterate().empty() && std::chrono::steady_clock::now() < end) {
    }
    return seen_;
  }

  Pair pair_ = makeSocketPair();
  DispatcherPtr dispatcher_ = createDispatcher({.name = "file_test"});
  std::vector<uint32_t> seen_;
};

TEST_F(FileEventTest, ADescriptorTakes65535EventsAndTheirTriggerTypeIsCheckedToTheLast) {
  std::vector<FileEventPtr> events;
  for (int i = 0; i < 65'535; ++i) {
    events.push_back(watchLevel(kRead));
    ASSERT_NE(events.back(), nullptr) << i;
    if (i == 32'767) {
      const auto edge =
          dispatcher_->createFileEvent(pair_.watched.get(), [](uint32_t) {}, FileTriggerType::Edge, kRead);
      EXPECT_EQ(edge.status().code(), absl::StatusCode::kInvalidArgument);
    }
  }
  const auto create = [this](FileTriggerType trigger) {
    return dispatcher_->createFileEvent(pair_.watched.get(), [](uint32_t) {}, trigger, kRead).status();
  };
  EXPECT_EQ(create(FileTriggerType::Edge).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create(FileTriggerType::Level).code(), absl::StatusCode::kResourceExhausted);
  events.pop_back();
  EXPECT_TRUE(create(FileTriggerType::Level).ok());
  writeText(pair_.peer.get(), "x");
  while (seen_.size() < events.size()) {
    dispatcher_->run(RunType::NonBlock);
  }
}

// Edge and level

TEST_F(FileEventTest, EdgeReportsReadOnceAndWriteOnce) {
  writeText(pair_.peer.get(), "x");
  FileEventPtr event = watchEdge(kRead | kWrite);
  EXPECT_THAT(iterate(), ElementsAre(kRead | kWrite));
  EXPECT_THAT(iterate(), IsEmpty());
  EXPECT_THAT(iterate(), IsEmpty());
}

TEST_F(FileEventTest, EdgeReportsNewDataThoughTheFormerWasNotRead) {
  FileEventPtr event = watchEdge(kRead);
  EXPECT_THAT(iterate(), IsEmpty());
  writeText(pair_.peer.get(), "x");
  EXPECT_THAT(iterate(), ElementsAre(kRead));
  EXPECT_THAT(iterate(), IsEmpty());
  writeText(pair_.peer.get(), "y");
  EXPECT_THAT(iterate(), ElementsAre(kRead));
}

TEST_F(FileEventTest, LevelReportsBothInEveryIteration) {
  writeText(pair_.peer.get(), "x");
  FileEventPtr event = watchLevel(kRead | kWrite);
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(iterate(), ElementsAre(kRead | kWrite));
  }
}

TEST_F(FileEventTest, LevelReportsWriteOnlyAfterSetEnabledWrite) {
  writeText(pair_.peer.get(), "x");
  FileEventPtr event = watchLevel(kRead | kWrite);
  EXPECT_THAT(iterate(), ElementsAre(kRead | kWrite));
  EXPECT_TRUE(event->setEnabled(kWrite));
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
}

TEST_F(FileEventTest, LevelReportsReadUntilTheDataIsRead) {
  writeText(pair_.peer.get(), "x");
  FileEventPtr event = watchLevel(kRead);
  EXPECT_THAT(iterate(), ElementsAre(kRead));
  EXPECT_THAT(iterate(), ElementsAre(kRead));
  EXPECT_EQ("x", readAvailable(pair_.watched.get()));
  EXPECT_THAT(iterate(), IsEmpty());
}

TEST_F(FileEventTest, OnlyWhatIsEnabledIsReported) {
  writeText(pair_.peer.get(), "x");
  {
    FileEventPtr event = watchLevel(kRead);
    EXPECT_THAT(iterate(), ElementsAre(kRead));
  }
  {
    FileEventPtr event = watchLevel(kWrite);
    EXPECT_THAT(iterate(), ElementsAre(kWrite));
  }
  {
    FileEventPtr event = watchLevel(kClosed);
    EXPECT_THAT(iterate(), IsEmpty());
  }
}

TEST_F(FileEventTest, WriteIsReportedWhenThereIsRoomAgain) {
  FileEventPtr event = watchEdge(kWrite);
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
  const std::string block(65536, 'x');
  while (write(pair_.watched.get(), block.data(), block.size()) > 0) {
  }
  EXPECT_THAT(iterate(), IsEmpty());
  readAvailable(pair_.peer.get());
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
}

TEST_F(FileEventTest, ConnectThatHasEndedIsReportedAsWrite) {
  Pair tcp = makeTcpConnection();
  FileEventPtr event = watch(tcp.watched.get(), FileTriggerType::Edge, kWrite);
  EXPECT_THAT(iterateUntilSeen(), ElementsAre(kWrite));
}

// setEnabled()

TEST_F(FileEventTest, SetEnabledZeroSilencesEdge) {
  writeText(pair_.peer.get(), "x");
  FileEventPtr event = watchEdge(kRead | kWrite);
  EXPECT_TRUE(event->setEnabled(0));
  EXPECT_THAT(iterate(), IsEmpty());
  writeText(pair_.peer.get(), "y");
  EXPECT_THAT(iterate(), IsEmpty());
}

TEST_F(FileEventTest, SetEnabledZeroSilencesLevel) {
  writeText(pair_.peer.get(), "x");
  FileEventPtr event = watchLevel(kRead | kWrite);
  EXPECT_TRUE(event->setEnabled(0));
  EXPECT_THAT(iterate(), IsEmpty());
  EXPECT_TRUE(event->setEnabled(0));
  EXPECT_THAT(iterate(), IsEmpty());
}

TEST_F(FileEventTest, SilencedEventIsNotReportedEvenWhenThePeerCloses) {
  // epoll reports HUP and ERR for a descriptor with an empty mask; a silenced one must not be among its descriptors.
  FileEventPtr event = watchLevel(kRead | kWrite | kClosed);
  EXPECT_TRUE(event->setEnabled(0));
  pair_.peer.close();
  EXPECT_THAT(iterate(), IsEmpty());
  dispatcher_->run(RunType::Block);  // nothing is left
}

TEST_F(FileEventTest, SetEnabledBackAfterZeroReportsWhatStillHoldsWithLevel) {
  writeText(pair_.peer.get(), "x");
  FileEventPtr event = watchLevel(kRead);
  EXPECT_TRUE(event->setEnabled(0));
  EXPECT_THAT(iterate(), IsEmpty());
  EXPECT_TRUE(event->setEnabled(kRead));
  EXPECT_THAT(iterate(), ElementsAre(kRead));
}

TEST_F(FileEventTest, SetEnabledBackAfterZeroReportsWhatStillHoldsWithEdge) {
  writeText(pair_.peer.get(), "x");
  FileEventPtr event = watchEdge(kRead | kWrite);
  EXPECT_THAT(iterate(), ElementsAre(kRead | kWrite));
  EXPECT_TRUE(event->setEnabled(0));
  EXPECT_THAT(iterate(), IsEmpty());
  EXPECT_TRUE(event->setEnabled(kRead | kWrite));
  EXPECT_THAT(iterate(), ElementsAre(kRead | kWrite));
  EXPECT_THAT(iterate(), IsEmpty());
}

TEST_F(FileEventTest, EdgeReportsWhatStillHoldsAgainAfterSetEnabledWithTheSameMask) {
  FileEventPtr event = watchEdge(kWrite);
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
  EXPECT_THAT(iterate(), IsEmpty());
  EXPECT_TRUE(event->setEnabled(kWrite));
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
  EXPECT_THAT(iterate(), IsEmpty());
}

TEST_F(FileEventTest, EdgeReportsReadAndWriteAgainAfterSetEnabledWithTheSameMask) {
  writeText(pair_.peer.get(), "x");
  FileEventPtr event = watchEdge(kRead | kWrite);
  EXPECT_THAT(iterate(), ElementsAre(kRead | kWrite));
  EXPECT_TRUE(event->setEnabled(kRead | kWrite));
  EXPECT_THAT(iterate(), ElementsAre(kRead | kWrite));
}

TEST_F(FileEventTest, EventCreatedWithNothingEnabledIsEnabledLater) {
  FileEventPtr event = watchEdge(0);
  EXPECT_THAT(iterate(), IsEmpty());
  EXPECT_TRUE(event->setEnabled(kWrite));
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
}

TEST_F(FileEventTest, SetEnabledWithinTheCallbackTakesEffectInTheNextIteration) {
  writeText(pair_.peer.get(), "x");
  FileEventPtr event;
  auto created = dispatcher_->createFileEvent(
      pair_.watched.get(),
      [&](uint32_t ready) {
        seen_.push_back(ready);
        event->setEnabled(ready == kRead ? kWrite : kRead);
      },
      FileTriggerType::Level, kRead);
  event = *std::move(created);
  EXPECT_THAT(iterate(), ElementsAre(kRead));
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
  EXPECT_THAT(iterate(), ElementsAre(kRead));
}

TEST_F(FileEventTest, SilencedByAnotherCallbackOfTheSamePollIsNotReported) {
  Pair other = makeSocketPair();
  std::vector<int> order;
  FileEventPtr first;
  FileEventPtr second;
  first = *dispatcher_->createFileEvent(
      pair_.watched.get(),
      [&](uint32_t) {
        order.push_back(1);
        EXPECT_TRUE(second->setEnabled(0));
      },
      FileTriggerType::Level, kWrite);
  second = *dispatcher_->createFileEvent(
      other.watched.get(),
      [&](uint32_t) {
        order.push_back(2);
        EXPECT_TRUE(first->setEnabled(0));
      },
      FileTriggerType::Level, kWrite);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1u, order.size());  // whichever came first silenced the other
}

TEST_F(FileEventTest, ReducedByAnotherCallbackOfTheSamePollReportsOnlyWhatIsStillEnabled) {
  Pair other = makeSocketPair();
  writeText(pair_.peer.get(), "x");
  writeText(other.peer.get(), "x");
  FileEventPtr first;
  FileEventPtr second;
  const auto reduce = [&](FileEventPtr& event, uint32_t ready) {
    seen_.push_back(ready);
    if (seen_.size() == 1) {
      EXPECT_TRUE(event->setEnabled(kWrite));
    }
  };
  first = *dispatcher_->createFileEvent(
      pair_.watched.get(), [&](uint32_t ready) { reduce(second, ready); }, FileTriggerType::Level, kRead | kWrite);
  second = *dispatcher_->createFileEvent(
      other.watched.get(), [&](uint32_t ready) { reduce(first, ready); }, FileTriggerType::Level, kRead | kWrite);
  dispatcher_->run(RunType::NonBlock);
  ASSERT_FALSE(seen_.empty());
  EXPECT_EQ(kRead | kWrite, seen_[0]);
  if (seen_.size() > 1) {  // it may also wait for the next poll
    EXPECT_EQ(kWrite, seen_[1]);
  }
}

// activate()

TEST_F(FileEventTest, ActivateRunsInTheNextIteration) {
  FileEventPtr event = watchEdge(kRead);
  event->activate(kRead);
  EXPECT_THAT(seen_, IsEmpty());  // not within the call
  EXPECT_THAT(iterate(), ElementsAre(kRead));
  EXPECT_THAT(iterate(), IsEmpty());
}

TEST_F(FileEventTest, ActivateMergesWithWhatTheDescriptorReports) {
  FileEventPtr event = watchEdge(kRead | kWrite);
  event->activate(kRead);
  EXPECT_THAT(iterate(), ElementsAre(kRead | kWrite));
}

TEST_F(FileEventTest, ActivationsMergeWithEachOther) {
  FileEventPtr event = watchEdge(kRead | kWrite | kClosed);
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
  event->activate(kRead);
  event->activate(kRead);
  event->activate(kClosed);
  EXPECT_THAT(iterate(), ElementsAre(kRead | kClosed));
}

TEST_F(FileEventTest, ActivateReportsBitsThatAreNotEnabled) {
  FileEventPtr event = watchEdge(kRead);
  event->activate(kClosed);
  EXPECT_THAT(iterate(), ElementsAre(kClosed));
}

TEST_F(FileEventTest, ActivateReportsBitsWhileNothingIsEnabled) {
  FileEventPtr event = watchEdge(0);
  event->activate(kRead);
  dispatcher_->run(RunType::Block);  // it is something left to do
  EXPECT_THAT(seen_, ElementsAre(kRead));
}

TEST_F(FileEventTest, ActivateWithinTheCallbackRunsInTheNextIteration) {
  FileEventPtr event;
  int calls = 0;
  event = *dispatcher_->createFileEvent(
      pair_.watched.get(),
      [&](uint32_t) {
        ++calls;
        event->activate(kRead);
      },
      FileTriggerType::Edge, kRead);
  event->activate(kRead);
  for (int i = 1; i <= 5; ++i) {
    dispatcher_->run(RunType::NonBlock);
    EXPECT_EQ(i, calls);
  }
}

TEST_F(FileEventTest, ThatAlwaysActivatesItselfStarvesNobody) {
  FileEventPtr event;
  event = *dispatcher_->createFileEvent(
      pair_.watched.get(), [&](uint32_t) { event->activate(kRead); }, FileTriggerType::Edge, kRead);
  event->activate(kRead);
  TimerPtr timer = dispatcher_->createTimer([&] { dispatcher_->post([&] { dispatcher_->exit(); }); });
  timer->enableTimer(2ms);
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_FALSE(timer->enabled());
}

TEST_F(FileEventTest, ActivateFromATimerRunsInTheNextIteration) {
  FileEventPtr event = watchEdge(kRead);
  TimerPtr timer = dispatcher_->createTimer([&] { event->activate(kRead); });
  timer->enableTimer(0ms);
  EXPECT_THAT(iterate(), IsEmpty());
  EXPECT_THAT(iterate(), ElementsAre(kRead));
}

TEST_F(FileEventTest, SetEnabledDropsActivationsThatAreNoLongerEnabled) {
  FileEventPtr event = watchEdge(kRead);
  event->activate(kRead);
  EXPECT_TRUE(event->setEnabled(0));
  EXPECT_THAT(iterate(), IsEmpty());
  EXPECT_TRUE(event->setEnabled(kRead | kClosed));
  event->activate(kRead);
  event->activate(kClosed);
  EXPECT_TRUE(event->setEnabled(kRead));
  EXPECT_THAT(iterate(), ElementsAre(kRead));
}

TEST_F(FileEventTest, DestroyedWithAnActivationPendingIsNeverCalled) {
  FileEventPtr event = watchEdge(kRead);
  event->activate(kRead);
  event.reset();
  EXPECT_THAT(iterate(), IsEmpty());
}

// The end of the stream, and errors

TEST_F(FileEventTest, PeerClosedIsReadAndAReadOfZeroBytes) {
  FileEventPtr event = watchEdge(kRead);
  pair_.peer.close();
  EXPECT_THAT(iterate(), ElementsAre(kRead));
  char byte = 0;
  EXPECT_EQ(0, read(pair_.watched.get(), &byte, 1));
}

TEST_F(FileEventTest, PeerClosedIsClosedTooWhenThatIsEnabled) {
  FileEventPtr event = watchEdge(kRead | kClosed);
  pair_.peer.close();
  EXPECT_THAT(iterate(), ElementsAre(kRead | kClosed));
}

TEST_F(FileEventTest, ClosedAloneIsEnough) {
  FileEventPtr event = watchEdge(kClosed);
  writeText(pair_.peer.get(), "x");
  EXPECT_THAT(iterate(), IsEmpty());
  pair_.peer.close();
  EXPECT_THAT(iterate(), ElementsAre(kClosed));
}

TEST_F(FileEventTest, ClosedIsReportedWhenThePeerShutsDownItsWritingSide) {
  FileEventPtr event = watchEdge(kClosed);
  ASSERT_EQ(0, shutdown(pair_.peer.get(), SHUT_WR));
  EXPECT_THAT(iterate(), ElementsAre(kClosed));
}

TEST_F(FileEventTest, ClosedOverTcpIsReported) {
  Pair tcp = makeTcpConnection();
  FileEventPtr event = watch(tcp.watched.get(), FileTriggerType::Edge, kClosed);
  tcp.peer.close();
  EXPECT_THAT(iterateUntilSeen(), ElementsAre(kClosed));
}

TEST_F(FileEventTest, ResetOverTcpIsReportedToAClosedOnlyEvent) {
  for (const FileTriggerType trigger : {FileTriggerType::Edge, FileTriggerType::Level}) {
    Pair tcp = makeTcpConnection();
    FileEventPtr event = watch(tcp.watched.get(), trigger, kClosed);
    resetOnClose(tcp.peer.get());
    tcp.peer.close();
    EXPECT_THAT(iterateUntilSeen(), ElementsAre(kClosed));
  }
}

TEST_F(FileEventTest, ResetOverTcpIsReportedToAReadOnlyAndToAWriteOnlyEvent) {
  for (const uint32_t enabled : {kRead, kWrite}) {
    Pair tcp = makeTcpConnection();
    FileEventPtr event = watch(tcp.watched.get(), FileTriggerType::Edge, enabled);
    iterate();  // a first Write is due at once
    resetOnClose(tcp.peer.get());
    tcp.peer.close();
    EXPECT_THAT(iterateUntilSeen(), ElementsAre(enabled));
  }
}

TEST_F(FileEventTest, WriterOfAPipeWhoseReaderIsGoneIsTold) {
  // EPOLLERR with nothing else: there is no RDHUP on a pipe.
  for (const uint32_t enabled : {kWrite, kClosed}) {
    Pair pipe = makePipe();
    FileEventPtr event = watch(pipe.peer.get(), FileTriggerType::Edge, enabled);
    iterate();
    pipe.watched.close();
    EXPECT_THAT(iterate(), ElementsAre(enabled));
  }
}

TEST_F(FileEventTest, ReaderOfAPipeWhoseWriterIsGoneIsTold) {
  // EPOLLHUP with nothing else.
  for (const uint32_t enabled : {kRead, kClosed}) {
    Pair pipe = makePipe();
    FileEventPtr event = watch(pipe.watched.get(), FileTriggerType::Edge, enabled);
    EXPECT_THAT(iterate(), IsEmpty());
    pipe.peer.close();
    EXPECT_THAT(iterate(), ElementsAre(enabled));
  }
}

TEST_F(FileEventTest, ErrorReportsNothingThatIsNotEnabled) {
  Pair tcp = makeTcpConnection();
  FileEventPtr event = watch(tcp.watched.get(), FileTriggerType::Level, kRead);
  resetOnClose(tcp.peer.get());
  tcp.peer.close();
  EXPECT_THAT(iterateUntilSeen(), ElementsAre(kRead));
}

// Descriptors that are refused

TEST_F(FileEventTest, NegativeDescriptorIsRefusedByNumber) {
  const auto event = dispatcher_->createFileEvent(-1, [](uint32_t) {}, FileTriggerType::Edge, kRead);
  EXPECT_TRUE(absl::IsInvalidArgument(event.status()));
  EXPECT_THAT(std::string(event.status().message()), HasSubstr("-1"));
}

TEST_F(FileEventTest, ClosedDescriptorIsRefusedByNumberAndCause) {
  const int fd = pair_.watched.get();
  pair_.watched.close();
  const auto event = dispatcher_->createFileEvent(fd, [](uint32_t) {}, FileTriggerType::Edge, kRead);
  EXPECT_TRUE(absl::IsInvalidArgument(event.status()));
  EXPECT_THAT(std::string(event.status().message()), AllOf(HasSubstr(absl::StrCat(fd)), HasSubstr("Bad file")));
}

TEST_F(FileEventTest, RegularFileIsRefusedByNumberAndCause) {
  std::string name = testing::TempDir() + "nuncio_file_event_XXXXXX";
  Descriptor file(mkstemp(name.data()));
  ASSERT_GE(file.get(), 0);
  unlink(name.c_str());
  for (const FileTriggerType trigger : {FileTriggerType::Edge, FileTriggerType::Level}) {
    const auto event = dispatcher_->createFileEvent(file.get(), [](uint32_t) {}, trigger, kRead);
    EXPECT_TRUE(absl::IsInvalidArgument(event.status())) << event.status();
    EXPECT_THAT(std::string(event.status().message()),
                AllOf(HasSubstr(absl::StrCat(file.get())), HasSubstr("not permitted")));
  }
}

TEST_F(FileEventTest, UnknownBitsAreRefused) {
  const auto event = dispatcher_->createFileEvent(pair_.watched.get(), [](uint32_t) {}, FileTriggerType::Edge, 0x10);
  EXPECT_TRUE(absl::IsInvalidArgument(event.status())) << event.status();
}

TEST_F(FileEventTest, LoopGoesOnAfterARefusal) {
  EXPECT_FALSE(dispatcher_->createFileEvent(-1, [](uint32_t) {}, FileTriggerType::Edge, kRead).ok());
  FileEventPtr event = watchEdge(kWrite);
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
}

// Lifetime

TEST_F(FileEventTest, DestroyedEventIsNeverCalled) {
  FileEventPtr event = watchLevel(kWrite);
  event.reset();
  EXPECT_THAT(iterate(), IsEmpty());
}

TEST_F(FileEventTest, DestroyedByAnotherCallbackOfTheSamePollIsNeverCalled) {
  Pair other = makeSocketPair();
  int calls = 0;
  FileEventPtr first;
  FileEventPtr second;
  first = *dispatcher_->createFileEvent(
      pair_.watched.get(),
      [&](uint32_t) {
        ++calls;
        second.reset();
      },
      FileTriggerType::Level, kWrite);
  second = *dispatcher_->createFileEvent(
      other.watched.get(),
      [&](uint32_t) {
        ++calls;
        first.reset();
      },
      FileTriggerType::Level, kWrite);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls);
}

TEST_F(FileEventTest, DescriptorThatTheKernelReusesReportsToItsNewEventOnly) {
  std::vector<int> order;
  const int fd = pair_.watched.get();
  FileEventPtr former =
      *dispatcher_->createFileEvent(fd, [&](uint32_t) { order.push_back(1); }, FileTriggerType::Level, kWrite);
  former.reset();
  pair_.watched.close();
  Pair other = makeSocketPair();
  Descriptor reused(dup2(other.watched.get(), fd));
  ASSERT_EQ(fd, reused.get());
  FileEventPtr event =
      *dispatcher_->createFileEvent(fd, [&](uint32_t) { order.push_back(2); }, FileTriggerType::Level, kWrite);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order, ElementsAre(2));
}

TEST_F(FileEventTest, DestroyedEventOfADuplicatedDescriptorIsSilent) {
  Descriptor duplicate(dup(pair_.watched.get()));
  FileEventPtr event = watchLevel(kWrite);
  event.reset();
  pair_.watched.close();
  EXPECT_THAT(iterate(), IsEmpty());  // the open duplicate keeps nothing alive
}

TEST_F(FileEventTest, DescriptorMayBeWatchedAgainInTheCallbackThatDestroysTheFormerEvent) {
  FileEventPtr event;
  event = *dispatcher_->createFileEvent(
      pair_.watched.get(),
      [&](uint32_t) {
        event.reset();
        event = watchLevel(kWrite);
      },
      FileTriggerType::Level, kWrite);
  EXPECT_THAT(iterate(), IsEmpty());
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
}

TEST_F(FileEventTest, TwoEventsOnOneDescriptorAreBothCalled) {
  writeText(pair_.peer.get(), "x");
  FileEventPtr reader = watchLevel(kRead);
  FileEventPtr writer = watchLevel(kWrite);
  EXPECT_THAT(iterate(), testing::UnorderedElementsAre(kRead, kWrite));
  reader.reset();
  EXPECT_THAT(iterate(), ElementsAre(kWrite));
}

TEST_F(FileEventTest, HundredsOfDescriptorsAreServedInOneIteration) {
  std::vector<Pair> pairs;
  std::vector<FileEventPtr> events;
  for (int i = 0; i < 200; ++i) {
    pairs.push_back(makeSocketPair());
    writeText(pairs.back().peer.get(), "x");
    events.push_back(watch(pairs.back().watched.get(), FileTriggerType::Edge, kRead));
  }
  const std::vector<uint32_t> first = iterate();
  std::vector<uint32_t> all = first;
  while (!iterate().empty()) {  // the kernel hands them out in portions
    all.insert(all.end(), seen_.begin(), seen_.end());
  }
  EXPECT_EQ(200u, all.size());
  EXPECT_THAT(all, Each(kRead));
}

TEST_F(FileEventTest, DataFromAnotherThreadWakesTheBlockedLoop) {
  FileEventPtr event;
  std::string text;
  event = *dispatcher_->createFileEvent(
      pair_.watched.get(),
      [&](uint32_t) {
        text = readAvailable(pair_.watched.get());
        dispatcher_->exit();
      },
      FileTriggerType::Edge, kRead);
  Notification running;
  dispatcher_->post([&] { running.notify(); });
  std::thread writer([&] {
    EXPECT_TRUE(running.wait());
    writeText(pair_.peer.get(), "hello");
  });
  dispatcher_->run(RunType::RunUntilExit);
  writer.join();
  EXPECT_EQ("hello", text);
}

TEST_F(FileEventTest, OneShotBySetEnabled) {
  writeText(pair_.peer.get(), "ab");
  int calls = 0;
  FileEventPtr event;
  const auto read_later = [&] { event->setEnabled(kRead); };
  // [one_shot]
  event = *dispatcher_->createFileEvent(
      pair_.watched.get(),
      [&](uint32_t) {
        ++calls;
        event->setEnabled(0);  // whatever comes now waits until it is enabled again
      },
      FileTriggerType::Level, FileReadyType::Read);
  // [one_shot]
  dispatcher_->run(RunType::NonBlock);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1, calls);
  read_later();
  dispatcher_->run(RunType::NonBlock);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(2, calls);
}

// --- The budget of an iteration.

class FileEventBudgetTest : public testing::Test {
protected:
  // Watches `count` descriptors that are ready, with `cb`.
  void watch(Dispatcher& dispatcher, std::size_t count, const std::function<void(std::size_t)>& cb) {
    for (std::size_t i = 0; i < count; ++i) {
      fds_.emplace_back(::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC));
      auto event = dispatcher.createFileEvent(
          fds_.back().get(), [cb, i](uint32_t) { cb(i); }, FileTriggerType::Edge, FileReadyType::Read);
      ASSERT_TRUE(event.ok()) << event.status();
      events_.push_back(*std::move(event));
    }
  }

  std::vector<Descriptor> fds_;
  std::vector<FileEventPtr> events_;
};

TEST_F(FileEventBudgetTest, TimersAndPostsComeBetweenDescriptorsThatTakeLong) {
  constexpr std::size_t kDescriptors = 20;
  DispatcherPtr dispatcher =
      createDispatcher({.name = "budget", .max_callback_time_per_iteration = std::chrono::microseconds(1)});
  std::set<std::size_t> called;
  std::size_t at_timer = 0;
  std::size_t at_post = 0;
  TimerPtr timer = dispatcher->createTimer([&] { at_timer = called.size(); });
  watch(*dispatcher, kDescriptors, [&](std::size_t which) {
    EXPECT_TRUE(called.insert(which).second) << "an edge comes once";
    if (called.size() == 1) {
      timer->enableTimer(std::chrono::milliseconds(0));
      dispatcher->post([&] { at_post = called.size(); });
    }
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(20);
    while (std::chrono::steady_clock::now() < until) {
    }
  });
  for (std::size_t i = 0; i < 2 * kDescriptors; ++i) {
    dispatcher->run(RunType::NonBlock);
  }
  EXPECT_EQ(called.size(), kDescriptors);
  EXPECT_LT(at_timer, kDescriptors);
  EXPECT_LT(at_post, kDescriptors);
  EXPECT_GT(at_timer, 0U);
}

TEST_F(FileEventBudgetTest, ATimerWaitsAtMostTwiceTheBudgetWhateverIsReady) {
  constexpr std::size_t kDescriptors = 800;
  constexpr auto kBudget = std::chrono::microseconds(500);
  constexpr auto kCallback = std::chrono::microseconds(100);
  DispatcherPtr dispatcher = createDispatcher({.name = "budget", .max_callback_time_per_iteration = kBudget});
  std::size_t called = 0;
  std::size_t called_in_a_row = 0;
  std::size_t most_in_a_row = 0;
  TimerPtr timer;
  timer = dispatcher->createTimer([&] {
    called_in_a_row = 0;
    timer->enableTimer(std::chrono::milliseconds(0));
  });
  timer->enableTimer(std::chrono::milliseconds(0));
  watch(*dispatcher, kDescriptors, [&](std::size_t) {
    most_in_a_row = std::max(most_in_a_row, ++called_in_a_row);
    const auto until = std::chrono::steady_clock::now() + kCallback;
    while (std::chrono::steady_clock::now() < until) {
    }
    if (++called == kDescriptors) {
      dispatcher->exit();
    }
  });
  dispatcher->run(RunType::RunUntilExit);
  // Counted in callbacks, each of which takes its time at least: so it holds on a busy machine too.
  EXPECT_LE(most_in_a_row, static_cast<std::size_t>(2 * kBudget / kCallback));
}

TEST_F(FileEventBudgetTest, WhatIsLeftMayBeTakenAway) {
  DispatcherPtr dispatcher =
      createDispatcher({.name = "budget", .max_callback_time_per_iteration = std::chrono::microseconds(1)});
  std::size_t calls = 0;
  watch(*dispatcher, 10, [&](std::size_t) {
    ++calls;
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(20);
    while (std::chrono::steady_clock::now() < until) {
    }
  });
  dispatcher->run(RunType::NonBlock);
  const std::size_t before = calls;
  EXPECT_LT(before, 10U);
  events_.clear();
  dispatcher->run(RunType::NonBlock);
  EXPECT_EQ(calls, before);
}

TEST_F(FileEventBudgetTest, ABlockingRunGoesOnWithWhatIsLeft) {
  DispatcherPtr dispatcher =
      createDispatcher({.name = "budget", .max_callback_time_per_iteration = std::chrono::microseconds(1)});
  std::size_t calls = 0;
  std::size_t posts = 0;
  watch(*dispatcher, 10, [&](std::size_t which) {
    EXPECT_LE(calls, posts + 2) << "a post waits for more than two callbacks";
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(20);
    while (std::chrono::steady_clock::now() < until) {
    }
    ++calls;
    events_[which].reset();
    // The first callback of a poll only begins the time.
    if (calls % 2 == 0) {
      dispatcher->post([&] { posts += 2; });
    }
  });
  dispatcher->run(RunType::Block);
  EXPECT_EQ(calls, 10U);
}

TEST_F(FileEventBudgetTest, NoPollIsBrokenOffForNothing) {
  DispatcherPtr dispatcher =
      createDispatcher({.name = "budget", .max_callback_time_per_iteration = std::chrono::microseconds(1)});
  std::size_t calls = 0;
  TimerPtr far = dispatcher->createTimer([] {});
  far->enableTimer(std::chrono::hours(1));
  watch(*dispatcher, 20, [&](std::size_t which) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(20);
    while (std::chrono::steady_clock::now() < until) {
    }
    events_[which].reset();
    if (++calls == 20) {
      far->disableTimer();
    }
  });
  dispatcher->run(RunType::Block);
  EXPECT_EQ(calls, 20U);
  EXPECT_LE(dispatcher->stats().iterations, 3U);
}

// In a poll that nothing waits for at first, and whose callbacks each take longer than the budget.
class FileEventBreakTest : public FileEventBudgetTest {
protected:
  static constexpr std::size_t kDescriptors = 20;

  // The fifth callback has something wait, which says with waited() that it came.
  void runWith(const std::function<void()>& have_it_wait) {
    watch(*dispatcher_, kDescriptors, [&](std::size_t which) {
      const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(20);
      while (std::chrono::steady_clock::now() < until) {
      }
      events_[which].reset();
      constexpr std::size_t kFifth = 5;  // the first poll of a run is broken off after two
      if (++calls_ == kFifth) {
        have_it_wait();
      }
    });
    dispatcher_->run(RunType::Block);
  }
  void waited() { calls_before_ = calls_; }
  void expectItCameBetween() const {
    EXPECT_EQ(calls_, kDescriptors);
    EXPECT_GT(calls_before_, 0U);
    EXPECT_LT(calls_before_, kDescriptors);
  }

  DispatcherPtr dispatcher_ =
      createDispatcher({.name = "budget", .max_callback_time_per_iteration = std::chrono::microseconds(1)});
  std::size_t calls_ = 0;
  std::size_t calls_before_ = 0;
};

TEST_F(FileEventBreakTest, IsBrokenOffForAPostOfAnotherThread) {
  runWith([this] { std::thread([this] { dispatcher_->post([this] { waited(); }); }).join(); });
  expectItCameBetween();
}

TEST_F(FileEventBreakTest, IsBrokenOffForTheEndOfTheRun) {
  runWith([this] { dispatcher_->exit(); });
  EXPECT_LT(calls_, kDescriptors);
}

TEST_F(FileEventBreakTest, IsBrokenOffForACallbackOfThisIteration) {
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([this] { waited(); });
  runWith([&] { callback->scheduleCurrentIteration(); });
  expectItCameBetween();
}

TEST_F(FileEventBreakTest, IsBrokenOffForACallbackOfTheNextIteration) {
  SchedulableCallbackPtr callback = dispatcher_->createSchedulableCallback([this] { waited(); });
  runWith([&] { callback->scheduleNextIteration(); });
  expectItCameBetween();
}

TEST_F(FileEventBreakTest, IsBrokenOffForAContinuation) {
  Promise<void> promise;
  Future<void> future = promise.future(*dispatcher_).then([this] { waited(); });
  runWith([&] { promise.setValue(); });
  expectItCameBetween();
}

TEST_F(FileEventBreakTest, IsBrokenOffForATimerWithoutDelay) {
  TimerPtr timer = dispatcher_->createTimer([this] { waited(); });
  runWith([&] { timer->enableTimer(std::chrono::milliseconds(0)); });
  expectItCameBetween();
}

TEST_F(FileEventBreakTest, IsBrokenOffForATimerThatMayNotWaitAnyMore) {
  TimerPtr timer = dispatcher_->createTimer([this] { waited(); });
  runWith([&] { timer->enableHRTimer(std::chrono::microseconds(1)); });
  expectItCameBetween();
}

}  // namespace
}  // namespace nuncio::test
