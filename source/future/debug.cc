#include "nuncio/future/debug.h"

#include <cstddef>
#include <exception>
#include <source_location>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

#include "nuncio/common/assert.h"
#include "nuncio/common/logging.h"
#include "source/common/place_text.h"

namespace nuncio::future_internal {
namespace {

constexpr std::size_t kMaxLines = 1000;

struct Entry {
  const Node* node;
  std::size_t indent;
};

std::string describe(const Node& node) {
  const std::source_location& place = node.place_;
  // A place that nobody gave has no line.
  return place.line() == 0 ? std::string(node.kind()) : absl::StrCat(node.kind(), " at ", placeText(place));
}

// What `node` waits for, the first one first.
std::vector<const Node*> inputsOf(const Node& node) {
  std::vector<const Node*> inputs;
  if (node.upstream_ != nullptr) {
    inputs.push_back(node.upstream_);
  }
  while (const Node* const input = node.waitsFor(inputs.size() - (node.upstream_ != nullptr ? 1 : 0))) {
    inputs.push_back(input);
  }
  return inputs;
}

}  // namespace

void reportCircle(const Node& node) noexcept {
  if constexpr (assert_internal::kDebug) {
    try {
      std::string circle;
      std::size_t lines = 0;
      const Node* other = &node;
      do {
        if (++lines <= kMaxLines) {
          absl::StrAppend(&circle, "\n", describe(*other));
        }
        other = other->consumer();
      } while (other != nullptr && other != &node);  // null: it goes on on another loop
      if (other == nullptr) {
        absl::StrAppend(&circle, "\n... and on, by way of another dispatcher");
      }
      NUNCIO_LOG(Future, err, "futures wait for each other, each for the one before, the first for the last:{}",
                 circle);
    } catch (const std::exception&) {  // NOLINT(bugprone-empty-catch): without memory nothing is said
    }
  }
}

std::string traceNode(const Node* node) {
  if (node == nullptr) {
    return "";
  }
  const LoopCore::Visit visit(node->loop_);
  if (!visit.admitted()) {
    return "(what it waits for is another thread's)\n";
  }
  std::string trace;
  std::size_t lines = 0;
  // Depth first, without recursion: chains may be long.
  std::vector<Entry> stack = {{node, 0}};
  while (!stack.empty()) {
    const Entry entry = stack.back();
    stack.pop_back();
    if (entry.node->has(kDone)) {
      continue;  // nobody waits for it any more
    }
    if (++lines <= kMaxLines) {
      absl::StrAppend(&trace, std::string(2 * entry.indent, ' '), describe(*entry.node), "\n");
    }
    const std::vector<const Node*> inputs = inputsOf(*entry.node);
    const std::size_t indent = entry.indent + (inputs.size() > 1 ? 1 : 0);
    for (std::size_t i = inputs.size(); i > 0; --i) {
      stack.push_back({inputs[i - 1], indent});
    }
  }
  if (lines > kMaxLines) {
    absl::StrAppend(&trace, "... and ", lines - kMaxLines, " more\n");
  }
  return trace;
}

}  // namespace nuncio::future_internal
