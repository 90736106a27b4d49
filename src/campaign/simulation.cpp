#include "campaign/simulation.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "campaign/point_progress.hpp"
#include "campaign/result_info.hpp"

namespace sentinel {
namespace {

constexpr int kSimulations = 21;
/// Chances of a failing flip, of a failing trial where nothing tells flips apart.
constexpr std::array<double, 6> kFlips = {0.9, 0.5, 0.2, 0.05, 0.01, 0.001};
constexpr std::array<double, 5> kTrials = {0.9, 0.5, 0.1, 0.02, 0.01};

Population population_of(double chance, std::vector<double> failing_in, const Strata& strata) {
  Population population{chance, 0, std::move(failing_in)};
  for (std::size_t h = 0; h < strata.weights.size(); ++h)
    population.failing += strata.weights[h] * population.failing_in[h];
  return population;
}

/// By stratum, where a critical flip, or a word read wrongly, fails with this chance.
std::vector<double> by_number(double chance, const Strata& strata) {
  std::vector<double> failing;
  for (std::size_t h = 0; h < strata.costs.size(); ++h) {
    const double number = strata.counts.empty() ? static_cast<double>(h) : strata.counts[h];
    failing.push_back(1 - std::pow(1 - chance, number));
  }
  return failing;
}

std::vector<double> first_alone(double chance, std::size_t strata) {
  std::vector<double> failing(strata);
  failing.front() = chance;
  return failing;
}

/// Rows of trials of one point, drawn from a population.
class SupposedTrials {
 public:
  SupposedTrials(const ResultInfo& info, const ImageBlocks& blocks, std::uint32_t number,
                 const Population& population)
      : info_(info), blocks_(blocks), number_(number), population_(population) {
    right_.resize(1);
    images_.resize(1);
    for (std::size_t i = 0; i < info.labels.size(); ++i) {
      const auto block =
          static_cast<std::size_t>(info.image_blocks.empty() ? 0 : info.image_blocks[i]);
      if (block >= images_.size()) right_.resize(block + 1), images_.resize(block + 1);
      ++images_[block];
      right_[block] += info.models[0].golden_predictions[i] == info.labels[i] ? 1 : 0;
    }
  }

  std::vector<TrialRow> rows(std::uint64_t id, const TrialDraw& draw) const {
    std::vector<TrialRow> rows;
    const double chance = draw.stratum < 0
                              ? population_.failing
                              : population_.failing_in[static_cast<std::size_t>(draw.stratum)];
    const bool paired = info_.points[number_].fault_model == "binomial";
    for (std::uint32_t model = 0; model < info_.models.size(); ++model) {
      const std::uint32_t stream = paired ? number_ : point_of_network(number_, model);
      Rng rng({info_.seed, stream, id, Purpose::kFaults});
      const bool by_image = info_.points[number_].lifetime == lifetime_name(Lifetime::kImage);
      const double share = by_image ? share_of_images(chance, rng) : rng.uniform() < chance;
      rows.push_back(row(id, draw, model, share));
    }
    return rows;
  }

 private:
  /// Images of one trial that fail, each by itself.
  double share_of_images(double chance, Rng& rng) const {
    const double spread = std::sqrt(chance * (1 - chance) / images_[0]);
    return std::clamp(chance + spread * rng.normal(), 0.0, 1.0);
  }
  TrialRow row(std::uint64_t id, const TrialDraw& draw, std::uint32_t model, double share) const {
    TrialRow row;
    row.point = number_;
    row.id = id;
    row.model = model;
    row.stage = draw.stage;
    row.stratum = draw.stratum;
    row.probability = draw.probability;
    row.block = blocks_.block_of_trial(info_.seed, number_, id);
    const auto block = static_cast<std::size_t>(std::max(row.block, 0));
    row.images = images_[block];
    row.due = static_cast<std::uint32_t>(std::lround(share * row.images));
    row.masked = row.images - row.due;
    row.correct = row.correct_argmax =
        static_cast<std::uint32_t>(std::lround((1 - share) * right_[block]));
    return row;
  }

  const ResultInfo& info_;
  const ImageBlocks& blocks_;
  std::uint32_t number_;
  const Population& population_;
  std::vector<std::uint32_t> right_, images_;  // by block
};

/// How one simulated run of a point ended.
struct End {
  std::uint64_t trials = 0;
  bool enough = false;  // the plan's own end, not that of the simulation
  double half_width = 0;
};

/// The widest network's, of the quantity that the plan stops by.
double half_width_of(const Findings& findings, const std::string& quantity, std::size_t models) {
  std::vector<double> last(models);
  for (const EstimateRow& row : findings.estimates)
    if (row.quantity == quantity && row.against < 0 && row.stratum < 0)
      last[static_cast<std::size_t>(row.model)] = (row.upper - row.lower) / 2;
  return *std::max_element(last.begin(), last.end());
}

End simulated_run(const ResultInfo& info, const ImageBlocks& blocks, std::uint32_t number,
                  const CampaignPoint& point, const Population& population) {
  PointProgress progress(info, number, point);
  const TrialSource source = progress.source(1);
  const SupposedTrials trials(info, blocks, number, population);
  for (std::uint64_t id = point.first; progress.done() < progress.wanted(); ++id)
    progress.add(trials.rows(id, source.draw(id)));
  Findings findings;
  progress.report(findings);
  const bool t1 = info.points[number].estimand.rfind("T1", 0) == 0;
  return {progress.done(), findings.plans.back().reached != 0,
          half_width_of(findings, t1 ? "failing" : "accuracy", info.models.size())};
}

DryRun::Range range_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t last = values.size() - 1, cut = last / 20;
  return {values[cut], values[last / 2], values[last - cut]};
}

}  // namespace

Supposition suppose(const CampaignPoint& point, const Strata& strata) {
  const std::size_t count = strata.weights.size();
  Supposition all;
  if (count < 2 || point.division) {
    all.of = point.faults.lifetime == Lifetime::kImage ? "images that fail" : "trials that fail";
    for (const double chance : kTrials)
      all.populations.push_back(population_of(chance, std::vector<double>(count, chance), strata));
    return all;
  }
  const bool binomial = std::holds_alternative<BinomialFaults>(point.sampler);
  all.of = !binomial               ? "flips of " + strata.names.front() + " that fail"
           : strata.of_words       ? "words read wrongly that fail"
           : strata.counts.empty() ? "critical flips that fail"
                                   : "critical misreads that fail";
  for (const double chance : kFlips)
    all.populations.push_back(population_of(
        chance, binomial ? by_number(chance, strata) : first_alone(chance, count), strata));
  return all;
}

ResultInfo supposed_info(const std::vector<CampaignPoint>& points,
                         const std::vector<Strata>& strata, std::size_t networks,
                         const ImageBlocks& blocks, std::int64_t images, double accuracy) {
  ResultInfo info;
  info.confidence = points.front().precision.confidence;
  info.image_blocks = blocks.block_of_image();
  info.labels.resize(static_cast<std::size_t>(images));
  ModelInfo model;
  model.images = images;
  model.correct = std::llround(accuracy * static_cast<double>(images));
  model.golden_predictions.resize(info.labels.size(), 1);
  std::fill_n(model.golden_predictions.begin(), model.correct, 0);
  info.models.assign(networks, model);
  for (std::size_t p = 0; p < points.size(); ++p) describe_point(info, points[p], &strata[p]);
  return info;
}

DryRun::Outlook simulate(const ResultInfo& info, const ImageBlocks& blocks, std::uint32_t number,
                         const CampaignPoint& point, const Population& population,
                         std::uint64_t most) {
  CampaignPoint own = point;
  own.trials = std::min(point.trials, point.first + most / info.models.size());
  DryRun::Outlook outlook{population.chance, population.failing, 0, own.trials - own.first, {}, {}};
  std::vector<double> trials, half_widths;
  ResultInfo seeded = info;
  std::uint64_t drawn = 0;
  do {
    seeded.seed = static_cast<std::uint64_t>(++outlook.simulations);
    const End end = simulated_run(seeded, blocks, number, own, population);
    drawn += end.trials * info.models.size();
    trials.push_back(end.enough ? static_cast<double>(end.trials)
                                : std::numeric_limits<double>::infinity());
    half_widths.push_back(end.half_width);
  } while (outlook.simulations < kSimulations &&
           drawn + drawn / static_cast<std::uint64_t>(outlook.simulations) <= most);
  outlook.trials = range_of(std::move(trials));
  outlook.half_width = range_of(std::move(half_widths));
  return outlook;
}

}  // namespace sentinel
