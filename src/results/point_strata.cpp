#include "sentinel/results/point_strata.hpp"

#include <algorithm>
#include <numeric>

#include "sentinel/core/error.hpp"

namespace sentinel {

SampledStrata sampled_strata(std::vector<double> weights, std::vector<double> costs) {
  double known = 0;
  if (!costs.empty() && costs.back() == 0) {
    known = weights.back();
    weights.pop_back();
    costs.pop_back();
    const double left = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (double& weight : weights) weight /= left;
  }
  if (std::find(costs.begin(), costs.end(), 0) != costs.end())
    throw Bug("a known stratum is not the last");
  return {std::move(weights), std::move(costs), known};
}

SampledStrata sampled_strata(const ResultInfo& info, std::uint32_t point) {
  std::vector<double> weights, costs;
  for (const StratumInfo& stratum : info.strata) {
    if (stratum.point != point) continue;
    weights.push_back(stratum.weight);
    costs.push_back(stratum.cost);
  }
  return sampled_strata(std::move(weights), std::move(costs));
}

bool counts_words_read_wrongly(const ResultInfo& info, std::uint32_t point) {
  return std::any_of(info.strata.begin(), info.strata.end(), [&](const StratumInfo& stratum) {
    return stratum.point == point && stratum.misread >= 0;
  });
}

std::vector<double> mean_weights(const ResultInfo& info, std::uint32_t point) {
  std::vector<double> mean;
  for (std::size_t m = 0; m < info.models.size(); ++m) {
    const std::vector<double> own = stratum_weights(info, point, m);
    mean.resize(own.size());
    for (std::size_t h = 0; h < own.size(); ++h)
      mean[h] += own[h] / static_cast<double>(info.models.size());
  }
  return mean;
}

}  // namespace sentinel
