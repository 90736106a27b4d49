#pragma once
#include <array>
#include <string>

namespace sentinel {

/// How images are made of bytes: (pixel / 255 - mean) / std, by channel.
struct Normalisation {
  std::array<double, 3> mean{}, std{1, 1, 1};
};
bool operator==(const Normalisation& a, const Normalisation& b);
bool operator!=(const Normalisation& a, const Normalisation& b);

/// "mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225", the shortest digits that give the numbers.
std::string numbers_of(const Normalisation& normalisation);
/// Says why the constants cannot be; empty where every mean is from 0 to 1 and every std finite and
/// above 0.
std::string fault_of(const Normalisation& normalisation);

}  // namespace sentinel
