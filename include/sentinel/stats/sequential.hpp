#pragma once
#include <cstdint>

#include "sentinel/stats/betting.hpp"
#include "sentinel/stats/interval.hpp"

/// Confidence sequences: intervals that hold at all times together, so that one may look after
/// every trial and stop when they are narrow enough (a Wald interval looked at like that covers
/// 0.83 instead of 0.95). Observations enter in trial order.
namespace sentinel {

/// Asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2021) for the mean
/// of the X_t: mean +- s sqrt(2 (t rho^2 + 1)/(t^2 rho^2) ln(sqrt(t rho^2 + 1)/alpha)), with
/// rho^2 = (-2 ln alpha + ln(1 - 2 ln alpha))/n*, tightest near t = n*. X_t need not be
/// independent: their conditional mean given the past is what counts.
///
/// Until 20 of the observations differ from the commonest, s^2 says little of what is rare: then it
/// is taken to be at least that of half an X of the size `largest` in t + 1 trials, largest^2/(2 (t
/// + 1)).
class AsymptoticSequence {
 public:
  /// `tuned_for`: n*, at least 1. `largest`: bound of |X_t|, or of its distance from the mean.
  AsymptoticSequence(double confidence, double tuned_for, double largest = 1);
  /// `observed`: what X was made of, by which rare ones are told.
  void add(double x, double observed);
  void add(double x) { add(x, x); }
  std::uint64_t n() const { return moments_.n(); }
  /// At this moment, the estimate too cut to [low, high]; all of it with fewer than two
  /// observations.
  Interval interval(double low, double high) const;

 private:
  double confidence_, rho_squared_, largest_;
  Moments moments_;
  Rarity rarity_;
};

/// Empirical-Bernstein confidence sequence (Waudby-Smith & Ramdas 2024, "Estimating means of
/// bounded random variables by betting", predictable plug-in) for the mean of Y_i in [0, 1]; holds
/// for every n, not only for large ones. The running intersection is not taken: an interval depends
/// on its moment's sums alone.
class BernsteinSequence {
 public:
  explicit BernsteinSequence(double confidence);
  /// y in [offset, offset + 1] up to rounding (1e-9), Bug otherwise. The offset is known before y;
  /// the bound on y - (its prediction in the same range) is all that the proof needs of a range.
  void add(double y, double offset = 0);
  std::uint64_t n() const { return n_; }
  /// In [0, 1], around the mean weighted by the bets lambda. The estimate is the plain mean; the
  /// interval is widened to hold it where it would not.
  Interval interval() const;

 private:
  double confidence_;
  std::uint64_t n_ = 0;
  double mean_ = 0.5, spread_ = 0.25;  // predictable: of the observations so far
  double sum_y_ = 0, sum_deviations_ = 0;
  double lambdas_ = 0, weighted_ = 0, penalties_ = 0;  // sums over lambda, lambda y, v psi(lambda)
};

}  // namespace sentinel
