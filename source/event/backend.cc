#include "source/event/backend.h"

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"

#include "nuncio/common/logging.h"
#include "source/event/loop.h"

namespace nuncio {
namespace {

constinit Backend::Factory libevent_factory = nullptr;  // set before main()

absl::StatusOr<BackendKind> defaultKind() {
  const char* const name = std::getenv("NUNCIO_BACKEND");
  if (name == nullptr || absl::string_view(name) == "linux") {
    return BackendKind::Linux;
  }
  if (absl::string_view(name) == "libevent") {
    return BackendKind::Libevent;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("environment variable NUNCIO_BACKEND is \"", name, "\"; linux and libevent are known"));
}

}  // namespace

void Backend::registerLibevent(Factory factory) { libevent_factory = factory; }

absl::StatusOr<std::unique_ptr<Backend>> Backend::create(BackendKind kind) {
  if (kind == BackendKind::Default) {
    const absl::StatusOr<BackendKind> chosen = defaultKind();
    if (!chosen.ok()) {
      return chosen.status();
    }
    kind = *chosen;
  }
  if (kind == BackendKind::Linux) {
    return createLinuxBackend();
  }
  if (libevent_factory == nullptr) {
    return absl::InvalidArgumentError(
        "the libevent backend is not linked: add @nuncio//:libevent_backend to the deps of the program");
  }
  return libevent_factory();
}

void Backend::pollBase(bool block, int flags) {
  if (base_ == nullptr) {
    return;
  }
  errno = 0;
  if (event_base_loop(base_.get(), EVLOOP_ONCE | (block ? 0 : EVLOOP_NONBLOCK) | flags) < 0) [[unlikely]] {
    if (errno != 0) {
      loop_->posts->fail("epoll_wait", -1, errno);
    } else {  // libevent has refused
      loop_->posts->fail("the thread that ran it ended in its poll, or in a callback of a file event or a signal");
    }
  }
}

void Backend::reopenBaseOf(const std::string& name) {
  switch (reinitEventBase(base_.get())) {
    case Reinited::Yes:
      return;
    case Reinited::InPart:
      NUNCIO_LOG(Event, err, "dispatcher {}: cannot watch all its descriptors in the child of a fork", name);
      return;
    case Reinited::No:
      [[maybe_unused]] event_base* const leaked = base_.release();  // libevent has left it half done, so it leaks
      loop_->posts->fail("no descriptors or memory for an epoll of its own in the child of a fork");
  }
}

}  // namespace nuncio
