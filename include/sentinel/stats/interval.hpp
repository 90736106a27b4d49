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

/// Mean and variance of observations added one by one (Welford). Callers add in trial order, as the
/// order decides the last bits.
class Moments {
 public:
  void add(double x);
  std::uint64_t n() const { return n_; }
  double mean() const { return mean_; }
  double variance() const;     // unbiased, 0 for n < 2
  double mean_square() const;  // of x itself, 0 for n = 0

 private:
  std::uint64_t n_ = 0;
  double mean_ = 0, squares_ = 0;  // squares: of the deviations
};

/// Interval for the mean over trials: mean +- t_{n-1} s/sqrt(n); the unit is the trial, since all
/// images of a trial share its faults (the binomial interval over trials x images covers 0.17
/// instead of 0.95). Cut to [low, high], the range of the observations; with n < 2 all of it.
///
/// Where all n >= 2 observations are equal, s = 0 says nothing about what was not seen: another
/// outcome of probability q stays unseen with probability (1 - q)^n, so with this confidence
/// q <= 1 - (1 - confidence)^(1/n) <= b = -ln(1 - confidence)/n, the rule of three (3/n at 95 %).
/// The mean then lies at most the share b of the way from the estimate e to either end of the
/// range: [e - b (e - low), e + b (high - e)], b at most 1; method "rule of three".
Interval t_interval(const Moments& moments, double confidence, double low, double high);

/// Interval for a mean share in [0, 1] over trials after Korn & Graubard (1998): Clopper-Pearson
/// with p n_e failures of n_e = min(n - 1, p (1 - p)/(s^2/n)) (z/t_{n-1})^2 trials. n - 1 is what
/// shares of only 0 and 1 give: a trial never counts as more than one observation, so that it stays
/// on the safe side where s^2 misses rare trials with many failures (without this bound 0.26 to
/// 0.93 simulated). With less than one failure among n_e the lower end is 0, with less than one
/// success the upper end is 1. No spread: the rule of three of t_interval.
///
/// `population` N > 0: the trials are drawn without replacement from so many that each have one
/// share, so that the variance of the mean is (1 - n/N) s^2/n: n_e is divided by 1 - n/N. A census
/// (n = N) has no width. Without spread K unseen trials stay so with probability at most
/// (1 - n/N)^K, so that the b of t_interval is ln(1 - confidence)/(N ln(1 - n/N)), at most 1 - n/N.
Interval korn_graubard_interval(const Moments& shares, double confidence,
                                std::uint64_t population = 0);

/// Interval::method of count_interval.
inline constexpr char kOverImages[] = "Clopper-Pearson over images";
/// Clopper-Pearson for a mean share of images, each of which fails or not independently of all
/// others of its trial: over trials x images. Images may fail with different probabilities: the sum
/// of such is less spread than a binomial one of the same mean (Hoeffding 1956).
Interval count_interval(const Moments& shares, std::int64_t images_per_trial, double confidence);

/// Difference of two independent means a - b (Welch, Satterthwaite degrees of freedom), cut to
/// [low, high]; with n < 2 in one of them all of it. n counts both. Without spread in both, the
/// rule of three as in t_interval with n = min(na, nb): the unseen shares of both together are at
/// most -ln(1-confidence)/n.
Interval welch_interval(const Moments& a, const Moments& b, double confidence, double low,
                        double high);

/// Difference a - b of two independent estimates of the same confidence by MOVER (Donner & Zou
/// 2002): the distances of their ends from the estimates, added in squares. n counts both. Not cut.
Interval mover_difference(const Interval& a, const Interval& b, const std::string& method);

/// Two-sided quantile t such that P(|T_df| <= t) = confidence.
double t_quantile(double df, double confidence);

/// Trials after which a mean over independent trials of this standard deviation has the half-width:
/// ceil((z sd/half_width)^2).
std::uint64_t trials_for(double half_width, double deviation, double confidence);

}  // namespace sentinel
