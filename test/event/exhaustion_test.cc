// What a dispatcher does when the process lacks what it needs. Each test runs in a child process, so that its limits
// end with it.

#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <memory>
#include <string>
#include <sys/resource.h>
#include <unistd.h>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/runtime/worker_pool.h"
#include "test/test_support/child_process.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/log_capture.h"

namespace nuncio::test {
namespace {

constexpr int kLimit = 128;

void limitDescriptors() {
  const rlimit limit{kLimit, kLimit};
  CHILD_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

// Uses up the descriptors, but for `left`.
std::vector<Descriptor> useUpDescriptors(int left) {
  std::vector<Descriptor> taken;
  for (;;) {
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
      break;
    }
    taken.emplace_back(fd);
  }
  CHILD_CHECK(taken.size() >= static_cast<size_t>(left));
  taken.resize(taken.size() - left);
  return taken;
}

TEST(DescriptorExhaustionTest, TryCreateDispatcherIsResourceExhaustedAndLeaksNothing) {
  EXPECT_EQ("", runInChild([] {
              limitDescriptors();
              DispatcherPtr first = createDispatcher();  // whatever is made once for the process
              CHILD_CHECK(first != nullptr);
              first.reset();
              bool refused = false;
              bool created = false;
              for (int left = 0; left < 16; ++left) {
                std::vector<Descriptor> taken = useUpDescriptors(left);
                const int before = countOpenDescriptors(kLimit);
                {
                  const auto dispatcher = tryCreateDispatcher({});
                  if (!dispatcher.ok()) {
                    CHILD_CHECK(!created);  // more descriptors cannot be worse
                    CHILD_CHECK(absl::IsResourceExhausted(dispatcher.status()));
                    CHILD_CHECK(!dispatcher.status().message().empty());
                    refused = true;
                  } else {
                    (*dispatcher)->run(RunType::NonBlock);
                    created = true;
                  }
                }
                CHILD_CHECK(countOpenDescriptors(kLimit) == before);
              }
              CHILD_CHECK(refused);
              CHILD_CHECK(created);
            }));
}

TEST(DescriptorExhaustionTest, CreateDispatcherIsNullAndLogsTheCause) {
  EXPECT_EQ("", runInChild([] {
              limitDescriptors();
              const std::vector<Descriptor> taken = useUpDescriptors(0);
              LogCapture log(LogLayer::Event);
              CHILD_CHECK(createDispatcher({.name = "hopeless"}) == nullptr);
              CHILD_CHECK(log.contains("hopeless") || log.contains("open files"));
            }));
}

TEST(DescriptorExhaustionTest, DispatcherThatLivesGoesOnWithNoDescriptorLeft) {
  EXPECT_EQ("", runInChild([] {
              limitDescriptors();
              DispatcherPtr dispatcher = createDispatcher();
              Pair pair = makeSocketPair();
              const std::vector<Descriptor> taken = useUpDescriptors(0);
              int calls = 0;
              TimerPtr timer = dispatcher->createTimer([&] { ++calls; });
              timer->enableTimer(std::chrono::milliseconds(1));
              dispatcher->post([&] { ++calls; });
              FileEventPtr event;
              auto created = dispatcher->createFileEvent(
                  pair.watched.get(),
                  [&](uint32_t) {
                    ++calls;
                    event.reset();
                  },
                  FileTriggerType::Level, FileReadyType::Write);
              CHILD_CHECK(created.ok());
              event = *std::move(created);
              dispatcher->run(RunType::Block);
              CHILD_CHECK(calls == 3);
            }));
}

TEST(DescriptorExhaustionTest, ListeningForASignalWorksOrIsResourceExhausted) {
  EXPECT_EQ("", runInChild([] {
              limitDescriptors();
              DispatcherPtr dispatcher = createDispatcher();
              for (int left = 0; left < 4; ++left) {
                std::vector<Descriptor> taken = useUpDescriptors(left);
                const auto event = dispatcher->listenForSignal(SIGUSR1, [] {});
                CHILD_CHECK(event.ok() || absl::IsResourceExhausted(event.status()));
              }
              const auto event = dispatcher->listenForSignal(SIGUSR1, [] {});
              CHILD_CHECK(event.ok());
            }));
}

TEST(DescriptorExhaustionTest, WorkerPoolIsResourceExhaustedAndLeaksNothing) {
  EXPECT_EQ("", runInChild([] {
              limitDescriptors();
              CHILD_CHECK(WorkerPool::create({.threads = 1}).ok());
              const int before = countOpenDescriptors(kLimit);
              const auto pool = WorkerPool::create({.threads = 64});  // needs 192
              CHILD_CHECK(absl::IsResourceExhausted(pool.status()));
              CHILD_CHECK(countOpenDescriptors(kLimit) == before);
              CHILD_CHECK(WorkerPool::create({.threads = 4}).ok());
            }));
}

TEST(DescriptorExhaustionTest, ManyDispatchersComeAndGoWithoutALeak) {
  EXPECT_EQ("", runInChild([] {
              limitDescriptors();
              createDispatcher();
              const int before = countOpenDescriptors(kLimit);
              for (int i = 0; i < 500; ++i) {
                DispatcherPtr dispatcher = createDispatcher();
                CHILD_CHECK(dispatcher != nullptr);
                dispatcher->post([] {});
                dispatcher->run(RunType::NonBlock);
              }
              CHILD_CHECK(countOpenDescriptors(kLimit) == before);
            }));
}

}  // namespace
}  // namespace nuncio::test
