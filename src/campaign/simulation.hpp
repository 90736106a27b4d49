#pragma once
#include "campaign/image_blocks.hpp"
#include "campaign/trial_plan.hpp"
#include "sentinel/campaign/dry_run_report.hpp"
#include "sentinel/fault/population.hpp"
#include "sentinel/store/schema.hpp"

namespace sentinel {

/// Trials as they may turn out, supposed before any is run: in a trial all images fail, or none; of
/// faults of one image each, every image by itself.
struct Population {
  double chance = 0;               // what is supposed, of Supposition::of
  double failing = 0;              // share of all trials that fail
  std::vector<double> failing_in;  // the same by stratum
};
struct Supposition {
  std::string of;  // what the chances are of: "flips of bit 30 that fail", for a column's head
  std::vector<Population> populations;
};

/// Populations from much to little failing. Single flips: those of bit 30, others never. Binomial
/// faults with strata: any critical flip, or word read wrongly, independently, so that 1 - (1 -
/// chance)^k of the trials with k of them fail. Others, and divided points: a share of the trials, or
/// of the images.
Supposition suppose(const CampaignPoint& point, const Strata& strata);

/// What a run knows before its first trial, as far as its plans and estimates ask. Each network is
/// right on the same `accuracy` of the images, without faults.
ResultInfo supposed_info(const std::vector<CampaignPoint>& points,
                         const std::vector<Strata>& strata, std::size_t networks,
                         const ImageBlocks& blocks, std::int64_t images, double accuracy);

/// One point's trials drawn from a population and given to PointProgress, the code that plans,
/// estimates and stops a run, again and again with seeds 1, 2 ... Binomial faults hit all networks
/// alike, others each for itself, as in a run. `most`: trials of all networks that may be drawn.
DryRun::Outlook simulate(const ResultInfo& info, const ImageBlocks& blocks, std::uint32_t number,
                         const CampaignPoint& point, const Population& population,
                         std::uint64_t most);

}  // namespace sentinel
