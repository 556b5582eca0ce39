#include "source/common/place_text.h"

#include <cstddef>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace nuncio {

namespace {

// Where the parenthesis opens that the last character closes.
std::size_t lastOpening(absl::string_view function) {
  int open = 0;
  for (std::size_t i = function.size(); i-- > 0;) {
    open += function[i] == ')' ? 1 : function[i] == '(' ? -1 : 0;
    if (open == 0) {
      return i;
    }
  }
  return function.size();
}

}  // namespace

std::string placeText(const std::source_location& place) {
  constexpr absl::string_view kFrame = ".Frame*)";
  absl::string_view function = place.function_name();
  if (absl::EndsWith(function, kFrame)) {
    return absl::StrCat(place.file_name(), ":", place.line(), " in ", function.substr(0, lastOpening(function)), "()");
  }
  return absl::StrCat(place.file_name(), ":", place.line(), " in ", function);
}

}  // namespace nuncio
