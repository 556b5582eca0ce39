#include "nuncio/future/semaphore.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "nuncio/common/assert.h"
#include "nuncio/event/dispatcher.h"
#include "nuncio/future/internal/wait_list.h"

namespace nuncio {

using future_internal::checkThread;

namespace {

absl::string_view nameOf(const LoopCore& loop) {
  return loop.dispatcher() != nullptr ? loop.dispatcher()->name() : "-";
}

}  // namespace

class Semaphore::State {
public:
  State(Dispatcher& dispatcher, uint64_t units, const char* name)
      : available_(units),
        loop_(dispatcher),
        waiters_(*loop_, name, this, [](void* state) { static_cast<State*>(state)->serve(); }) {}

  LoopCore& loop() const { return *loop_; }
  uint64_t available() const { return available_; }
  std::size_t waiters() const { return waiters_.size(); }

  bool canTake(uint64_t n) const { return waiters_.empty() && n <= available_ && !closed_.failed(); }
  Units take(uint64_t n) {
    available_ -= n;
    out_ += n;
    ++holders_;
    return Units(*this, n);
  }
  Future<Units> wait(uint64_t n, const std::source_location& place) {
    if (closed_.failed()) {
      return future_internal::readyOn(*loop_, Try<Units>::failureOf(Try<void>(closed_)), place);
    }
    return waiters_.wait(std::move(n), place);
  }

  // More than this there cannot be.
  uint64_t room() const { return std::numeric_limits<uint64_t>::max() - available_ - out_; }
  void add(uint64_t n) {
    available_ += n;
    serve();
  }
  void giveBack(uint64_t n) {
    out_ -= n;
    add(n);
    removeHolder();
  }
  void forget(uint64_t n) {
    out_ -= n;
    removeHolder();
  }
  void close(const absl::Status& status) {
    closed_ = Try<void>::fromFailure(future_internal::makeFailure(status));
    waiters_.failAll(closed_);
  }

  void removeOwner() {
    if (!waiters_.empty()) {
      waiters_.failAll(Try<void>::fromFailure(future_internal::destroyedFailure(waiters_.name())));
    }
    owned_ = false;
    freeIfUnused();
  }

private:
  void removeHolder() {
    --holders_;
    freeIfUnused();
  }
  // Not recursive: units that come back on the way, since nobody wanted them, are for the loop that runs already.
  void serve() {
    if (serving_) {
      return;
    }
    serving_ = true;
    while (!waiters_.empty() && waiters_.front().payload <= available_) {
      auto& waiter = waiters_.front();
      waiter.finish(take(waiter.payload));
    }
    serving_ = false;
    freeIfUnused();
  }
  void freeIfUnused() {
    if (!owned_ && holders_ == 0 && !serving_) {
      delete this;
    }
  }

  uint64_t available_;
  uint64_t out_ = 0;      // units
  uint64_t holders_ = 0;  // Units
  bool owned_ = true;
  bool serving_ = false;
  Try<void> closed_;
  const LoopRef loop_;
  future_internal::WaitList<Units, uint64_t> waiters_;
};

Semaphore::Semaphore(Dispatcher& dispatcher, uint64_t units, const char* name)
    : state_(new State(dispatcher, units, name)) {}

Semaphore::~Semaphore() {
  checkThread(state_->loop(), "Semaphore::~Semaphore");
  state_->removeOwner();
}

Future<Semaphore::Units> Semaphore::acquire(uint64_t n, std::source_location place) {
  checkThread(state_->loop(), "Semaphore::acquire");
  if (state_->canTake(n)) {
    return future_internal::readyOn(state_->loop(), Try<Units>(state_->take(n)), place);
  }
  return state_->wait(n, place);
}

std::optional<Semaphore::Units> Semaphore::tryAcquire(uint64_t n) {
  checkThread(state_->loop(), "Semaphore::tryAcquire");
  return state_->canTake(n) ? std::optional<Units>(state_->take(n)) : std::nullopt;
}

void Semaphore::release(uint64_t n) {
  checkThread(state_->loop(), "Semaphore::release");
  const uint64_t room = state_->room();
  if (NUNCIO_CONTRACT(n <= room, nameOf(state_->loop()), "Semaphore::release",
                      absl::StrCat("units beyond the maximum: ", n, " are released, and there is room for ", room))) {
    state_->add(n);
  }
}

void Semaphore::close(const absl::Status& status) {
  checkThread(state_->loop(), "Semaphore::close");
  state_->close(status);
}

uint64_t Semaphore::available() const { return state_->available(); }
std::size_t Semaphore::waiters() const { return state_->waiters(); }

void Semaphore::giveBack(State& state, uint64_t n) noexcept {
  checkThread(state.loop(), "Semaphore::Units::release");
  state.giveBack(n);
}

uint64_t Semaphore::Units::forget() noexcept {
  if (state_ != nullptr) {
    std::exchange(state_, nullptr)->forget(count_);
  }
  return std::exchange(count_, 0);
}

}  // namespace nuncio
