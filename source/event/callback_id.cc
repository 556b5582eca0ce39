#include "nuncio/event/internal/callback_id.h"

#include <cstdlib>
#include <cxxabi.h>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

#include "source/common/place_text.h"

namespace nuncio {
namespace {

std::string nameOf(const std::type_info* type) {
  if (type == nullptr) {
    return "a callback of code without type information";
  }
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> demangled(
      abi::__cxa_demangle(type->name(), nullptr, nullptr, &status), &std::free);
  return demangled != nullptr ? demangled.get() : type->name();
}

}  // namespace

std::string CallbackId::text() const {
  if (none()) {
    return "";
  }
  // NOLINTNEXTLINE(performance-no-int-to-ptr): an address whose lowest bits are a tag has to be a number
  const void* const constant = reinterpret_cast<const void*>(word_ & ~kTags);
  switch (static_cast<Tag>(word_ & kTags)) {
    case kCallable:
      return nameOf(static_cast<const CallableType*>(constant)->type);
    case kPlace: {
      const auto place = std::bit_cast<std::source_location>(constant);
      return placeText(place);
    }
    case kDestroyed:
      return absl::StrCat("~", nameOf(static_cast<const std::type_info*>(constant)));
    case kTask:
      break;
  }
  return "a task of futures";
}

}  // namespace nuncio
