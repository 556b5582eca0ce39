#pragma once

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

}  // namespace nuncio::test
