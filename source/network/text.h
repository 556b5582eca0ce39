#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace nuncio::network {

// For messages: in quotation marks, bytes that do not print escaped, and cut short where it is long.
std::string quoted(absl::string_view text);

// A number from 0 to `max`: digits alone, without leading zeros.
std::optional<uint32_t> parseDecimal(absl::string_view text, uint32_t max);
std::optional<uint16_t> parsePort(absl::string_view text);

}  // namespace nuncio::network
