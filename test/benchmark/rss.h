#pragma once

#include <cstdint>
#include <fstream>
#include <malloc.h>
#include <string>
#include <sys/prctl.h>

#include "test/benchmark/support.h"

namespace nuncio::bench {

// Resident bytes of this process, counted page by page (/proc/self/statm is off by some pages a CPU).
inline int64_t residentBytes() {
  std::ifstream pages("/proc/self/smaps_rollup");
  std::string word;
  while (pages >> word) {
    if (word == "Rss:") {
      int64_t kilobytes = 0;
      pages >> kilobytes;
      return kilobytes * 1024;
    }
  }
  require(false, "no Rss in /proc/self/smaps_rollup");
  return 0;
}

// How much the resident memory grows from its making: what was freed before is handed back to the system first, and
// huge pages, which would round it up, are off for as long as it lives.
class RssGrowth {
public:
  RssGrowth() {
    (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    malloc_trim(0);
    before_ = residentBytes();
  }
  ~RssGrowth() { (void)prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0); }
  RssGrowth(const RssGrowth&) = delete;
  RssGrowth& operator=(const RssGrowth&) = delete;

  double bytes() const { return static_cast<double>(residentBytes() - before_); }

private:
  int64_t before_ = 0;
};

}  // namespace nuncio::bench
