#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace nuncio::network {

// The CRC-32C (Castagnoli) of the bytes that `crc` is of, and `bytes`; `crc` is 0 for none. A table and a look-up a
// byte: for headers, not for bulk. (absl/crc is too new for Debian 12.) Source: RFC 9260, appendix A.
uint32_t extendCrc32c(uint32_t crc, absl::string_view bytes);

}  // namespace nuncio::network
