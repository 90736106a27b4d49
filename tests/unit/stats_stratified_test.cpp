#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "sentinel/core/error.hpp"
#include "sentinel/core/rng.hpp"
#include "sentinel/stats/stratified.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

using ::testing::ElementsAre;

Moments moments_of(const std::vector<double>& values) {
  Moments moments;
  for (const double value : values) moments.add(value);
  return moments;
}

Moments constant(double value, int n) {
  return moments_of(std::vector<double>(static_cast<std::size_t>(n), value));
}

void expect_same(const Interval& a, const Interval& b) {
  EXPECT_DOUBLE_EQ(a.estimate, b.estimate);
  EXPECT_DOUBLE_EQ(a.lower, b.lower);
  EXPECT_DOUBLE_EQ(a.upper, b.upper);
  EXPECT_EQ(a.n, b.n);
}

// scipy 1.10: v_h = W_h^2 s_h^2/n_h, df = 2.13958, t.ppf(0.975, df) sqrt(v_1 + v_2).
TEST(StratifiedInterval, HandExample) {
  const std::vector<Moments> strata{moments_of({0.1, 0.2, 0.3, 0.4}), moments_of({0.2, 0.4, 0.6})};
  const Interval interval = stratified_interval({0.25, 0.75}, strata, 0.95, 0, 1);
  EXPECT_DOUBLE_EQ(interval.estimate, 0.3625);
  EXPECT_NEAR(interval.lower, 0.3625 - 0.356297455, test::kEightDigits);
  EXPECT_NEAR(interval.upper, 0.3625 + 0.356297455, test::kEightDigits);
  EXPECT_EQ(interval.n, 7u);
  EXPECT_EQ(interval.method, "stratified t");
}

TEST(StratifiedInterval, OneStratumIsTheSimpleInterval) {
  for (const Moments& moments : {moments_of({0.1, 0.5, 0.9, 0.3}), constant(0, 100),
                                 constant(0.25, 7), constant(0.5, 2), constant(0.5, 1), Moments()})
    expect_same(stratified_interval({1}, {moments}, 0.9, 0, 1), t_interval(moments, 0.9, 0, 1));
}

TEST(StratifiedInterval, AnEmptyOrSingleTrialSaysNothingUnlessItsWeightIsZero) {
  const Moments some = moments_of({0.1, 0.5, 0.9, 0.3});
  for (const Moments& few : {Moments(), moments_of({0.2})}) {
    const Interval all = stratified_interval({0.5, 0.5}, {some, few}, 0.95, -1, 1);
    EXPECT_EQ(all.lower, -1);
    EXPECT_EQ(all.upper, 1);
    const Interval ignored = stratified_interval({1, 0}, {some, few}, 0.95, -1, 1);
    EXPECT_DOUBLE_EQ(ignored.upper, t_interval(some, 0.95, -1, 1).upper);
  }
}

TEST(StratifiedInterval, AStratumWithoutSpreadCountsAsAlmostUnseen) {
  const Moments some = moments_of({0.1, 0.5, 0.9, 0.3});
  const Interval interval = stratified_interval({0.5, 0.5}, {some, constant(0, 49)}, 0.95, 0, 1);
  const double p = 0.01;  // (1/2)/50
  const double va = 0.25 * some.variance() / 4, vb = 0.25 * p * (1 - p) / 49;
  const double df = (va + vb) * (va + vb) / (va * va / 3 + vb * vb / 48);
  EXPECT_NEAR(interval.upper, 0.225 + t_quantile(df, 0.95) * std::sqrt(va + vb), test::kDoubles);
  // The other end is farther away here.
  const Interval high = stratified_interval({0.5, 0.5}, {some, constant(1, 49)}, 0.95, 0, 1);
  EXPECT_NEAR(high.lower, 0.725 - t_quantile(df, 0.95) * std::sqrt(va + vb), test::kDoubles);
}

TEST(StratifiedRuleOfThree, TheWorstStratumDecides) {
  const double budget = 2.995732274;  // -ln 0.05
  const std::vector<Moments> strata{constant(0, 100), constant(0, 50)};
  // W/n is 0.2/100 and 0.8/50: everything unseen may lie in the second.
  const Interval interval = stratified_interval({0.2, 0.8}, strata, 0.95, 0, 1);
  EXPECT_EQ(interval.method, "rule of three");
  EXPECT_EQ(interval.estimate, 0);
  EXPECT_EQ(interval.lower, 0);
  EXPECT_NEAR(interval.upper, 0.8 * budget / 50, test::kNineDigits);
  EXPECT_EQ(interval.n, 150u);
}

TEST(StratifiedRuleOfThree, AStratumIsAtMostWhollyUnseen) {
  const double budget = 2.995732274;
  // Two trials of the first may both have missed what it is; the rest of the budget goes on.
  const Interval interval =
      stratified_interval({0.5, 0.5}, {constant(0, 2), constant(0.5, 10)}, 0.95, 0, 1);
  EXPECT_DOUBLE_EQ(interval.estimate, 0.25);
  EXPECT_NEAR(interval.upper, 0.25 + 0.5 + 0.5 * 0.5 * (budget - 2) / 10, test::kNineDigits);
  EXPECT_NEAR(interval.lower, 0.25 - 0.5 * 0.5 * budget / 10, test::kNineDigits);
}

TEST(StratifiedRuleOfThree, InProportionItIsTheSimpleOne) {
  const Interval parts = stratified_interval(
      {0.1, 0.3, 0.6}, {constant(0, 20), constant(0, 60), constant(0, 120)}, 0.95, 0, 1);
  EXPECT_NEAR(parts.upper, t_interval(constant(0, 200), 0.95, 0, 1).upper, test::kDoubles);
}

// Whatever rates stay unseen with probability 5 %: the interval reaches their mean.
TEST(StratifiedRuleOfThree, CoversWhatStaysUnseen) {
  Rng rng({41, 0, 0, Purpose::kSynthetic});  // seed 41
  for (int example = 0; example < 200; ++example) {
    std::vector<double> weights, rates;
    std::vector<Moments> strata;
    double logs = 0, mean = 0;
    for (int h = 0; h < 4; ++h) {
      weights.push_back(rng.uniform_positive());
      rates.push_back(rng.uniform());
      strata.push_back(constant(0, 2 + static_cast<int>(rng.below(40))));
    }
    const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
    // q_h = 1 - (1 - r_h)^c, c such that prod (1 - q_h)^n_h = 0.05.
    for (std::size_t h = 0; h < 4; ++h)
      logs += static_cast<double>(strata[h].n()) * std::log1p(-rates[h]);
    for (std::size_t h = 0; h < 4; ++h) {
      weights[h] /= all;
      mean += weights[h] * (1 - std::pow(1 - rates[h], std::log(0.05) / logs));
    }
    EXPECT_GE(stratified_interval(weights, strata, 0.95, 0, 1).upper, mean);
  }
}

// scipy 1.10, Wilson: [0.112437500, 0.330371059] for 10 of 50, [0, 0.036993498] for 0 of 100.
TEST(MoverInterval, HandExample) {
  Moments fifth;
  for (int i = 0; i < 50; ++i) fifth.add(i < 10);
  const Interval one = mover_interval({1}, {fifth}, 0.95);
  EXPECT_NEAR(one.lower, 0.112437500, test::kNineDigits);
  EXPECT_NEAR(one.upper, 0.330371059, test::kNineDigits);
  const Interval two = mover_interval({0.1, 0.9}, {fifth, constant(0, 100)}, 0.95);
  EXPECT_DOUBLE_EQ(two.estimate, 0.02);
  EXPECT_NEAR(two.lower, 0.011243750, test::kNineDigits);
  EXPECT_NEAR(two.upper, 0.055755649, test::kNineDigits);
  EXPECT_EQ(two.n, 150u);
  EXPECT_EQ(two.method, "MOVER");
}

TEST(MoverInterval, AnEmptyStratumSaysNothing) {
  const Interval interval = mover_interval({0.5, 0.5}, {constant(0, 10), Moments()}, 0.95);
  EXPECT_EQ(interval.lower, 0);
  EXPECT_EQ(interval.upper, 1);
}

TEST(Allocate, HandExamples) {
  const std::vector<double> ones(2, 1);
  // 0.8 * {0.75, 0.25} + 0.2 * {0.5, 0.5} = {0.7, 0.3}
  EXPECT_THAT(allocate(100, {0.5, 0.5}, {0.3, 0.1}, ones, 3), ElementsAre(70, 30));
  // Four times the cost is half the trials of the first term: {0.6, 0.4}, 0.8 … + 0.1
  EXPECT_THAT(allocate(100, {0.5, 0.5}, {0.3, 0.1}, {4, 1}, 3), ElementsAre(58, 42));
  EXPECT_THAT(allocate(100, {0.9, 0.1}, {0, 0}, ones, 3), ElementsAre(90, 10));
  // The last two are raised to the minimum one after the other.
  EXPECT_THAT(allocate(100, {0.60, 0.30, 0.10}, {0, 0, 0}, {1, 1, 1}, 30), ElementsAre(40, 30, 30));
  EXPECT_THAT(allocate(90, {0.60, 0.30, 0.10}, {0, 0, 0}, {1, 1, 1}, 30), ElementsAre(30, 30, 30));
}

TEST(Allocate, TiesGoToTheLowerIndex) {
  EXPECT_THAT(allocate(11, {0.25, 0.25, 0.25, 0.25}, {1, 1, 1, 1}, {1, 1, 1, 1}, 0),
              ElementsAre(3, 3, 3, 2));
}

TEST(Allocate, SumsToNAndKeepsTheMinimum) {
  Rng rng({43, 0, 0, Purpose::kSynthetic});  // seed 43
  for (int example = 0; example < 500; ++example) {
    const std::size_t strata = 1 + rng.below(30);
    const std::uint64_t minimum = rng.below(40);
    const std::uint64_t n = minimum * strata + rng.below(3000);
    std::vector<double> weights, spreads, costs;
    for (std::size_t h = 0; h < strata; ++h) {
      weights.push_back(std::pow(rng.uniform_positive(), 8));
      spreads.push_back(rng.below(3) == 0 ? 0 : rng.uniform());
      costs.push_back(rng.uniform_positive());
    }
    const auto plan = allocate(n, weights, spreads, costs, minimum);
    EXPECT_EQ(std::accumulate(plan.begin(), plan.end(), std::uint64_t{0}), n);
    for (const std::uint64_t given : plan) EXPECT_GE(given, minimum);
  }
}

TEST(Allocate, RefusesWhatCannotBe) {
  EXPECT_THROW(allocate(5, {0.5, 0.5}, {1, 1}, {1, 1}, 3), Bug);
  EXPECT_THROW(allocate(50, {0.5, 0.5}, {1}, {1, 1}, 3), Bug);
  EXPECT_THROW(allocate(50, {0.5, 0.5}, {1, 1}, {1, 0}, 3), Bug);
  EXPECT_THROW(allocate(50, {0, 0}, {1, 1}, {1, 1}, 3), Bug);
  EXPECT_THROW(allocate(50, {}, {}, {}, 3), Bug);
}

TEST(DrawProbabilities, HandExampleAndBound) {
  const auto q = draw_probabilities({0.5, 0.25, 0.25}, {0, 0.3, 0.1});
  EXPECT_DOUBLE_EQ(q[0], 0.1);
  EXPECT_DOUBLE_EQ(q[1], 0.05 + 0.6);
  EXPECT_DOUBLE_EQ(q[2], 0.05 + 0.2);
  EXPECT_THAT(draw_probabilities({0.75, 0.25}, {0, 0}), ElementsAre(0.75, 0.25));
}

TEST(DrawProbabilities, WeightIsAtMostFiveTimesTheProbability) {
  Rng rng({47, 0, 0, Purpose::kSynthetic});  // seed 47
  for (int example = 0; example < 200; ++example) {
    std::vector<double> weights, spreads;
    for (int h = 0; h < 6; ++h) {
      weights.push_back(static_cast<double>(1 + rng.below(1000)));
      spreads.push_back(rng.below(3) == 0 ? 0 : rng.uniform());
    }
    const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
    for (double& weight : weights) weight /= all;
    const auto q = draw_probabilities(weights, spreads);
    EXPECT_NEAR(std::accumulate(q.begin(), q.end(), 0.0), 1, test::kDoubles);
    for (std::size_t h = 0; h < 6; ++h) EXPECT_LE(weights[h] / q[h], 5 * (1 + 1e-12));
  }
}

TEST(SmoothedSpread, HandExamples) {
  EXPECT_DOUBLE_EQ(smoothed_spread(Moments()), 0.5);  // p = 1/2
  EXPECT_DOUBLE_EQ(smoothed_spread(constant(0, 49)), std::sqrt(0.01 * 0.99));
  EXPECT_DOUBLE_EQ(smoothed_spread(moments_of({0.5, 1, 1})), std::sqrt(0.75 * 0.25));
}

TEST(SmoothedSize, HandExamples) {
  EXPECT_DOUBLE_EQ(smoothed_size(Moments()), 0.5);
  EXPECT_DOUBLE_EQ(smoothed_size(constant(0, 24)), 0.1);
  EXPECT_DOUBLE_EQ(smoothed_size(moments_of({-0.5, 0.5, 0.5})), 0.5);
}

}  // namespace
}  // namespace sentinel
