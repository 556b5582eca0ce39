#include "nuncio/future/sequence.h"

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/status/status.h"

#include "test/future/primitive_fixture.h"
#include "test/test_support/lifetime_probe.h"

namespace nuncio::test {
namespace {

class SequenceTest : public PrimitiveTest {
protected:
  // Notes that it has started, and is done when the promise of that name is settled.
  auto step(char name) {
    return [this, name] {
      started_ += name;
      return promises_[name - 'a'].future(*dispatcher_);
    };
  }
  void finish(char name) {
    promises_[name - 'a'].setValue(name);
    drain();
  }

  std::string started_;
  std::vector<Promise<char>> promises_ = std::vector<Promise<char>>(4);
};

TEST_F(SequenceTest, RunsTheFirstFunctionAtOnce) {
  Sequence sequence(*dispatcher_);
  Future<int> result = sequence.run([] { return 5; });
  ASSERT_TRUE(result.isReady());
  EXPECT_EQ(5, *result.result());
  EXPECT_FALSE(sequence.running());
}

TEST_F(SequenceTest, RunsEachWhenTheOneBeforeIsDone) {
  Sequence sequence(*dispatcher_);
  Future<char> a = sequence.run(step('a'));
  Future<char> b = sequence.run(step('b'));
  Future<char> c = sequence.run(step('c'));
  drain();
  EXPECT_EQ("a", started_);
  EXPECT_EQ(2u, sequence.waiting());
  finish('a');
  EXPECT_EQ("ab", started_);
  finish('b');
  finish('c');
  EXPECT_EQ("abc", started_);
  EXPECT_EQ('a', *a.result());
  EXPECT_EQ('b', *b.result());
  EXPECT_EQ('c', *c.result());
}

TEST_F(SequenceTest, FailureDoesNotStopThoseBehind) {
  Sequence sequence(*dispatcher_);
  Future<char> a = sequence.run(step('a'));
  Future<int> thrown = sequence.run([]() -> int { throw std::runtime_error("thrown"); });
  Future<char> b = sequence.run(step('b'));
  promises_[0].setStatus(absl::DataLossError("lost"));
  finish('b');
  EXPECT_TRUE(failedWith(a, absl::StatusCode::kDataLoss, "lost"));
  EXPECT_TRUE(failedWith(thrown, absl::StatusCode::kUnknown, "thrown"));
  EXPECT_EQ('b', *b.result());
  std::move(a).detach();
  std::move(thrown).detach();
}

TEST_F(SequenceTest, CancelledFunctionsInLineAreSkippedAndDestroyed) {
  Sequence sequence(*dispatcher_);
  Future<char> a = sequence.run(step('a'));
  bool destroyed = false;
  Future<void> skipped = sequence.run([probe = OnDestroy([&destroyed] { destroyed = true; })] { ADD_FAILURE(); });
  Future<char> b = sequence.run(step('b'));
  Future<char> last = sequence.run(step('c'));
  skipped.cancel();
  last.cancel();
  drain();
  EXPECT_TRUE(destroyed);
  EXPECT_TRUE(failedWith(skipped, absl::StatusCode::kCancelled, ""));
  finish('a');
  finish('b');
  EXPECT_EQ("ab", started_);
}

TEST_F(SequenceTest, CancellingTheRunningOneCancelsWhatItWaitsForAndGoesOn) {
  Sequence sequence(*dispatcher_);
  Future<char> a = sequence.run(step('a'));
  Future<char> b = sequence.run(step('b'));
  a.cancel();
  drain();
  EXPECT_TRUE(promises_[0].done());
  EXPECT_EQ("ab", started_);
  finish('b');
}

TEST_F(SequenceTest, FunctionMayRunAnotherOne) {
  Sequence sequence(*dispatcher_);
  std::optional<Future<char>> inner;
  Future<void> outer = sequence.run([&] {
    inner = sequence.run(step('a'));
    started_ += '1';
  });
  drain();
  EXPECT_EQ("1a", started_);
  finish('a');
}

TEST_F(SequenceTest, RunsFunctionsWhoseFuturesWereDropped) {
  Sequence sequence(*dispatcher_);
  Future<char> a = sequence.run(step('a'));
  sequence.run(step('b')).detach();
  finish('a');
  EXPECT_EQ("ab", started_);
}

TEST_F(SequenceTest, RunsManyFunctionsWithBoundedStack) {
  Sequence sequence(*dispatcher_);
  Future<char> first = sequence.run(step('a'));
  int ran = 0;
  bool in_order = true;
  for (int i = 0; i < kMany; ++i) {
    sequence.run([&ran, &in_order, i] { in_order = in_order && ran++ == i; }).detach();
  }
  finish('a');
  EXPECT_EQ(kMany, ran);
  EXPECT_TRUE(in_order);
}

TEST_F(SequenceTest, DestructionFailsThoseThatWaitAndLeavesTheRunningOne) {
  std::optional<Sequence> sequence(std::in_place, *dispatcher_);
  Future<char> a = sequence->run(step('a'));
  Future<char> b = sequence->run(step('b'));
  sequence.reset();
  drain();
  EXPECT_TRUE(failedWith(b, absl::StatusCode::kCancelled, "destroyed"));
  finish('a');
  EXPECT_EQ('a', *a.result());
  EXPECT_EQ("a", started_);
}

TEST_F(SequenceTest, ShutdownOfTheDispatcherFailsAll) {
  Sequence sequence(*dispatcher_);
  Future<char> a = sequence.run(step('a'));
  Future<char> b = sequence.run(step('b'));
  dispatcher_->shutdown();
  EXPECT_TRUE(failedWith(a, absl::StatusCode::kCancelled, "shut down"));
  EXPECT_TRUE(failedWith(b, absl::StatusCode::kCancelled, "shut down"));
  EXPECT_EQ("a", started_);
}

}  // namespace
}  // namespace nuncio::test
