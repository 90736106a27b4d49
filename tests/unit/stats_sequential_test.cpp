#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/stats/sequential.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

std::vector<double> random_values(std::uint64_t seed, std::size_t n) {
  Rng rng({seed, 0, 0, Purpose::kSynthetic});
  std::vector<double> values(n);
  for (double& value : values) value = rng.below(4) == 0 ? rng.uniform() : 0;
  return values;
}

double mean_of(const std::vector<double>& values, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += values[i];
  return sum / static_cast<double>(n);
}

/// The formula of the header, written out.
double asymptotic_half_width(const std::vector<double>& x, double alpha, double tuned_for) {
  const double t = static_cast<double>(x.size());
  double deviations = 0;
  for (const double value : x) deviations += std::pow(value - mean_of(x, x.size()), 2);
  const double rho2 = (-2 * std::log(alpha) + std::log(1 - 2 * std::log(alpha))) / tuned_for;
  return std::sqrt(deviations / (t - 1) * 2 * (t * rho2 + 1) / (t * t * rho2) *
                   std::log(std::sqrt(t * rho2 + 1) / alpha));
}

TEST(AsymptoticSequence, IsTheFormula) {
  for (const std::size_t n : {2u, 3u, 50u, 4000u}) {
    const auto x = random_values(51, n);
    AsymptoticSequence sequence(0.95, 300);
    for (const double value : x) sequence.add(value - 0.5);
    const Interval interval = sequence.interval(-100, 100);
    EXPECT_NEAR(interval.estimate, mean_of(x, n) - 0.5, test::kDoubles);
    // Of two or three observations the variance says nothing: more is assumed.
    const double formula = asymptotic_half_width(x, 0.05, 300);
    if (n >= 50)
      EXPECT_NEAR(interval.half_width(), formula, test::kDoubles);
    else
      EXPECT_GT(interval.half_width(), formula - test::kDoubles);
    EXPECT_EQ(interval.n, n);
    EXPECT_EQ(interval.method, "asymptotic confidence sequence");
  }
}

/// Outcomes that nobody has seen yet: the interval must not be a point.
TEST(AsymptoticSequence, NothingSeenIsNoZeroWidth) {
  AsymptoticSequence sequence(0.95, 1000, 5);
  for (int i = 0; i < 1000; ++i) sequence.add(0);
  const double nothing = sequence.interval(0, 1).upper;
  // Half an observation of 5 in 1001 trials: variance 25/2002; the factor of the next test.
  EXPECT_NEAR(nothing, 3.0352090 * std::sqrt(25.0 / 2002) / std::sqrt(1000.0), test::kNineDigits);
  for (int i = 0; i < 20; ++i) sequence.add(0.01);
  EXPECT_LT(sequence.interval(0, 1).half_width(), nothing / 10) << "twenty tell enough";
}

// At t = n* with alpha = 0.05, s = 1: t rho^2 = 5.9914645 + ln 6.9914645 = 7.9361546, so
// sqrt(2 * 8.9361546/7.9361546 * ln(sqrt(8.9361546)/0.05)/n*) = 3.0352090/sqrt(n*).
TEST(AsymptoticSequence, AtItsTunedTimeItIsOneAndAHalfTimesTheWald) {
  AsymptoticSequence sequence(0.95, 10000);
  for (int i = 0; i < 5000; ++i)
    for (const double x : {-1.0, 1.0}) sequence.add(x);
  const double s = std::sqrt(10000.0 / 9999);
  EXPECT_NEAR(sequence.interval(-9, 9).half_width(), 3.0352090 / 100 * s, test::kNineDigits);
}

TEST(AsymptoticSequence, IsTightestNearItsTunedTime) {
  const auto width = [](double tuned_for) {
    AsymptoticSequence sequence(0.95, tuned_for);
    for (int i = 0; i < 1000; ++i) sequence.add(i % 2);
    return sequence.interval(0, 1).half_width();
  };
  EXPECT_LT(width(1000), width(300));
  EXPECT_LT(width(1000), width(3000));
  // rho^2 is the closed form near the best one: within 1 % of it.
  EXPECT_LT(width(1000), 1.01 * std::min(width(900), width(1100)));
}

TEST(AsymptoticSequence, FewObservationsAndTheRange) {
  AsymptoticSequence sequence(0.95, 100);
  EXPECT_EQ(sequence.interval(0, 1).half_width(), 0.5);
  sequence.add(0);
  EXPECT_EQ(sequence.interval(0, 1).half_width(), 0.5);
  sequence.add(1);
  EXPECT_EQ(sequence.interval(0, 1).lower, 0);
  EXPECT_EQ(sequence.interval(0, 1).upper, 1);
  EXPECT_THROW(AsymptoticSequence(0.95, 0.5), Bug);
}

/// Waudby-Smith & Ramdas, theorem 2 with c = 1/2, sums of sums.
Interval bernstein(const std::vector<double>& y, double alpha) {
  double lambdas = 0, weighted = 0, penalties = 0;
  const auto mean = [&](std::size_t i) {
    return (0.5 + mean_of(y, i) * static_cast<double>(i)) / (static_cast<double>(i) + 1);
  };
  double deviations = 0;
  for (std::size_t i = 1; i <= y.size(); ++i) {
    const double before = i == 1 ? 0.5 : mean(i - 1);
    const double variance = (0.25 + deviations) / static_cast<double>(i);
    const double time = static_cast<double>(i) * std::log(1.0 + static_cast<double>(i));
    const double lambda = std::min(0.5, std::sqrt(2 * std::log(2 / alpha) / (variance * time)));
    lambdas += lambda;
    weighted += lambda * y[i - 1];
    penalties += std::pow(y[i - 1] - before, 2) * (-std::log(1 - lambda) - lambda);
    deviations += std::pow(y[i - 1] - mean(i), 2);
  }
  const double middle = weighted / lambdas;
  const double half_width = (std::log(2 / alpha) + penalties) / lambdas;
  return {middle, middle - half_width, middle + half_width, 1 - alpha, "", y.size()};
}

TEST(BernsteinSequence, IsTheFormula) {
  for (const std::size_t n : {1u, 2u, 40u, 1500u}) {
    const auto y = random_values(53, n);
    BernsteinSequence sequence(0.95);
    for (const double value : y) sequence.add(value);
    const Interval naive = bernstein(y, 0.05), interval = sequence.interval();
    EXPECT_NEAR(interval.estimate, mean_of(y, n), test::kDoubles);
    EXPECT_NEAR(interval.lower, std::max(0.0, naive.lower), test::kDoubles);
    EXPECT_NEAR(interval.upper, std::min(1.0, naive.upper), test::kDoubles);
    EXPECT_EQ(interval.n, n);
    EXPECT_EQ(interval.method, "empirical-Bernstein confidence sequence");
  }
}

// One observation: lambda = 1/2, v = 4 (0 - 1/2)^2 = 1, so the interval is 0 +- 2 (ln 40 + (ln 2 -
// 1/2)/4), all of [0, 1]. Many equal ones: it closes in on them.
TEST(BernsteinSequence, EqualObservations) {
  BernsteinSequence sequence(0.95);
  EXPECT_EQ(sequence.interval().half_width(), 0.5);
  sequence.add(0);
  EXPECT_EQ(sequence.interval().upper, 1);
  for (int i = 1; i < 2000; ++i) sequence.add(0);
  EXPECT_EQ(sequence.interval().lower, 0);
  EXPECT_LT(sequence.interval().upper, 0.005);
  EXPECT_GT(sequence.interval().upper, 0.0015);  // not below the rule of three for one look
}

// y and 1 - y are the same question.
TEST(BernsteinSequence, IsSymmetric) {
  BernsteinSequence shares(0.95), complements(0.95);
  for (const double y : random_values(57, 700)) {
    shares.add(y);
    complements.add(1 - y);
  }
  EXPECT_NEAR(shares.interval().estimate, 1 - complements.interval().estimate, test::kDoubles);
  EXPECT_NEAR(shares.interval().lower, 1 - complements.interval().upper, test::kDoubles);
}

TEST(BernsteinSequence, RefusesWhatIsOutsideButNotRounding) {
  BernsteinSequence sequence(0.95);
  sequence.add(1 + 1e-12);
  EXPECT_THROW(sequence.add(1.001), Bug);
  EXPECT_THROW(sequence.add(-0.001), Bug);
  EXPECT_THROW(sequence.add(NAN), Bug);
  EXPECT_EQ(sequence.n(), 1u);
}

}  // namespace
}  // namespace sentinel
