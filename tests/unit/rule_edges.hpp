#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace sentinel::test {

/// Values at which rules of protection break, for a bound of `bound`.
inline std::vector<float> edge_values(float bound) {
  using Limits = std::numeric_limits<float>;
  const float inf = Limits::infinity();
  return {std::nanf(""),
          inf,
          -inf,
          -1.0F,
          -0.0F,
          0.0F,
          Limits::denorm_min(),
          std::nextafter(bound, -inf),
          bound,
          std::nextafter(bound, inf),
          2 * bound,
          Limits::max(),
          -Limits::max(),
          0.5F,
          -0.25F};
}

inline std::vector<float> edge_bounds() {
  const float inf = std::numeric_limits<float>::infinity();
  return {std::nanf(""), -1.0F, -0.0F, 0.0F, 1.0F, inf, -inf};
}

inline std::uint32_t bits_of(float value) {
  std::uint32_t word = 0;
  std::memcpy(&word, &value, sizeof word);
  return word;
}

}  // namespace sentinel::test
