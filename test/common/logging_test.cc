#include "nuncio/common/logging.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <pthread.h>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "test/test_support/child_process.h"
#include "test/test_support/log_capture.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class LoggingTest : public testing::Test {
protected:
  ~LoggingTest() override { EXPECT_TRUE(setLogLevel("all", "info").ok()); }
};

TEST_F(LoggingTest, LinesReachTheSinkWithTheirLevelAndArguments) {
  LogCapture log(LogLayer::Event);
  NUNCIO_LOG(Event, warn, "fd {} failed: {}", 7, "reason");
  EXPECT_EQ("[warning] fd 7 failed: reason\n", log.text());
}

TEST_F(LoggingTest, InfoIsTheDefaultLevel) {
  EXPECT_TRUE(logEnabled(LogLayer::Common, spdlog::level::info));
  EXPECT_FALSE(logEnabled(LogLayer::Common, spdlog::level::debug));
}

TEST_F(LoggingTest, DisabledLineEvaluatesNothing) {
  LogCapture log(LogLayer::Event);
  int evaluated = 0;
  NUNCIO_LOG(Event, debug, "{}", ++evaluated);
  EXPECT_EQ(0, evaluated);
  EXPECT_EQ("", log.text());
  EXPECT_TRUE(setLogLevel("event", "debug").ok());
  NUNCIO_LOG(Event, debug, "{}", ++evaluated);
  EXPECT_EQ(1, evaluated);
  EXPECT_EQ("[debug] 1\n", log.text());
}

TEST_F(LoggingTest, LevelsAreSetByNameAtRunTime) {
  const std::vector<std::string> names = {"trace", "debug", "info", "warning", "error", "critical", "off"};
  for (size_t i = 0; i < names.size(); ++i) {
    ASSERT_TRUE(setLogLevel("runtime", names[i]).ok()) << names[i];
    for (size_t j = 0; j + 1 < names.size(); ++j) {
      EXPECT_EQ(j >= i, logEnabled(LogLayer::Runtime, static_cast<spdlog::level::level_enum>(j))) << names[i];
    }
  }
}

TEST_F(LoggingTest, LevelOfOneLayerLeavesTheOthers) {
  EXPECT_TRUE(setLogLevel("event", "trace").ok());
  EXPECT_TRUE(logEnabled(LogLayer::Event, spdlog::level::trace));
  EXPECT_FALSE(logEnabled(LogLayer::Runtime, spdlog::level::trace));
}

TEST_F(LoggingTest, AllMeansEveryLayer) {
  EXPECT_TRUE(setLogLevel("all", "error").ok());
  for (int i = 0; i < kLogLayers; ++i) {
    EXPECT_FALSE(logEnabled(static_cast<LogLayer>(i), spdlog::level::warn));
    EXPECT_TRUE(logEnabled(static_cast<LogLayer>(i), spdlog::level::err));
  }
}

TEST_F(LoggingTest, EachLayerHasAName) {
  for (const char* layer : {"common", "event", "future", "runtime", "network", "exe"}) {
    EXPECT_TRUE(setLogLevel(layer, "info").ok()) << layer;
  }
  EXPECT_EQ("nuncio.event", logger(LogLayer::Event).name());
  EXPECT_EQ("nuncio.exe", logger(LogLayer::Exe).name());
}

TEST_F(LoggingTest, UnknownLevelIsAnErrorThatListsTheValidOnes) {
  const absl::Status status = setLogLevel("event", "loud");
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("loud"), HasSubstr("trace"), HasSubstr("debug"), HasSubstr("info"), HasSubstr("warning"),
                    HasSubstr("error"), HasSubstr("critical"), HasSubstr("off")));
  EXPECT_TRUE(absl::IsInvalidArgument(setLogLevel("event", "")));
  EXPECT_TRUE(absl::IsInvalidArgument(setLogLevel("event", "INFO ")));
}

TEST_F(LoggingTest, UnknownLayerIsAnErrorThatListsTheValidOnes) {
  const absl::Status status = setLogLevel("kitchen", "debug");
  EXPECT_TRUE(absl::IsInvalidArgument(status));
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("kitchen"), HasSubstr("all"), HasSubstr("common"),
                                                   HasSubstr("event"), HasSubstr("runtime")));
}

TEST_F(LoggingTest, ErrorChangesNothing) {
  EXPECT_FALSE(setLogLevel("all", "loud").ok());
  EXPECT_TRUE(logEnabled(LogLayer::Event, spdlog::level::info));
  EXPECT_FALSE(logEnabled(LogLayer::Event, spdlog::level::debug));
}

TEST_F(LoggingTest, LinesFromManyThreadsAreWhole) {
  LogCapture log(LogLayer::Common);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 100; ++i) {
        NUNCIO_LOG(Common, info, "a whole line");
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  std::string expected;
  for (int i = 0; i < 400; ++i) {
    expected += "[info] a whole line\n";
  }
  EXPECT_EQ(expected, log.text());
}

// A sink that stands still in the midst of a line, with its lock taken, until it is told to go on.
class StandingSink : public spdlog::sinks::base_sink<std::mutex> {
public:
  Notification reached;
  Notification go_on;

protected:
  void sink_it_(const spdlog::details::log_msg&) override {
    if (!std::exchange(stood_, true)) {
      reached.notify();
      EXPECT_TRUE(go_on.wait());
    }
  }
  void flush_() override {}

private:
  bool stood_ = false;
};

TEST_F(LoggingTest, ForkWaitsForALineSoThatTheChildFindsNoSinkLocked) {
  const auto sink = std::make_shared<StandingSink>();
  const std::vector<spdlog::sink_ptr> former = std::exchange(logger(LogLayer::Exe).sinks(), {sink});
  Notification forked;  // the threads stay until then: a child with ended ones that nobody joined is a leak to TSan
  std::thread other([&forked] {
    NUNCIO_LOG(Exe, info, "a line that takes long");
    EXPECT_TRUE(forked.wait());
  });
  ASSERT_TRUE(sink->reached.wait());
  std::atomic<bool> going_on{false};
  // Handlers that are registered last run first: the line ends when the fork has begun.
  static Notification forking;
  ASSERT_EQ(0, pthread_atfork([] { forking.notify(); }, nullptr, nullptr));
  std::thread waker([&] {
    EXPECT_TRUE(forking.wait());
    going_on = true;
    sink->go_on.notify();
    EXPECT_TRUE(forked.wait());
  });
  const pid_t child = startChild([&going_on] {
    CHILD_CHECK(going_on);
    NUNCIO_LOG(Exe, info, "the child's");
  });
  forked.notify();
  EXPECT_EQ("", waitForChild(child));
  other.join();
  waker.join();
  logger(LogLayer::Exe).sinks() = former;
}

TEST_F(LoggingTest, ForkWhileOthersLogInAnyWayLeavesTheChildAbleToLog) {
  testing::internal::CaptureStderr();
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  threads.emplace_back([&stop] {
    while (!stop) {
      NUNCIO_LOG(Common, info, "by the macro");
    }
  });
  threads.emplace_back([&stop] {
    while (!stop) {
      logger(LogLayer::Exe).info("by the logger itself");
    }
  });
  const auto log_lines = [] {
    NUNCIO_LOG(Common, info, "in the child");
    logger(LogLayer::Event).info("in the child");
  };
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ("", runInChild(log_lines));
  }
  stop = true;
  for (std::thread& thread : threads) {
    thread.join();
  }
  testing::internal::GetCapturedStderr();
}

TEST_F(LoggingTest, SinkMayForkInTheMidstOfALine) {
  class ForkingSink : public spdlog::sinks::base_sink<std::mutex> {
  protected:
    void sink_it_(const spdlog::details::log_msg&) override {
      EXPECT_EQ("", runInChild([] {}));
    }
    void flush_() override {}
  };
  const std::vector<spdlog::sink_ptr> former =
      std::exchange(logger(LogLayer::Exe).sinks(), {std::make_shared<ForkingSink>()});
  NUNCIO_LOG(Exe, info, "line");
  logger(LogLayer::Exe).sinks() = former;
}

TEST_F(LoggingTest, LevelsMayChangeWhileOthersLog) {
  LogCapture log(LogLayer::Common);
  std::thread other([] {
    for (int i = 0; i < 200; ++i) {
      EXPECT_TRUE(setLogLevel("common", i % 2 == 0 ? "off" : "info").ok());
    }
  });
  for (int i = 0; i < 200; ++i) {
    NUNCIO_LOG(Common, info, "line");
  }
  other.join();
}

}  // namespace
}  // namespace nuncio::test
