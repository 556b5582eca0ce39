#pragma once

#include <cstdint>

namespace nuncio {

// SplitMix64: a small and fast generator of random numbers, the same sequence for the same seed on every machine.
// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
class SplitMix64 {
public:
  explicit SplitMix64(uint64_t seed) : state_(seed) {}
  uint64_t operator()() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // In [0, 1).
  double fraction() { return static_cast<double>((*this)() >> 11) * 0x1p-53; }

private:
  uint64_t state_;
};

}  // namespace nuncio
