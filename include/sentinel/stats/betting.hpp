#pragma once
#include <cstdint>
#include <map>
#include <vector>

#include "sentinel/stats/interval.hpp"

/// Intervals for means of bounded observations that hold for every number of them, and the rule
/// that chooses between these and t.
namespace sentinel {

/// Interval for the mean of independent observations in [low, high] by betting (hedged capital;
/// Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting"), valid
/// for every n and every distribution in the range. The estimate is the sample mean. Order counts:
/// callers give the values in trial order.
///
/// Of y_i in [0, 1] (x_i mapped by the range) the capital of a bet that the mean is above m is
/// prod (1 + min(lambda_i, c/m) (y_i - m)), below m prod (1 - min(lambda_i, c/(1 - m)) (y_i - m)),
/// with lambda_i = sqrt(2 ln(2/alpha)/(n s^2_{i-1})) from the observations before and c = 3/4
/// (simulated: a quarter narrower than 1/2 where failures are rare, at most 5 % wider elsewhere).
/// The ends are where the largest capital of each bet reaches 2/alpha. No observation: the range.
Interval betting_interval(const std::vector<double>& values, double confidence, double low,
                          double high);

/// Whether fewer than 20 of the observations differ from the commonest value. Once they do not, no
/// further observation changes that.
class Rarity {
 public:
  static constexpr std::uint64_t kFew = 20;
  void add(double x);
  bool rare() const { return rare_; }

 private:
  bool rare_ = true;
  std::uint64_t n_ = 0, commonest_ = 0;
  std::map<double, std::uint64_t> counts_;  // at most 20 values while rare, else empty
};

/// Independent observations of bounded mean, one by one. The interval is chosen by counts alone:
/// by betting below 500 of them and while fewer than 20 differ from the commonest value, else by t
/// (which covers 0.87 where 1 % of 500 trials fail).
class Sample {
 public:
  static constexpr std::uint64_t kEnough = 500;
  void add(double x);
  std::uint64_t n() const { return moments_.n(); }
  const Moments& moments() const { return moments_; }
  bool bets() const { return n() < kEnough || rarity_.rare(); }
  Interval interval(double confidence, double low, double high) const;

 private:
  Moments moments_;
  Rarity rarity_;
  struct Run {
    double value;
    std::uint64_t times;
  };
  std::vector<double> values() const;
  std::vector<Run> runs_;  // while it bets; most of what is rare are equal values in a row
};

/// Difference of the means of two independent samples, a - b, both known with the same confidence.
/// Where either bets, from their betting intervals by MOVER (Donner & Zou 2002): the distances of
/// their ends from their means, added in squares. Else Welch's.
struct BoundedSample {
  const Sample& sample;
  double low, high;  // of the observations
};
Interval difference_interval(const BoundedSample& a, const BoundedSample& b, double confidence);

}  // namespace sentinel
