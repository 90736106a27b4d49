#pragma once
#include <vector>

#include "campaign/trial_plan.hpp"
#include "sentinel/campaign/job.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/results/point_strata.hpp"
#include "sentinel/stats/design.hpp"
#include "sentinel/store/schema.hpp"

namespace sentinel {

/// UserError where a divided point has too few trials for its strata; of a range of trials, where
/// the whole campaign is known to have too few.
void check_enough_trials(const CampaignPoint& point, std::size_t strata);

/// How the trials of a point are drawn from its strata (weights and costs by stratum; none for a
/// simple plan), `blocks`: a trial looks at one block of images.
DesignOptions design_options(const CampaignPoint& point, std::uint32_t number, std::uint64_t seed,
                             std::vector<double> weights,
                             std::vector<double> costs, bool blocks = false);

/// UserError where a point's plan cannot be made on this network: a stratified one without strata,
/// or with too few trials for its pilot. Known as soon as the original is read. `alone`: no other
/// network takes part.
void check_designs(const std::vector<CampaignPoint>& points, const Graph& original,
                   const Selection& selection, bool alone);

/// UserError where the points flip single bits, and every network corrects every one of them.
void require_uncorrected(const std::vector<CampaignPoint>& points,
                         const std::vector<NamedModel>& models, const Selection& selection);

/// The job's points. A network that reads all words right but for less than 1e-4 of the trials of a
/// point is answered for by that bound. Where all networks are, the point gets no trials, but for
/// those of a range of trials, which is asked for by name.
std::vector<CampaignPoint> planned_points(const Job& job, const std::vector<NamedModel>& models,
                                          std::shared_ptr<const FaultList> list);

}  // namespace sentinel
