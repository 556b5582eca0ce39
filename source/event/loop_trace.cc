#include "nuncio/event/loop_trace.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

#include "source/common/errno_status.h"
#include "source/event/fast_clock.h"
#include "source/event/loop.h"
#include "source/event/trace_ring.h"

namespace nuncio {
namespace {

// Two clocks at one moment, as nearly as can be: of some attempts the one that took the shortest time.
struct Moment {
  Moment() {
    constexpr int kAttempts = 10;
    uint64_t shortest = UINT64_MAX;
    for (int i = 0; i < kAttempts; ++i) {
      const uint64_t before = TickClock::now();
      const uint64_t time = steadyNanoseconds();
      const uint64_t took = TickClock::now() - before;
      if (took < shortest) {
        shortest = took;
        ticks = before + took / 2;
        nanoseconds = time;
      }
    }
  }

  uint64_t ticks = 0;
  uint64_t nanoseconds = 0;
};

// What ticks are in the picture: nanoseconds since it began.
class Scale {
public:
  Scale(const Moment& begin, const Moment& end)
      : begin_(begin.ticks),
        per_tick_(end.ticks > begin.ticks ? static_cast<double>(end.nanoseconds - begin.nanoseconds) /
                                                static_cast<double>(end.ticks - begin.ticks)
                                          : 0) {}

  uint64_t nanoseconds(uint64_t ticks) const {
    return ticks <= begin_ ? 0 : static_cast<uint64_t>(static_cast<double>(ticks - begin_) * per_tick_);
  }

private:
  const uint64_t begin_;
  const double per_tick_;
};

// A string as JSON. Of a scalar only: see loop_figures.cc.
std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

// As the format has times.
std::string microseconds(uint64_t nanoseconds) {
  return absl::StrCat(nanoseconds / 1000, ".", absl::Dec(nanoseconds % 1000, absl::kZeroPad3));
}

// A dispatcher in the picture.
struct Track {
  Track(Dispatcher& dispatcher, Loop& traced) : name(dispatcher.name()), share(dispatcher), loop(traced) {}

  // With what still runs, if that is known, as if it ended now.
  std::vector<TraceRing::Record> records() const {
    std::vector<TraceRing::Record> records = ring->read(from, to);
    if (open.begin != 0) {
      records.push_back(open);
    }
    return records;
  }
  void noteOpen() {
    open = {.kind = TraceRing::Kind::Callback,
            .begin = loop.timedSince(),
            .end = TickClock::now(),
            .id = loop.callback().word(),
            .flow = 0};
  }

  const std::string name;
  const LoopRef share;
  Loop& loop;
  const TraceRing* ring = nullptr;  // the loop's
  uint64_t from = 0;                // the records of this trace
  uint64_t to = UINT64_MAX;
  TraceRing::Record open{};  // the callback that ran when it was stopped; it begins at 0 where none did
};
using Tracks = std::vector<std::unique_ptr<Track>>;

// The picture as JSON, event by event.
class Picture {
public:
  explicit Picture(const Scale& scale) : scale_(scale) {}

  void add(const Tracks& tracks) {
    std::vector<std::vector<TraceRing::Record>> records;
    for (std::size_t i = 0; i < tracks.size(); ++i) {
      records.push_back(tracks[i]->records());
      for (const TraceRing::Record& record : records.back()) {
        if (record.kind == TraceRing::Kind::Post) {
          posts_[record.flow] = {.track = i, .at = scale_.nanoseconds(record.begin)};
        }
      }
    }
    for (std::size_t i = 0; i < tracks.size(); ++i) {
      begin("M", i, "thread_name");
      absl::StrAppend(&text_, ",\"args\":{\"name\":", quoted(tracks[i]->name), "}}");
      for (const TraceRing::Record& record : records[i]) {
        add(i, *tracks[i], record);
      }
    }
  }

  std::string text(std::size_t lost) const {
    return absl::StrCat("{\"displayTimeUnit\":\"ns\",\"otherData\":{\"lost\":", lost, "},\"traceEvents\":[", text_,
                        "\n]}\n");
  }

private:
  struct Post {
    std::size_t track;
    uint64_t at;
  };

  void add(std::size_t index, const Track& track, const TraceRing::Record& record) {
    const uint64_t from = scale_.nanoseconds(record.begin);
    const uint64_t to = scale_.nanoseconds(record.end);
    switch (record.kind) {
      case TraceRing::Kind::Callback:
        addSlice(index, "callback", nameOf(record.id), from, to);
        addArrow(index, record.flow, from, to);
        break;
      case TraceRing::Kind::Sleep:
        addSlice(index, "loop", "\"sleeps\"", from, to);
        break;
      case TraceRing::Kind::Batch:
        // A counter is the process's, not a track's.
        begin("C", index, absl::StrCat("posts for ", track.name));
        absl::StrAppend(&text_, ",\"ts\":", microseconds(from), ",\"args\":{\"posts\":", record.id, "}}");
        break;
      case TraceRing::Kind::Post:
        break;  // it becomes an arrow where it arrives
    }
  }

  void begin(absl::string_view phase, std::size_t index, const std::string& name) {
    beginNamed(phase, index, quoted(name));
  }
  void beginNamed(absl::string_view phase, std::size_t index, absl::string_view name_json) {
    absl::StrAppend(&text_, text_.empty() ? "\n" : ",\n", "{\"ph\":\"", phase, "\",\"pid\":1,\"tid\":", index + 1,
                    ",\"name\":", name_json);
  }
  void addSlice(std::size_t index, absl::string_view category, absl::string_view name_json, uint64_t from,
                uint64_t to) {
    beginNamed("X", index, name_json);
    absl::StrAppend(&text_, ",\"cat\":\"", category, "\",\"ts\":", microseconds(from),
                    ",\"dur\":", microseconds(to - from), "}");
  }
  // From within the slice that posted to within the one that ran. Clocks of two processors may differ by nanoseconds.
  void addArrow(std::size_t index, uint64_t flow, uint64_t from, uint64_t to) {
    const auto post = posts_.find(flow);
    if (post == posts_.end() || post->second.at > to) {
      return;  // of a thread that is not in the picture, or longer ago than there are records
    }
    addArrowEnd("s", post->second.track, flow, post->second.at);
    text_ += "}";
    addArrowEnd("f", index, flow, std::max(from, post->second.at));
    text_ += ",\"bp\":\"e\"}";  // it ends at the slice around it, not at the next one
  }
  void addArrowEnd(absl::string_view phase, std::size_t index, uint64_t flow, uint64_t at) {
    beginNamed(phase, index, "\"post\"");
    absl::StrAppend(&text_, ",\"cat\":\"post\",\"id\":", flow, ",\"ts\":", microseconds(at));
  }

  const std::string& nameOf(uint64_t id) {
    std::string& name = names_[id];
    if (name.empty()) {
      constexpr std::size_t kLongest = 200;  // those of templates have no end
      name = CallbackId::fromWord(id).text();
      name = quoted(name.size() <= kLongest ? name : absl::StrCat(name.substr(0, kLongest), "..."));
    }
    return name;
  }

  const Scale& scale_;
  std::string text_;
  std::unordered_map<uint64_t, std::string> names_;
  std::unordered_map<uint64_t, Post> posts_;  // by their flow
};

}  // namespace

class LoopTrace::Impl {
public:
  explicit Impl(std::size_t records) : records_(records) {}

  absl::Status add(Dispatcher& dispatcher) {
    auto* const loop = dynamic_cast<Loop*>(&dispatcher.loop());
    if (loop == nullptr || stopped_) {
      return absl::FailedPreconditionError(loop == nullptr ? "a mock has no loop that could be traced"
                                                           : "this trace was stopped; make another");
    }
    auto track = std::make_unique<Track>(dispatcher, *loop);
    tracks_.reserve(tracks_.size() + 1);
    track->ring = loop->startTrace(records_, track->from);
    if (track->ring == nullptr) {
      return absl::FailedPreconditionError(
          absl::StrCat("dispatcher ", track->name, " is shut down, or in another trace, which is to be stopped first"));
    }
    tracks_.push_back(std::move(track));
    return absl::OkStatus();
  }

  void stop() {
    if (!std::exchange(stopped_, true)) {
      for (const std::unique_ptr<Track>& track : tracks_) {
        track->noteOpen();
        track->loop.stopTrace();
        track->to = track->ring->written();
      }
      end_ = Moment();
    }
  }

  std::string chromeJson() const {
    const Scale scale(begin_, stopped_ ? end_ : Moment());
    Picture picture(scale);
    picture.add(tracks_);
    return picture.text(lost());
  }

  std::size_t lost() const {
    std::size_t lost = 0;
    for (const std::unique_ptr<Track>& track : tracks_) {
      lost += track->ring->lost(track->from, track->to);
    }
    return lost;
  }

private:
  const std::size_t records_;
  const Moment begin_;
  Moment end_;
  bool stopped_ = false;
  Tracks tracks_;
};

LoopTrace::LoopTrace(std::size_t records) : impl_(new Impl(records)) {}
LoopTrace::~LoopTrace() { stop(); }

absl::Status LoopTrace::add(Dispatcher& dispatcher) {
  try {
    return impl_->add(dispatcher);
  } catch (const std::bad_alloc&) {
    return noMemoryStatus("a trace");
  }
}

void LoopTrace::stop() { impl_->stop(); }
std::string LoopTrace::chromeJson() const { return impl_->chromeJson(); }
std::size_t LoopTrace::lost() const { return impl_->lost(); }

}  // namespace nuncio
