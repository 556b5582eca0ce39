#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <new>
#include <source_location>
#include <utility>

#include "nuncio/future/future.h"
#include "nuncio/future/internal/combine.h"

// A node that waits for many; for collect.h. An array of inputs, one an input, is all that it allocates beside itself.
namespace nuncio::future_internal {

// What waits for one input; its downstream_ is the join. As a task: the input is done, or is to be asked to stop. As
// large as a cache line, which is worth a twentieth of a collect.
class Input : public Node {
public:
  explicit Input(Node& join) { downstream_ = &join; }
  void runTask() noexcept final { downstream_->inputDone(*this); }
  const char* kind() const noexcept final { return "input"; }

protected:
  ~Input() = default;

private:
  void destroy() noexcept final {}
};
static_assert(sizeof(Input) <= 64);
// One whose result is taken by its task, always.
class LazyInput final : public Input {
public:
  using Input::Input;
};

// What joins of all types have in common. It takes the results of inputs as they come, until they decide its own
// result. Then it asks the other inputs to stop, and is done when they have ended. Each input asks as a task of its
// own, so that joins of joins need no deeper stack; only a result that stays where it is (see keep()) is fetched
// through as many calls as its type has joins. On the loop's thread, but for add() and launch().
class Join {
public:
  // Memory for inputs; null without memory.
  static void* allocateInputs(std::size_t count) noexcept;
  static void freeInputs(void* inputs) noexcept;

  static constexpr std::size_t kNone = SIZE_MAX;

  // Starts to wait; or when its result is `decided` already, to stop.
  void launch(bool decided) noexcept;

  Node& node() const { return node_; }
  // `take(index)` takes the result of `input`; true when that decides the result of the node, which it has then.
  template <class Take>
  void takeWhenDone(Input& input, Take take) noexcept {
    if (node_.phase_ != kWaiting || node_.loop_->closing()) [[unlikely]] {
      endInput(input);
      return;
    }
    --waiting_;
    node_.phase_ = kTaking;  // moving results may run functions of users, which may cancel this
    const bool decided = take(indexOf(input));
    node_.phase_ = kWaiting;
    if (node_.has(kCancelled)) [[unlikely]] {
      node_.set(kNoResult);
      finish();
    } else if (decided) {
      finish();
    }
  }

protected:
  enum Phase : uint8_t { kStarting, kWaiting, kTaking, kStopping, kFinished };

  Join(Node& node, std::size_t count, bool here) : node_(node), count_(count), here_(here) {}
  ~Join() {
    if (reason_ != nullptr) {
      releaseFailure(reason_);
    }
  }

  // Room for all of them.
  void useInputs(void* memory) { inputs_ = static_cast<std::byte*>(memory); }
  // Each index once: `upstream` is that of an input, or null for one that has been taken already. All before launch().
  template <class AnyInput>
  void add(std::size_t index, Node* upstream) noexcept {
    static_assert(sizeof(AnyInput) == sizeof(Input), "they stand in one array");
    Input* const input = ::new (&at(index)) AnyInput(node_);
    input->loop_ = node_.loop_;
    input->place_ = node_.place_;
    if (upstream != nullptr) {
      ++waiting_;
      if (here_) {
        attachHere(*upstream, *input);
      } else {
        input->upstream_ = upstream;
      }
    }
  }
  // The same for one that is done, and decides: see keep().
  template <class AnyInput>
  void addKept(std::size_t index, Node* upstream) noexcept {
    add<AnyInput>(index, nullptr);
    at(index).upstream_ = upstream;
    upstream->downstream_ = &at(index);
    keep(at(index));
  }
  void start() noexcept;
  void stop(const Failure* reason) noexcept;
  Node* input(std::size_t index) const noexcept;

  // The result of the node is that of `input`, which goes back to where it came from when nobody looks at it: it stays
  // where it is until the result of the node is taken.
  void keep(Input& input) noexcept {
    kept_ = &input;
    node_.set(kGivesBack);
  }
  // The value of `input` has been taken, or is about to be, from hand to hand.
  void forget(Input& input) noexcept {
    input.unlink();  // it may be among those that wait
    input.upstream_ = nullptr;
    --waiting_;
  }
  void finish() noexcept;
  Input* kept() const { return kept_; }
  std::size_t indexOf(const Input& input) const {
    return static_cast<std::size_t>(reinterpret_cast<const std::byte*>(&input) - inputs_) / sizeof(Input);
  }

private:
  // By bytes, since what stands there is derived from Input, and of its size.
  Input& at(std::size_t index) const noexcept { return *reinterpret_cast<Input*>(inputs_ + index * sizeof(Input)); }
  void askInputs() noexcept;
  void endInput(Input& input) noexcept;

  Node& node_;
  std::byte* inputs_ = nullptr;
  const std::size_t count_;
  std::size_t waiting_ = 0;    // inputs that have not been taken
  Failure* reason_ = nullptr;  // why it was cancelled, if somebody said: a reference
  const bool here_;            // made on the loop's thread
  bool decided_ = false;       // before it started
  Input* kept_ = nullptr;
};

// The result of `policy`, which is done.
template <class Policy>
Try<typename Policy::Result> resultOf(Policy& policy) noexcept {
  try {
    return policy.result();
  } catch (const std::bad_alloc&) {
    return failed<typename Policy::Result>(Reason::NoMemory);
  } catch (...) {
    return Try<typename Policy::Result>(std::current_exception());
  }
}

// A policy says what comes of the inputs:
//
//   Result                       the type of the result
//   kKind                        for traces
//   kFirstDecides                the first input that is done is the result, so that it may stay where it is
//   kValuesAtOnce                all values move trivially, and none but the last that is missing decides: nothing
//                                comes of a value for which it would have to wait for a task
//   bool done() const            the result is decided
//   void take(Input&, index)     takes an input's result, while it is not done
//   void add(index, Try<T>&&)    the same with a result that is there; of several types: add<index>(Try<T>&&)
//   void takeValue(index, void*) the same with a value, a Stored<T>; only where kValuesAtOnce
//   Try<Result> result()         once it is done
//
// kInputs: how many inputs it brings with it; 0: they come from allocateInputs().
template <class Policy, std::size_t kInputs = 0>
class JoinNode final : public ResultNode<typename Policy::Result>, public Join {
public:
  JoinNode(void* inputs, std::size_t count, bool here, Policy&& policy)
      : Join(*this, count, here), separate_(inputs), policy_(std::move(policy)) {
    useInputs(kInputs != 0 ? memory_.data() : inputs);
  }
  ~JoinNode() { freeInputs(separate_); }

  void addInput(std::size_t index, Node* upstream, std::size_t kept) noexcept {
    using AnyInput = std::conditional_t<Policy::kValuesAtOnce, EagerInput, LazyInput>;
    if (Policy::kFirstDecides && index == kept) {
      this->template addKept<AnyInput>(index, upstream);
    } else {
      this->template add<AnyInput>(index, upstream);
    }
  }

  void runTask() noexcept override { start(); }
  void inputDone(Node& which) noexcept override {
    Input& input = static_cast<Input&>(which);
    takeWhenDone(input, [this, &input](std::size_t index) {
      if constexpr (Policy::kFirstDecides) {
        if (givesBack(*input.upstream_)) {
          this->keep(input);
          return true;
        }
      }
      policy_.take(input, index);
      return decide();
    });
  }
  void fetchResult() noexcept override {
    if constexpr (Policy::kFirstDecides) {
      policy_.take(*this->kept(), this->indexOf(*this->kept()));
      this->result_ = resultOf(policy_);
    }
  }
  void leave() noexcept override {
    if constexpr (Policy::kFirstDecides) {
      if (this->kept() != nullptr && this->kept()->upstream_ != nullptr) {
        discardInput(*this->kept());
      }
    }
    this->free();
  }
  Node* stopHere(const Failure* reason) noexcept override {
    stop(reason);
    return nullptr;
  }
  const char* kind() const noexcept override { return Policy::kKind; }
  Node* waitsFor(std::size_t index) const noexcept override { return input(index); }

  // Its result, when the policy is done.
  bool decide() noexcept {
    if (this->kept() != nullptr) {
      return true;
    }
    if (!policy_.done()) {
      return false;
    }
    this->result_ = resultOf(policy_);
    return true;
  }

private:
  class EagerInput final : public Input {
  public:
    explicit EagerInput(Node& join) : Input(join) { set(kTakesAtOnce); }
    bool takeAtOnce(void* value) noexcept override {
      JoinNode& join = static_cast<JoinNode&>(*downstream_);
      if (join.phase_ != Join::kWaiting) [[unlikely]] {
        return false;
      }
      join.forget(*this);
      join.policy_.takeValue(join.indexOf(*this), value);
      if (join.policy_.done()) [[unlikely]] {
        join.finishWithValues();
      }
      return true;
    }
  };

  [[gnu::noinline]] void finishWithValues() noexcept {
    this->result_ = resultOf(policy_);
    this->finish();
  }

  void destroy() noexcept override { this->~JoinNode(); }

  alignas(Input) std::array<std::byte, kInputs * sizeof(Input)> memory_;
  void* const separate_;  // owned; null when memory_ is used
  Policy policy_;
};

// Makes the node; `fill(node)` adds the inputs. Without memory: a future that failed, and nothing has happened to the
// inputs.
template <std::size_t kInputs, class Policy, class Fill>
Future<typename Policy::Result> join(LoopCore& loop, std::size_t count, Policy&& policy, Fill fill,
                                     const std::source_location& place) {
  using Joined = JoinNode<Policy, kInputs>;
  using R = typename Policy::Result;
  void* const inputs = kInputs != 0 ? nullptr : Join::allocateInputs(count);
  Joined* const node =
      kInputs == 0 && inputs == nullptr
          ? nullptr
          : makeNode<Joined>(nullptr, &loop, place, inputs, count, loop.onLoopThread(), std::forward<Policy>(policy));
  if (node == nullptr) {
    Join::freeInputs(inputs);
    return Future<R>(failed<R>(Reason::NoMemory), place);
  }
  fill(*node);
  node->launch(node->decide());
  return Access::future<R>(node);
}

// Takes an input as far as that can be done without a node: brings it to `loop`; true when it is still pending.
template <class T>
bool prepareInput(Future<T>& future, LoopCore* loop) {
  Access::takeIfDone(future);
  if (Access::node(future) == nullptr) {
    return false;
  }
  if (Access::loop(future) == loop) {
    return true;
  }
  future = Access::viaLoop(std::move(future), *loop);
  Access::takeIfDone(future);
  return Access::node(future) != nullptr;
}

// When the result is decided without it: whether the end of an input, which then is on `loop`, has to be waited for.
template <class T>
bool hasToEnd(Future<T>& future, LoopCore* loop) {
  if (Access::node(future) == nullptr) {
    return false;
  }
  if (future.isReady()) {
    std::move(future).detach();
    return false;
  }
  if (Access::loop(future) != loop) {
    future = Access::viaLoop(std::move(future), *loop);
  }
  return Access::node(future) != nullptr;
}

}  // namespace nuncio::future_internal
