#pragma once

#include <cstdint>
#include <string>

#include "absl/types/span.h"

#include "nuncio/event/histogram.h"

namespace nuncio {

// LoopFigures: what a dispatcher did and how long that took, from its creation until now; or the same of several,
// merged. A plain value, which anything can be done with; these two make texts of it for those who watch a program:
//
//   std::vector<LoopFigures> loops;
//   loops.push_back(dispatcher.figures());          // of each dispatcher
//   response.body = prometheusText(loops);          // for a Prometheus server that asks
//   response.body = figuresJson(loops);             // for a page, or a person with jq
//
// Threads: as an int. Memory: the texts, and copies of the name, throw std::bad_alloc.
struct LoopFigures {
  std::string dispatcher;  // its name

  uint64_t iterations = 0;
  uint64_t posts_run = 0;
  uint64_t tasks_run = 0;  // continuations of futures, resumed coroutines
  uint64_t timers_fired = 0;
  uint64_t wakeups = 0;              // system calls made by other threads to wake the loop
  uint64_t callback_exceptions = 0;  // exceptions that callbacks let escape
  uint64_t lingers = 0;              // times that it lingered after posts of other CPUs
  uint64_t linger_hits = 0;          // those of them in which posts came, so that it did not sleep
  uint64_t posts_waiting = 0;        // now: posted by other threads, and not taken by the loop yet

  // Nanoseconds.
  HistogramSnapshot loop_duration;      // of an iteration, without its poll
  HistogramSnapshot poll_delay;         // by which a poll with a timeout came back later than that
  HistogramSnapshot post_wait;          // of the oldest post of a batch, until it ran
  HistogramSnapshot callback_duration;  // of each callback

  HistogramSnapshot callbacks;  // how many an iteration ran

  // As if both were one dispatcher: adds all but the name, which stays.
  void merge(const LoopFigures& other) noexcept;
};

// The figures in Prometheus' text exposition format 0.0.4 (Content-Type: text/plain; version=0.0.4; charset=utf-8), in
// seconds: counters nuncio_loop_..._total, a gauge nuncio_loop_posts_waiting, histograms nuncio_loop_..._seconds and
// nuncio_loop_callbacks; each with a label, dispatcher="name". Empty for no figures.
//
// Names: a Prometheus server takes no two series with the same labels, so figures of the same name are merged into one.
// What is not UTF-8 in a name, and the character U+0000, becomes U+FFFD.
//
// Buckets: the same for every dispatcher at all times, a power of two apart. A bucket here holds what is less than a
// power of two of nanoseconds; as `le`, "less or equal", is a bound that belongs to the bucket, it is one less, and the
// counts are exact: 0.000001023 (2^10 - 1 ns), 0.000002047, ..., 17.179869183 (2^34 - 1 ns). Callbacks of an iteration:
// 0, 1, 3, 7, ..., 65535.
std::string prometheusText(absl::Span<const LoopFigures> figures);

// The figures as JSON: an array of an object each, in the given order, with the same names as above less
// "nuncio_loop_" and "_total":
//
//   [{"dispatcher": "main", "iterations": 17, ..., "duration_seconds":
//     {"count": 17, "sum": 0.0021, "mean": 0.000124, "p50": ..., "p90": ..., "p99": ..., "max": ...}, ...}]
//
// What is not UTF-8 in a name becomes U+FFFD. On one line.
std::string figuresJson(absl::Span<const LoopFigures> figures);

}  // namespace nuncio
