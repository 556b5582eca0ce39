#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <utility>

#include <kj/async-io.h>
#include <kj/async.h>

#include "test/benchmark/peers/futures.h"

// The peer `kj`: promises of Cap'n Proto's KJ, each loop with the UnixEventPort that a program with I/O has. Version
// 0.9 has no coroutines: what stands beside ours is a promise whose continuation returns the next one.
namespace nuncio::bench {

class KjLoop {
public:
  void run() { stop_.promise.wait(io_.waitScope); }
  // On the loop's thread.
  void stop() { stop_.fulfiller->fulfill(); }
  // On the loop's thread, or on one without a loop, which waits until it ran.
  template <class F>
  void post(F callback) {
    if (isCurrent()) {
      kj::evalLater(std::move(callback)).detach(fail);
    } else {
      executor_->executeSync(callback);
    }
  }

  const kj::Executor& executor() const { return *executor_; }
  kj::WaitScope& waitScope() { return io_.waitScope; }
  static void fail(kj::Exception&&) { std::abort(); }

private:
  bool isCurrent() const { return current_ == this; }

  static inline thread_local const KjLoop* current_ = nullptr;

  struct SetCurrent {
    explicit SetCurrent(const KjLoop* loop) { current_ = loop; }
    ~SetCurrent() { current_ = nullptr; }
    SetCurrent(const SetCurrent&) = delete;
    SetCurrent& operator=(const SetCurrent&) = delete;
  };

  const SetCurrent set_current_{this};
  kj::AsyncIoContext io_ = kj::setupAsyncIo();
  kj::Own<const kj::Executor> executor_ = kj::getCurrentThreadExecutor().addRef();
  kj::PromiseFulfillerPair<void> stop_ = kj::newPromiseAndFulfiller<void>();
};

class KjFutures {
public:
  int addToReady() { return addTen(kj::Promise<int>(1)).wait(loop_.waitScope()); }

  template <class Answer>
  void addToPending(std::size_t rounds, Answer answer) {
    for (std::size_t i = 0; i < rounds; ++i) {
      kj::PromiseFulfillerPair<int> pair = kj::newPromiseAndFulfiller<int>();
      kj::Promise<int> sum = addTen(kj::mv(pair.promise));
      pair.fulfiller->fulfill(1);
      answer(sum.wait(loop_.waitScope()));
    }
  }

  // Waits for `size` promises together, `rounds` times, and gives the sum to `answer`.
  template <class Answer>
  void collectPending(std::size_t rounds, std::size_t size, Answer answer) {
    for (std::size_t i = 0; i < rounds; ++i) {
      auto promises = kj::heapArrayBuilder<kj::Promise<int>>(size);
      auto fulfillers = kj::heapArrayBuilder<kj::Own<kj::PromiseFulfiller<int>>>(size);
      for (std::size_t j = 0; j < size; ++j) {
        kj::PromiseFulfillerPair<int> pair = kj::newPromiseAndFulfiller<int>();
        promises.add(kj::mv(pair.promise));
        fulfillers.add(kj::mv(pair.fulfiller));
      }
      kj::Promise<kj::Array<int>> all = kj::joinPromises(promises.finish());
      for (auto& fulfiller : fulfillers) {
        fulfiller->fulfill(1);
      }
      answer(all.wait(loop_.waitScope()));
    }
  }

private:
  static kj::Promise<int> addTen(kj::Promise<int> promise) {
    constexpr AddOne kAdd;
    return promise.then(kAdd)
        .then(kAdd)
        .then(kAdd)
        .then(kAdd)
        .then(kAdd)
        .then(kAdd)
        .then(kAdd)
        .then(kAdd)
        .then(kAdd)
        .then(kAdd);
  }

  KjLoop loop_;
};

template <class F, class Answer>
kj::Promise<void> callOnWhile(const kj::Executor& to, F f, Answer answer) {
  return to.executeAsync(f).then([&to, f, answer](int value) mutable -> kj::Promise<void> {
    return answer(value) ? callOnWhile(to, f, answer) : kj::Promise<void>(kj::READY_NOW);
  });
}
template <class F, class Answer>
void callWhile(KjLoop&, KjLoop& to, F f, Answer answer) {
  callOnWhile(to.executor(), f, answer).detach(KjLoop::fail);
}

// Waits again and again, then stops the loop.
class KjAwaits {
public:
  KjAwaits(KjLoop& loop, std::size_t count, uint64_t* awaited) : loop_(loop), left_(count), awaited_(awaited) {}

  kj::Promise<void> yields() {
    return kj::evalLater([this]() -> kj::Promise<void> {
      ++*awaited_;
      return --left_ != 0 ? yields() : stopped();
    });
  }
  kj::Promise<void> promises() {
    kj::PromiseFulfillerPair<int> pair = kj::newPromiseAndFulfiller<int>();
    auto fulfil = kj::evalLater([fulfiller = kj::mv(pair.fulfiller)]() mutable {
                    fulfiller->fulfill(1);
                  }).eagerlyEvaluate(nullptr);
    return pair.promise.attach(kj::mv(fulfil)).then([this](int one) -> kj::Promise<void> {
      *awaited_ += static_cast<uint64_t>(one);
      return --left_ != 0 ? promises() : stopped();
    });
  }

private:
  kj::Promise<void> stopped() {
    loop_.stop();
    return kj::READY_NOW;
  }

  KjLoop& loop_;
  std::size_t left_;
  uint64_t* const awaited_;
};

}  // namespace nuncio::bench
