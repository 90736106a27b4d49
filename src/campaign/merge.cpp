#include "sentinel/campaign/merge.hpp"

#include "sentinel/campaign/campaign.hpp"

namespace sentinel {

MergeReport merge_results(const std::vector<std::string>& inputs, const std::string& output) {
  ResultMerge merge(inputs, output);
  const ResultInfo& info = merge.info();
  EstimateBuilder estimates(info);
  merge.each_trial([&](const std::vector<TrialRow>& trial) {
    const TrialRow& row = trial.front();
    const bool before = row.point < info.plans.size() && row.id < info.plans[row.point].first;
    if (!before && row.id < info.points.at(row.point).trials) estimates.add(trial);
  });
  return merge.write(estimates.estimates());
}

}  // namespace sentinel
