#pragma once
#include <string>

namespace sentinel {

/// How the bound of an activation is found; it lies 2^-10 of it above what is named here.
enum class BoundMethod {
  kMax,         // the largest fault-free activation of the calibration images
  kPercentile,  // their quantile, see quantiles.hpp
};
struct BoundSearch {
  BoundMethod method = BoundMethod::kMax;
  double percentile = 100;  // of kPercentile, in (0, 100]
};

/// "max", "percentile:99.9". UserError.
BoundSearch parse_bound_search(const std::string& word);
std::string bound_search_name(const BoundSearch& search);

}  // namespace sentinel
