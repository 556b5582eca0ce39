#include "nuncio/future/internal/promise_state.h"

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace nuncio::future_internal {
namespace {

// What came of one run of both sides.
struct Outcome {
  PromiseState state;

  // The producer's.
  bool written = false;  // the result
  std::optional<PromiseState::Seen> producer_looked;
  std::optional<PromiseState::Seen> settled;
  bool producer_reported = false;
  bool producer_frees = false;
  bool producer_left = false;

  // The consumer's.
  std::optional<PromiseState::Seen> looked;
  bool stopped = false;  // by tryStop
  int asked = 0;         // by tryAsk
  bool read = false;     // the result, which was there
  bool consumer_reported = false;
  bool consumer_frees = false;
  bool consumer_left = false;

  void freed(bool* by) const {
    EXPECT_FALSE(producer_frees || consumer_frees) << "freed twice";
    *by = true;
  }
};

// A step has one transition in it, so that everything that threads can do is an order of steps.
using Step = std::function<void(Outcome&)>;
struct Side {
  std::string name;
  std::vector<Step> steps;
};

const Step kLink = [](Outcome& run) { run.state.link(); };
const Step kSettle = [](Outcome& run) {
  run.written = true;
  run.settled = run.state.settle();
  run.producer_reported = !run.settled->late() && run.settled->dropped();
};
const Step kProducerLooks = [](Outcome& run) { run.producer_looked = run.state.seen(); };
const Step kSettleUnlessSeenStopped = [](Outcome& run) {
  if (!run.producer_looked->late()) {
    kSettle(run);
  }
};
const Step kProducerLeaves = [](Outcome& run) {
  if (run.state.producerLeaves()) {
    run.freed(&run.producer_frees);
  }
  run.producer_left = true;
};

const Step kBind = [](Outcome& run) { run.looked = run.state.bind(); };
const Step kLook = [](Outcome& run) { run.looked = run.state.seen(); };
const Step kRead = [](Outcome& run) {
  if (run.looked->set() && !run.looked->stopped()) {
    EXPECT_TRUE(run.written);
    run.read = true;
  }
};
const Step kTryStop = [](Outcome& run) {
  const bool stopped = run.state.tryStop();
  EXPECT_FALSE(stopped && run.state.seen().set());
  run.stopped = run.stopped || stopped;
};
const Step kTryAsk = [](Outcome& run) { run.asked += run.state.tryAsk() ? 1 : 0; };
const Step kStop = [](Outcome& run) { run.looked = run.state.stop(); };
const Step kUnwant = [](Outcome& run) { run.state.unwant(); };
const Step kConsumerLeaves = [](Outcome& run) {
  if (run.state.consumerLeaves()) {
    run.freed(&run.consumer_frees);
  }
  run.consumer_left = true;
};
// As a handle does that is dropped: a failure is told by one of the two.
const Step kDrop = [](Outcome& run) {
  PromiseState::Seen seen = *run.looked;
  bool quiet = false;
  do {
    if (!quiet && seen.set() && !seen.stopped()) {
      EXPECT_TRUE(run.written);
      run.consumer_reported = quiet = true;
    }
  } while (!run.state.tryConsumerLeaves(seen, quiet));
  if (seen.producerGone()) {
    run.freed(&run.consumer_frees);
  }
  run.consumer_left = true;
};
const Step kDropQuietly = [](Outcome& run) {
  PromiseState::Seen seen = *run.looked;
  while (!run.state.tryConsumerLeaves(seen, /*quiet=*/true)) {
  }
  if (seen.producerGone()) {
    run.freed(&run.consumer_frees);
  }
  run.consumer_left = true;
};

std::vector<Side> producers() {
  return {
      {"settles", {kSettle, kProducerLeaves}},
      {"links and settles", {kLink, kSettle, kProducerLeaves}},
      {"looks and settles", {kProducerLooks, kSettleUnlessSeenStopped, kProducerLeaves}},
      {"links, looks and settles", {kLink, kProducerLooks, kSettleUnlessSeenStopped, kProducerLeaves}},
  };
}
std::vector<Side> consumers() {
  return {
      {"binds and reads", {kBind, kLook, kRead, kConsumerLeaves}},
      {"binds and stops", {kBind, kTryStop, kTryAsk, kConsumerLeaves}},
      {"binds and goes", {kBind, kUnwant, kStop, kConsumerLeaves}},
      {"asks twice", {kTryStop, kTryAsk, kTryStop, kTryAsk, kConsumerLeaves}},
      {"reads", {kLook, kRead, kLook, kDropQuietly}},
      {"drops", {kLook, kDrop}},
      {"stops and drops", {kTryStop, kTryAsk, kLook, kDrop}},
  };
}

void check(const Outcome& run, bool linked_first) {
  ASSERT_TRUE(run.producer_left && run.consumer_left);
  EXPECT_NE(run.producer_frees, run.consumer_frees);
  EXPECT_LE(run.asked, 1);
  const bool late = run.settled.has_value() && run.settled->late();
  EXPECT_FALSE(run.read && late) << "read what the producer takes back";
  if (run.stopped) {
    EXPECT_FALSE(run.read);
    EXPECT_TRUE(!run.settled.has_value() || late) << "settled after it was stopped";
  }
  if (linked_first) {
    EXPECT_FALSE(run.stopped) << "stopped, though it was linked";
    EXPECT_TRUE(run.settled.has_value()) << "a linked promise that does not answer";
    EXPECT_FALSE(late);
  }
}

// Calls `visit` with each order in which steps of two sides can be taken; true: a step of the producer.
void forEachOrder(std::size_t producer, std::size_t consumer, std::vector<bool>& order,
                  const std::function<void(const std::vector<bool>&)>& visit) {
  if (producer == 0 && consumer == 0) {
    visit(order);
    return;
  }
  for (const bool of_producer : {true, false}) {
    if ((of_producer ? producer : consumer) != 0) {
      order.push_back(of_producer);
      forEachOrder(producer - (of_producer ? 1 : 0), consumer - (of_producer ? 0 : 1), order, visit);
      order.pop_back();
    }
  }
}

TEST(PromiseStateTest, EveryOrderOfBothSidesEndsWell) {
  int runs = 0;
  for (const Side& producer : producers()) {
    for (const Side& consumer : consumers()) {
      std::vector<bool> order;
      forEachOrder(producer.steps.size(), consumer.steps.size(), order, [&](const std::vector<bool>& steps) {
        SCOPED_TRACE(producer.name + "; " + consumer.name + "; " + ::testing::PrintToString(steps));
        Outcome run;
        std::size_t at[2] = {0, 0};
        bool linked_first = false;
        for (const bool of_producer : steps) {
          const std::vector<Step>& own = of_producer ? producer.steps : consumer.steps;
          own[at[of_producer ? 0 : 1]++](run);
          linked_first = linked_first || (run.state.seen().linked() && !run.state.seen().stopped());
        }
        check(run, linked_first);
        if (consumer.name == "drops") {
          EXPECT_NE(run.producer_reported, run.consumer_reported) << "a failure is told once";
        } else if (consumer.name == "reads") {
          EXPECT_FALSE(run.producer_reported) << "a failure is told, though it was to be kept quiet";
        }
        ++runs;
      });
    }
  }
  EXPECT_EQ(runs, 1075);
}

TEST(PromiseStateTest, StoresOnTheLoopsThreadSayTheSame) {
  PromiseState plain;
  PromiseState locked;
  plain.linkNew();
  locked.link();
  EXPECT_FALSE(plain.bindNew().set());
  EXPECT_FALSE(locked.bind().set());
  plain.settleAndLeaveHere(plain.seen());
  locked.settle();
  EXPECT_FALSE(locked.producerLeaves());
  for (PromiseState* const state : {&plain, &locked}) {
    EXPECT_TRUE(state->seen().linked());
    EXPECT_TRUE(state->seen().bound());
    EXPECT_TRUE(state->seen().done());
    EXPECT_FALSE(state->seen().late());
    EXPECT_TRUE(state->consumerLeaves());
  }
}

TEST(PromiseStateTest, OneThatIsLinkedIsDoneWhenItIsAnsweredOrNobodyCanAnswer) {
  PromiseState state;
  state.linkNew();
  EXPECT_FALSE(state.tryStop());
  EXPECT_TRUE(state.tryAsk());
  EXPECT_FALSE(state.tryAsk());
  EXPECT_FALSE(state.seen().done());
  EXPECT_TRUE(state.stopped());
  state.takeOffLink();
  EXPECT_TRUE(state.seen().done());
  EXPECT_TRUE(state.settle().late());
}

}  // namespace
}  // namespace nuncio::future_internal
