#include "nuncio/event/loop_figures.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace nuncio::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Json = nlohmann::ordered_json;

constexpr uint64_t kGreatest = std::numeric_limits<uint64_t>::max();
constexpr char kReplacement[] = "\xef\xbf\xbd";  // U+FFFD

HistogramSnapshot snapshotOf(const std::vector<uint64_t>& values) {
  Histogram histogram;
  for (const uint64_t value : values) {
    histogram.record(value);
  }
  return histogram.snapshot();
}

// Each number another one.
LoopFigures someFigures(std::string name) {
  LoopFigures figures;
  figures.dispatcher = std::move(name);
  figures.iterations = 1;
  figures.posts_run = 2;
  figures.tasks_run = 3;
  figures.timers_fired = 4;
  figures.wakeups = 5;
  figures.callback_exceptions = 6;
  figures.lingers = 7;
  figures.linger_hits = 8;
  figures.posts_waiting = 9;
  figures.loop_duration = snapshotOf({1'000'000'000});
  figures.poll_delay = snapshotOf({2'000, 2'000});
  figures.post_wait = snapshotOf({3, 3, 3});
  figures.callback_duration = snapshotOf({4, 4, 4, 4});
  figures.callbacks = snapshotOf({5, 5, 5, 5, 5});
  return figures;
}

LoopFigures named(std::string name) {
  LoopFigures figures;
  figures.dispatcher = std::move(name);
  return figures;
}

using Lines = std::vector<std::string>;

// The lines of the text that begin so.
Lines linesOf(const std::string& text, absl::string_view start) {
  Lines lines;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, start)) {
      lines.emplace_back(line);
    }
  }
  return lines;
}

// What is between the quotes of dispatcher="...", as it stands there.
std::string labelIn(const LoopFigures& figures) {
  constexpr absl::string_view kStart = "nuncio_loop_iterations_total{dispatcher=\"";
  constexpr absl::string_view kEnd = "\"} 0";
  const Lines lines = linesOf(prometheusText({&figures, 1}), kStart);
  EXPECT_EQ(lines.size(), 1U);
  EXPECT_TRUE(absl::EndsWith(lines.at(0), kEnd)) << lines.at(0);
  return lines.at(0).substr(kStart.size(), lines.at(0).size() - kStart.size() - kEnd.size());
}

std::string nameInJson(const LoopFigures& figures) {
  return Json::parse(figuresJson({&figures, 1}))[0]["dispatcher"].get<std::string>();
}

TEST(PrometheusTextTest, OfNoFiguresIsEmpty) { EXPECT_EQ(prometheusText({}), ""); }

TEST(PrometheusTextTest, CountersAreTotalsAndWaitingPostsAGauge) {
  const std::vector<LoopFigures> figures = {someFigures("main"), named("idle")};
  const std::string text = prometheusText(figures);
  const std::string expected =
      "# HELP nuncio_loop_iterations_total Iterations of the loop.\n"
      "# TYPE nuncio_loop_iterations_total counter\n"
      "nuncio_loop_iterations_total{dispatcher=\"main\"} 1\n"
      "nuncio_loop_iterations_total{dispatcher=\"idle\"} 0\n"
      "# HELP nuncio_loop_posts_total ";
  EXPECT_EQ(text.substr(0, expected.size()), expected);
  EXPECT_THAT(text, HasSubstr("nuncio_loop_posts_total{dispatcher=\"main\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_tasks_total{dispatcher=\"main\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_timers_total{dispatcher=\"main\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_wakeups_total{dispatcher=\"main\"} 5\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_callback_exceptions_total{dispatcher=\"main\"} 6\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_lingers_total{dispatcher=\"main\"} 7\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_linger_hits_total{dispatcher=\"main\"} 8\n"));
  EXPECT_THAT(text, HasSubstr("# TYPE nuncio_loop_posts_waiting gauge\n"
                              "nuncio_loop_posts_waiting{dispatcher=\"main\"} 9\n"));
}

TEST(PrometheusTextTest, SumsAreExactSecondsAndThoseOfCallbacksAreNumbers) {
  const LoopFigures figures = someFigures("main");
  const std::string text = prometheusText({&figures, 1});
  EXPECT_THAT(text, HasSubstr("# TYPE nuncio_loop_duration_seconds histogram\n"
                              "nuncio_loop_duration_seconds_bucket{dispatcher=\"main\",le=\"0.000001023\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_duration_seconds_bucket{dispatcher=\"main\",le=\"+Inf\"} 1\n"
                              "nuncio_loop_duration_seconds_sum{dispatcher=\"main\"} 1.000000000\n"
                              "nuncio_loop_duration_seconds_count{dispatcher=\"main\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_poll_delay_seconds_sum{dispatcher=\"main\"} 0.000004000\n"
                              "nuncio_loop_poll_delay_seconds_count{dispatcher=\"main\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_post_wait_seconds_sum{dispatcher=\"main\"} 0.000000009\n"
                              "nuncio_loop_post_wait_seconds_count{dispatcher=\"main\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_callback_duration_seconds_sum{dispatcher=\"main\"} 0.000000016\n"
                              "nuncio_loop_callback_duration_seconds_count{dispatcher=\"main\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_callbacks_sum{dispatcher=\"main\"} 25\n"
                              "nuncio_loop_callbacks_count{dispatcher=\"main\"} 5\n"));
}

TEST(PrometheusTextTest, GreatestValuesOverflowNothing) {
  LoopFigures figures = named("main");
  figures.iterations = kGreatest;
  figures.post_wait = snapshotOf({kGreatest, kGreatest});
  const std::string text = prometheusText({&figures, 1});
  EXPECT_THAT(text, HasSubstr("nuncio_loop_iterations_total{dispatcher=\"main\"} 18446744073709551615\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_post_wait_seconds_sum{dispatcher=\"main\"} 18446744073.709551615\n"));
  EXPECT_THAT(text, HasSubstr("nuncio_loop_post_wait_seconds_bucket{dispatcher=\"main\",le=\"17.179869183\"} 0\n"
                              "nuncio_loop_post_wait_seconds_bucket{dispatcher=\"main\",le=\"+Inf\"} 2\n"));
}

// The buckets of the only dispatcher in a text: the bound as it stands there, and what is counted.
using Buckets = std::vector<std::pair<std::string, uint64_t>>;
Buckets bucketsIn(const LoopFigures& figures, absl::string_view family) {
  Buckets buckets;
  for (const std::string& line : linesOf(prometheusText({&figures, 1}), absl::StrCat(family, "_bucket{"))) {
    const std::vector<std::string> quoted = absl::StrSplit(line, '"');
    buckets.emplace_back(quoted.at(3), std::stoull(quoted.at(4).substr(2)));
  }
  return buckets;
}

TEST(PrometheusTextTest, BucketsCountExactlyWhatIsNotGreaterThanTheirBound) {
  std::vector<uint64_t> values = {0, 1, 1022, kGreatest};
  for (int bits = 10; bits < 40; ++bits) {
    for (const int64_t beside : {-1, 0, 1}) {
      values.push_back((uint64_t{1} << bits) + static_cast<uint64_t>(beside));
    }
  }
  LoopFigures figures = named("main");
  figures.callback_duration = snapshotOf(values);
  const Buckets buckets = bucketsIn(figures, "nuncio_loop_callback_duration_seconds");
  ASSERT_EQ(buckets.size(), 26U);
  EXPECT_EQ(buckets.front().first, "0.000001023");
  EXPECT_EQ(buckets.at(10).first, "0.001048575");
  EXPECT_EQ(buckets.at(24).first, "17.179869183");
  EXPECT_EQ(buckets.back(), (std::pair<std::string, uint64_t>{"+Inf", values.size()}));
  for (std::size_t i = 0; i + 1 < buckets.size(); ++i) {
    const auto bound = static_cast<uint64_t>(std::llround(std::stod(buckets[i].first) * 1e9));
    const auto counted = std::count_if(values.begin(), values.end(), [&](uint64_t value) { return value <= bound; });
    EXPECT_EQ(buckets[i].second, static_cast<uint64_t>(counted)) << buckets[i].first;
  }
}

TEST(PrometheusTextTest, BucketsOfCallbacksAreWholeNumbers) {
  LoopFigures figures = named("main");
  figures.callbacks = snapshotOf({0, 0, 1, 2, 3, 4, 65'535, 65'536});
  const Buckets buckets = bucketsIn(figures, "nuncio_loop_callbacks");
  ASSERT_EQ(buckets.size(), 18U);
  EXPECT_EQ(Buckets(buckets.begin(), buckets.begin() + 4), (Buckets{{"0", 2}, {"1", 3}, {"3", 5}, {"7", 6}}));
  EXPECT_EQ(Buckets(buckets.end() - 3, buckets.end()), (Buckets{{"32767", 6}, {"65535", 7}, {"+Inf", 8}}));
}

TEST(PrometheusTextTest, BoundsAreTheSameWhateverWasRecorded) {
  const LoopFigures idle = named("a");
  const LoopFigures busy = someFigures("a");
  for (const char* family : {"nuncio_loop_duration_seconds", "nuncio_loop_callbacks"}) {
    const Buckets of_idle = bucketsIn(idle, family);
    const Buckets of_busy = bucketsIn(busy, family);
    ASSERT_EQ(of_idle.size(), of_busy.size());
    for (std::size_t i = 0; i < of_idle.size(); ++i) {
      EXPECT_EQ(of_idle[i].first, of_busy[i].first);
      EXPECT_EQ(of_idle[i].second, 0U);
    }
  }
}

// The family that a line is about: "" for one that is neither a comment nor a sample.
std::string familyOf(const std::string& line) {
  if (absl::StartsWith(line, "# ")) {
    return std::vector<std::string>(absl::StrSplit(line, ' ')).at(2);
  }
  std::string name = line.substr(0, line.find('{'));
  for (const absl::string_view suffix : {"_bucket", "_sum", "_count"}) {
    if (absl::EndsWith(name, suffix)) {
      return name.substr(0, name.size() - suffix.size());
    }
  }
  return name;
}

TEST(PrometheusTextTest, FamiliesAreTogetherEachWithOneHelpAndOneType) {
  const std::vector<LoopFigures> figures = {someFigures("a"), someFigures("b"), someFigures("c")};
  const std::string text = prometheusText(figures);
  ASSERT_EQ(text.back(), '\n');
  std::set<std::string> seen;
  std::string family;
  std::size_t line_of_family = 0;
  for (const std::string& line : linesOf(text.substr(0, text.size() - 1), "")) {
    if (familyOf(line) != family) {
      family = familyOf(line);
      EXPECT_TRUE(seen.insert(family).second) << family << " comes twice";
      line_of_family = 0;
    }
    EXPECT_EQ(absl::StartsWith(line, "# HELP "), line_of_family == 0) << line;
    EXPECT_EQ(absl::StartsWith(line, "# TYPE "), line_of_family == 1) << line;
    ++line_of_family;
  }
  EXPECT_EQ(seen.size(), 14U);
}

TEST(PrometheusTextTest, NamesAreEscaped) {
  EXPECT_EQ(labelIn(named("plain")), "plain");
  EXPECT_EQ(labelIn(named("")), "");
  EXPECT_EQ(labelIn(named("a\"b")), R"(a\"b)");
  EXPECT_EQ(labelIn(named(R"(a\b)")), R"(a\\b)");
  EXPECT_EQ(labelIn(named("a\nb")), R"(a\nb)");
  EXPECT_EQ(labelIn(named(R"(a\n")")), R"(a\\n\")");
  EXPECT_EQ(labelIn(named("tab\tand } = , \x01")), "tab\tand } = , \x01");
  EXPECT_EQ(labelIn(named("Gr\xc3\xbc\xc3\x9f"
                          "e \xf0\x9f\x9a\x80")),
            "Gr\xc3\xbc\xc3\x9f"
            "e \xf0\x9f\x9a\x80");
}

TEST(PrometheusTextTest, WhatIsNoUtf8InANameIsReplaced) {
  EXPECT_EQ(labelIn(named("a\xff"
                          "b")),
            absl::StrCat("a", kReplacement, "b"));
  EXPECT_EQ(labelIn(named("cut short \xe2\x82")), absl::StrCat("cut short ", kReplacement));
  EXPECT_EQ(labelIn(named(std::string("a\0b", 3))), absl::StrCat("a", kReplacement, "b"));
}

TEST(PrometheusTextTest, DispatchersOfTheSameNameAreOne) {
  const std::vector<LoopFigures> figures = {someFigures("twin"), named("other"), someFigures("twin")};
  LoopFigures merged = someFigures("twin");
  merged.merge(someFigures("twin"));
  EXPECT_EQ(prometheusText(figures), prometheusText(std::vector<LoopFigures>{merged, named("other")}));
}

TEST(PrometheusTextTest, NamesThatReplacementMakesTheSameAreOne) {
  const std::vector<LoopFigures> figures = {someFigures("a\xff"), someFigures("a\xfe")};
  const Lines lines = linesOf(prometheusText(figures), "nuncio_loop_iterations_total{");
  EXPECT_EQ(lines, Lines{absl::StrCat("nuncio_loop_iterations_total{dispatcher=\"a", kReplacement, "\"} 2")});
}

TEST(FiguresJsonTest, OfNoFiguresIsAnEmptyArray) { EXPECT_EQ(figuresJson({}), "[]"); }

TEST(FiguresJsonTest, HasAnObjectForEachDispatcherInOrder) {
  const std::vector<LoopFigures> figures = {someFigures("main"), named("idle"), named("idle")};
  const Json json = Json::parse(figuresJson(figures));
  ASSERT_EQ(json.size(), 3U);
  EXPECT_EQ(json[0]["dispatcher"], "main");
  EXPECT_EQ(json[1]["dispatcher"], "idle");
  EXPECT_EQ(json[2]["dispatcher"], "idle");
  for (const Json& each : json) {
    Lines keys;
    for (const auto& [key, value] : each.items()) {
      keys.push_back(key);
    }
    EXPECT_THAT(keys, ElementsAre("dispatcher", "iterations", "posts", "tasks", "timers", "wakeups",
                                  "callback_exceptions", "lingers", "linger_hits", "posts_waiting", "duration_seconds",
                                  "poll_delay_seconds", "post_wait_seconds", "callback_duration_seconds", "callbacks"));
  }
}

TEST(FiguresJsonTest, HasTheFigures) {
  LoopFigures figures = someFigures("main");
  figures.iterations = kGreatest;
  figures.post_wait = snapshotOf({1, 2, 2, 1'000'000'000});
  const Json json = Json::parse(figuresJson({&figures, 1}))[0];
  EXPECT_EQ(json["iterations"].get<uint64_t>(), kGreatest);
  EXPECT_EQ(json["posts"], 2);
  EXPECT_EQ(json["tasks"], 3);
  EXPECT_EQ(json["timers"], 4);
  EXPECT_EQ(json["wakeups"], 5);
  EXPECT_EQ(json["callback_exceptions"], 6);
  EXPECT_EQ(json["lingers"], 7);
  EXPECT_EQ(json["linger_hits"], 8);
  EXPECT_EQ(json["posts_waiting"], 9);
  EXPECT_EQ(json["callbacks"],
            Json({{"count", 5}, {"sum", 25.0}, {"mean", 5.0}, {"p50", 5.0}, {"p90", 5.0}, {"p99", 5.0}, {"max", 5.0}}));

  const Json& wait = json["post_wait_seconds"];
  EXPECT_EQ(wait["count"], 4);
  EXPECT_DOUBLE_EQ(wait["sum"].get<double>(), 1.000000005);
  EXPECT_DOUBLE_EQ(wait["mean"].get<double>(), 1.000000005 / 4);
  EXPECT_DOUBLE_EQ(wait["p50"].get<double>(), 2e-9);
  EXPECT_NEAR(wait["p90"].get<double>(), 1, 0.125);
  EXPECT_NEAR(wait["p99"].get<double>(), 1, 0.125);
  EXPECT_GE(wait["max"].get<double>(), 1);
  EXPECT_LE(wait["max"].get<double>(), 1.25);
}

TEST(FiguresJsonTest, OfNoValuesAllIsZero) {
  const LoopFigures idle = named("idle");
  const Json json = Json::parse(figuresJson({&idle, 1}))[0];
  EXPECT_EQ(json["duration_seconds"],
            Json({{"count", 0}, {"sum", 0.0}, {"mean", 0.0}, {"p50", 0.0}, {"p90", 0.0}, {"p99", 0.0}, {"max", 0.0}}));
}

TEST(FiguresJsonTest, NamesComeBackAsTheyWere) {
  for (const std::string& name : {std::string("a\"b\\c\nd\te"), std::string("a\0b", 3),
                                  std::string("Gr\xc3\xbc\xc3\x9f"
                                              "e"),
                                  std::string()}) {
    EXPECT_EQ(nameInJson(named(name)), name);
  }
}

TEST(FiguresJsonTest, WhatIsNoUtf8InANameIsReplaced) {
  EXPECT_EQ(nameInJson(named("a\xff"
                             "b")),
            absl::StrCat("a", kReplacement, "b"));
  EXPECT_EQ(nameInJson(named("cut short \xe2\x82")), absl::StrCat("cut short ", kReplacement));
}

TEST(LoopFiguresTest, MergedIsAsIfBothWereOne) {
  LoopFigures merged = someFigures("first");
  merged.merge(someFigures("second"));
  LoopFigures expected;
  expected.dispatcher = "first";
  expected.iterations = 2;
  expected.posts_run = 4;
  expected.tasks_run = 6;
  expected.timers_fired = 8;
  expected.wakeups = 10;
  expected.callback_exceptions = 12;
  expected.lingers = 14;
  expected.linger_hits = 16;
  expected.posts_waiting = 18;
  expected.loop_duration = snapshotOf({1'000'000'000, 1'000'000'000});
  expected.poll_delay = snapshotOf({2'000, 2'000, 2'000, 2'000});
  expected.post_wait = snapshotOf({3, 3, 3, 3, 3, 3});
  expected.callback_duration = snapshotOf({4, 4, 4, 4, 4, 4, 4, 4});
  expected.callbacks = snapshotOf({5, 5, 5, 5, 5, 5, 5, 5, 5, 5});
  EXPECT_EQ(figuresJson({&merged, 1}), figuresJson({&expected, 1}));
  EXPECT_EQ(prometheusText({&merged, 1}), prometheusText({&expected, 1}));
}

TEST(LoopFiguresTest, MergedWithNoneIsTheSame) {
  LoopFigures merged = someFigures("first");
  merged.merge(LoopFigures());
  const LoopFigures expected = someFigures("first");
  EXPECT_EQ(prometheusText({&merged, 1}), prometheusText({&expected, 1}));
}

}  // namespace
}  // namespace nuncio::test
