#pragma once
#include <cstdint>
#include <string>

namespace sentinel {

/// An estimate with its confidence interval.
struct Interval {
  double estimate = 0, lower = 0, upper = 0, confidence = 0.95;
  std::string method;
  std::uint64_t n = 0;  // trials used
  double half_width() const { return (upper - lower) / 2; }
};

/// Exact sums of integer observations x_i (images counted in a trial, differences of such), so that
/// moments do not depend on the order of arrival.
class CountMoments {
 public:
  void add(std::int64_t x);
  std::uint64_t n() const { return n_; }
  double mean() const;
  double variance() const;  // unbiased, 0 for n < 2

 private:
  std::uint64_t n_ = 0;
  std::int64_t sum_ = 0;
  __extension__ __int128 sum_squares_ = 0;
};

/// Interval for the mean of x/scale over trials: mean +- t_{n-1} s/sqrt(n); the unit is the trial,
/// since all images of a trial share its faults (the binomial interval over trials x images covers
/// 0.17 instead of 0.95). Cut to the range [low, high] of x/scale; with n < 2 all of it.
///
/// Where all n >= 2 observations are equal, s = 0 says nothing about what was not seen: another
/// outcome of probability q stays unseen with probability (1 - q)^n, so with this confidence
/// q <= 1 - (1 - confidence)^(1/n) <= b = -ln(1 - confidence)/n, the rule of three (3/n at 95 %).
/// The mean then lies at most the share b of the way from the estimate e to either end of the
/// range: [e - b (e - low), e + b (high - e)], b at most 1; method "rule of three".
Interval t_interval(const CountMoments& moments, double scale, double confidence, double low,
                    double high);

/// Difference of two independent means a/scale - b/scale (Welch, Satterthwaite degrees of freedom),
/// both in [0, 1]: cut to [-1, 1]; with n < 2 in one of them all of it. n counts both.
/// Without spread in both, the rule of three as in t_interval with n = min(na, nb): the unseen
/// shares of both together are at most -ln(1-confidence)/n.
Interval welch_interval(const CountMoments& a, const CountMoments& b, double scale,
                        double confidence);

/// Two-sided quantile t such that P(|T_df| <= t) = confidence.
double t_quantile(double df, double confidence);

}  // namespace sentinel
