#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/join.h"

// collect(), collectAll(), collectAny() and collectN() for a vector of futures; for collect.h.
//
// A policy says what becomes of the results: it takes them one by one, with the index of the future that each came
// from, until it is done().
namespace nuncio::future_internal {

Failure* noInput() noexcept;
Failure* outOfReach(std::size_t wanted, std::size_t given) noexcept;

template <class T>
struct CollectPolicy {
  using Result = std::conditional_t<std::is_void_v<T>, void, std::vector<Stored<T>>>;
  static constexpr const char* kKind = "collect";
  static constexpr bool kFirstDecides = false;
  static constexpr bool kValuesAtOnce = kMovesTrivially<T>;

  explicit CollectPolicy(std::size_t count) : missing(count) { values.resize(std::is_void_v<T> ? 0 : count); }
  bool done() const { return missing == 0; }
  void add(std::size_t index, Try<T>&& result) {
    if (result.failed()) {
      failure = std::move(result);
      missing = 0;
      return;
    }
    if constexpr (!std::is_void_v<T>) {
      values[index] = std::move(result);
    }
    --missing;
  }
  void take(Input& input, std::size_t index) { add(index, takeInput<T>(input)); }
  void takeValue(std::size_t index, void* value) {
    if constexpr (!std::is_void_v<T>) {
      std::construct_at(&values[index], std::move(*static_cast<T*>(value)));
    }
    --missing;
  }
  Try<Result> result() {
    if (failure.failed()) {
      return Try<Result>::failureOf(std::move(failure));
    }
    if constexpr (std::is_void_v<T>) {
      return Try<Result>(Unit());
    } else {
      Result all;
      all.reserve(values.size());
      for (Try<T>& value : values) {
        all.push_back(*std::move(value));
      }
      return Try<Result>(std::move(all));
    }
  }

  std::vector<Try<T>> values;
  Try<T> failure;
  std::size_t missing;
};

template <class T>
struct CollectAllPolicy {
  using Result = std::vector<Try<T>>;
  static constexpr const char* kKind = "collectAll";
  static constexpr bool kFirstDecides = false;
  static constexpr bool kValuesAtOnce = kMovesTrivially<T>;

  explicit CollectAllPolicy(std::size_t count) : results(count), missing(count) {}
  bool done() const { return missing == 0; }
  void add(std::size_t index, Try<T>&& result) {
    results[index] = std::move(result);
    --missing;
  }
  void take(Input& input, std::size_t index) { add(index, takeInput<T>(input)); }
  void takeValue(std::size_t index, void* value) {
    std::construct_at(&results[index], std::move(*static_cast<Stored<T>*>(value)));
    --missing;
  }
  Try<Result> result() { return Try<Result>(std::move(results)); }

  Result results;
  std::size_t missing;
};

template <class T>
struct CollectAnyPolicy {
  using Result = std::pair<std::size_t, Try<T>>;
  static constexpr const char* kKind = "collectAny";
  static constexpr bool kFirstDecides = true;
  static constexpr bool kValuesAtOnce = false;

  bool done() const { return first.second.ready(); }
  void add(std::size_t index, Try<T>&& result) { first = Result(index, std::move(result)); }
  void take(Input& input, std::size_t index) { add(index, takeInput<T>(input)); }
  Try<Result> result() { return Try<Result>(std::move(first)); }

  Result first;
};

template <class T>
struct CollectNPolicy {
  using Element = std::conditional_t<std::is_void_v<T>, std::size_t, std::pair<std::size_t, Stored<T>>>;
  using Result = std::vector<Element>;
  static constexpr const char* kKind = "collectN";
  static constexpr bool kFirstDecides = false;
  static constexpr bool kValuesAtOnce = false;

  CollectNPolicy(std::size_t count, std::size_t k) : spare(k <= count ? count - k : 0), wanted(k) {
    if (k <= count) {
      values.reserve(k);
    } else {
      failure = Try<T>::fromFailure(outOfReach(k, count));
    }
  }
  bool done() const { return values.size() == wanted || failure.failed(); }
  void add(std::size_t index, Try<T>&& result) {
    if (result.failed()) {
      if (spare == 0) {
        failure = std::move(result);
      } else {
        --spare;
      }
    } else if constexpr (std::is_void_v<T>) {
      values.push_back(index);
    } else {
      values.emplace_back(index, *std::move(result));
    }
  }
  void take(Input& input, std::size_t index) { add(index, takeInput<T>(input)); }
  Try<Result> result() {
    return failure.failed() ? Try<Result>::failureOf(std::move(failure)) : Try<Result>(std::move(values));
  }

  Result values;
  Try<T> failure;
  std::size_t spare;  // failures that it can do with
  std::size_t wanted;
};

// Joins futures of one type.
template <class T, class Policy>
Future<typename Policy::Result> joinVector(std::vector<Future<T>>& futures, Policy&& policy,
                                           const std::source_location& place) {
  LoopCore* loop = nullptr;
  for (std::size_t i = 0; i < futures.size() && loop == nullptr; ++i) {
    loop = Access::loop(futures[i]);
  }
  std::size_t kept = Join::kNone;  // the index of one that decides, and is not taken
  for (std::size_t i = 0; i < futures.size() && kept == Join::kNone && !policy.done(); ++i) {
    if (Access::waitsHere(futures[i], loop)) [[likely]] {
      continue;
    }
    if (Policy::kFirstDecides && holdsItem(futures[i], loop)) {
      kept = i;
    } else if (!prepareInput(futures[i], loop)) {
      policy.add(i, takeReady(futures[i]));
    }
  }
  const bool decided = kept != Join::kNone || policy.done();
  bool wait = kept != Join::kNone || !policy.done();
  if (decided) {
    for (std::size_t i = 0; i < futures.size(); ++i) {
      wait = (i != kept && hasToEnd(futures[i], loop)) || wait;
    }
  }
  Future<typename Policy::Result> joined;
  if (!wait) {
    joined = readyOn(loop, resultOf(policy), place);
  } else {
    joined = join<0>(
        *loop, futures.size(), std::forward<Policy>(policy),
        [&futures, kept](auto& node) {
          for (std::size_t i = 0; i < futures.size(); ++i) {
            node.addInput(i, Access::takeNode(futures[i]), kept);
          }
        },
        place);
  }
  if (decided || Access::node(joined) == nullptr) {  // some are left: nobody looked at them, or there was no memory
    for (Future<T>& future : futures) {
      letGo(future);
    }
  }
  return joined;
}

// The same, with a policy made of `arguments`.
template <class Policy, class T, class... Args>
Future<typename Policy::Result> joinBy(std::vector<Future<T>>& futures, const std::source_location& place,
                                       Args... arguments) {
  try {
    return joinVector(futures, Policy(arguments...), place);
  } catch (const std::bad_alloc&) {
    for (Future<T>& future : futures) {
      letGo(future);
    }
    return Future<typename Policy::Result>(failed<typename Policy::Result>(Reason::NoMemory), place);
  }
}

}  // namespace nuncio::future_internal
