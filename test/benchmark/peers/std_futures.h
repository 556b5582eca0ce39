#pragma once

#include <cstddef>
#include <future>
#include <utility>
#include <vector>

#include "test/benchmark/peers/futures.h"

// The peer `std`, for scale: std::future has no then, and no loop. What stands for a then is a deferred function that
// gets the future before it; what stands for a call to another loop is std::async, which starts a thread.
namespace nuncio::bench {

class StdFutures {
public:
  int addToReady() {
    std::promise<int> promise;
    promise.set_value(1);
    return addTen(promise.get_future()).get();
  }

  template <class Answer>
  void addToPending(std::size_t rounds, Answer answer) {
    for (std::size_t i = 0; i < rounds; ++i) {
      std::promise<int> promise;
      std::future<int> sum = addTen(promise.get_future());
      promise.set_value(1);
      answer(sum.get());
    }
  }

  template <class Answer>
  void collectPending(std::size_t rounds, std::size_t size, Answer answer) {
    for (std::size_t i = 0; i < rounds; ++i) {
      std::vector<std::promise<int>> promises(size);
      std::vector<std::future<int>> futures;
      futures.reserve(size);
      for (std::promise<int>& promise : promises) {
        futures.push_back(promise.get_future());
      }
      for (std::promise<int>& promise : promises) {
        promise.set_value(1);
      }
      std::vector<int> values;
      values.reserve(size);
      for (std::future<int>& future : futures) {
        values.push_back(future.get());
      }
      answer(values);
    }
  }

private:
  static std::future<int> addTen(std::future<int> future) {
    for (int i = 0; i < kThens; ++i) {
      future =
          std::async(std::launch::deferred, [before = std::move(future)]() mutable { return AddOne()(before.get()); });
    }
    return future;
  }
};

}  // namespace nuncio::bench
