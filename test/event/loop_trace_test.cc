// The picture of what loops do, in the format of Chrome's trace viewer.

#include "nuncio/event/loop_trace.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

#include "nuncio/event/dispatcher.h"
#include "source/event/trace_ring.h"
#include "test/mocks/event.h"
#include "test/test_support/child_process.h"
#include "test/test_support/dispatcher_thread.h"
#include "test/test_support/notification.h"

namespace nuncio::test {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

// What there is of a phase ("X": slices, "s" and "f": the ends of arrows, ...).
std::vector<Json> eventsOf(const Json& picture, const std::string& phase) {
  std::vector<Json> events;
  for (const Json& event : picture.at("traceEvents")) {
    if (event.at("ph") == phase) {
      events.push_back(event);
    }
  }
  return events;
}
std::vector<Json> slicesNamed(const Json& picture, const std::string& part) {
  std::vector<Json> slices;
  for (const Json& event : eventsOf(picture, "X")) {
    if (event.at("name").get<std::string>().find(part) != std::string::npos) {
      slices.push_back(event);
    }
  }
  return slices;
}
// In nanoseconds, so that they can be compared.
int64_t time(const Json& event, const char* member = "ts") {
  return std::llround(event.at(member).get<double>() * 1000);
}
int64_t endOf(const Json& slice) { return time(slice) + time(slice, "dur"); }

// What the format asks of every event, and what a reader of the picture relies on.
void expectSound(const Json& picture) {
  std::map<int, std::vector<Json>> slices;
  for (const Json& event : picture.at("traceEvents")) {
    ASSERT_TRUE(event.at("pid").is_number() && event.at("tid").is_number() && event.at("name").is_string()) << event;
    if (event.at("ph") == "X") {
      EXPECT_GE(time(event, "dur"), 0) << event;
      slices[event.at("tid").get<int>()].push_back(event);
    } else if (event.at("ph") == "C") {
      EXPECT_TRUE(event.at("args").at("posts").is_number()) << event;
    } else if (event.at("ph") != "M") {
      EXPECT_TRUE(event.at("id").is_number() && event.at("ts").is_number()) << event;
    }
  }
  for (auto& [track, of_track] : slices) {
    std::sort(of_track.begin(), of_track.end(), [](const Json& a, const Json& b) { return time(a) < time(b); });
    for (std::size_t i = 1; i < of_track.size(); ++i) {
      EXPECT_LE(endOf(of_track[i - 1]), time(of_track[i])) << of_track[i - 1] << of_track[i];
    }
  }
  std::map<uint64_t, Json> begins;
  for (const Json& begin : eventsOf(picture, "s")) {
    EXPECT_TRUE(begins.emplace(begin.at("id").get<uint64_t>(), begin).second) << begin;
  }
  std::set<uint64_t> ended;
  for (const Json& end : eventsOf(picture, "f")) {
    const auto id = end.at("id").get<uint64_t>();
    EXPECT_TRUE(ended.insert(id).second) << end;
    ASSERT_EQ(1U, begins.count(id)) << end;
    EXPECT_LE(time(begins[id]), time(end)) << end;
    EXPECT_EQ("e", end.at("bp")) << end;
  }
  EXPECT_EQ(begins.size(), ended.size());
}

class LoopTraceTest : public ::testing::Test {
protected:
  Json picture() const {
    Json picture = Json::parse(trace_.chromeJson());
    expectSound(picture);
    return picture;
  }

  const DispatcherPtr dispatcher_ = createDispatcher({.name = "loop \"1\""});
  LoopTrace trace_;
};

TEST_F(LoopTraceTest, HasASliceForEachCallbackWithItsName) {
  ASSERT_TRUE(trace_.add(*dispatcher_).ok());
  const TimerPtr timer = dispatcher_->createTimer([&] { dispatcher_->exit(); });
  timer->enableTimer(0ms);
  dispatcher_->post([] {});
  dispatcher_->run(RunType::RunUntilExit);
  const Json picture = this->picture();
  EXPECT_EQ(2U, slicesNamed(picture, "HasASliceForEachCallbackWithItsName").size());
  const std::vector<Json> tracks = eventsOf(picture, "M");
  ASSERT_EQ(1U, tracks.size());
  EXPECT_EQ("loop \"1\"", tracks[0].at("args").at("name"));
}

TEST_F(LoopTraceTest, ShowsWhenTheLoopSleeps) {
  ASSERT_TRUE(trace_.add(*dispatcher_).ok());
  const TimerPtr timer = dispatcher_->createTimer([&] { dispatcher_->exit(); });
  // On a loaded machine a timer may be due before the loop gets to sleep.
  while (slicesNamed(Json::parse(trace_.chromeJson()), "sleeps").empty()) {
    timer->enableTimer(2ms);
    dispatcher_->run(RunType::RunUntilExit);
  }
  EXPECT_GT(time(slicesNamed(picture(), "sleeps")[0], "dur"), 0);
}

TEST_F(LoopTraceTest, ShowsHowLongACallbackTook) {
  ASSERT_TRUE(trace_.add(*dispatcher_).ok());
  std::chrono::nanoseconds spun{};
  dispatcher_->post([&] {
    const auto begin = std::chrono::steady_clock::now();
    while (spun < 2ms) {
      spun = std::chrono::steady_clock::now() - begin;
    }
  });
  dispatcher_->run(RunType::NonBlock);
  const std::vector<Json> slices = slicesNamed(picture(), "ShowsHowLongACallbackTook");
  ASSERT_EQ(1U, slices.size());
  EXPECT_GE(time(slices[0], "dur"), 1'900'000);  // two clocks were compared over a short time
}

TEST_F(LoopTraceTest, HasWhatIsUnderWayWhenItIsStopped) {
  DispatcherThread thread(*dispatcher_);
  ASSERT_TRUE(trace_.add(*dispatcher_).ok());
  Notification stuck;
  Notification end;
  dispatcher_->post([&] {
    stuck.notify();
    EXPECT_TRUE(end.wait());
  });
  ASSERT_TRUE(stuck.wait());
  trace_.stop();
  end.notify();
  thread.call([] {});  // it is done with what is here
  EXPECT_EQ(1U, slicesNamed(picture(), "HasWhatIsUnderWay").size());
}

TEST_F(LoopTraceTest, DrawsAnArrowFromAPostToWhatItBecame) {
  ASSERT_TRUE(trace_.add(*dispatcher_).ok());
  dispatcher_->post([&] { dispatcher_->post([] {}); });
  dispatcher_->run(RunType::NonBlock);
  const Json picture = this->picture();
  EXPECT_EQ(1U, eventsOf(picture, "s").size());  // none of the first, which a thread posted that is not in the picture
  EXPECT_EQ(2U, slicesNamed(picture, "DrawsAnArrow").size());
}

// Also those whose captures are moved by their constructors, and such as are posted to another loop.
TEST_F(LoopTraceTest, DrawsArrowsBetweenTwoLoopsThatPlayPingPong) {
  constexpr int kTrips = 1'000;
  const DispatcherPtr other = createDispatcher({.name = "other"});
  ASSERT_TRUE(trace_.add(*dispatcher_).ok());
  ASSERT_TRUE(trace_.add(*other).ok());
  Notification done;
  int trips = 0;
  std::function<void()> ping = [&] {
    other->post([&, text = std::string("a long one, that is on the heap anyway")] {
      dispatcher_->post([&] {
        if (++trips < kTrips) {
          ping();
        } else {
          done.notify();
        }
      });
    });
  };
  {
    DispatcherThread here(*dispatcher_);
    DispatcherThread there(*other);
    dispatcher_->post([&] { ping(); });
    ASSERT_TRUE(done.wait());
  }
  trace_.stop();
  const Json picture = this->picture();
  EXPECT_EQ(2U * kTrips, eventsOf(picture, "s").size());
  // Each arrow leads from one track to the other.
  std::map<uint64_t, int> from;
  for (const Json& begin : eventsOf(picture, "s")) {
    from[begin.at("id").get<uint64_t>()] = begin.at("tid").get<int>();
  }
  for (const Json& end : eventsOf(picture, "f")) {
    EXPECT_NE(from[end.at("id").get<uint64_t>()], end.at("tid").get<int>()) << end;
  }
  EXPECT_GE(eventsOf(picture, "C").size(), 2U * kTrips / 2);
  EXPECT_EQ(0U, picture.at("otherData").at("lost"));
}

TEST_F(LoopTraceTest, KeepsTheLastRecordsAndCountsTheOthers) {
  LoopTrace small(/*records=*/64);
  const DispatcherPtr dispatcher = createDispatcher({.max_callback_time_per_iteration = 1h});  // all in one batch
  ASSERT_TRUE(small.add(*dispatcher).ok());
  for (int i = 0; i < 1'000; ++i) {
    dispatcher->post([] {});
  }
  dispatcher->run(RunType::NonBlock);
  const Json picture = Json::parse(small.chromeJson());
  expectSound(picture);
  EXPECT_EQ(64U, eventsOf(picture, "X").size());
  EXPECT_EQ(1'000U - 64 + 1, picture.at("otherData").at("lost"));  // one of a batch
  EXPECT_EQ(1'000U - 64 + 1, small.lost());
}

TEST_F(LoopTraceTest, EndsWhenItIsStoppedAndMayBeFollowedByAnother) {
  ASSERT_TRUE(trace_.add(*dispatcher_).ok());
  dispatcher_->post([] {});
  dispatcher_->run(RunType::NonBlock);
  trace_.stop();
  trace_.stop();
  dispatcher_->post([] {});
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(1U, slicesNamed(picture(), "TestBody").size());
  EXPECT_TRUE(absl::IsFailedPrecondition(trace_.add(*dispatcher_)));

  LoopTrace next;
  ASSERT_TRUE(next.add(*dispatcher_).ok());
  dispatcher_->post([] {});
  dispatcher_->post([] {});
  dispatcher_->run(RunType::NonBlock);
  EXPECT_EQ(2U, slicesNamed(Json::parse(next.chromeJson()), "TestBody").size());
  EXPECT_EQ(1U, slicesNamed(picture(), "TestBody").size());
}

TEST_F(LoopTraceTest, ANextTraceOverwritesWhatTheOneBeforeHasNotWrittenOut) {
  LoopTrace first(/*records=*/16);
  ASSERT_TRUE(first.add(*dispatcher_).ok());
  dispatcher_->post([] {});
  dispatcher_->run(RunType::NonBlock);
  first.stop();
  LoopTrace next(/*records=*/16);
  ASSERT_TRUE(next.add(*dispatcher_).ok());
  for (int i = 0; i < 100; ++i) {
    dispatcher_->post([] {});
    dispatcher_->run(RunType::NonBlock);
  }
  EXPECT_EQ(0U, slicesNamed(Json::parse(first.chromeJson()), "TestBody").size());
  EXPECT_GT(first.lost(), 0U);
}

TEST_F(LoopTraceTest, RefusesADispatcherThatIsInAnotherTraceOrShutDownOrAMock) {
  ASSERT_TRUE(trace_.add(*dispatcher_).ok());
  LoopTrace other;
  EXPECT_TRUE(absl::IsFailedPrecondition(other.add(*dispatcher_)));
  const DispatcherPtr gone = createDispatcher();
  gone->shutdown();
  EXPECT_TRUE(absl::IsFailedPrecondition(other.add(*gone)));
  ::testing::NiceMock<MockDispatcher> mock;
  EXPECT_TRUE(absl::IsFailedPrecondition(other.add(mock)));
}

TEST_F(LoopTraceTest, OutlivesItsDispatchers) {
  DispatcherPtr gone = createDispatcher();
  ASSERT_TRUE(trace_.add(*gone).ok());
  gone->post([] {});
  gone->run(RunType::NonBlock);
  gone.reset();
  EXPECT_EQ(1U, slicesNamed(picture(), "TestBody").size());
}

TEST_F(LoopTraceTest, DestroysWhatIsPostedWhileItIsTracedAndDoesNotRun) {
  auto counted = std::make_shared<int>(0);
  ASSERT_TRUE(trace_.add(*dispatcher_).ok());
  dispatcher_->post([&] {
    for (int i = 0; i < 100; ++i) {
      dispatcher_->post([counted] {});  // each with the number of an arrow
    }
    dispatcher_->exit();
  });
  dispatcher_->run(RunType::NonBlock);
  dispatcher_->shutdown();
  EXPECT_EQ(1, counted.use_count());
}

TEST_F(LoopTraceTest, GoesOnInTheChildOfAFork) {
  ASSERT_TRUE(trace_.add(*dispatcher_).ok());
  EXPECT_EQ("", runInChild([this] {
              dispatcher_->post([] {});
              dispatcher_->run(RunType::NonBlock);
              CHILD_CHECK(slicesNamed(Json::parse(trace_.chromeJson()), "TestBody").size() == 1);
              trace_.stop();
            }));
}

// Readers get records that are whole, or none, while the ring turns under them.
TEST(TraceRingTest, IsReadWhileItIsWritten) {
  TraceRing ring(/*records=*/64);
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    for (uint64_t n = 0; !stop; ++n) {
      ring.add({.kind = TraceRing::Kind::Callback, .begin = n, .end = n, .id = n, .flow = n});
    }
  });
  for (uint64_t seen = 0; seen < 100'000;) {
    uint64_t expected = UINT64_MAX;
    for (const TraceRing::Record& record : ring.read(/*from=*/0, UINT64_MAX)) {
      ASSERT_TRUE(record.begin == record.end && record.end == record.id && record.id == record.flow) << record.begin;
      ASSERT_TRUE(expected == UINT64_MAX || record.id == expected) << record.id;
      expected = record.id + 1;
      ++seen;
    }
  }
  stop = true;
  writer.join();
}

}  // namespace
}  // namespace nuncio::test
