#pragma once

#include <cstddef>
#include <cstdint>

#include "nuncio/future/internal/node.h"

namespace nuncio::future_internal {

inline constexpr uint32_t kBlockHeader = (sizeof(Block) + 15) / 16 * 16;

inline Block& blockOf(Node& node) {
  return *reinterpret_cast<Block*>(reinterpret_cast<std::byte*>(&node) - node.offset_);
}

}  // namespace nuncio::future_internal
