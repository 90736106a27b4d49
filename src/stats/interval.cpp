#include "sentinel/stats/interval.hpp"

#include <algorithm>
#include <boost/math/distributions/beta.hpp>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr const char* kTrials = "t over trials";
constexpr const char* kWelch = "Welch";

Interval around(double estimate, double half_width, double confidence, double low, double high) {
  return {estimate,
          std::max(low, estimate - half_width),
          std::min(high, estimate + half_width),
          confidence,
          "",
          0};
}

/// The share of other outcomes that n without spread do not exclude (see t_interval).
double unseen_share(std::uint64_t n, double confidence) {
  return std::min(1.0, -std::log1p(-confidence) / static_cast<double>(n));
}

/// The same where n of a finite population were drawn (see korn_graubard_interval).
double unseen_share(std::uint64_t n, double confidence, std::uint64_t population) {
  if (population == 0) return unseen_share(n, confidence);
  if (n >= population) return 0;
  const double all = static_cast<double>(population), drawn = static_cast<double>(n) / all;
  return std::min(1 - drawn, std::log1p(-confidence) / (all * std::log1p(-drawn)));
}

Interval without_spread(double estimate, std::uint64_t n, double share, double confidence,
                        double low, double high) {
  return {estimate,
          estimate - share * (estimate - low),
          estimate + share * (high - estimate),
          confidence,
          "rule of three",
          n};
}

/// Clopper-Pearson for `failures` of n, neither of them whole numbers; 0 < failures < n. Less than
/// one failure does not tell that there are any: the formula's lower end is as small as 1e-43 then.
Interval clopper_pearson(double failures, double n, double confidence) {
  namespace math = boost::math;
  const double tail = (1 - confidence) / 2;
  const math::beta_distribution<> below(failures, n - failures + 1),
      above(failures + 1, n - failures);
  return {failures / n,
          failures < 1 ? 0 : math::quantile(below, tail),
          n - failures < 1 ? 1 : math::quantile(math::complement(above, tail)),
          confidence,
          "Korn-Graubard",
          0};
}

}  // namespace

void Moments::add(double x) {
  ++n_;
  const double before = x - mean_;
  mean_ += before / static_cast<double>(n_);
  squares_ += before * (x - mean_);
}

double Moments::variance() const {
  return n_ < 2 ? 0 : squares_ / static_cast<double>(n_ - 1);
}

double Moments::mean_square() const {
  return n_ == 0 ? 0 : mean_ * mean_ + squares_ / static_cast<double>(n_);
}

double t_quantile(double df, double confidence) {
  const double tail = (1 - confidence) / 2;
  namespace math = boost::math;
  if (!std::isfinite(df)) return math::quantile(math::complement(math::normal(), tail));
  return math::quantile(math::complement(math::students_t(df), tail));
}

Interval t_interval(const Moments& moments, double confidence, double low, double high) {
  const double estimate = moments.n() == 0 ? (low + high) / 2 : moments.mean();
  if (moments.n() < 2) return {estimate, low, high, confidence, kTrials, moments.n()};
  if (!(moments.variance() > 0))
    return without_spread(estimate, moments.n(), unseen_share(moments.n(), confidence), confidence,
                          low, high);
  const double n = static_cast<double>(moments.n());
  const double error = std::sqrt(moments.variance() / n);
  Interval interval =
      around(estimate, t_quantile(n - 1, confidence) * error, confidence, low, high);
  interval.method = kTrials;
  interval.n = moments.n();
  return interval;
}

Interval korn_graubard_interval(const Moments& shares, double confidence,
                                std::uint64_t population) {
  const std::uint64_t trials = shares.n();
  if (trials < 2) return t_interval(shares, confidence, 0, 1);
  const double n = static_cast<double>(trials), p = shares.mean();
  if (population > 0 && trials >= population) return {p, p, p, confidence, "census", trials};
  if (!(shares.variance() > 0))
    return without_spread(p, trials, unseen_share(trials, confidence, population), confidence, 0,
                          1);
  const double left = population == 0 ? 1 : 1 - n / static_cast<double>(population);
  const double effective = std::min(n - 1, p * (1 - p) * n / shares.variance());
  const double quantiles = t_quantile(INFINITY, confidence) / t_quantile(n - 1, confidence);
  const double used = effective * quantiles * quantiles / left;
  Interval interval = clopper_pearson(p * used, used, confidence);
  interval.estimate = p;
  interval.n = trials;
  return interval;
}

Interval count_interval(const Moments& shares, std::int64_t images_per_trial, double confidence) {
  const double n = static_cast<double>(shares.n()) * static_cast<double>(images_per_trial);
  if (n == 0) return {0.5, 0, 1, confidence, kOverImages, 0};
  const double failures = std::round(shares.mean() * n);
  if (failures < 0 || failures > n) throw Bug("more images fail than there are");
  const double tail = (1 - confidence) / 2;
  Interval interval{failures / n, 0, 1, confidence, kOverImages, shares.n()};
  if (failures > 0)
    interval.lower =
        boost::math::quantile(boost::math::beta_distribution<>(failures, n - failures + 1), tail);
  if (failures < n)
    interval.upper = boost::math::quantile(boost::math::complement(
        boost::math::beta_distribution<>(failures + 1, n - failures), tail));
  return interval;
}

Interval welch_interval(const Moments& a, const Moments& b, double confidence, double low,
                        double high) {
  const double difference = a.mean() - b.mean();
  const double na = static_cast<double>(a.n()), nb = static_cast<double>(b.n());
  const double va = a.variance() / na, vb = b.variance() / nb;
  Interval interval{difference, low, high, confidence, "", 0};
  if (a.n() >= 2 && b.n() >= 2 && va + vb > 0) {
    const double df = (va + vb) * (va + vb) / (va * va / (na - 1) + vb * vb / (nb - 1));
    const double half_width = t_quantile(df, confidence) * std::sqrt(va + vb);
    interval = around(difference, half_width, confidence, low, high);
  } else if (a.n() >= 2 && b.n() >= 2) {
    const std::uint64_t n = std::min(a.n(), b.n());
    interval = without_spread(difference, n, unseen_share(n, confidence), confidence, low, high);
  }
  if (interval.method.empty()) interval.method = kWelch;
  interval.n = a.n() + b.n();
  return interval;
}

Interval mover_difference(const Interval& a, const Interval& b, const std::string& method) {
  const double difference = a.estimate - b.estimate;
  const double below = std::hypot(a.estimate - a.lower, b.upper - b.estimate);
  const double over = std::hypot(a.upper - a.estimate, b.estimate - b.lower);
  return {difference, difference - below, difference + over, a.confidence, method, a.n + b.n};
}

std::uint64_t trials_for(double half_width, double deviation, double confidence) {
  const double ratio = t_quantile(INFINITY, confidence) * deviation / half_width;
  constexpr double kMost = 1e18;  // a double beyond 2^64 would be no integer
  return static_cast<std::uint64_t>(std::min(kMost, std::ceil(ratio * ratio)));
}

}  // namespace sentinel
