// Random chains of futures against a model of a few lines: what runs, in what order, and what comes of it, however the
// attaching, fulfilling, running and cancelling are mixed.
//
// NUNCIO_TEST_SEED sets the seed, NUNCIO_FUTURE_MODEL_CHAINS the number of chains.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <exception>
#include <iostream>
#include <random>
#include <source_location>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"

#include "nuncio/event/dispatcher.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/dropped_failure.h"
#include "nuncio/future/future.h"
#include "test/test_support/sanitizers.h"

namespace nuncio::test {
namespace {

uint64_t fromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

enum class Kind {
  Add,            // then: adds one
  AddReady,       // then: the same with a ready future
  AddPending,     // then: with a future that the test fulfils
  Fail,           // then: a Status
  Throw,          // then: an exception
  Count,          // then(Try): 1000 for a failure
  Recover,        // thenError: 2000
  RecoverThrown,  // thenError<std::runtime_error>: 3000
  Ensure,         //
  EnsureFails,    //
  EnsurePending,  // waits for the test
  Hop,            // semi().via(): the same dispatcher
  Coroutine,      // adds one
  NumberOfKinds
};

struct Result {
  bool value = false;
  int number = 0;
  absl::StatusCode code = absl::StatusCode::kOk;  // of a failure

  static Result of(int number) { return {true, number, absl::StatusCode::kOk}; }
  static Result failure(absl::StatusCode code) { return {false, 0, code}; }
  std::string text() const { return value ? absl::StrCat(number) : absl::StatusCodeToString(code); }
};

// One chain: real and model, step by step.
class Chain {
public:
  Chain(Dispatcher& dispatcher, std::vector<Kind> kinds)
      : dispatcher_(dispatcher), kinds_(std::move(kinds)), inner_(kinds_.size()), closed_(kinds_.size()) {
    future_ = origin_.future(dispatcher_);
  }

  bool allAttached() const { return attached_ == kinds_.size(); }
  bool originSet() const { return have_result_ || at_ > 0; }
  bool finished() const { return allAttached() && have_result_ && at_ == attached_; }
  bool cancelled() const { return cancelled_; }

  void attachOne() {
    const std::size_t i = attached_;
    future_ = attach(std::move(future_), i);
    ++attached_;
  }

  // Fulfils the origin, and what the model waits for.
  void fulfil(unsigned how) {
    if (!originSet()) {
      switch (how % 4) {
        case 0:
          origin_.setStatus(absl::NotFoundError("origin"));
          given_ = Result::failure(absl::StatusCode::kNotFound);
          break;
        case 1:
          origin_.setException(std::make_exception_ptr(std::runtime_error("origin")));
          given_ = Result::failure(absl::StatusCode::kUnknown);
          break;
        default:
          origin_.setValue(static_cast<int>(how % 100));
          given_ = Result::of(static_cast<int>(how % 100));
      }
      result_ = given_;
      have_result_ = true;
    } else if (waiting_) {
      waiting_ = false;
      const std::size_t i = at_;
      if (kinds_[i] == Kind::AddPending) {
        inner_[i].setValue(result_.number + 1);
        result_ = Result::of(result_.number + 1);
      } else {
        closed_[i].setValue();
      }
      ++at_;
    }
    advanceModel();
  }

  // Both are at rest: the model knows how far the chain is.
  void cancel() {
    future_.cancel();
    cancelled_ = true;
    if (have_result_ && !waiting_ && at_ == attached_) {
      return;  // the result is there, and stays
    }
    cancelled_until_ = attached_;
    if (waiting_) {
      waiting_ = false;
      ++at_;
    }
    have_result_ = true;
    result_ = Result::failure(absl::StatusCode::kCancelled);
    advanceModel();
  }

  // Lets the model catch up with what was attached.
  void advanceModel() {
    while (have_result_ && !waiting_ && at_ < attached_) {
      step(at_);
      if (!waiting_) {
        ++at_;
      }
    }
  }

  void expectTheSame() {
    EXPECT_EQ(absl::StrJoin(notes_, " "), absl::StrJoin(expected_notes_, " "));
    const bool ready = have_result_ && !waiting_ && at_ == attached_;
    ASSERT_EQ(future_.isReady(), ready);
    if (ready) {
      const Try<int>& result = future_.result();
      EXPECT_EQ(result.hasValue() ? absl::StrCat(*result) : absl::StatusCodeToString(result.status().code()),
                result_.text());
    }
  }

  std::string describe() const {
    std::string text;
    for (const Kind kind : kinds_) {
      absl::StrAppend(&text, static_cast<int>(kind), " ");
    }
    return absl::StrCat(text, "given ", given_.text());
  }

private:
  Future<int> attach(Future<int> future, std::size_t i) {
    switch (kinds_[i]) {
      case Kind::Add:
        return std::move(future).then([this, i](int value) {
          note(i);
          return value + 1;
        });
      case Kind::AddReady:
        return std::move(future).then([this, i](int value) {
          note(i);
          return makeReadyFuture(value + 1);
        });
      case Kind::AddPending:
        return std::move(future).then([this, i](int) {
          note(i);
          return inner_[i].future(dispatcher_);
        });
      case Kind::Fail:
        return std::move(future).then([this, i](int) {
          note(i);
          return absl::StatusOr<int>(absl::DataLossError("fail"));
        });
      case Kind::Throw:
        return std::move(future).then([this, i](int) -> int {
          note(i);
          throw std::runtime_error("throw");
        });
      case Kind::Count:
        return std::move(future).then([this, i](Try<int> result) {
          note(i);
          return result.hasValue() ? *result + 1 : 1000;
        });
      case Kind::Recover:
        return std::move(future).thenError([this, i](absl::Status) {
          note(i);
          return 2000;
        });
      case Kind::RecoverThrown:
        return std::move(future).thenError<std::runtime_error>([this, i](std::runtime_error&) {
          note(i);
          return 3000;
        });
      case Kind::Ensure:
        return std::move(future).ensure([this, i] { note(i); });
      case Kind::EnsureFails:
        return std::move(future).ensure([this, i] {
          note(i);
          return absl::AbortedError("ensure");
        });
      case Kind::EnsurePending:
        return std::move(future).ensure([this, i] {
          note(i);
          return closed_[i].future(dispatcher_);
        });
      case Kind::Hop:
        return std::move(future).semi().via(dispatcher_);
      default:
        return coroutine(dispatcher_, std::move(future), this, i);
    }
  }

  static Future<int> coroutine(Dispatcher& /*dispatcher*/, Future<int> future, Chain* chain, std::size_t i) {
    const int value = co_await std::move(future);
    chain->note(i);
    co_return value + 1;
  }

  // What stage i does, by the book.
  void step(std::size_t i) {
    const Kind kind = kinds_[i];
    const bool is_ensure = kind == Kind::Ensure || kind == Kind::EnsureFails || kind == Kind::EnsurePending;
    if (i < cancelled_until_ && !is_ensure) {
      return;
    }
    const auto note_expected = [&] { expected_notes_.push_back(i); };
    switch (kind) {
      case Kind::Add:
      case Kind::AddReady:
      case Kind::Coroutine:
        if (result_.value) {
          note_expected();
          ++result_.number;
        }
        break;
      case Kind::AddPending:
        if (result_.value) {
          note_expected();
          waiting_ = true;
        }
        break;
      case Kind::Fail:
      case Kind::Throw:
        if (result_.value) {
          note_expected();
          result_ = Result::failure(kind == Kind::Fail ? absl::StatusCode::kDataLoss : absl::StatusCode::kUnknown);
        }
        break;
      case Kind::Count:
        note_expected();
        result_ = Result::of(result_.value ? result_.number + 1 : 1000);
        break;
      case Kind::Recover:
        if (!result_.value) {
          note_expected();
          result_ = Result::of(2000);
        }
        break;
      case Kind::RecoverThrown:
        if (!result_.value && result_.code == absl::StatusCode::kUnknown) {
          note_expected();
          result_ = Result::of(3000);
        }
        break;
      case Kind::Ensure:
        note_expected();
        break;
      case Kind::EnsureFails:
        note_expected();
        if (result_.value) {
          result_ = Result::failure(absl::StatusCode::kAborted);
        }
        break;
      case Kind::EnsurePending:
        note_expected();
        waiting_ = true;
        break;
      default:
        break;
    }
  }

  void note(std::size_t i) { notes_.push_back(i); }

  Dispatcher& dispatcher_;
  const std::vector<Kind> kinds_;
  Promise<int> origin_;
  std::deque<Promise<int>> inner_;
  std::deque<Promise<void>> closed_;
  Future<int> future_;
  std::size_t attached_ = 0;
  std::vector<std::size_t> notes_;

  // The model: the result of the first at_ stages; waiting_: stage at_ has started, and waits for the test.
  bool have_result_ = false;
  Result result_;
  Result given_;
  std::size_t at_ = 0;
  bool waiting_ = false;
  bool cancelled_ = false;
  std::size_t cancelled_until_ = 0;  // stages that were attached when it was cancelled, and had not run
  std::vector<std::size_t> expected_notes_;
};

TEST(FutureModelTest, RandomChainsDoWhatTheModelDoes) {
  const uint64_t chains = fromEnvironment("NUNCIO_FUTURE_MODEL_CHAINS", kSanitizer ? 3'000 : 20'000);
  const uint64_t seed = fromEnvironment("NUNCIO_TEST_SEED", std::random_device()());
  std::cout << "seed (NUNCIO_TEST_SEED): " << seed << "\n";
  std::mt19937_64 random(seed);
  DroppedFailureHandler former = setDroppedFailureHandler([](const absl::Status&, const std::source_location&) {});
  DispatcherPtr dispatcher = createDispatcher({.name = "modelled"});
  const auto run = [&] {
    for (int i = 0; i < 8; ++i) {  // hops go by posts
      dispatcher->run(RunType::NonBlock);
    }
  };
  run();
  for (uint64_t n = 0; n < chains && !testing::Test::HasFailure(); ++n) {
    const bool may_cancel = random() % 2 == 0;
    // What is behind a hop or a coroutine does not wait for what is before it, once it is cancelled: left out there.
    const auto kinds = static_cast<unsigned>(may_cancel ? Kind::Hop : Kind::NumberOfKinds);
    std::vector<Kind> program(random() % 12);
    for (Kind& kind : program) {
      kind = static_cast<Kind>(random() % kinds);
    }
    Chain chain(*dispatcher, program);
    for (int steps = 0; !chain.finished() && steps < 1000; ++steps) {
      switch (random() % 4) {
        case 0:
          if (!chain.allAttached()) {
            chain.attachOne();
          }
          break;
        case 1:
          run();  // both come to rest, so that the model is where the chain is
          chain.advanceModel();
          chain.fulfil(static_cast<unsigned>(random()));
          break;
        case 2:
          run();
          chain.advanceModel();
          chain.expectTheSame();
          break;
        default:
          if (may_cancel && !chain.cancelled() && random() % 4 == 0) {
            run();
            chain.advanceModel();
            chain.cancel();
          }
      }
    }
    run();
    chain.advanceModel();
    chain.expectTheSame();
    if (testing::Test::HasFailure()) {
      std::cout << "chain " << n << ": " << chain.describe() << "\n";
    }
  }
  dispatcher.reset();
  setDroppedFailureHandler(std::move(former));
}

}  // namespace
}  // namespace nuncio::test
