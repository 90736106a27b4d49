/// Coverage of stratified plans of losses, of which few trials of a stratum may have nearly all:
/// strata by the number of critical flips, K ~ Poisson, as those of a rate of flips.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "sentinel/core/rng.hpp"
#include "sentinel/stats/design.hpp"
#include "sentinel/stats/stratified.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

constexpr std::uint64_t kReplicates = 1000;
constexpr double kLost = 0.8;     // accuracy of a collapse
constexpr double kCovers = 0.93;  // 0.95 less 2.2 standard errors and 0.005

/// A trial with K critical flips collapses with probability 1 - (1 - none) (1 - each)^K. All others
/// lose or gain up to `noise`, whole images of 100.
struct Losses {
  double flips, none, each, noise;

  double rate(std::size_t k) const {
    return 1 - (1 - none) * std::pow(1 - each, static_cast<double>(k));
  }
  double draw(std::size_t k, Rng& rng) const {
    const bool collapses = rng.uniform() < rate(k);
    const double little = std::round(100 * noise * (2 * rng.uniform() - 1)) / 100;
    return collapses ? -kLost : little;
  }
  /// The last stratum is of all that have more; they behave as its first.
  std::vector<double> weights() const {
    std::vector<double> all;
    double left = 1, p = std::exp(-flips);
    for (double k = 0; left >= 0.01; p *= flips / ++k) {
      all.push_back(p);
      left -= p;
    }
    all.push_back(left);
    return all;
  }
  double truth() const {
    double sum = 0;
    for (std::size_t k = 0; k < weights().size(); ++k) sum -= weights()[k] * rate(k) * kLost;
    return sum;
  }
};
void PrintTo(const Losses& own, std::ostream* out) {
  *out << own.flips << " flips, collapses " << own.none << " and " << own.each << " a flip, noise "
       << own.noise;
}

Interval replicate(const Losses& losses, Estimate estimate, std::uint64_t trials,
                   std::uint64_t number) {
  DesignOptions plan;
  plan.sampling = Sampling::kStratified;
  plan.trials = trials;
  plan.weights = losses.weights();
  plan.costs.assign(plan.weights.size(), 1);
  plan.pilot = plan.minimum = 30;
  plan.losses = true;
  plan.seed = number;
  Design design(plan);
  EstimateOptions options;
  options.estimate = estimate;
  options.weights = plan.weights;
  options.low = -0.9;
  options.high = 0.1;
  Estimator estimator(options);
  Rng rng({83, static_cast<std::uint32_t>(trials), number, Purpose::kSynthetic});
  for (std::uint64_t id = 0; id < trials; ++id) {
    const TrialDraw draw = design.draw(id);
    const double value = losses.draw(static_cast<std::size_t>(draw.stratum), rng);
    design.observe({value});
    estimator.add(draw, value);
  }
  return estimator.interval();
}

struct Found {
  double coverage = 0, half_width = 0;
};
Found simulate(const Losses& losses, Estimate estimate, std::uint64_t trials) {
  Found found;
  const double truth = losses.truth();
  for (std::uint64_t number = 0; number < kReplicates; ++number) {
    const Interval interval = replicate(losses, estimate, trials, number);
    found.coverage += interval.lower <= truth && truth <= interval.upper ? 1 : 0;
    found.half_width += interval.half_width();
  }
  found.coverage /= kReplicates;
  found.half_width /= kReplicates;
  std::printf("%s, %d trials: coverage %.3f, half-width %.2f points\n",
              ::testing::PrintToString(losses).c_str(), static_cast<int>(trials), found.coverage,
              100 * found.half_width);
  return found;
}

class StrataOfLosses : public ::testing::TestWithParam<Losses> {};

TEST_P(StrataOfLosses, AreCovered) {
  for (const std::uint64_t trials : {600u, 1500u})
    EXPECT_GE(simulate(GetParam(), Estimate::kGuarded, trials).coverage, kCovers) << trials;
}

INSTANTIATE_TEST_SUITE_P(Rare, StrataOfLosses,
                         ::testing::Values(Losses{0.3, 0, 0.5, 0}, Losses{0.3, 0.01, 0.02, 0},
                                           Losses{0.03, 0.02, 0.5, 0}, Losses{0.3, 0, 0.004, 0.02},
                                           Losses{0.3, 0.003, 0.02, 0.02},
                                           Losses{1, 0, 0.004, 0.02}, Losses{1, 0, 0.5, 0.02}));

/// Without the guard a stratum that loses a little in every trial hides its collapses.
TEST(NegativeControl, SpreadThatWasMetTellsNothingOfCollapses) {
  for (const Losses& losses : {Losses{0.3, 0.003, 0.02, 0.02}, Losses{1, 0, 0.004, 0.02}})
    EXPECT_LT(simulate(losses, Estimate::kStratified, 600).coverage, kCovers);
}

/// Most trials of the strata that count lose much.
TEST(GuardedInterval, AddsLittleWhereMuchIsMet) {
  const Losses losses{1, 0, 0.5, 0.02};
  const Found with = simulate(losses, Estimate::kGuarded, 4000),
              without = simulate(losses, Estimate::kStratified, 4000);
  EXPECT_LT(with.half_width, 1.06 * without.half_width);
}

Moments moments_of(const std::vector<double>& values) {
  Moments moments;
  for (const double value : values) moments.add(value);
  return moments;
}

TEST(GuardedInterval, HandExample) {
  const std::vector<Moments> strata{moments_of({-0.1, -0.2, -0.3, -0.4}), moments_of({0, 0, -0.6})};
  const Interval interval = guarded_interval({0.25, 0.75}, strata, 0.5, -1, 0.5);
  // s^2 + p (1 - p) (end - mean)^2: means -0.25 and -0.2, s^2 1/60 and 0.12, p 1/5 and 1/4.
  const auto reach = [](double first, double second) {
    const double a = 0.0625 * (1 / 60.0 + 0.16 * first * first) / 4;
    const double b = 0.5625 * (0.12 + 0.1875 * second * second) / 3;
    const double df = (a + b) * (a + b) / (a * a / 3 + b * b / 2);
    return t_quantile(df, 0.5) * std::sqrt(a + b);
  };
  EXPECT_NEAR(interval.estimate, -0.2125, test::kDoubles);
  EXPECT_NEAR(interval.lower, -0.2125 - reach(0.75, 0.8), test::kDoubles);
  EXPECT_NEAR(interval.upper, -0.2125 + reach(0.75, 0.7), test::kDoubles);
  EXPECT_EQ(interval.method, "guarded stratified t");
  EXPECT_EQ(interval.n, 7u);
}

/// One image lost in one trial of a thousand must not make the interval a tenth as wide.
TEST(GuardedInterval, OneSmallLossChangesLittle) {
  std::vector<double> none(500, 0), one = none, other(500, -0.4);
  one[7] = -0.01;
  other[3] = 0;
  const auto width = [&](const std::vector<double>& first, auto* of) {
    return of({0.97, 0.03}, {moments_of(first), moments_of(other)}, 0.95, -0.9, 0.1).half_width();
  };
  const double guarded = width(none, guarded_interval);
  EXPECT_NEAR(width(one, guarded_interval), guarded, 0.003 * guarded);
  EXPECT_LT(width(one, stratified_interval), 0.1 * width(none, stratified_interval));
}

}  // namespace
}  // namespace sentinel
