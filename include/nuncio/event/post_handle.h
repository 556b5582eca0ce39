#pragma once

#include <memory>
#include <utility>

#include "absl/strings/string_view.h"

#include "nuncio/event/callback.h"

namespace nuncio {

class PostQueue;
class SimulatedTimeSystem;
class LoopCore;

// PostHandle: posts to a dispatcher that may be gone.
//
//   PostHandle main = main_dispatcher.handle();
//   std::thread([main] { main.post([] { ... }); }); // false once the dispatcher is shut down or destroyed
//
// Threads: any; copies are cheap and independent. Lifetime: any; it keeps a small queue alive, not the dispatcher.
class PostHandle {
public:
  // A handle of no dispatcher, as one whose dispatcher is gone: for mocks, and for members that are set later.
  PostHandle() = default;
  explicit PostHandle(std::shared_ptr<PostQueue> queue) : queue_(std::move(queue)) {}

  // As Dispatcher::post.
  bool post(PostCb cb) const;
  // As Dispatcher::exit, for those who cannot know whether the dispatcher lives. False, and nothing has happened, once
  // it is shut down or destroyed. Safe in a signal handler, but for BackendKind::Libevent.
  bool exit() const;
  // The dispatcher's name; "-" for none.
  absl::string_view name() const;
  // False once the dispatcher is shut down or destroyed.
  bool alive() const;

private:
  friend class SimulatedTimeSystem;
  friend class LoopCore;
  void wake() const;               // the loop
  bool tryPost(PostCb& cb) const;  // `cb` is left as it is where it is refused

  std::shared_ptr<PostQueue> queue_;
};

}  // namespace nuncio
