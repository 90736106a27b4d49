#pragma once
#include <cmath>
#include <cstdint>

namespace sentinel {

/// The learning rate of a step, from 0 on, of so many: half a cosine from the first one to 0.
inline double cosine(double learning_rate, std::int64_t step, std::int64_t steps) {
  const double share = static_cast<double>(step) / static_cast<double>(steps);
  return learning_rate * 0.5 * (1.0 + std::cos(M_PI * share));
}

}  // namespace sentinel
