#include "sentinel/results/merge.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>

#include "sentinel/core/sampling_words.hpp"
#include "sentinel/results/estimates.hpp"
#include "sentinel/results/point_strata.hpp"

namespace sentinel {
namespace {

/// Counts by point and part of the memory.
using PartTrials = std::map<std::uint32_t, std::vector<std::uint64_t>>;

/// Zeros for the points whose parts should have equally many.
PartTrials no_trials(const ResultInfo& info) {
  PartTrials trials;
  for (const StratumInfo& stratum : info.strata)
    if (stratum.point < info.plans.size() &&
        sampling_of(info.plans[stratum.point].sampling).sampling == Sampling::kEqual)
      trials[stratum.point].push_back(0);
  return trials;
}

/// A campaign in one piece with so few trials is refused; ranges of it may be joined later.
void warn_of_few(const ResultInfo& info, const PartTrials& trials) {
  for (const auto& [point, of_part] : trials) {
    const auto few = std::count_if(of_part.begin(), of_part.end(),
                                   [](std::uint64_t n) { return n < kLeastOfEach; });
    if (few > 0)
      spdlog::warn(
          "point {}, {}: {} of {} strata have fewer than {} trials, too few for an interval; run "
          "further ranges, to {} trials or more, and merge them too",
          point, info.plans.at(point).sampling, few, of_part.size(), kLeastOfEach,
          kLeastOfEach * of_part.size());
  }
}

}  // namespace

MergeReport merge_results(const std::vector<std::string>& inputs, const std::string& output) {
  ResultMerge merge(inputs, output);
  const ResultInfo& info = merge.info();
  std::vector<PointEstimates> points;
  for (std::uint32_t point = 0; point < info.points.size(); ++point)
    points.emplace_back(info, point);
  PartTrials of_parts = no_trials(info);
  merge.each_trial([&](const std::vector<TrialRow>& trial) {
    const TrialRow& row = trial.front();
    const bool before = row.point < info.plans.size() && row.id < info.plans[row.point].first;
    if (before || row.id >= info.points.at(row.point).trials) return;
    points.at(row.point).add(trial);
    const auto parts = of_parts.find(row.point);
    if (parts != of_parts.end()) ++parts->second.at(static_cast<std::size_t>(row.stratum));
  });
  warn_of_few(info, of_parts);
  std::vector<EstimateRow> estimates;
  for (const PointEstimates& point : points) {
    const std::vector<EstimateRow> own = point.look();
    estimates.insert(estimates.end(), own.begin(), own.end());
  }
  return merge.write(std::move(estimates));
}

}  // namespace sentinel
