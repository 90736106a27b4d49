#include "sentinel/transform/interval_search.hpp"

#include <algorithm>
#include <cmath>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr int kCandidates = 4, kLeastRounds = 3, kMostRounds = 4;
constexpr double kSmallStep = 0.2;  // [points]
constexpr double kConfidence = 0.95, kPoints = 100;

/// Of equal ones the last.
std::size_t place_of_largest(const std::vector<double>& values) {
  return static_cast<std::size_t>(values.rend() - std::max_element(values.rbegin(), values.rend()) -
                                  1);
}

double largest_step(const std::vector<double>& scores) {
  double step = 0;
  for (std::size_t i = 1; i < scores.size(); ++i)
    step = std::max(step, std::fabs(scores[i] - scores[i - 1]));
  return step;
}

}  // namespace

IntervalSearch::IntervalSearch(double largest)
    : largest_(largest), high_(largest), best_(largest) {}

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
  const std::size_t best = place_of_largest(scores), last = bounds.size() - 1;
  best_ = bounds[best];
  ++rounds_;
  done_ = rounds_ == kMostRounds || (rounds_ >= kLeastRounds && largest_step(scores) <= kSmallStep);
  if (best > 0) low_ = bounds[best - 1];
  high_ = bounds[std::min(best + 1, last)];
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
