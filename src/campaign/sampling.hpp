#pragma once
#include <vector>

#include "campaign/trial_runner.hpp"

namespace sentinel {

/// How the trials of a point are drawn from its strata (weights and costs by stratum; none for a
/// simple plan), for intervals of this confidence. `blocks`: a trial looks at one block of images.
DesignOptions design_options(const CampaignPoint& point, std::uint32_t number, std::uint64_t seed,
                             double confidence, std::vector<double> weights,
                             std::vector<double> costs, bool blocks = false);

/// UserError where a point's plan cannot be made on this network: a stratified one without strata,
/// or with too few trials for its pilot. Known as soon as the original is read.
void check_designs(const std::vector<CampaignPoint>& points, const Graph& original,
                   const Selection& selection);

}  // namespace sentinel
