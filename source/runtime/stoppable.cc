#include "nuncio/runtime/internal/stoppable.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "nuncio/common/mutex.h"
#include "source/common/fork.h"

namespace nuncio::runtime_internal {
namespace {

// What is in it is destroyed without the lock.
class StoppablesImpl final : public Stoppables, ForkAware {
public:
  StoppablesImpl() : ForkAware(&lock_) { watchForks(); }
  ~StoppablesImpl() override { unwatchForks(); }

  bool add(std::shared_ptr<Stoppable> stoppable) override {
    const MutexLock guard(lock_);
    if (!closed_) {
      all_.push_back(std::move(stoppable));
    }
    return !closed_;
  }
  void remove(const Stoppable& stoppable) override {
    std::shared_ptr<Stoppable> removed;
    const MutexLock guard(lock_);
    const auto found = std::find_if(all_.begin(), all_.end(), [&](const auto& one) { return one.get() == &stoppable; });
    if (found != all_.end()) {
      removed = std::move(*found);
      all_.erase(found);
    }
  }
  void close() override {
    const MutexLock guard(lock_);
    closed_ = true;
  }
  std::vector<std::shared_ptr<Stoppable>> all() override {
    const MutexLock guard(lock_);
    return all_;
  }
  std::shared_ptr<Stoppable> last() override {
    const MutexLock guard(lock_);
    return all_.empty() ? nullptr : all_.back();
  }

private:
  Mutex lock_;
  bool closed_ ABSL_GUARDED_BY(lock_) = false;
  std::vector<std::shared_ptr<Stoppable>> all_ ABSL_GUARDED_BY(lock_);
};

}  // namespace

std::shared_ptr<Stoppables> Stoppables::make() { return std::make_shared<StoppablesImpl>(); }

std::string nameOfTemplate(const char* name, const char* function) {
  // "... [with T = Cache]" of g++, which may have more after a semicolon; "... [T = Cache]" of clang.
  const absl::string_view text(function);
  const auto begin = text.rfind("T = ");
  if (begin == absl::string_view::npos) {
    return name;
  }
  absl::string_view type = text.substr(begin + 4);
  type = type.substr(0, type.find_last_of(']'));
  return absl::StrCat(name, "<", type.substr(0, type.find(';')), ">");
}

}  // namespace nuncio::runtime_internal
