#include "campaign/trial_plan.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "sentinel/core/error.hpp"
#include "sentinel/core/setting.hpp"

namespace sentinel {
namespace {

CampaignPoint listed_point(const Job& job, std::shared_ptr<const FaultList> list) {
  CampaignPoint point;
  point.trials = list->trials();
  if (job.range) {
    const auto& [begin, end] = *job.range;
    if (end > point.trials)
      throw UserError(fmt::format("{} {}:{} reaches beyond the {} trials of {}",
                                  spelled(Setting::kTrialRange), begin, end, point.trials,
                                  job.faults.list));
    point.first = begin;
    point.trials = end;
  }
  point.precision = job.precision;
  point.sampler = ListedFaults{std::move(list)};
  return point;
}

}  // namespace

std::vector<double> expected_of_trial(const CampaignPoint& point, const FaultSpace& space,
                                      std::int64_t images) {
  std::vector<double> expected = expected_faults(point.sampler, space);
  if (point.faults.lifetime == Lifetime::kImage)
    for (double& faults : expected) faults *= static_cast<double>(images);
  return expected;
}

std::vector<TrialCost> trial_costs(const std::vector<NamedModel>& models,
                                   const Selection& selection) {
  std::vector<TrialCost> costs;
  costs.reserve(models.size());
  for (const NamedModel& model : models)
    costs.emplace_back(model.graph, FaultSpace(model.graph, selection));
  return costs;
}

double faults_of_trial(const CampaignPoint& point, const FaultSpace& space, std::int64_t images) {
  const std::vector<double> expected = expected_of_trial(point, space, images);
  return std::accumulate(expected.begin(), expected.end(), 0.0);
}

std::optional<double> bound_of_all(const CampaignPoint& point) {
  std::optional<double> widest;
  for (const std::optional<double>& bound : point.bounds) {
    if (!bound) return std::nullopt;
    widest = std::max(widest.value_or(0), *bound);
  }
  return widest;
}

std::vector<CampaignPoint> points_of(const Job& job, std::shared_ptr<const FaultList> list) {
  if (list) return {listed_point(job, std::move(list))};
  std::vector<CampaignPoint> points;
  CampaignPoint point;
  point.trials = planned_trials(job);
  point.first = job.range ? job.range->begin : 0;
  point.sampling = job.precision.stops() ? Sampling::kSequential : job.sampling;
  point.division = job.division;
  if (job.range) point.whole = job.trials.value_or(0);
  point.precision = job.precision;
  point.faults = fault_model_of(job.faults);
  const std::vector<double>& rates = rates_of(job);
  for (const double rate : rates.empty() ? std::vector<double>{0} : rates) {
    point.sampler = sampler_of(job.fault_count, rate);
    points.push_back(point);
  }
  return points;
}

}  // namespace sentinel
