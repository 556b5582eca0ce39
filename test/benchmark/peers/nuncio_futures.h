#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "nuncio/event/internal/loop_core.h"
#include "nuncio/future/call.h"
#include "nuncio/future/collect.h"
#include "nuncio/future/coroutine.h"
#include "nuncio/future/future.h"
#include "nuncio/future/submit.h"
#include "test/benchmark/peers/futures.h"
#include "test/benchmark/peers/nuncio_peer.h"

namespace nuncio::bench {

class NuncioFutures {
public:
  int addToReady() {
    constexpr AddOne kAdd;
    Future<int> sum = makeReadyFuture(1)
                          .then(kAdd)
                          .then(kAdd)
                          .then(kAdd)
                          .then(kAdd)
                          .then(kAdd)
                          .then(kAdd)
                          .then(kAdd)
                          .then(kAdd)
                          .then(kAdd)
                          .then(kAdd);
    return *std::move(sum).get();
  }

  // Calls `answer` in the last then of each of `rounds` chains.
  template <class Answer>
  void addToPending(std::size_t rounds, Answer answer) {
    Chains<Answer> chains{loop_, rounds, answer};
    loop_.post([&chains] { chains.next(); });
    loop_.run();
  }

  // Waits for `size` promises together, `rounds` times, and gives their values to `answer`.
  template <class Answer>
  void collectPending(std::size_t rounds, std::size_t size, Answer answer) {
    Collections<Answer> collections{loop_, rounds, size, answer};
    loop_.post([&collections] { collections.next(); });
    loop_.run();
  }

private:
  template <class Answer>
  struct Collections {
    void next() {
      if (left-- == 0) {
        loop.stop();
        return;
      }
      std::vector<Promise<int>> promises(size);
      std::vector<Future<int>> futures;
      futures.reserve(size);
      for (Promise<int>& promise : promises) {
        futures.push_back(promise.future(loop.dispatcher()));
      }
      collect(std::move(futures))
          .then([this](std::vector<int> values) {
            answer(values);
            next();
          })
          .detach();
      for (Promise<int>& promise : promises) {
        promise.setValue(1);
      }
    }

    NuncioLoop& loop;
    std::size_t left;
    std::size_t size;
    Answer answer;
  };

  template <class Answer>
  struct Chains {
    void next() {
      if (left-- == 0) {
        loop.stop();
        return;
      }
      constexpr AddOne kAdd;
      Promise<int> promise;
      promise.future(loop.dispatcher())
          .then(kAdd)
          .then(kAdd)
          .then(kAdd)
          .then(kAdd)
          .then(kAdd)
          .then(kAdd)
          .then(kAdd)
          .then(kAdd)
          .then(kAdd)
          .then([this](int value) {
            answer(AddOne()(value));
            next();
          })
          .detach();
      promise.setValue(1);
    }

    NuncioLoop& loop;
    std::size_t left;
    Answer answer;
  };

  NuncioLoop loop_;
};

template <class F, class Answer>
void callWhile(NuncioLoop& /*from*/, NuncioLoop& to, F f, Answer answer) {
  struct Calls {
    void next() {
      call(to.dispatcher(), f)
          .then([this](int value) {
            if (answer(value)) {
              next();
            } else {
              delete this;
            }
          })
          .detach();
    }

    NuncioLoop& to;
    F f;
    Answer answer;
  };
  (new Calls{to, f, answer})->next();
}

template <class F>
SemiFuture<int> callFromOutside(NuncioLoop& to, F f) {
  return submit(to.dispatcher(), f);
}
inline int answerOf(SemiFuture<int>&& future) { return *std::move(future).get(); }

// Coroutines.

inline Future<void> awaitYields(NuncioLoop& loop, std::size_t count, uint64_t* awaited) {
  for (std::size_t i = 0; i < count; ++i) {
    co_await yield();
    ++*awaited;
  }
  loop.stop();
}

// A task of the loop, which is cheaper than a post since only the loop's own thread can add it.
class FulfilTask final : public Task {
public:
  explicit FulfilTask(NuncioLoop& loop) : tasks_(loop.dispatcher().loop()) {}
  void fulfil(Promise<int>&& promise) {
    promise_ = std::move(promise);
    tasks_.add(*this);
  }
  void runTask() noexcept override { promise_.setValue(1); }
  void refuseTask() noexcept override {}

private:
  LoopCore& tasks_;
  Promise<int> promise_;
};

inline Future<void> awaitPromises(NuncioLoop& loop, std::size_t count, uint64_t* awaited) {
  FulfilTask task(loop);
  for (std::size_t i = 0; i < count; ++i) {
    Promise<int> promise;
    Future<int> future = promise.future(loop.dispatcher());
    task.fulfil(std::move(promise));
    const int one = co_await std::move(future);
    *awaited += static_cast<uint64_t>(one);
  }
  loop.stop();
}

// The same, fulfilled by a post.
inline Future<void> awaitPostedPromises(NuncioLoop& loop, std::size_t count, uint64_t* awaited) {
  for (std::size_t i = 0; i < count; ++i) {
    Promise<int> promise;
    Future<int> future = promise.future(loop.dispatcher());
    loop.post([promise = std::move(promise)]() mutable { promise.setValue(1); });
    const int one = co_await std::move(future);
    *awaited += static_cast<uint64_t>(one);
  }
  loop.stop();
}

}  // namespace nuncio::bench
