#include "sentinel/stats/stratified.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <initializer_list>
#include <numeric>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr double kDefensive = 0.2;  // share of the trials given by weight alone

void check_sizes(std::size_t strata, std::initializer_list<std::size_t> sizes) {
  for (const std::size_t size : sizes)
    if (size != strata) throw Bug("a stratified plan has vectors of different lengths");
  if (strata == 0) throw Bug("a stratified plan has no strata");
}

double count(const Moments& moments) {
  return static_cast<double>(moments.n());
}

/// Mean of a stratum; the middle of the range where it has no trial.
double stratum_mean(const Moments& moments, double low, double high) {
  return moments.n() == 0 ? (low + high) / 2 : moments.mean();
}

/// Estimate and number of trials, the range as interval. A stratum without trials is left out of
/// the estimate, so that shares of which every trial has 1 together sum to 1 from the first trial
/// on.
Interval estimate_of(const std::vector<double>& weights, const std::vector<Moments>& strata,
                     double confidence, double low, double high, const char* method) {
  check_sizes(strata.size(), {weights.size()});
  Interval interval{0, low, high, confidence, method, 0};
  double sum = 0, weight = 0;
  bool complete = true;
  for (std::size_t h = 0; h < strata.size(); ++h) {
    complete = complete && strata[h].n() > 0;
    if (strata[h].n() == 0) continue;
    sum += weights[h] * strata[h].mean();
    weight += weights[h];
    interval.n += strata[h].n();
  }
  interval.estimate = complete ? sum : weight > 0 ? sum / weight : (low + high) / 2;
  return interval;
}

bool too_few(const std::vector<double>& weights, const std::vector<Moments>& strata) {
  for (std::size_t h = 0; h < strata.size(); ++h)
    if (weights[h] > 0 && strata[h].n() < 2) return true;
  return false;
}

bool without_spread(const std::vector<double>& weights, const std::vector<Moments>& strata) {
  for (std::size_t h = 0; h < strata.size(); ++h)
    if (weights[h] > 0 && strata[h].variance() > 0) return false;
  return true;
}

/// Most that sum W_h q_h reach_h can be while sum n_h q_h <= budget, q_h <= 1: the strata that gain
/// most per trial first.
double unseen_shift(const std::vector<double>& weights, const std::vector<Moments>& strata,
                    const std::vector<double>& reaches, double budget) {
  std::vector<std::size_t> order(strata.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto gain = [&](std::size_t h) { return weights[h] * reaches[h] / count(strata[h]); };
  order.erase(
      std::remove_if(order.begin(), order.end(), [&](std::size_t h) { return !(weights[h] > 0); }),
      order.end());
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return gain(a) > gain(b); });
  double shift = 0;
  for (const std::size_t h : order) {
    const double used = std::min(budget, count(strata[h]));
    shift += used * gain(h);
    budget -= used;
  }
  return shift;
}

Interval rule_of_three(Interval interval, const std::vector<double>& weights,
                       const std::vector<Moments>& strata) {
  const double low = interval.lower, high = interval.upper;
  const double budget = -std::log1p(-interval.confidence);
  std::vector<double> down, up;
  for (const Moments& moments : strata) {
    down.push_back(stratum_mean(moments, low, high) - low);
    up.push_back(high - stratum_mean(moments, low, high));
  }
  interval.lower = std::max(low, interval.estimate - unseen_shift(weights, strata, down, budget));
  interval.upper = std::min(high, interval.estimate + unseen_shift(weights, strata, up, budget));
  interval.method = "rule of three";
  return interval;
}

/// The variance that so many outcomes at a distance from the mean add to the trials of a stratum.
double unseen_variance(const Moments& moments, double outcomes, double distance) {
  const double p = outcomes / (count(moments) + 1);
  return p * (1 - p) * distance * distance;
}

/// Half-width of a mean of strata with variances of their own.
double satterthwaite_half_width(const std::vector<double>& weights,
                                const std::vector<Moments>& strata, double confidence,
                                const std::function<double(const Moments&)>& variance_of) {
  double variance = 0, per_freedom = 0;
  for (std::size_t h = 0; h < strata.size(); ++h) {
    if (!(weights[h] > 0)) continue;
    const double v = weights[h] * weights[h] * variance_of(strata[h]) / count(strata[h]);
    variance += v;
    per_freedom += v * v / (count(strata[h]) - 1);
  }
  return t_quantile(variance * variance / per_freedom, confidence) * std::sqrt(variance);
}

struct Bounds {
  double lower, upper;
};

/// Wilson's score interval of a share p of n trials.
Bounds wilson(double p, double n, double z) {
  const double z2 = z * z;
  const double centre = p + z2 / (2 * n);
  const double half_width = z * std::sqrt(p * (1 - p) / n + z2 / (4 * n * n));
  return {std::max(0.0, (centre - half_width) / (1 + z2 / n)),
          std::min(1.0, (centre + half_width) / (1 + z2 / n))};
}

/// MOVER's limits of the mean from shares of counts > 0 of trials; strata of weight 0 play no part.
Bounds mover_bounds(const std::vector<double>& weights, const std::vector<double>& shares,
                    const std::vector<double>& counts, double z) {
  double estimate = 0, below = 0, above = 0;
  for (std::size_t h = 0; h < weights.size(); ++h) {
    if (!(weights[h] > 0)) continue;
    const Bounds bounds = wilson(shares[h], counts[h], z);
    estimate += weights[h] * shares[h];
    below += std::pow(weights[h] * (shares[h] - bounds.lower), 2);
    above += std::pow(weights[h] * (bounds.upper - shares[h]), 2);
  }
  return {std::max(0.0, estimate - std::sqrt(below)), std::min(1.0, estimate + std::sqrt(above))};
}

/// By how much a count of trials grows at once: few steps lead to many trials.
double step_from(double count) {
  return 1 + std::floor(count / 64);
}

/// What each stratum should get if trials could be divided, relative.
std::vector<double> shares(const std::vector<double>& weights, const std::vector<double>& spreads,
                           const std::vector<double>& costs) {
  const std::size_t strata = weights.size();
  std::vector<double> wanted(strata);
  for (std::size_t h = 0; h < strata; ++h) {
    if (!(costs[h] > 0)) throw Bug("a stratum's trials cost nothing");
    wanted[h] = weights[h] * spreads[h] / std::sqrt(costs[h]);
  }
  const double all = std::accumulate(wanted.begin(), wanted.end(), 0.0);
  const double weight = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (!(weight > 0)) throw Bug("all strata have weight 0");
  for (std::size_t h = 0; h < strata; ++h) {
    const double defensive = weights[h] / weight;
    // One stratum alone has 1, which rounding may exceed.
    wanted[h] = all > 0 ? std::min(1.0, (1 - kDefensive) * wanted[h] / all + kDefensive * defensive)
                        : defensive;
  }
  return wanted;
}

/// Targets in proportion to the shares, at least `minimum`, sum n: strata below the minimum get it,
/// the others share what is left, until nobody is below.
std::vector<double> targets(double n, const std::vector<double>& shares, double minimum) {
  std::vector<bool> raised(shares.size(), false);
  std::vector<double> result(shares.size(), minimum);
  for (bool changed = true; changed;) {
    double left = n, free = 0;
    for (std::size_t h = 0; h < shares.size(); ++h) {
      if (raised[h])
        left -= minimum;
      else
        free += shares[h];
    }
    changed = false;
    for (std::size_t h = 0; h < shares.size(); ++h) {
      if (raised[h]) continue;
      result[h] = free > 0 ? left * shares[h] / free : minimum;
      if (result[h] >= minimum) continue;
      result[h] = minimum;
      raised[h] = changed = true;
    }
  }
  return result;
}

/// Whole numbers of sum n nearest to the targets by largest remainders, ties to the lower index.
std::vector<std::uint64_t> rounded(std::uint64_t n, const std::vector<double>& targets) {
  std::vector<std::uint64_t> result;
  std::vector<std::size_t> order(targets.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (const double target : targets) result.push_back(static_cast<std::uint64_t>(target));
  const auto remainder = [&](std::size_t h) { return targets[h] - std::floor(targets[h]); };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return remainder(a) > remainder(b); });
  std::uint64_t given = std::accumulate(result.begin(), result.end(), std::uint64_t{0});
  for (std::size_t i = 0; given < n; i = (i + 1) % order.size(), ++given) ++result[order[i]];
  return result;
}

}  // namespace

Interval stratified_interval(const std::vector<double>& weights, const std::vector<Moments>& strata,
                             double confidence, double low, double high) {
  Interval interval = estimate_of(weights, strata, confidence, low, high, "stratified t");
  if (too_few(weights, strata)) return interval;
  if (without_spread(weights, strata)) return rule_of_three(interval, weights, strata);
  const double half_width = satterthwaite_half_width(
      weights, strata, confidence,
      [&](const Moments& moments) { return floored_variance(moments, low, high); });
  interval.lower = std::max(low, interval.estimate - half_width);
  interval.upper = std::min(high, interval.estimate + half_width);
  return interval;
}

Interval guarded_interval(const std::vector<double>& weights, const std::vector<Moments>& strata,
                          double confidence, double low, double high) {
  Interval interval = estimate_of(weights, strata, confidence, low, high, "guarded stratified t");
  if (too_few(weights, strata)) return interval;
  if (without_spread(weights, strata)) return rule_of_three(interval, weights, strata);
  const auto reach = [&](double end) {
    return satterthwaite_half_width(weights, strata, confidence, [end](const Moments& moments) {
      return moments.variance() + unseen_variance(moments, 1, end - moments.mean());
    });
  };
  interval.lower = std::max(low, interval.estimate - reach(low));
  interval.upper = std::min(high, interval.estimate + reach(high));
  return interval;
}

double floored_variance(const Moments& moments, double low, double high) {
  if (moments.variance() > 0) return moments.variance();
  return unseen_variance(moments, 0.5, std::max(high - moments.mean(), moments.mean() - low));
}

Interval mover_interval(const std::vector<double>& weights, const std::vector<Moments>& strata,
                        double confidence) {
  Interval interval = estimate_of(weights, strata, confidence, 0, 1, "MOVER");
  std::vector<double> shares, counts;
  for (std::size_t h = 0; h < strata.size(); ++h) {
    if (weights[h] > 0 && strata[h].n() == 0) return interval;
    shares.push_back(strata[h].mean());
    counts.push_back(count(strata[h]));
  }
  const Bounds bounds = mover_bounds(weights, shares, counts, t_quantile(INFINITY, confidence));
  interval.lower = bounds.lower;
  interval.upper = bounds.upper;
  return interval;
}

Interval mover_mean(const std::vector<double>& weights, const std::vector<Interval>& parts,
                    double low, double high) {
  check_sizes(weights.size(), {parts.size()});
  double sum = 0, met = 0, unmet = 0, below = 0, above = 0;
  Interval interval{(low + high) / 2, low, high, parts.front().confidence, "MOVER", 0};
  for (std::size_t h = 0; h < parts.size(); ++h) {
    if (!(weights[h] > 0)) continue;
    const Interval& part = parts[h];
    if (part.n == 0) {
      unmet += weights[h];
      continue;
    }
    below += std::pow(weights[h] * (part.estimate - part.lower), 2);
    above += std::pow(weights[h] * (part.upper - part.estimate), 2);
    sum += weights[h] * part.estimate;
    met += weights[h];
    interval.n += part.n;
  }
  if (interval.n == 0) return interval;
  interval.estimate = sum / met;
  // An unmet part may be anything in the range.
  interval.lower = std::max(low, sum - std::sqrt(below) + unmet * low);
  interval.upper = std::min(high, sum + std::sqrt(above) + unmet * high);
  return interval;
}

std::vector<std::uint64_t> allocate_for(double half_width, double confidence,
                                        const std::vector<double>& weights,
                                        const std::vector<double>& shares,
                                        const std::vector<std::uint64_t>& least,
                                        std::uint64_t most) {
  check_sizes(weights.size(), {shares.size(), least.size()});
  const double z = t_quantile(INFINITY, confidence);
  std::vector<double> counts;
  for (const std::uint64_t n : least) counts.push_back(std::max(1.0, static_cast<double>(n)));
  const auto width = [&] {
    const Bounds bounds = mover_bounds(weights, shares, counts, z);
    return (bounds.upper - bounds.lower) / 2;
  };
  const auto total = [&] { return std::accumulate(counts.begin(), counts.end(), 0.0); };
  for (double now = width(); now > half_width && total() < static_cast<double>(most);
       now = width()) {
    std::size_t best = 0;
    double most_gain = -1;
    for (std::size_t h = 0; h < counts.size(); ++h) {
      const double before = counts[h];
      counts[h] += step_from(before);
      const double gain = (now - width()) / step_from(before);
      counts[h] = before;
      if (gain > most_gain) best = h;
      most_gain = std::max(gain, most_gain);
    }
    counts[best] += step_from(counts[best]);
  }
  std::vector<std::uint64_t> result;
  for (const double n : counts) result.push_back(static_cast<std::uint64_t>(n));
  return result;
}

std::vector<std::uint64_t> allocate(std::uint64_t n, const std::vector<double>& weights,
                                    const std::vector<double>& spreads,
                                    const std::vector<double>& costs, std::uint64_t minimum) {
  check_sizes(weights.size(), {spreads.size(), costs.size()});
  if (n < minimum * weights.size()) throw Bug("fewer trials than the strata's minimum");
  return rounded(n, targets(static_cast<double>(n), shares(weights, spreads, costs),
                            static_cast<double>(minimum)));
}

std::vector<double> draw_probabilities(const std::vector<double>& weights,
                                       const std::vector<double>& spreads) {
  check_sizes(weights.size(), {spreads.size()});
  return shares(weights, spreads, std::vector<double>(weights.size(), 1.0));
}

double smoothed_spread(const Moments& shares) {
  const double n = count(shares);
  const double p = (shares.mean() * n + 0.5) / (n + 1);
  return std::sqrt(p * (1 - p));
}

double smoothed_size(const Moments& losses) {
  const double n = count(losses);
  return std::sqrt((losses.mean_square() * n + 0.25) / (n + 1));
}

}  // namespace sentinel
