#include "sentinel/transform/interval_search.hpp"

#include <algorithm>
#include <cmath>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr int kCandidates = 4, kLeastRounds = 3, kMostRounds = 4;
constexpr double kSmallStep = 0.2;  // [points]
constexpr double kConfidence = 0.95, kPoints = 100;
constexpr double kRounding = 1e-9;  // of means of the same trials in another order [points]

/// Of equal ones the last.
std::size_t place_of_largest(const std::vector<double>& values) {
  const double most = *std::max_element(values.begin(), values.end()) - kRounding;
  const auto last =
      std::find_if(values.rbegin(), values.rend(), [&](double value) { return value >= most; });
  return static_cast<std::size_t>(values.rend() - last - 1);
}

double largest_step(const std::vector<double>& scores) {
  double step = 0;
  for (std::size_t i = 1; i < scores.size(); ++i)
    step = std::max(step, std::fabs(scores[i] - scores[i - 1]));
  return step;
}

}  // namespace

IntervalSearch::IntervalSearch(double largest, double least)
    : largest_(largest), low_(std::max(least, 0.0)), high_(largest), best_(largest) {}

std::vector<double> IntervalSearch::candidates() const {
  std::vector<double> bounds;
  for (int i = 0; i < kCandidates; ++i)
    bounds.push_back(low_ + (high_ - low_) * i / (kCandidates - 1));
  if (bounds[0] == 0) bounds[0] = largest_ * 0x1p-10;
  return bounds;
}

void IntervalSearch::take(const std::vector<double>& scores) {
  const std::vector<double> bounds = candidates();
  if (done_ || scores.size() != bounds.size()) throw Bug("scores of no round of this search");
  const std::size_t place = place_of_largest(scores);
  const auto best = static_cast<int>(place);
  best_ = bounds[place];
  ++rounds_;
  done_ = rounds_ == kMostRounds || (rounds_ >= kLeastRounds && largest_step(scores) <= kSmallStep);
  const double low = low_, step = (high_ - low_) / (kCandidates - 1);
  low_ = low + step * std::max(best - 1, 0);
  high_ = low + step * std::min(best + 1, kCandidates - 1);
}

std::vector<double> trial_scores(const ResultFile& result) {
  const std::size_t rates = result.info.points.size(), networks = result.info.models.size();
  if (rates < 2 || networks == 0) throw Bug("an AUC needs two rates and a network");
  std::vector<double> scores(result.info.points[0].trials * networks, 0.0);
  for (const TrialRow& row : result.trials) {
    const bool end = row.point == 0 || row.point + 1 == rates;
    const double weight = (end ? 0.5 : 1.0) / static_cast<double>(rates);
    scores.at(row.id * networks + row.model) +=
        weight * kPoints * row.correct / static_cast<double>(row.images);
  }
  return scores;
}

std::vector<CandidateScore> candidate_scores(const std::vector<double>& trials,
                                             std::size_t networks) {
  const auto mean_of = [&](auto score_of) {
    Moments moments;
    for (std::size_t t = 0; t * networks < trials.size(); ++t)
      moments.add(score_of(trials.data() + t * networks));
    return moments;
  };
  std::vector<CandidateScore> scores(networks);
  std::vector<double> means;
  for (std::size_t m = 0; m < networks; ++m) {
    const Moments own = mean_of([&](const double* trial) { return trial[m]; });
    scores[m].auc = t_interval(own, kConfidence, 0, kPoints);
    means.push_back(own.mean());
  }
  const std::size_t best = place_of_largest(means);
  for (std::size_t m = 0; m < networks; ++m) {
    const Moments behind = mean_of([&](const double* trial) { return trial[best] - trial[m]; });
    if (m != best) scores[m].behind = t_interval(behind, kConfidence, -kPoints, kPoints);
  }
  return scores;
}

}  // namespace sentinel
