// Prints prometheusText() of a dispatcher for each argument, which is its name.

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "nuncio/event/loop_figures.h"

namespace {

// Another one for each seed, with values in buckets that are far apart.
nuncio::HistogramSnapshot makeValues(uint64_t seed) {
  nuncio::Histogram histogram;
  for (uint64_t value = seed; value < uint64_t{1} << 60; value *= 7) {
    histogram.record(value);
  }
  return histogram.snapshot();
}

nuncio::LoopFigures makeFigures(const char* name, uint64_t seed) {
  nuncio::LoopFigures figures;
  figures.dispatcher = name;
  figures.iterations = seed;
  figures.posts_run = 1'000'000 * seed;
  figures.posts_waiting = seed - 1;
  figures.loop_duration = makeValues(seed);
  figures.post_wait = makeValues(seed + 1);
  figures.callbacks = makeValues(seed + 2);
  return figures;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<nuncio::LoopFigures> loops;
  for (int i = 1; i < argc; ++i) {
    loops.push_back(makeFigures(argv[i], static_cast<uint64_t>(i)));
  }
  std::fputs(nuncio::prometheusText(loops).c_str(), stdout);
}
