#include "sentinel/stats/interval.hpp"

#include <algorithm>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>

namespace sentinel {
namespace {

Interval whole_range(const CountMoments& moments, double scale, double confidence, double low,
                     double high) {
  const double estimate = moments.n() == 0 ? (low + high) / 2 : moments.mean() / scale;
  return {estimate, low, high, confidence, "t over trials", moments.n()};
}

Interval around(double estimate, double half_width, double confidence, double low, double high) {
  return {estimate,
          std::max(low, estimate - half_width),
          std::min(high, estimate + half_width),
          confidence,
          "",
          0};
}

/// The interval of n outcomes without spread (see t_interval).
Interval without_spread(double estimate, std::uint64_t n, double confidence, double low,
                        double high) {
  const double share = std::min(1.0, -std::log1p(-confidence) / static_cast<double>(n));
  return {estimate,
          estimate - share * (estimate - low),
          estimate + share * (high - estimate),
          confidence,
          "rule of three",
          n};
}

}  // namespace

void CountMoments::add(std::int64_t x) {
  ++n_;
  sum_ += x;
  sum_squares_ += static_cast<decltype(sum_squares_)>(x) * x;
}

double CountMoments::mean() const {
  return n_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(n_);
}

double CountMoments::variance() const {
  if (n_ < 2) return 0;
  using Wide = decltype(sum_squares_);
  // Exact before the one division: no cancellation, no order of summation.
  const Wide numerator = static_cast<Wide>(n_) * sum_squares_ - static_cast<Wide>(sum_) * sum_;
  const double n = static_cast<double>(n_);
  return static_cast<double>(numerator) / (n * (n - 1));
}

double t_quantile(double df, double confidence) {
  const double tail = (1 - confidence) / 2;
  namespace math = boost::math;
  if (!std::isfinite(df)) return math::quantile(math::complement(math::normal(), tail));
  return math::quantile(math::complement(math::students_t(df), tail));
}

Interval t_interval(const CountMoments& moments, double scale, double confidence, double low,
                    double high) {
  if (moments.n() < 2) return whole_range(moments, scale, confidence, low, high);
  if (!(moments.variance() > 0))
    return without_spread(moments.mean() / scale, moments.n(), confidence, low, high);
  const double n = static_cast<double>(moments.n());
  const double error = std::sqrt(moments.variance() / n) / scale;
  Interval interval =
      around(moments.mean() / scale, t_quantile(n - 1, confidence) * error, confidence, low, high);
  interval.method = "t over trials";
  interval.n = moments.n();
  return interval;
}

Interval welch_interval(const CountMoments& a, const CountMoments& b, double scale,
                        double confidence) {
  Interval interval;
  const double difference = (a.mean() - b.mean()) / scale;
  if (a.n() < 2 || b.n() < 2) {
    interval = {difference, -1, 1, confidence, "", 0};
  } else {
    const double na = static_cast<double>(a.n()), nb = static_cast<double>(b.n());
    const double va = a.variance() / na, vb = b.variance() / nb;
    const double spread = va * va / (na - 1) + vb * vb / (nb - 1);
    if (va + vb > 0) {
      const double t = t_quantile((va + vb) * (va + vb) / spread, confidence);
      interval = around(difference, t * std::sqrt(va + vb) / scale, confidence, -1, 1);
    } else {
      interval = without_spread(difference, std::min(a.n(), b.n()), confidence, -1, 1);
    }
  }
  if (interval.method.empty()) interval.method = "Welch";
  interval.n = a.n() + b.n();
  return interval;
}

}  // namespace sentinel
