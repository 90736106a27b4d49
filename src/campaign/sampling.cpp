#include "campaign/sampling.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"
#include "sentinel/fault/space_codes.hpp"
#include "sentinel/fault/strata.hpp"
#include "sentinel/networks/network.hpp"
#include "sentinel/stats/interval.hpp"

namespace sentinel {
namespace {

// The pilot's share of all trials (T1), trials per stratum of pilot and main sample (T2).
constexpr double kPilotShare = 0.1;
constexpr std::uint64_t kPilotOfLosses = 30, kLeastOfLosses = 30;
constexpr std::uint64_t kLeastOfPart = 10;  // of the main sample: parts have intervals of their own
constexpr double kMostMisread = 1e-4;       // of the trials of a point that needs none
constexpr double kCriticalFails = 0.5;      // share of failing images, supposed where bit 30 flips

/// T1 observes shares of failing images, all others losses of accuracy.
bool observes_shares(const Sampler& sampler) {
  const auto* exact = std::get_if<ExactFaults>(&sampler);
  return (exact && exact->count == 1) || std::holds_alternative<ChannelFaults>(sampler);
}

}  // namespace

void check_enough_trials(const CampaignPoint& point, std::size_t strata) {
  const std::uint64_t trials = point.whole.value_or(point.trials);
  if (point.sampling != Sampling::kEqual || (point.whole && trials == 0)) return;
  const std::uint64_t least = kLeastOfEach * strata;
  if (trials < least)
    throw UserError(fmt::format(
        "{} {}: {} strata need at least {} trials, {} of each, not {}; give a larger {}",
        spelled(Setting::kSampling), sampling_word(point.sampling, point.division), strata, least,
        kLeastOfEach, trials, spelled(Setting::kRepeat)));
}

DesignOptions design_options(const CampaignPoint& point, std::uint32_t number, std::uint64_t seed,
                             std::vector<double> weights, std::vector<double> costs, bool blocks) {
  DesignOptions options;
  options.sampling = point.sampling;
  options.trials = point.trials;
  options.weights = std::move(weights);
  options.costs = std::move(costs);
  options.precision = point.precision;
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
    if (point.division) options.minimum = kLeastOfPart;
  }
  options.seed = seed;
  options.point = number;
  return options;
}

void check_designs(const std::vector<CampaignPoint>& points, const Graph& original,
                   const Selection& selection, bool alone) {
  const FaultSpace space(original, selection);
  for (const CampaignPoint& point : points) {
    if (point.division) {
      const Strata strata = StratifiedSampler(*point.division, {{original, space}}).strata();
      check_enough_trials(point, strata.names.size());
      Design(design_options(point, 0, 0, strata.weights, strata.costs));
      continue;
    }
    if (point.sampling != Sampling::kStratified) continue;
    const StratifiedSampler sampler(point.sampler, {{original, space}}, point.faults, !alone);
    if (!sampler.divides()) {
      throw UserError(fmt::format(
          "{} stratified: trials of {}{} have no strata; leave it out (strata are known for {} "
          "where words have several classes of bits and, of several networks, one format; for "
          "binomial faults where few critical bits flip or few words are read wrongly)",
          spelled(Setting::kSampling), sampler_name(point.sampler),
          observes_shares(point.sampler) ? ""
                                         : fmt::format(" at BER {:g}", sampler_ber(point.sampler)),
          spelled(Setting::kSingleBit)));
    }
    SampledStrata strata = sampled_strata(sampler.strata().weights, sampler.strata().costs);
    Design(design_options(point, 0, 0, std::move(strata.weights), std::move(strata.costs)));
  }
}

void require_uncorrected(const std::vector<CampaignPoint>& points,
                         const std::vector<NamedModel>& models, const Selection& selection) {
  const bool single = std::all_of(points.begin(), points.end(), [](const CampaignPoint& point) {
    const auto* exact = std::get_if<ExactFaults>(&point.sampler);
    return exact && exact->count == 1 && point.faults.of_bits() && !point.faults.of_words();
  });
  if (!single) return;
  std::string layouts;
  for (const NamedModel& model : models) {
    layouts = correcting_layouts(FaultSpace(model.graph, selection));
    if (layouts.empty()) return;
  }
  throw UserError("every single flip is corrected; use " + spelled(Setting::kBer) +
                  ", exact:K or a burst (" + source_of(models.front()) +
                  " stores what may fail as " + layouts + ")");
}

namespace {

/// By model; nothing of one that is not bounded so closely.
std::vector<std::optional<double>> misread_bounds(const CampaignPoint& point,
                                                  const std::vector<NamedModel>& models,
                                                  const Selection& selection) {
  const auto* binomial = std::get_if<BinomialFaults>(&point.sampler);
  if (!binomial || !point.faults.of_bits() || point.faults.effect != Effect::kFlip) return {};
  const double most =
      point.precision.stops() ? std::min(kMostMisread, point.precision.half_width) : kMostMisread;
  std::vector<std::optional<double>> bounds;
  for (const NamedModel& model : models) {
    const auto any = any_misread(FaultSpace(model.graph, selection), binomial->ber);
    bounds.push_back(any && *any < most ? any : std::nullopt);
  }
  return bounds;
}

}  // namespace

std::vector<CampaignPoint> planned_points(const Job& job, const std::vector<NamedModel>& models,
                                          std::shared_ptr<const FaultList> list) {
  std::vector<CampaignPoint> points = points_of(job, std::move(list));
  for (CampaignPoint& point : points) {
    point.bounds = misread_bounds(point, models, selection_of(job.faults));
    if (!job.range && bound_of_all(point))
      point = {point.sampler, 0,           0, Sampling::kSimple, {0, point.precision.confidence},
               point.faults,  point.bounds};
  }
  return points;
}

}  // namespace sentinel
