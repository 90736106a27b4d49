#include "sentinel/core/normalisation.hpp"

#include <fmt/format.h>

#include <limits>

namespace sentinel {
namespace {

std::string list(const std::array<double, 3>& values) {
  return fmt::format("{}, {}, {}", values[0], values[1], values[2]);
}

}  // namespace

bool operator==(const Normalisation& a, const Normalisation& b) {
  return a.mean == b.mean && a.std == b.std;
}
bool operator!=(const Normalisation& a, const Normalisation& b) {
  return !(a == b);
}

std::string numbers_of(const Normalisation& normalisation) {
  return "mean " + list(normalisation.mean) + ", std " + list(normalisation.std);
}

std::string fault_of(const Normalisation& normalisation) {
  for (const double mean : normalisation.mean)
    if (!(mean >= 0 && mean <= 1))
      return fmt::format("the mean {} is not from 0 to 1; it is of pixels / 255", mean);
  for (const double value : normalisation.std)
    if (!(value >= std::numeric_limits<float>::min() && value <= std::numeric_limits<float>::max()))
      return fmt::format("the std {} is not a finite number above 0", value);
  return "";
}

}  // namespace sentinel
