#pragma once

#include <chrono>
#include <ratio>

namespace nuncio::future_internal {

// `duration` in nanoseconds, rounded up. Beyond their range: the longest, or the shortest (most negative) there is;
// what is not a number: the shortest.
template <class Rep, class Period>
constexpr std::chrono::nanoseconds inNanoseconds(std::chrono::duration<Rep, Period> duration) {
  using Wide = std::chrono::duration<long double, std::nano>;
  constexpr Wide kLimit(9.2e18L);
  const Wide wide(duration);
  if (!(wide > -kLimit)) {
    return std::chrono::nanoseconds::min();
  }
  if (wide >= kLimit) {
    return std::chrono::nanoseconds::max();
  }
  return std::chrono::ceil<std::chrono::nanoseconds>(duration);
}

}  // namespace nuncio::future_internal
