#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <sys/uio.h>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

#include "nuncio/network/buffer.h"

// What tests of buffers share.
namespace nuncio::network {

// Bytes by which a mistake of place would be seen.
inline std::string bytes(std::size_t size, char first = 'a') {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    text[i] = static_cast<char>(first + static_cast<char>(i % 23));
  }
  return text;
}

// What a buffer's slices hold, each by itself; the first 64 of them.
inline std::vector<std::string> slicesOf(const Buffer& buffer) {
  std::array<iovec, 64> spans{};
  std::vector<std::string> slices;
  const std::size_t count = buffer.fill(absl::MakeSpan(spans));
  for (std::size_t i = 0; i < count; ++i) {
    slices.emplace_back(static_cast<const char*>(spans[i].iov_base), spans[i].iov_len);
  }
  return slices;
}
inline std::size_t sliceCount(const Buffer& buffer) { return slicesOf(buffer).size(); }

// Made of a slice of its own for each part, which is not copied.
inline Buffer inSlices(const std::vector<absl::string_view>& parts) {
  Buffer buffer;
  for (const absl::string_view part : parts) {
    buffer.appendFragment(part, nullptr);
  }
  return buffer;
}

}  // namespace nuncio::network
