#include "sentinel/stats/betting.hpp"

#include <algorithm>
#include <cmath>

namespace sentinel {
namespace {

constexpr double kStake = 0.75;  // c: share of the capital that a bet may lose at most
constexpr double kPrecision = 1e-12;

/// Observations in [0, 1] with the bets on them.
struct Bets {
  std::vector<double> values, sizes;
  double wanted = 0;  // capital that excludes a mean
};

Bets bets_on(const std::vector<double>& values, double confidence, double low, double high) {
  Bets bets;
  const double log_ratio = M_LN2 - std::log1p(-confidence);
  bets.wanted = std::exp(log_ratio);
  double sum = 0, deviations = 0, spread = 0.25, i = 0;
  for (const double value : values) {
    const double y = std::clamp((value - low) / (high - low), 0.0, 1.0);
    bets.sizes.push_back(std::sqrt(2 * log_ratio / (static_cast<double>(values.size()) * spread)));
    bets.values.push_back(y);
    sum += y;
    ++i;
    const double mean = (0.5 + sum) / (i + 1);
    deviations += (y - mean) * (y - mean);
    spread = (0.25 + deviations) / (i + 1);
  }
  return bets;
}

/// Whether a gambler against "the mean is at most m" once had the wanted capital.
bool above(const Bets& bets, double m) {
  double capital = 1;
  for (std::size_t i = 0; i < bets.values.size(); ++i) {
    capital *= 1 + std::min(bets.sizes[i], kStake / m) * (bets.values[i] - m);
    if (capital >= bets.wanted) return true;
  }
  return false;
}

Bets mirrored(Bets bets) {
  for (double& y : bets.values) y = 1 - y;
  return bets;
}

/// The largest mean that is excluded from below; exactly 0 where none is.
double lower_end(const Bets& bets) {
  if (!above(bets, 0)) return 0;
  double excluded = 0, held = 1;
  while (held - excluded > kPrecision) {
    const double m = (excluded + held) / 2;
    (above(bets, m) ? excluded : held) = m;
  }
  return excluded;
}

}  // namespace

Interval betting_interval(const std::vector<double>& values, double confidence, double low,
                          double high) {
  Interval interval{(low + high) / 2, low, high, confidence, "betting", values.size()};
  if (values.empty()) return interval;
  const Bets bets = bets_on(values, confidence, low, high);
  Moments moments;
  for (const double value : values) moments.add(value);
  interval.estimate = moments.mean();
  const double from = lower_end(bets), to = lower_end(mirrored(bets));
  if (from > 0) interval.lower = std::min(low + from * (high - low), interval.estimate);
  if (to > 0) interval.upper = std::max(high - to * (high - low), interval.estimate);
  return interval;
}

void Rarity::add(double x) {
  if (!rare_) return;
  ++n_;
  commonest_ = std::max(commonest_, ++counts_[x]);
  rare_ = n_ - commonest_ < kFew;
  if (!rare_) counts_.clear();
}

void Sample::add(double x) {
  moments_.add(x);
  rarity_.add(x);
  if (!bets())
    runs_ = {};
  else if (!runs_.empty() && runs_.back().value == x)
    ++runs_.back().times;
  else
    runs_.push_back({x, 1});
}

std::vector<double> Sample::values() const {
  std::vector<double> all;
  for (const Run& run : runs_) all.insert(all.end(), run.times, run.value);
  return all;
}

Interval Sample::interval(double confidence, double low, double high) const {
  return bets() ? betting_interval(values(), confidence, low, high)
                : t_interval(moments_, confidence, low, high);
}

Interval difference_interval(const BoundedSample& a, const BoundedSample& b, double confidence) {
  const double low = a.low - b.high, high = a.high - b.low;
  if (!a.sample.bets() && !b.sample.bets())
    return welch_interval(a.sample.moments(), b.sample.moments(), confidence, low, high);
  const Interval x = a.sample.interval(confidence, a.low, a.high),
                 y = b.sample.interval(confidence, b.low, b.high);
  Interval interval = mover_difference(x, y, "two-sample betting");
  interval.lower = std::max(low, interval.lower);
  interval.upper = std::min(high, interval.upper);
  return interval;
}

}  // namespace sentinel
