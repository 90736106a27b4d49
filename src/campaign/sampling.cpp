#include "campaign/sampling.hpp"

#include <fmt/format.h>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

// The pilot's share of all trials (T1), trials per stratum of pilot and main sample (T2).
constexpr double kPilotShare = 0.1;
constexpr std::uint64_t kPilotOfLosses = 30, kLeastOfLosses = 30;
constexpr double kCriticalFails = 0.5;  // share of failing images, supposed where bit 30 flips

/// T1 observes shares of failing images, all others losses of accuracy.
bool observes_shares(const Sampler& sampler) {
  const auto* exact = std::get_if<ExactFaults>(&sampler);
  return (exact && exact->count == 1) || std::holds_alternative<ChannelFaults>(sampler);
}

}  // namespace

DesignOptions design_options(const CampaignPoint& point, std::uint32_t number, std::uint64_t seed,
                             double confidence, std::vector<double> weights,
                             std::vector<double> costs, bool blocks) {
  DesignOptions options;
  options.sampling = point.sampling;
  options.trials = point.trials;
  options.weights = std::move(weights);
  options.costs = std::move(costs);
  options.half_width = point.half_width;
  options.confidence = confidence;
  // An allocated plan has bit 30 as its first stratum (Strata); the others hardly ever fail.
  options.supposed.resize(options.weights.size());
  if (!options.supposed.empty()) options.supposed.front() = kCriticalFails;
  options.losses = !observes_shares(point.sampler);
  if (options.losses) {
    options.pilot = kPilotOfLosses;
    options.minimum = kLeastOfLosses;
    // Small blocks often lose nothing in a whole pilot; all images hardly ever do.
    options.floored = blocks;
  } else {
    options.pilot_share = kPilotShare;
  }
  options.seed = seed;
  options.point = number;
  return options;
}

void check_designs(const std::vector<CampaignPoint>& points, const Graph& original,
                   const Selection& selection) {
  const FaultSpace space(original, selection);
  for (const CampaignPoint& point : points) {
    if (point.sampling != Sampling::kStratified) continue;
    const StratifiedSampler sampler(point.sampler, original, space, point.faults);
    if (!sampler.divides())
      throw UserError(fmt::format(
          "--sampling stratified: trials of {} at BER {:g} have no strata; leave it out (strata "
          "are known for --single-bit, and for binomial faults where few critical bits flip)",
          sampler_name(point.sampler), sampler_ber(point.sampler)));
    Design(design_options(point, 0, 0, 0.95, sampler.strata().weights, sampler.strata().costs));
  }
}

}  // namespace sentinel
