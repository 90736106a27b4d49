#pragma once
#include <string>

#include "sentinel/store/schema.hpp"

namespace sentinel {

/// "1e-05 binomial", with what fails and how where these are not single flips of weights:
/// "0.001 binomial, stuck-at-1, scale, bits exponent".
std::string point_name(const PointInfo& point);
/// "12.50 [10.00, 15.20]", in percent; without interval where there is none.
std::string interval_text(const EstimateRow& estimate);

}  // namespace sentinel
