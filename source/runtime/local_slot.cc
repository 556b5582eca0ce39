#include "nuncio/runtime/internal/local_slot.h"

#include <vector>

#include "absl/base/thread_annotations.h"

#include "nuncio/common/mutex.h"
#include "source/common/fork.h"
#include "source/common/made_once.h"

namespace nuncio::runtime_internal {
namespace {

// Which numbers are in use. Never destroyed: slots may be static.
class Numbers final : ForkAware {
public:
  Numbers() : ForkAware(&lock_) { watchForks(); }
  ~Numbers() override { unwatchForks(); }

  // The lowest one that is free.
  std::size_t take() {
    const MutexLock guard(lock_);
    for (std::size_t number = 0; number < used_.size(); ++number) {
      if (!used_[number]) {
        used_[number] = true;
        return number;
      }
    }
    used_.push_back(true);
    return used_.size() - 1;
  }
  void give(std::size_t number) {
    const MutexLock guard(lock_);
    used_[number] = false;
  }

private:
  Mutex lock_;
  std::vector<bool> used_ ABSL_GUARDED_BY(lock_);
};
constinit MadeOnce<Numbers> numbers;

// Those of the calling thread beyond the fast ones.
std::vector<void*>& slowOnes() {
  thread_local std::vector<void*> pointers;
  return pointers;
}

}  // namespace

LocalSlot::LocalSlot() : LocalSlotNumber(numbers.get().take()) {}

LocalSlot::~LocalSlot() { numbers.get().give(number()); }

void* LocalSlotNumber::getSlow() const {
  const std::vector<void*>& pointers = slowOnes();
  return number_ - kFast < pointers.size() ? pointers[number_ - kFast] : nullptr;
}

void LocalSlotNumber::setSlow(void* pointer) const {
  std::vector<void*>& pointers = slowOnes();
  if (number_ - kFast >= pointers.size()) {
    if (pointer == nullptr) {
      return;
    }
    pointers.resize(number_ - kFast + 1);
  }
  pointers[number_ - kFast] = pointer;
}

}  // namespace nuncio::runtime_internal
