#include "sentinel/store/schema.hpp"

namespace sentinel {

std::vector<double> stratum_weights(const ResultInfo& info, std::uint32_t point,
                                    std::size_t model) {
  std::vector<double> weights;
  for (const StratumInfo& stratum : info.strata)
    if (stratum.point == point) weights.push_back(stratum.weight);
  for (const ShareInfo& share : info.shares)
    if (share.point == point && share.model == model)
      weights.at(static_cast<std::size_t>(share.stratum)) = share.weight;
  return weights;
}

}  // namespace sentinel
