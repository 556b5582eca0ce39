// Random lives of connections, held against what a stream of bytes is: nothing that arrives is anything else than what
// was written, in order; an end is told only after all that was written before it; whoever closed in order has lost
// nothing; a break is never told as an end, nor an end as a break. Over pairs in memory, in simulated time, with
// faults: a seed makes the same life each time. NUNCIO_SCENARIOS is how many there are, NUNCIO_SEED the first.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

#include "nuncio/common/random.h"
#include "nuncio/network/connection.h"
#include "nuncio/network/memory_network.h"
#include "nuncio/runtime/simulated_time_system.h"
#include "test/network/connection_pair.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::network::test {
namespace {

using namespace std::chrono_literals;

uint64_t fromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

class Scenario {
public:
  explicit Scenario(uint64_t seed)
      : random_(seed), dispatcher_(createDispatcher({.name = "model", .time_system = &time_})) {
    MemoryLinkOptions options{.seed = seed, .time = &time_};
    options.capacity = pick({4'000, 20'000, 256 * 1024});
    options.receive_window = std::min<std::size_t>(options.capacity, pick({2'000, 10'000, 64 * 1024}));
    options.delay = std::chrono::milliseconds(pick({0, 0, 3, 20}));
    options.bytes_per_second = pick({0, 0, 1'000'000});
    if (pick({0, 1}) == 1) {
      options.short_read = options.short_write = options.again = 0.2;
    }
    MemoryPair pair = makeMemoryPair(options);
    ends_[0].connection = *createConnection(*dispatcher_, std::move(pair.first), connectionOptions());
    ends_[1].connection = *createConnection(*dispatcher_, std::move(pair.second), connectionOptions());
    for (int i = 0; i < 2; ++i) {
      end(i).number = i;
      end(i).recorder.on_data = [this, i](Buffer& data) { onData(i, data); };
      end(i).recorder.on_end = [this, i] {
        if (pick({0, 1, 2}) == 0) {
          close(i, CloseKind::Flush);
        }
      };
      end(i).connection->start(end(i).recorder);
    }
  }

  void run() {
    const int steps = static_cast<int>(5 + random_() % 60);
    for (int step = 0; step < steps; ++step) {
      act(static_cast<int>(random_() % 2));
    }
    finish();
    check();
  }

private:
  struct End {
    int number = 0;
    Recorder recorder;
    std::string sent;  // what write() took
    std::string received;
    std::size_t left = 0;  // of what onData() was shown
    bool ended = false;    // by shutdownWrite() or close()
    std::size_t sent_before_end = 0;
    bool broke = false;  // may have thrown away something of its own: Now, abort(), with unread input
    std::vector<ReadPause> pauses;
    ConnectionPtr connection;
  };

  End& end(int i) { return ends_[static_cast<std::size_t>(i)]; }
  std::size_t pick(std::vector<std::size_t> of) { return of[random_() % of.size()]; }
  ConnectionOptions connectionOptions() {
    ConnectionOptions options;
    options.write_limit = 1U << 24;
    options.read_limit = pick({1, 1'000, 1U << 20});
    options.close_timeout = 1h;  // only what never comes takes that long
    options.close_discard_limit = 1U << 30;
    return options;
  }

  // Takes all of it, or a part, or nothing.
  void onData(int i, Buffer& data) {
    const std::size_t bytes = draining_ ? data.length() : pick({data.length(), data.length() / 2, 0});
    std::string taken(bytes, '\0');
    data.copyOut(0, absl::MakeSpan(taken));
    data.drain(bytes);
    end(i).received += taken;
    end(i).left = data.length();
    if (!draining_ && random_() % 20 == 0) {
      end(i).pauses.push_back(end(i).connection->pauseReading());
    }
    if (!draining_ && random_() % 10 == 0) {
      write(i);
    }
  }

  void write(int i) {
    std::string bytes(pick({1, 10, 300, 5'000, 20'000}), '\0');
    for (char& byte : bytes) {
      byte = static_cast<char>(random_());
    }
    bool taken = false;
    if (random_() % 2 == 0) {
      taken = end(i).connection->write(bytes);
    } else {
      Buffer buffer(bytes);
      taken = end(i).connection->write(buffer);
      EXPECT_EQ(taken, buffer.empty());
    }
    if (taken) {
      EXPECT_FALSE(end(i).ended);
      end(i).sent += bytes;
    }
  }

  void endStream(int i) {
    if (!end(i).ended) {
      end(i).ended = true;
      end(i).sent_before_end = end(i).sent.size();
    }
  }

  void close(int i, CloseKind kind) {
    if (kind == CloseKind::Now) {
      end(i).broke = end(i).broke || end(i).connection->state() != Connection::State::Closed;
    }
    endStream(i);
    end(i).connection->close(kind);
  }

  void act(int i) {
    switch (random_() % 16) {
      case 0:
        end(i).connection->shutdownWrite();
        endStream(i);
        break;
      case 1:
        if (random_() % 3 == 0) {
          close(i, random_() % 2 == 0 ? CloseKind::Flush : CloseKind::FlushAndWait);
        }
        break;
      case 2:
        if (random_() % 6 == 0) {
          close(i, CloseKind::Now);
        }
        break;
      case 3:
        if (random_() % 6 == 0) {
          end(i).broke = end(i).broke || end(i).connection->state() != Connection::State::Closed;
          end(i).connection->abort();
        }
        break;
      case 4:
        end(i).pauses.push_back(end(i).connection->pauseReading());
        break;
      case 5:
      case 6:
        if (!end(i).pauses.empty()) {
          end(i).pauses.pop_back();
        }
        break;
      case 7:
        end(i).connection->readAgain();
        break;
      case 8:
      case 9:
        time_.advanceTimeAndRun(std::chrono::milliseconds(pick({0, 1, 30})));
        break;
      default:
        write(i);
    }
  }

  // Everybody reads on, and ends in order.
  void finish() {
    draining_ = true;
    for (End& one : ends_) {
      one.pauses.clear();
      one.connection->readAgain();
      one.connection->shutdownWrite();
      endStream(one.number);
      one.recorder.on_end = nullptr;
    }
    for (int i = 0; i < 2'000 && (ends_[0].recorder.closes == 0 || ends_[1].recorder.closes == 0); ++i) {
      time_.advanceTimeAndRun(50ms);
    }
  }

  static std::string describe(const End& end) {
    const auto& told = end.recorder.closed;
    return absl::StrCat(
        ": sent ", end.sent.size(), ", received ", end.received.size(), " and was left ", end.left,
        end.broke ? ", broke off" : "", ", ",
        told ? absl::StrCat(endReasonName(told->reason), " ", told->status.message(), " unsent ", told->unsent)
             : "still there");
  }

  void check() {
    for (int i = 0; i < 2; ++i) {
      const End& here = end(i);
      const End& there = end(1 - i);
      SCOPED_TRACE(absl::StrCat("end ", i, describe(here), "; the other one", describe(there)));
      ASSERT_EQ(1, here.recorder.closes) << "it never came to an end";
      ASSERT_LE(here.received.size(), there.sent.size());
      EXPECT_TRUE(there.sent.compare(0, here.received.size(), here.received) == 0) << "other bytes than were written";
      EXPECT_LE(here.recorder.ends, 1);
      const ConnectionEnd& told = *here.recorder.closed;
      if (here.recorder.ends == 1) {
        EXPECT_TRUE(there.ended) << "an end out of nothing";
        EXPECT_EQ(there.sent_before_end, here.received.size() + here.left) << "an end before all that was written";
      }
      switch (told.reason) {
        case EndReason::Fin:
          EXPECT_EQ(1, here.recorder.ends);
          EXPECT_EQ(0U, told.unsent);
          break;
        case EndReason::Reset:
          EXPECT_TRUE(there.broke || there.connection->state() == Connection::State::Closed)
              << "a reset out of nothing";
          break;
        case EndReason::Local:
          EXPECT_TRUE(here.ended);
          break;
        default:
          ADD_FAILURE() << endReasonName(told.reason) << ": " << told.status;
      }
      // Whoever has closed in order, and whose peer has not gone away, has lost nothing.
      const bool in_order = !here.broke && told.status.ok() && told.unsent == 0;
      const bool peer_stayed = there.recorder.closed->reason == EndReason::Fin;
      if (in_order && peer_stayed) {
        EXPECT_EQ(here.sent.size(), there.received.size() + there.left) << "what was acknowledged is lost";
      }
    }
  }

  SplitMix64 random_;
  SimulatedTimeSystem time_;
  DispatcherPtr dispatcher_;
  bool draining_ = false;
  std::array<End, 2> ends_;
};

TEST(ConnectionModelTest, RandomLives) {
  const uint64_t scenarios = fromEnvironment("NUNCIO_SCENARIOS", ::nuncio::test::kSanitizer ? 1'000 : 10'000);
  const uint64_t first = fromEnvironment("NUNCIO_SEED", 1);
  for (uint64_t seed = first; seed < first + scenarios; ++seed) {
    SCOPED_TRACE("NUNCIO_SEED=" + std::to_string(seed));
    Scenario(seed).run();
    if (::testing::Test::HasFailure()) {
      break;
    }
  }
}

}  // namespace
}  // namespace nuncio::network::test
