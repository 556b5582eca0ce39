#pragma once

#include <cstddef>
#include <optional>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/join.h"

// collect(), collectAll(), collectAny() and anyOf() for a given number of futures, of the same type or of several; for
// collect.h and any_of.h.
namespace nuncio::future_internal {

// Takes the result of the input that has `index` among inputs of types Ts, and hands it to policy.add<index>.
template <class... Ts, class Policy>
void takeOneOf(Policy& policy, Input& input, std::size_t index) {
  [&]<std::size_t... kIndex>(std::index_sequence<kIndex...>) {
    static_cast<void>(((kIndex == index && (policy.template add<kIndex>(takeInput<Ts>(input)), true)) || ...));
  }(std::index_sequence_for<Ts...>());
}

// The same with a value of one of Ts.
template <class... Ts, class Policy>
void takeValueOf(Policy& policy, std::size_t index, void* value) {
  [&]<std::size_t... kIndex>(std::index_sequence<kIndex...>) {
    static_cast<void>(((kIndex == index &&
                        (policy.template add<kIndex>(Try<Ts>(std::move(*static_cast<Stored<Ts>*>(value)))), true)) ||
                       ...));
  }(std::index_sequence_for<Ts...>());
}

template <class... Ts>
struct CollectTuplePolicy {
  using Result = std::tuple<Stored<Ts>...>;
  static constexpr const char* kKind = "collect";
  static constexpr bool kFirstDecides = false;
  static constexpr bool kValuesAtOnce = (kMovesTrivially<Ts> && ...);

  bool done() const { return missing == 0; }
  template <std::size_t kIndex, class T>
  void add(Try<T>&& result) {
    if (result.failed()) {
      failure = Try<Result>::failureOf(std::move(result));
      missing = 0;
    } else {
      std::get<kIndex>(values) = std::move(result);
      --missing;
    }
  }
  void take(Input& input, std::size_t index) { takeOneOf<Ts...>(*this, input, index); }
  void takeValue(std::size_t index, void* value) { takeValueOf<Ts...>(*this, index, value); }
  Try<Result> result() {
    if (failure.failed()) {
      return std::move(failure);
    }
    return std::apply([](auto&... value) { return Try<Result>(Result(*std::move(value)...)); }, values);
  }

  std::tuple<Try<Ts>...> values;
  Try<Result> failure;
  std::size_t missing = sizeof...(Ts);
};

template <class... Ts>
struct CollectAllTuplePolicy {
  using Result = std::tuple<Try<Ts>...>;
  static constexpr const char* kKind = "collectAll";
  static constexpr bool kFirstDecides = false;
  static constexpr bool kValuesAtOnce = (kMovesTrivially<Ts> && ...);

  bool done() const { return missing == 0; }
  template <std::size_t kIndex, class T>
  void add(Try<T>&& result) {
    std::get<kIndex>(results) = std::move(result);
    --missing;
  }
  void take(Input& input, std::size_t index) { takeOneOf<Ts...>(*this, input, index); }
  void takeValue(std::size_t index, void* value) { takeValueOf<Ts...>(*this, index, value); }
  Try<Result> result() { return Try<Result>(std::move(results)); }

  Result results;
  std::size_t missing = sizeof...(Ts);
};

template <class... Ts>
struct CollectAnyTuplePolicy {
  using Result = std::variant<Try<Ts>...>;
  static constexpr const char* kKind = "collectAny";
  static constexpr bool kFirstDecides = true;
  static constexpr bool kValuesAtOnce = false;

  bool done() const { return first.has_value(); }
  template <std::size_t kIndex, class T>
  void add(Try<T>&& result) {
    first.emplace(std::in_place_index<kIndex>, std::move(result));
  }
  void take(Input& input, std::size_t index) { takeOneOf<Ts...>(*this, input, index); }
  Try<Result> result() { return Try<Result>(*std::move(first)); }

  std::optional<Result> first;
};

// anyOf(): the value, or the failure, of the first.
template <class... Ts>
struct AnyOfPolicy {
  using Result = std::variant<Stored<Ts>...>;
  static constexpr const char* kKind = "anyOf";
  static constexpr bool kFirstDecides = true;
  static constexpr bool kValuesAtOnce = false;

  bool done() const { return first.ready(); }
  template <std::size_t kIndex, class T>
  void add(Try<T>&& result) {
    if (result.failed()) {
      first = Try<Result>::failureOf(std::move(result));
    } else {
      first = Try<Result>(Result(std::in_place_index<kIndex>, *std::move(result)));
    }
  }
  void take(Input& input, std::size_t index) { takeOneOf<Ts...>(*this, input, index); }
  Try<Result> result() { return std::move(first); }

  Try<Result> first;
};

template <std::size_t kIndex, class Policy, class T>
void takeIfReady(Policy& policy, Future<T>& future, LoopCore* loop, std::size_t& kept) {
  if (kept != Join::kNone || policy.done()) {
    return;
  }
  if (Policy::kFirstDecides && holdsItem(future, loop)) {
    kept = kIndex;
  } else if (!prepareInput(future, loop)) {
    policy.template add<kIndex>(takeReady(future));
  }
}

template <class Policy, class... Ts, std::size_t... kIndex>
Future<typename Policy::Result> joinTuple(std::index_sequence<kIndex...> /*indices*/, const std::source_location& place,
                                          Future<Ts>&... futures) {
  LoopCore* loop = nullptr;
  static_cast<void>(((loop = Access::loop(futures), loop != nullptr) || ...));
  Policy policy;
  std::size_t kept = Join::kNone;  // the index of one that decides, and is not taken
  (takeIfReady<kIndex>(policy, futures, loop, kept), ...);
  Future<typename Policy::Result> joined;
  bool wait = kept != Join::kNone || !policy.done();
  if (kept != Join::kNone || policy.done()) {
    static_cast<void>(((wait = (kIndex != kept && hasToEnd(futures, loop)) || wait), ...));
  }
  if (!wait) {
    joined = readyOn(loop, resultOf(policy), place);
  } else {
    joined = join<sizeof...(Ts)>(
        *loop, sizeof...(Ts), std::move(policy),
        [&](auto& node) { (node.addInput(kIndex, Access::takeNode(futures), kept), ...); }, place);
  }
  (letGo(futures), ...);  // those that are left, where there was no memory
  return joined;
}

// A pack of futures leaves no room for the caller's place: that of the first pending one stands for it.
template <class... Ts>
std::source_location placeOf(const Future<Ts>&... futures) {
  const Node* first = nullptr;
  static_cast<void>(((first = Access::node(futures), first != nullptr) || ...));
  return first != nullptr ? first->place_ : std::source_location::current();
}

template <class Policy, class... Ts>
Future<typename Policy::Result> joinEach(Future<Ts>&... futures) {
  return joinTuple<Policy>(std::index_sequence_for<Ts...>(), placeOf(futures...), futures...);
}

}  // namespace nuncio::future_internal
