#include "nuncio/future/read_write_lock.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "nuncio/future/coroutine.h"
#include "test/future/primitive_fixture.h"

namespace nuncio::test {
namespace {

using Guard = ReadWriteLock::Guard;

class ReadWriteLockTest : public PrimitiveTest {
protected:
  // Locks, and adds `name` to the order.
  Future<Guard> read(char name) { return note(lock_->readLock(), name); }
  Future<Guard> write(char name) { return note(lock_->writeLock(), name); }
  Future<Guard> note(Future<Guard> locked, char name) {
    return std::move(locked).then([this, name](Guard guard) {
      order_ += name;
      return guard;
    });
  }

  std::optional<ReadWriteLock> lock_{std::in_place, *dispatcher_};
  std::string order_;
};

TEST_F(ReadWriteLockTest, ReadersShareIt) {
  std::optional<Guard> first = lock_->tryReadLock();
  Future<Guard> second = lock_->readLock();
  EXPECT_TRUE(second.isReady());
  EXPECT_EQ(2u, lock_->readers());
  EXPECT_FALSE(lock_->writing());
}

TEST_F(ReadWriteLockTest, AWriterWaitsUntilAllReadersAreGone) {
  std::optional<Guard> first = lock_->tryReadLock();
  std::optional<Guard> second = lock_->tryReadLock();
  Future<Guard> writer = write('w');
  first.reset();
  drain();
  EXPECT_EQ("", order_);
  EXPECT_EQ(1u, lock_->readers());
  second.reset();
  drain();
  EXPECT_EQ("w", order_);
  EXPECT_TRUE(lock_->writing());
  EXPECT_EQ(0u, lock_->readers());
}

TEST_F(ReadWriteLockTest, ReadersAndWritersWaitForTheWriter) {
  std::optional<Guard> writing = lock_->tryWriteLock();
  Future<Guard> a = read('a');
  Future<Guard> b = read('b');
  Future<Guard> w = write('w');
  drain();
  EXPECT_EQ(3u, lock_->waiters());
  writing->release();
  drain();
  EXPECT_EQ("ab", order_);
  EXPECT_EQ(2u, lock_->readers());
  a = Future<Guard>();
  b = Future<Guard>();
  drain();
  EXPECT_EQ("abw", order_);
}

TEST_F(ReadWriteLockTest, AWriterThatWaitsIsNotOvertakenByLaterReaders) {
  std::optional<Guard> reading = lock_->tryReadLock();
  Future<Guard> writer = write('w');
  Future<Guard> late = read('r');
  drain();
  EXPECT_EQ("", order_);
  EXPECT_FALSE(lock_->tryReadLock().has_value());
  reading.reset();
  drain();
  EXPECT_EQ("w", order_);
  writer = Future<Guard>();
  drain();
  EXPECT_EQ("wr", order_);
}

TEST_F(ReadWriteLockTest, TryLocksSucceedOnlyWhereLockingWouldNotWait) {
  {
    std::optional<Guard> reading = lock_->tryReadLock();
    EXPECT_TRUE(lock_->tryReadLock().has_value());
    EXPECT_FALSE(lock_->tryWriteLock().has_value());
  }
  std::optional<Guard> writing = lock_->tryWriteLock();
  ASSERT_TRUE(writing.has_value());
  EXPECT_FALSE(lock_->tryReadLock().has_value());
  EXPECT_FALSE(lock_->tryWriteLock().has_value());
}

TEST_F(ReadWriteLockTest, CancellingAWriterThatWaitsLetsTheReadersBehindItGoOn) {
  std::optional<Guard> reading = lock_->tryReadLock();
  Future<Guard> writer = write('w');
  Future<Guard> a = read('a');
  Future<Guard> b = read('b');
  writer.cancel();
  drain();
  EXPECT_EQ("ab", order_);
  EXPECT_EQ(3u, lock_->readers());
  EXPECT_TRUE(failedWith(writer, absl::StatusCode::kCancelled, ""));
}

TEST_F(ReadWriteLockTest, CancellingAReaderThatWaitsLeavesTheOthersInLine) {
  std::optional<Guard> writing = lock_->tryWriteLock();
  Future<Guard> a = read('a');
  Future<Guard> b = read('b');
  Future<Guard> w = write('w');
  a.cancel();
  writing.reset();
  drain();
  EXPECT_EQ("b", order_);
  b = Future<Guard>();
  drain();
  EXPECT_EQ("bw", order_);
}

TEST_F(ReadWriteLockTest, AGuardThatNobodyTakesUnlocks) {
  std::optional<Guard> writing = lock_->tryWriteLock();
  lock_->writeLock().detach();
  lock_->readLock().detach();
  Future<Guard> last = write('w');
  writing.reset();
  drain();
  EXPECT_EQ("w", order_);
}

TEST_F(ReadWriteLockTest, DestructionFailsThoseThatWaitAndGuardsMayOutliveIt) {
  std::optional<Guard> writing = lock_->tryWriteLock();
  Future<Guard> reader = lock_->readLock();
  Future<Guard> writer = lock_->writeLock();
  lock_.reset();
  EXPECT_TRUE(failedWith(reader, absl::StatusCode::kCancelled, "the read-write lock was destroyed"));
  EXPECT_TRUE(failedWith(writer, absl::StatusCode::kCancelled, "the read-write lock was destroyed"));
  writing.reset();
}

TEST_F(ReadWriteLockTest, ShutdownOfTheDispatcherFailsThoseThatWait) {
  std::optional<Guard> writing = lock_->tryWriteLock();
  Future<Guard> reader = read('r');
  Future<Guard> writer = write('w');
  dispatcher_->shutdown();
  EXPECT_TRUE(failedWith(reader, absl::StatusCode::kCancelled, "shut down"));
  EXPECT_TRUE(failedWith(writer, absl::StatusCode::kCancelled, "shut down"));
  EXPECT_EQ("", order_);
  writing.reset();
  EXPECT_FALSE(lock_->writing());
}

// How many are inside, and whether that was ever wrong.
struct Inside {
  void enter(bool write) {
    (write ? writers : readers)++;
    good = good && (writers == 0 || (writers == 1 && readers == 0));
    most_readers = std::max(most_readers, readers);
  }
  void leave(bool write) { (write ? writers : readers)--; }

  int readers = 0;
  int writers = 0;
  int most_readers = 0;
  bool good = true;
};

Future<void> visit(Dispatcher&, ReadWriteLock& lock, bool write, Inside& inside, int& rounds) {
  for (int i = 0; i < 10; ++i) {
    Future<Guard> locked = write ? lock.writeLock() : lock.readLock();
    const Guard guard = co_await std::move(locked);
    inside.enter(write);
    co_await yield();
    inside.leave(write);
    ++rounds;
  }
}

TEST_F(ReadWriteLockTest, KeepsWritersOfCoroutinesAlone) {
  Inside inside;
  int rounds = 0;
  std::vector<Future<void>> visitors;
  for (int i = 0; i < 30; ++i) {
    visitors.push_back(visit(*dispatcher_, *lock_, i % 5 == 0, inside, rounds));
  }
  drain();
  EXPECT_EQ(300, rounds);
  EXPECT_TRUE(inside.good);
  EXPECT_GT(inside.most_readers, 1);
}

// What a lock is to do, in the simplest words.
struct Model {
  struct Request {
    std::size_t id;
    bool write;
  };
  bool admits(bool write) const { return !writing && (!write || readers == 0); }
  std::vector<std::size_t> serve() {
    std::vector<std::size_t> served;
    while (!line.empty() && admits(line.front().write)) {
      writing = line.front().write;
      readers += writing ? 0 : 1;
      served.push_back(line.front().id);
      line.pop_front();
    }
    return served;
  }
  void leave() {
    readers -= writing ? 0 : 1;
    writing = false;
  }

  bool writing = false;
  uint64_t readers = 0;
  std::deque<Request> line;
};

TEST_F(ReadWriteLockTest, DoesWhatTheModelDoes) {
  const uint64_t seed = testSeed();
  SCOPED_TRACE(testing::Message() << "NUNCIO_TEST_SEED=" << seed);
  std::mt19937_64 random(seed);
  Model model;
  std::vector<std::size_t> expected;
  std::vector<std::size_t> served;
  std::vector<Future<void>> futures;  // by id
  std::vector<Guard> held;
  for (int step = 0; step < 5'000; ++step) {
    const uint64_t what = random() % 8;
    if (what < 4) {
      const std::size_t id = futures.size();
      const bool write = what == 0;
      model.line.push_back({id, write});
      Future<Guard> locked = write ? lock_->writeLock() : lock_->readLock();
      futures.push_back(std::move(locked).then([&served, &held, id](Guard guard) {
        served.push_back(id);
        held.push_back(std::move(guard));
      }));
    } else if (what < 7 && !held.empty()) {
      model.leave();
      std::swap(held[random() % held.size()], held.back());
      held.pop_back();
    } else if (!model.line.empty()) {
      const auto which = model.line.begin() + static_cast<std::ptrdiff_t>(random() % model.line.size());
      futures[which->id].cancel();
      model.line.erase(which);
    }
    for (const std::size_t id : model.serve()) {
      expected.push_back(id);
    }
    drain();
    ASSERT_EQ(expected, served) << "in step " << step;
    ASSERT_EQ(model.readers, lock_->readers()) << "in step " << step;
    ASSERT_EQ(model.writing, lock_->writing()) << "in step " << step;
    ASSERT_EQ(model.line.size(), lock_->waiters()) << "in step " << step;
  }
  for (Future<void>& future : futures) {
    std::move(future).detach();
  }
}

}  // namespace
}  // namespace nuncio::test
