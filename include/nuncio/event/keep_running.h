#pragma once

#include <cstdint>
#include <memory>
#include <utility>

namespace nuncio {

class PostQueue;

// KeepRunning: while there is one, Dispatcher::run(RunType::Block) does not return for want of something to do. For who
// waits for an answer from outside the loop, of which the loop knows nothing, as from another thread:
//
//   submit(worker, [] { return compute(); })
//       .via(*dispatcher)
//       .then([kept = dispatcher->keepRunning()](int answer) { ... });
//   dispatcher->run(RunType::Block);  // returns when the answer has come
//
// Threads: any, one at a time. Lifetime: any; it keeps a small queue alive, not the dispatcher. exit() ends a run all
// the same. Cost: none while it is kept; its end may wake the loop. Fork: it keeps the parent's loop running, not the
// child's, where its end does nothing: whoever was to end it may not be there.
class [[nodiscard]] KeepRunning {
public:
  KeepRunning() noexcept = default;  // keeps nothing
  explicit KeepRunning(std::shared_ptr<PostQueue> queue);
  KeepRunning(KeepRunning&& other) noexcept = default;
  KeepRunning& operator=(KeepRunning&& other) noexcept;
  ~KeepRunning() { reset(); }

  // Lets the run return.
  void reset() noexcept;

private:
  std::shared_ptr<PostQueue> queue_;
  uint32_t fork_generation_ = 0;  // in which it was made
};

}  // namespace nuncio
