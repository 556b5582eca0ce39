#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "nuncio/common/inline_function.h"
#include "nuncio/event/deferred_deletable.h"

namespace nuncio::test {

// OnDestroy: a capture that runs `f` when it is destroyed, once, however often it was moved.
class OnDestroy {
public:
  explicit OnDestroy(InlineFunction<void(), 48> f) : f_(std::move(f)) {}
  OnDestroy(OnDestroy&&) noexcept = default;
  OnDestroy& operator=(OnDestroy&&) = delete;
  ~OnDestroy() {
    if (f_) {
      f_();
    }
  }

private:
  InlineFunction<void(), 48> f_;
};

// DeferredProbe: a deferred-deletable object that runs `f` in its destructor.
class DeferredProbe : public DeferredDeletable {
public:
  explicit DeferredProbe(InlineFunction<void(), 48> f) : f_(std::move(f)) {}
  ~DeferredProbe() override { f_(); }

private:
  InlineFunction<void(), 48> f_;
};

inline DeferredDeletablePtr makeDeferred(InlineFunction<void(), 48> f) {
  return std::make_unique<DeferredProbe>(std::move(f));
}

// A value that is copied where others are moved, and whose n-th destructor from when it is told so, be it that of what
// was moved from, does something.
struct ActsWhenDestroyed {
  ActsWhenDestroyed() = default;
  ActsWhenDestroyed(const ActsWhenDestroyed&) noexcept = default;
  ActsWhenDestroyed& operator=(const ActsWhenDestroyed&) noexcept = default;
  ~ActsWhenDestroyed() {
    if (action_ != nullptr && --countdown_ == 0) {
      const std::function<void()> act = std::exchange(action_, nullptr);
      act();
    }
  }
  static void at(int nth, std::function<void()> action) {
    countdown_ = nth;
    action_ = std::move(action);
  }
  static void never() { action_ = nullptr; }

private:
  static inline int countdown_ = 0;
  static inline std::function<void()> action_;
};

}  // namespace nuncio::test
