#include "nuncio/event/loop_figures.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace nuncio {
namespace {

using Json = nlohmann::json;

constexpr absl::string_view kNul("", 1);
constexpr absl::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD

// What both texts say of a dispatcher, in this order.

struct Number {
  const char* name;
  const char* help;
  uint64_t LoopFigures::* value;
};

constexpr Number kCounters[] = {
    {"iterations", "Iterations of the loop.", &LoopFigures::iterations},
    {"posts", "Posts that the loop has run.", &LoopFigures::posts_run},
    {"tasks", "Continuations of futures and resumed coroutines that the loop has run.", &LoopFigures::tasks_run},
    {"timers", "Timers that have fired.", &LoopFigures::timers_fired},
    {"wakeups", "System calls by which other threads have woken the loop.", &LoopFigures::wakeups},
    {"callback_exceptions", "Exceptions that callbacks have let escape.", &LoopFigures::callback_exceptions},
    {"lingers", "Times that the loop has looked for more posts before it slept.", &LoopFigures::lingers},
    {"linger_hits", "Times that it has found some, so that it did not sleep.", &LoopFigures::linger_hits},
};

constexpr Number kPostsWaiting = {"posts_waiting", "Posts that have not run yet.", &LoopFigures::posts_waiting};

enum class Unit : uint8_t { Seconds, One };

struct Distribution {
  const char* name;
  const char* help;
  HistogramSnapshot LoopFigures::* values;
  Unit unit;  // what is recorded in nanoseconds is told in seconds
};

constexpr Distribution kDistributions[] = {
    {"duration_seconds", "Time that an iteration takes, without its poll.", &LoopFigures::loop_duration, Unit::Seconds},
    {"poll_delay_seconds", "Time by which a poll with a timeout ends late.", &LoopFigures::poll_delay, Unit::Seconds},
    {"post_wait_seconds", "Time that the oldest post of a batch waits until it runs.", &LoopFigures::post_wait,
     Unit::Seconds},
    {"callback_duration_seconds", "Time that a callback takes.", &LoopFigures::callback_duration, Unit::Seconds},
    {"callbacks", "Callbacks that an iteration runs.", &LoopFigures::callbacks, Unit::One},
};

// The `le` bounds are 2^n - 1 for n from first to last.
struct Bounds {
  int first;
  int last;
};

constexpr Bounds boundsOf(Unit unit) { return unit == Unit::Seconds ? Bounds{10, 34} : Bounds{0, 16}; }

// Without a double on the way, which has fewer digits and a locale.
std::string decimal(uint64_t value, Unit unit) {
  constexpr uint64_t kSecond = 1'000'000'000;
  if (unit == Unit::One) {
    return absl::StrCat(value);
  }
  return absl::StrCat(value / kSecond, ".", absl::Dec(value % kSecond, absl::kZeroPad9));
}

// Of scalars only: the objects and arrays of that library allocate in their destructors, and so end the process where
// there is no memory.
std::string toJson(const Json& scalar) { return scalar.dump(-1, ' ', false, Json::error_handler_t::replace); }

// An object, member by member.
class JsonObject {
public:
  void add(absl::string_view name, const Json& scalar) { addText(name, toJson(scalar)); }
  void addText(absl::string_view name, absl::string_view json) {
    absl::StrAppend(&text_, text_.empty() ? "{" : ",", "\"", name, "\":", json);
  }
  std::string text() const { return text_ + "}"; }

private:
  std::string text_;
};

std::string toJson(const HistogramSnapshot& values, Unit unit) {
  const double scale = unit == Unit::Seconds ? 1e9 : 1;
  JsonObject object;
  object.add("count", values.count());
  object.add("sum", static_cast<double>(values.sum()) / scale);
  object.add("mean", values.mean() / scale);
  object.add("p50", values.quantile(0.5) / scale);
  object.add("p90", values.quantile(0.9) / scale);
  object.add("p99", values.quantile(0.99) / scale);
  object.add("max", static_cast<double>(values.max()) / scale);
  return object.text();
}

std::string toJson(const LoopFigures& figures) {
  JsonObject object;
  object.add("dispatcher", figures.dispatcher);
  for (const Number& counter : kCounters) {
    object.add(counter.name, figures.*counter.value);
  }
  object.add(kPostsWaiting.name, figures.*kPostsWaiting.value);
  for (const Distribution& distribution : kDistributions) {
    object.addText(distribution.name, toJson(figures.*distribution.values, distribution.unit));
  }
  return object.text();
}

// dispatcher="..." by the rules of the format. The server's parser takes U+0000 for the end of the text.
std::string labelOf(const std::string& name) {
  const auto utf8 = Json::parse(toJson(Json(name))).get<std::string>();
  const std::string escaped =
      absl::StrReplaceAll(utf8, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}, {kNul, kReplacement}});
  return absl::StrCat("dispatcher=\"", escaped, "\"");
}

struct Labelled {
  std::string label;
  LoopFigures figures;
};

// One for each label, in the order of the first of each.
std::vector<Labelled> mergeByLabel(absl::Span<const LoopFigures> figures) {
  std::vector<Labelled> merged;
  for (const LoopFigures& more : figures) {
    std::string label = labelOf(more.dispatcher);
    const auto same = std::find_if(merged.begin(), merged.end(), [&](const Labelled& l) { return l.label == label; });
    if (same != merged.end()) {
      same->figures.merge(more);
    } else {
      merged.push_back({std::move(label), more});
    }
  }
  return merged;
}

// The text, family by family: the format wants all dispatchers of one together.
class PrometheusText {
public:
  explicit PrometheusText(const std::vector<Labelled>& loops) : loops_(loops) {}

  std::string write() && {
    for (const Number& counter : kCounters) {
      addNumber(counter, "_total", "counter");
    }
    addNumber(kPostsWaiting, "", "gauge");
    for (const Distribution& distribution : kDistributions) {
      addDistribution(distribution);
    }
    return std::move(text_);
  }

private:
  void beginFamily(absl::string_view name, absl::string_view help, absl::string_view type) {
    absl::StrAppend(&text_, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
  }

  void addNumber(const Number& number, absl::string_view suffix, absl::string_view type) {
    const std::string family = absl::StrCat("nuncio_loop_", number.name, suffix);
    beginFamily(family, number.help, type);
    for (const Labelled& loop : loops_) {
      absl::StrAppend(&text_, family, "{", loop.label, "} ", loop.figures.*number.value, "\n");
    }
  }

  void addDistribution(const Distribution& distribution) {
    const std::string family = absl::StrCat("nuncio_loop_", distribution.name);
    beginFamily(family, distribution.help, "histogram");
    for (const Labelled& loop : loops_) {
      const HistogramSnapshot& values = loop.figures.*distribution.values;
      addBuckets(family, loop.label, values, distribution.unit);
      absl::StrAppend(&text_, family, "_sum{", loop.label, "} ", decimal(values.sum(), distribution.unit), "\n");
      absl::StrAppend(&text_, family, "_count{", loop.label, "} ", values.count(), "\n");
    }
  }

  // Each counts all that is not greater than its bound. No bucket of the snapshot lies across a bound.
  void addBuckets(absl::string_view family, absl::string_view label, const HistogramSnapshot& values, Unit unit) {
    const Bounds bounds = boundsOf(unit);
    std::array<uint64_t, 65> counts{};  // by the bits of the greatest value
    values.forEachBucket([&](uint64_t, uint64_t greatest, uint64_t count) {
      counts[static_cast<std::size_t>(std::bit_width(greatest))] += count;
    });
    uint64_t up_to = 0;
    for (int bits = 0; bits <= bounds.last; ++bits) {
      up_to += counts[static_cast<std::size_t>(bits)];
      if (bits >= bounds.first) {
        addBucket(family, label, decimal((uint64_t{1} << bits) - 1, unit), up_to);
      }
    }
    addBucket(family, label, "+Inf", values.count());
  }

  void addBucket(absl::string_view family, absl::string_view label, absl::string_view bound, uint64_t count) {
    absl::StrAppend(&text_, family, "_bucket{", label, ",le=\"", bound, "\"} ", count, "\n");
  }

  const std::vector<Labelled>& loops_;
  std::string text_;
};

}  // namespace

void LoopFigures::merge(const LoopFigures& other) noexcept {
  for (const Number& counter : kCounters) {
    this->*counter.value += other.*counter.value;
  }
  posts_waiting += other.posts_waiting;
  for (const Distribution& distribution : kDistributions) {
    (this->*distribution.values).merge(other.*distribution.values);
  }
}

std::string prometheusText(absl::Span<const LoopFigures> figures) {
  return figures.empty() ? std::string() : PrometheusText(mergeByLabel(figures)).write();
}

std::string figuresJson(absl::Span<const LoopFigures> figures) {
  std::string text = "[";
  for (const LoopFigures& each : figures) {
    absl::StrAppend(&text, text.size() == 1 ? "" : ",", toJson(each));
  }
  return text + "]";
}

}  // namespace nuncio
