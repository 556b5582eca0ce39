#include "nuncio/event/internal/loop_core.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "test/test_support/descriptors.h"
#include "test/test_support/dispatcher_thread.h"

namespace nuncio::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// A task that keeps the loop's queue alive and calls back; owned by the test.
class CallingTask final : public Task {
public:
  explicit CallingTask(std::function<void()> run, std::function<void()> refuse = nullptr)
      : run_(std::move(run)), refuse_(std::move(refuse)) {}
  ~CallingTask() = default;
  void runTask() noexcept override { run_(); }
  void refuseTask() noexcept override { refuse_(); }

private:
  std::function<void()> run_;
  std::function<void()> refuse_;
};

class TestOperation final : public PendingOperation {
public:
  explicit TestOperation(std::function<void()> abandoned) : abandoned_(std::move(abandoned)) {}
  ~TestOperation() = default;
  void abandonOperation() noexcept override { abandoned_(); }

private:
  std::function<void()> abandoned_;
};

class Deferred final : public DeferredDeletable {
public:
  explicit Deferred(std::function<void()> deleted) : deleted_(std::move(deleted)) {}
  ~Deferred() override { deleted_(); }

private:
  std::function<void()> deleted_;
};

class LoopCoreTest : public testing::Test {
protected:
  std::function<void()> note(std::string what) {
    return [this, what = std::move(what)] { order_.push_back(what); };
  }
  CallingTask& task(std::string what) {
    tasks_.push_back(std::make_unique<CallingTask>(note(what), note("refused " + what)));
    return *tasks_.back();
  }

  std::vector<std::string> order_;
  std::vector<std::unique_ptr<CallingTask>> tasks_;
  DispatcherPtr dispatcher_ = createDispatcher({.name = "loop_core_test"});
  LoopCore* queue_ = &dispatcher_->loop();
};

TEST_F(LoopCoreTest, RunsTasksFirstInFirstOut) {
  queue_->add(task("a"));
  queue_->add(task("b"));
  queue_->add(task("c"));
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("a", "b", "c"));
  EXPECT_TRUE(queue_->empty());
  EXPECT_EQ(dispatcher_->stats().tasks_run, 3);
}

TEST_F(LoopCoreTest, RunsInAnIterationAfterWhatIsScheduledAndBeforeDeferredDeletionAndPosts) {
  SchedulableCallbackPtr scheduled = dispatcher_->createSchedulableCallback(note("scheduled"));
  dispatcher_->post([&] {
    dispatcher_->post(note("post"));
    dispatcher_->deferredDelete(std::make_unique<Deferred>(note("deleted")));
    queue_->add(task("task"));
    scheduled->scheduleCurrentIteration();
  });
  dispatcher_->run(RunType::Block);
  EXPECT_THAT(order_, ElementsAre("scheduled", "task", "deleted", "post"));
}

TEST_F(LoopCoreTest, TasksAddedByATaskRunInTheSameIteration) {
  CallingTask first([&] { queue_->add(task("second")); });
  queue_->add(first);
  dispatcher_->run(RunType::NonBlock);
  EXPECT_THAT(order_, ElementsAre("second"));
}

TEST_F(LoopCoreTest, ATaskThatAddsItselfForEverDoesNotStarveFileEvents) {
  Pair pair = makeSocketPair();
  bool stop = false;
  CallingTask* self = nullptr;
  CallingTask loop([&] {
    if (!stop) {
      queue_->add(*self);
    }
  });
  self = &loop;
  FileEventPtr event = *dispatcher_->createFileEvent(
      pair.watched.get(), [&](uint32_t) { stop = true; }, FileTriggerType::Edge, FileReadyType::Read);
  writeText(pair.peer.get(), "x");
  queue_->add(loop);
  while (!stop) {
    dispatcher_->run(RunType::NonBlock);
  }
  EXPECT_TRUE(stop);
}

TEST_F(LoopCoreTest, TheLoopDoesNotSleepWhileTasksAreLeft) {
  int left = 3;
  CallingTask* self = nullptr;
  CallingTask countdown([&] {
    if (--left > 0) {
      queue_->add(*self);
    } else {
      dispatcher_->exit();
    }
  });
  self = &countdown;
  queue_->add(countdown);
  dispatcher_->run(RunType::RunUntilExit);
  EXPECT_EQ(left, 0);
}

TEST_F(LoopCoreTest, ATaskFromAnotherThreadRunsOnTheLoopsThread) {
  DispatcherThread thread(*dispatcher_);
  Notification ran;
  std::thread::id where;
  CallingTask posted([&] {
    where = std::this_thread::get_id();
    ran.notify();
  });
  EXPECT_FALSE(queue_->onLoopThread());
  ASSERT_TRUE(queue_->postTask(posted));
  ASSERT_TRUE(ran.wait());
  EXPECT_EQ(where, thread.id());
}

TEST_F(LoopCoreTest, TasksPostedBeforeShutdownAreRefusedInIt) {
  ASSERT_TRUE(queue_->postTask(task("posted")));
  EXPECT_THAT(order_, IsEmpty());
  dispatcher_->shutdown();
  EXPECT_THAT(order_, ElementsAre("refused posted"));
}

TEST_F(LoopCoreTest, AfterShutdownPostTaskDoesNothing) {
  queue_->retain();
  dispatcher_.reset();
  EXPECT_TRUE(queue_->ended());
  EXPECT_FALSE(queue_->onLoopThread());
  EXPECT_EQ(queue_->dispatcher(), nullptr);
  EXPECT_FALSE(queue_->postTask(task("late")));
  EXPECT_THAT(order_, IsEmpty());
  queue_->release();
}

TEST_F(LoopCoreTest, PendingOperationsAreAbandonedInShutdownInTheOrderInWhichTheyBegan) {
  TestOperation first(note("first"));
  TestOperation second(note("second"));
  queue_->addPending(first);
  {
    TestOperation gone(note("gone"));
    queue_->addPending(gone);
  }
  queue_->addPending(second);
  dispatcher_->shutdown();
  EXPECT_THAT(order_, ElementsAre("first", "second"));
}

TEST_F(LoopCoreTest, WhatAnAbandonedOperationAddsRunsInShutdownToo) {
  TestOperation operation([&] { queue_->add(task("added")); });
  queue_->addPending(operation);
  dispatcher_->shutdown();
  EXPECT_THAT(order_, ElementsAre("added"));
}

// Other threads hand over tasks while the dispatcher shuts down: each runs once, or is refused once, or is given back.
TEST_F(LoopCoreTest, NoTaskIsLostInShutdown) {
  constexpr int kThreads = 3;
  const int rounds = 30;
  for (int round = 0; round < rounds; ++round) {
    DispatcherPtr dispatcher = createDispatcher({.name = "shutdown"});
    LoopCore& queue = dispatcher->loop();
    queue.retain();
    std::atomic<int> done{0};
    std::atomic<int> posted{0};
    std::atomic<bool> go{false};
    struct Counted final : Task {
      Counted() = default;
      ~Counted() = default;
      std::atomic<int>* done = nullptr;
      void runTask() noexcept override { done->fetch_add(1); }
      void refuseTask() noexcept override { done->fetch_add(1); }
    };
    constexpr int kTasks = 200;
    std::vector<Counted> tasks(kThreads * kTasks);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        while (!go.load()) {
        }
        for (int i = 0; i < kTasks; ++i) {
          Counted& counted = tasks[static_cast<std::size_t>(t) * kTasks + static_cast<std::size_t>(i)];
          counted.done = &done;
          if (queue.postTask(counted)) {
            posted.fetch_add(1);
          }
        }
      });
    }
    go = true;
    dispatcher->run(RunType::NonBlock);
    dispatcher->shutdown();
    for (std::thread& thread : threads) {
      thread.join();
    }
    EXPECT_EQ(done.load(), posted.load());
    dispatcher.reset();
    queue.release();
  }
}

}  // namespace
}  // namespace nuncio::test
