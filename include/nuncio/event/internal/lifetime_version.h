#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// For lifetime_guard.h.
namespace nuncio {

// Results of the future layer, which comes after this one: only named here.
template <class T>
class Try;
template <class T>
class Future;
template <class T>
class SemiFuture;

namespace lifetime_internal {

// A guard's version, kept by the guard and by all that it wrapped.
class Version {
public:
  Version() : counter_(new Counter) {}
  Version(const Version& other) noexcept : counter_(other.counter_) {
    if (counter_ != nullptr) {
      counter_->references.fetch_add(1, std::memory_order_relaxed);
    }
  }
  Version(Version&& other) noexcept : counter_(std::exchange(other.counter_, nullptr)) {}
  Version& operator=(Version other) noexcept {
    std::swap(counter_, other.counter_);
    return *this;
  }
  ~Version() {
    if (counter_ != nullptr && counter_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      delete counter_;
    }
  }

  uint64_t now() const { return counter_->version; }
  void advance() { ++counter_->version; }

private:
  struct Counter {
    std::atomic<std::size_t> references{1};  // released and acquired, as counts of owners are
    uint64_t version = 0;                    // the owner's thread
  };

  Counter* counter_;
};

inline absl::Status ownerGone() { return absl::CancelledError("the owner of the callback is gone, or was reset"); }

// What a wrapped function that returns R, which is no reference, returns.
template <class R>
struct Wrap {
  using Type = absl::StatusOr<R>;
};
template <>
struct Wrap<void> {
  using Type = void;
};
template <>
struct Wrap<absl::Status> {
  using Type = absl::Status;
};
template <class U>
struct Wrap<absl::StatusOr<U>> {
  using Type = absl::StatusOr<U>;
};
template <class U>
struct Wrap<Try<U>> {
  using Type = Try<U>;
};
template <class U>
struct Wrap<Future<U>> {
  using Type = Future<U>;
};
template <class U>
struct Wrap<SemiFuture<U>> {
  using Type = SemiFuture<U>;
};

}  // namespace lifetime_internal

}  // namespace nuncio
