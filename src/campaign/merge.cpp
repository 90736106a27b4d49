#include "sentinel/campaign/merge.hpp"

#include "campaign/estimates.hpp"

namespace sentinel {

MergeReport merge_results(const std::vector<std::string>& inputs, const std::string& output) {
  ResultMerge merge(inputs, output);
  const ResultInfo& info = merge.info();
  std::vector<PointEstimates> points;
  for (std::uint32_t point = 0; point < info.points.size(); ++point)
    points.emplace_back(info, point);
  merge.each_trial([&](const std::vector<TrialRow>& trial) {
    const TrialRow& row = trial.front();
    const bool before = row.point < info.plans.size() && row.id < info.plans[row.point].first;
    if (!before && row.id < info.points.at(row.point).trials) points.at(row.point).add(trial);
  });
  std::vector<EstimateRow> estimates;
  for (std::uint32_t point = 0; point < points.size(); ++point) {
    std::vector<EstimateRow> own = merge.estimates_without_trials(point);
    if (own.empty()) own = points[point].look();
    estimates.insert(estimates.end(), own.begin(), own.end());
  }
  return merge.write(std::move(estimates));
}

}  // namespace sentinel
