#include "source/network/scratch.h"

#include <utility>

#include "nuncio/common/assert.h"
#include "source/network/poison.h"
#include "source/network/slice_pool.h"

namespace nuncio::network {

using buffer_internal::kScratchBytes;
using buffer_internal::Slice;

Slice& Scratch::freshSlice() { return buffer_internal::takeScratchSlice(); }

Scratch::~Scratch() {
  takeBack();
  if (slice_ != nullptr) {
    buffer_internal::giveSlice(*slice_);
  }
}

absl::Span<char> Scratch::memory() {
  takeBack();
  if (slice_ == nullptr) {
    slice_ = &freshSlice();
  }
  allow(slice_->storage(), kScratchBytes);
  return {slice_->storage(), kScratchBytes};
}

void Scratch::lend(Buffer& to, std::size_t bytes) noexcept {
  NUNCIO_ASSERT(to.guest_ == nullptr && buffer == nullptr, "lent already, or reserved");
  NUNCIO_ASSERT(slice_ != nullptr && bytes <= kScratchBytes, "more than was read");
  if (bytes == 0) {
    return;
  }
  // No room: what the handler appends has a slice of its own, and is not copied with the rest.
  slice_->begin = slice_->storage();
  slice_->end = slice_->limit = slice_->begin + bytes;
  slice_->lent = true;
  forbid(slice_->end, kScratchBytes - bytes);
  to.slices_.pushBack(*slice_);
  to.length_ += bytes;
  to.guest_ = this;
  buffer = &to;
}

void Scratch::takeBack() noexcept {
  if (buffer == nullptr) {
    return;
  }
  if (buffer->keepCopyOf(*slice_)) {
    comeBack();
    return;
  }
  Slice& kept = *std::exchange(slice_, nullptr);
  allow(kept.storage(), kScratchBytes);
  kept.limit = kept.storage() + kScratchBytes;
  kept.lent = false;
  std::exchange(buffer, nullptr)->guest_ = nullptr;
}

void Scratch::comeBack() noexcept {
  slice_->lent = false;
  forbid(slice_->storage(), kScratchBytes);
  std::exchange(buffer, nullptr)->guest_ = nullptr;
}

}  // namespace nuncio::network
