#include "sentinel/stats/sequential.hpp"

#include <algorithm>
#include <cmath>

#include "sentinel/core/error.hpp"

namespace sentinel {
namespace {

constexpr double kRounding = 1e-9;   // by which a y may leave its range
constexpr double kLargestBet = 0.5;  // psi grows without bound towards 1

}  // namespace

AsymptoticSequence::AsymptoticSequence(double confidence, double tuned_for, double largest)
    : confidence_(confidence), largest_(largest) {
  if (!(tuned_for >= 1)) throw Bug("a confidence sequence is tuned for less than one observation");
  const double log_alpha = std::log1p(-confidence);
  rho_squared_ = (-2 * log_alpha + std::log1p(-2 * log_alpha)) / tuned_for;
}

void AsymptoticSequence::add(double x, double observed) {
  moments_.add(x);
  rarity_.add(observed);
}

Interval AsymptoticSequence::interval(double low, double high) const {
  const double t = static_cast<double>(n());
  const double estimate = n() == 0 ? (low + high) / 2 : std::clamp(moments_.mean(), low, high);
  Interval interval{estimate, low, high, confidence_, "asymptotic confidence sequence", n()};
  if (n() < 2) return interval;
  const double spread = t * rho_squared_;
  const double log_ratio = std::log1p(spread) / 2 - std::log1p(-confidence_);
  double variance = moments_.variance();
  if (rarity_.rare()) variance = std::max(variance, largest_ * largest_ / (2 * (t + 1)));
  const double half_width = std::sqrt(variance * 2 * (spread + 1) / (t * spread) * log_ratio);
  interval.lower = std::max(low, estimate - half_width);
  interval.upper = std::min(high, estimate + half_width);
  return interval;
}

BernsteinSequence::BernsteinSequence(double confidence) : confidence_(confidence) {}

void BernsteinSequence::add(double y, double offset) {
  if (!(y >= offset - kRounding && y <= offset + 1 + kRounding))
    throw Bug("an observation of a Bernstein sequence is outside its range");
  y = std::clamp(y, offset, offset + 1);
  const double i = static_cast<double>(++n_);
  const double log_two_alpha = M_LN2 - std::log1p(-confidence_);
  // From the past alone: the bet must be made before y is seen.
  const double lambda =
      std::min(kLargestBet, std::sqrt(2 * log_two_alpha / (spread_ * i * std::log1p(i))));
  const double deviation = y - std::clamp(mean_, offset, offset + 1);
  const double v = 4 * deviation * deviation;
  lambdas_ += lambda;
  weighted_ += lambda * y;
  penalties_ += v * (-std::log1p(-lambda) - lambda) / 4;
  sum_y_ += y;
  mean_ = (0.5 + sum_y_) / (i + 1);
  sum_deviations_ += (y - mean_) * (y - mean_);
  spread_ = (0.25 + sum_deviations_) / (i + 1);
}

Interval BernsteinSequence::interval() const {
  Interval interval{0.5, 0, 1, confidence_, "empirical-Bernstein confidence sequence", n_};
  if (n_ == 0) return interval;
  const double half_width = (M_LN2 - std::log1p(-confidence_) + penalties_) / lambdas_;
  const double centre = weighted_ / lambdas_;
  interval.estimate = std::clamp(sum_y_ / static_cast<double>(n_), 0.0, 1.0);
  interval.lower = std::min(interval.estimate, std::max(0.0, centre - half_width));
  interval.upper = std::max(interval.estimate, std::min(1.0, centre + half_width));
  return interval;
}

}  // namespace sentinel
