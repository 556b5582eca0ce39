#include "source/network/text.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace nuncio::network {

std::string quoted(absl::string_view text) {
  constexpr std::size_t kShown = 120;
  return absl::StrCat("\"", absl::CHexEscape(text.substr(0, kShown)), text.size() > kShown ? "...\"" : "\"");
}

std::optional<uint32_t> parseDecimal(absl::string_view text, uint32_t max) {
  const bool digits = std::all_of(text.begin(), text.end(), absl::ascii_isdigit);
  const bool leading_zero = text.size() > 1 && text.front() == '0';
  uint32_t number = 0;
  if (!digits || leading_zero || !absl::SimpleAtoi(text, &number) || number > max) {
    return std::nullopt;
  }
  return number;
}

std::optional<uint16_t> parsePort(absl::string_view text) {
  const std::optional<uint32_t> port = parseDecimal(text, UINT16_MAX);
  return port.has_value() ? std::optional<uint16_t>(static_cast<uint16_t>(*port)) : std::nullopt;
}

}  // namespace nuncio::network
