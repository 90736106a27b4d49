#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "sentinel/core/rng.hpp"
#include "sentinel/stats/interval.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

/// Values in tenths: a trial of ten images.
Moments moments_of(const std::vector<int>& tenths) {
  Moments moments;
  for (const int value : tenths) moments.add(value / 10.0);
  return moments;
}

/// P(|T| <= t) by Simpson's rule on the density: shares nothing with the code under test.
double t_probability(double df, double t) {
  const double factor =
      std::exp(std::lgamma((df + 1) / 2) - std::lgamma(df / 2)) / std::sqrt(df * M_PI);
  const auto density = [&](double x) { return factor * std::pow(1 + x * x / df, -(df + 1) / 2); };
  constexpr int kSteps = 20000;
  const double h = t / kSteps;
  double sum = density(0) + density(t);
  for (int i = 1; i < kSteps; ++i) sum += (i % 2 ? 4 : 2) * density(i * h);
  return 2 * sum * h / 3;
}

TEST(TQuantile, AgreesWithTables) {  // to the digits written here
  EXPECT_NEAR(t_quantile(1, 0.95), 12.7062047, 1e-6);
  EXPECT_NEAR(t_quantile(10, 0.95), 2.22813885, 1e-7);
  EXPECT_NEAR(t_quantile(29, 0.99), 2.75638590, 1e-7);
  EXPECT_NEAR(t_quantile(499, 0.95), 1.96472939, 1e-6);
  EXPECT_NEAR(t_quantile(INFINITY, 0.95), 1.95996398, 1e-7);
}

TEST(TQuantile, EnclosesTheWantedProbabilityForAnyDegreesOfFreedom) {
  for (const double df : {1.5, 3.2347, 7.0, 49.5, 1000.0})
    for (const double confidence : {0.5, 0.9, 0.95, 0.999})
      EXPECT_NEAR(t_probability(df, t_quantile(df, confidence)), confidence, test::kDoubles)
          << df << " " << confidence;
}

TEST(Moments, KeepTheVarianceBesideALargeMean) {
  // 2^30 + i squared needs 62 bits; a sum of squares in double would lose the variance.
  Moments moments;
  const double base = std::ldexp(1, 30);
  for (const int i : {0, 1, 2, 3, 4}) moments.add(base + i);
  EXPECT_NEAR(moments.variance(), 2.5, 1e-6);  // deviations are rounded to 2^-22
  EXPECT_DOUBLE_EQ(moments.mean(), base + 2);
}

TEST(Moments, AgreeWithTwoPasses) {
  Rng rng({17, 0, 0, Purpose::kShuffle});  // seed 17
  std::vector<double> values(1000);
  Moments moments;
  double sum = 0, sum_squares = 0, deviations = 0;
  for (double& value : values) {
    value = rng.normal();
    moments.add(value);
    sum += value;
    sum_squares += value * value;
  }
  for (const double value : values) deviations += std::pow(value - sum / 1000, 2);
  // A thousand values of size 1: 1e3 x 1.1e-16.
  EXPECT_NEAR(moments.mean(), sum / 1000, 1e-13);
  EXPECT_NEAR(moments.variance(), deviations / 999, 1e-13);
  EXPECT_NEAR(moments.mean_square(), sum_squares / 1000, 1e-13);
  EXPECT_EQ(moments.n(), 1000u);
}

TEST(Moments, HandExampleAndFewValues) {
  EXPECT_EQ(moments_of({}).mean(), 0);
  EXPECT_EQ(moments_of({}).variance(), 0);
  EXPECT_EQ(moments_of({}).mean_square(), 0);
  EXPECT_EQ(moments_of({7}).variance(), 0);
  EXPECT_DOUBLE_EQ(moments_of({7}).mean_square(), 0.49);
  EXPECT_DOUBLE_EQ(moments_of({2, 4, 4, 4, 5, 5, 7, 9}).mean(), 0.5);
  EXPECT_DOUBLE_EQ(moments_of({2, 4, 4, 4, 5, 5, 7, 9}).variance(), 0.32 / 7);
  EXPECT_DOUBLE_EQ(moments_of({-3, 3}).variance(), 0.18);
  EXPECT_DOUBLE_EQ(moments_of({-3, 3}).mean_square(), 0.09);
}

// Whatever they are: the rules for "no spread" ask for 0.
TEST(Moments, EqualValuesHaveNoSpread) {
  for (const double value : {0.1, 1.0 / 3, 0.987654321, -2.5e-7}) {
    Moments moments;
    for (int i = 0; i < 1000; ++i) moments.add(value);
    EXPECT_EQ(moments.variance(), 0);
    EXPECT_EQ(moments.mean(), value);
  }
}

TEST(TInterval, HandExample) {
  // Mean 5 and s^2 = 32/7 of 8 trials with 10 images: t_7 = 2.36462425.
  const Interval interval = t_interval(moments_of({2, 4, 4, 4, 5, 5, 7, 9}), 0.95, 0, 1);
  const double half = 2.36462425 * std::sqrt(32.0 / 7 / 8) / 10;
  EXPECT_DOUBLE_EQ(interval.estimate, 0.5);
  EXPECT_NEAR(interval.lower, 0.5 - half, test::kEightDigits);
  EXPECT_NEAR(interval.upper, 0.5 + half, test::kEightDigits);
  EXPECT_NEAR(interval.half_width(), half, test::kEightDigits);
  EXPECT_EQ(interval.n, 8u);
  EXPECT_EQ(interval.confidence, 0.95);
  EXPECT_EQ(interval.method, "t over trials");
}

TEST(TInterval, TooFewTrialsSayNothing) {
  for (const auto& values : {std::vector<int>{}, std::vector<int>{10}}) {
    const Interval interval = t_interval(moments_of(values), 0.95, -1, 1);
    EXPECT_EQ(interval.lower, -1);
    EXPECT_EQ(interval.upper, 1);
  }
}

TEST(TInterval, StaysInItsRange) {
  const Interval interval = t_interval(moments_of({0, 10}), 0.95, 0, 1);
  EXPECT_EQ(interval.lower, 0);
  EXPECT_EQ(interval.upper, 1);
}

Moments constant(double value, int n) {
  Moments moments;
  for (int i = 0; i < n; ++i) moments.add(value);
  return moments;
}

TEST(NoSpread, RuleOfThree) {
  const double bound = 0.029957323;  // -ln(0.05)/100
  const Interval none = t_interval(constant(0, 100), 0.95, 0, 1);
  EXPECT_EQ(none.estimate, 0);
  EXPECT_EQ(none.lower, 0);
  EXPECT_NEAR(none.upper, bound, test::kNineDigits);
  EXPECT_EQ(none.method, "rule of three");
  EXPECT_EQ(none.n, 100u);
  EXPECT_EQ(none.confidence, 0.95);
  const Interval all = t_interval(constant(1, 100), 0.95, 0, 1);
  EXPECT_EQ(all.upper, 1);
  EXPECT_NEAR(all.lower, 1 - bound, test::kNineDigits);
  const Interval some = t_interval(constant(0.25, 100), 0.95, 0, 1);
  EXPECT_EQ(some.estimate, 0.25);
  EXPECT_NEAR(some.lower, 0.25 - bound * 0.25, test::kNineDigits);
  EXPECT_NEAR(some.upper, 0.25 + bound * 0.75, test::kNineDigits);
  const Interval gain = t_interval(constant(0, 100), 0.95, -1, 1);
  EXPECT_NEAR(gain.lower, -bound, test::kNineDigits);
  EXPECT_NEAR(gain.upper, bound, test::kNineDigits);
}

TEST(NoSpread, FewTrialsSayNothingAndMoreSayMore) {
  const Interval two = t_interval(constant(0, 2), 0.95, 0, 1);  // 3/2 of the range: all of it
  EXPECT_EQ(two.lower, 0);
  EXPECT_EQ(two.upper, 1);
  double before = 1;
  for (const int n : {4, 10, 100, 1000}) {
    const Interval interval = t_interval(constant(0.5, n), 0.95, 0, 1);
    EXPECT_GT(interval.half_width(), 0);
    EXPECT_LT(interval.half_width(), before);
    before = interval.half_width();
  }
}

// All n trials are alike; the hidden rate is the largest that leaves this as likely as 5 %.
TEST(NoSpread, CoversTheLargestRateThatStaysUnseen) {
  for (const int n : {2, 5, 20, 500}) {
    const double rate = 1 - std::pow(0.05, 1.0 / n);
    const Interval interval = t_interval(constant(0, n), 0.95, 0, 1);
    EXPECT_GE(interval.upper, rate);
    EXPECT_LE(interval.upper, std::min(1.0, 3.0 / n));
  }
}

TEST(WelchInterval, HandExample) {
  // s_a^2/4 = 5/12, s_b^2/3 = 4/3; df = 1.75^2 / ((5/12)^2/3 + (4/3)^2/2).
  const Interval interval =
      welch_interval(moments_of({1, 2, 3, 4}), moments_of({2, 4, 6}), 0.9, -1, 1);
  const double df = 1.75 * 1.75 / (25.0 / 144 / 3 + 16.0 / 9 / 2);
  EXPECT_NEAR(interval.estimate, -0.15, test::kDoubles);
  EXPECT_NEAR(t_probability(df, interval.half_width() * 10 / std::sqrt(1.75)), 0.9, test::kDoubles);
  EXPECT_EQ(interval.n, 7u);
  EXPECT_EQ(interval.method, "Welch");
}

TEST(WelchInterval, StaysInItsRange) {
  const Interval interval =
      welch_interval(moments_of({0, 10}), moments_of({0, 10, 0}), 0.95, -0.5, 0.25);
  EXPECT_EQ(interval.lower, -0.5);
  EXPECT_EQ(interval.upper, 0.25);
}

TEST(WelchInterval, Degenerate) {
  // The shorter sample decides; -1 and 1 are the ends of the range.
  const Interval still = welch_interval(constant(0.3, 100), constant(0.1, 500), 0.95, -1, 1);
  EXPECT_DOUBLE_EQ(still.estimate, 0.2);
  EXPECT_NEAR(still.lower, 0.2 - 0.029957323 * 1.2, test::kNineDigits);
  EXPECT_NEAR(still.upper, 0.2 + 0.029957323 * 0.8, test::kNineDigits);
  EXPECT_EQ(still.method, "rule of three");
  EXPECT_EQ(still.n, 600u);
  // Spread in one of them is an ordinary case.
  EXPECT_EQ(welch_interval(moments_of({3, 3}), moments_of({1, 2}), 0.95, -1, 1).method, "Welch");
  const Interval interval = welch_interval(moments_of({3}), moments_of({1, 2}), 0.95, -1, 1);
  EXPECT_EQ(interval.lower, -1);
  EXPECT_EQ(interval.upper, 1);
}

// scipy 1.10: beta.ppf at p n_e + {0, 1}, n_e = 99 (norm.ppf(0.975)/t.ppf(0.975, 99))^2.
TEST(KornGraubard, WholeFailuresAreClopperPearsonOfAlmostAllTrials) {
  std::vector<int> shares(95, 0);
  shares.insert(shares.end(), 5, 10);
  const Interval interval = korn_graubard_interval(moments_of(shares), 0.95);
  EXPECT_DOUBLE_EQ(interval.estimate, 0.05);
  EXPECT_NEAR(interval.lower, 0.0160225015, test::kNineDigits);
  EXPECT_NEAR(interval.upper, 0.1143155957, test::kNineDigits);
  EXPECT_EQ(interval.n, 100u);
  EXPECT_EQ(interval.method, "Korn-Graubard");
}

// More spread between trials than shares of 0 and 1 have is impossible; less counts no more.
TEST(KornGraubard, ATrialIsAtMostOneObservation) {
  std::vector<int> whole(90, 0), parts(80, 0);
  whole.insert(whole.end(), 10, 10);
  parts.insert(parts.end(), 20, 5);
  const Interval a = korn_graubard_interval(moments_of(whole), 0.95);
  const Interval b = korn_graubard_interval(moments_of(parts), 0.95);
  EXPECT_DOUBLE_EQ(a.estimate, b.estimate);
  EXPECT_NEAR(a.lower, b.lower, test::kNineDigits);
  EXPECT_NEAR(a.upper, b.upper, test::kNineDigits);
}

TEST(KornGraubard, NoSpreadIsTheRuleOfThreeAndOneTrialSaysNothing) {
  for (const double share : {0.0, 0.25, 1.0}) {
    const Interval interval = korn_graubard_interval(constant(share, 100), 0.95);
    const Interval rule = t_interval(constant(share, 100), 0.95, 0, 1);
    EXPECT_EQ(interval.method, "rule of three");
    EXPECT_EQ(interval.lower, rule.lower);
    EXPECT_EQ(interval.upper, rule.upper);
  }
  EXPECT_EQ(korn_graubard_interval(constant(0.5, 1), 0.95).half_width(), 0.5);
}

// ---- Images that fail on their own ----

TEST(CountInterval, IsClopperPearsonOverTrialsAndImages) {
  // 3 of 20, and 0 of 20 (exact ends of the tables).
  const Interval some = count_interval(moments_of({1, 2}), 10, 0.95);
  EXPECT_NEAR(some.estimate, 0.15, test::kDoubles);
  EXPECT_NEAR(some.lower, 0.0320709, 1e-6);  // seven digits
  EXPECT_NEAR(some.upper, 0.3789268, 1e-6);
  EXPECT_EQ(some.n, 2u);
  const Interval none = count_interval(moments_of({0, 0}), 10, 0.95),
                 all = count_interval(moments_of({10}), 10, 0.95);
  EXPECT_EQ(none.lower, 0);
  EXPECT_NEAR(none.upper, 1 - std::pow(0.025, 1.0 / 20), test::kDoubles);
  EXPECT_EQ(all.upper, 1);
  EXPECT_NEAR(all.lower, std::pow(0.025, 1.0 / 10), test::kDoubles);
  EXPECT_EQ(count_interval(Moments(), 10, 0.95).upper, 1);
}

/// Share of `replicates` whose interval holds the mean chance. Images fail with chances of their
/// own, each by itself, or all of a trial by one draw, as a permanent fault makes them.
double count_coverage(const std::vector<double>& chances, int trials, bool together,
                      int replicates) {
  double truth = 0;
  for (const double chance : chances) truth += chance / static_cast<double>(chances.size());
  int covered = 0;
  for (int r = 0; r < replicates; ++r) {
    Rng rng({47, together ? 1u : 0u, static_cast<std::uint64_t>(r), Purpose::kSynthetic});
    Moments shares;
    for (int t = 0; t < trials; ++t) {
      int failing = 0;
      const double drawn = rng.uniform();
      for (const double chance : chances) failing += (together ? drawn : rng.uniform()) < chance;
      shares.add(failing / static_cast<double>(chances.size()));
    }
    const Interval interval =
        count_interval(shares, static_cast<std::int64_t>(chances.size()), 0.95);
    covered += interval.lower <= truth && truth <= interval.upper;
  }
  return covered / static_cast<double>(replicates);
}

TEST(CountInterval, CoversWhereImagesFailOnTheirOwnAndNotWhereTheyFailTogether) {
  constexpr int kReplicates = 2000;
  std::vector<double> alike(32, 0.05), mixed(32, 0.002), rare(32, 1e-4);
  for (std::size_t i = 0; i < 8; ++i) mixed[i] = 0.6;
  for (const std::vector<double>& chances : {alike, mixed, rare})
    for (const int trials : {1, 5, 40})
      EXPECT_GE(count_coverage(chances, trials, false, kReplicates), 0.935)
          << chances.front() << " " << trials;
  // The negative control.
  EXPECT_LT(count_coverage(alike, 40, true, kReplicates), 0.7);
  EXPECT_LT(count_coverage(mixed, 40, true, kReplicates), 0.7);
}

TEST(TrialsFor, NormalFormula) {
  EXPECT_EQ(trials_for(0.01, 0.5, 0.95), 9604u);  // (1.959964 * 50)^2 = 9603.6
  EXPECT_EQ(trials_for(0.01, 0, 0.95), 0u);
}

/// A trial fails as a whole or hardly at all, as weight faults do.
class ClusteredPopulation : public ::testing::Test {
 protected:
  static constexpr std::int64_t kImages = 64;
  static constexpr int kReplicates = 2000, kTrials = 200;

  void SetUp() override {
    Rng rng({23, 0, 0, Purpose::kSynthetic});
    for (auto& failures : table_) {
      const bool critical = rng.below(10) < 3;
      failures = static_cast<std::int64_t>(critical ? 20 + rng.below(45) : rng.below(3));
      truth_ += static_cast<double>(failures) / (kImages * static_cast<double>(table_.size()));
    }
  }
  Moments replicate(std::uint64_t number, int trials = kTrials) const {
    Rng rng({29, 0, number, Purpose::kSynthetic});
    Moments moments;
    for (int i = 0; i < trials; ++i)
      moments.add(static_cast<double>(table_[rng.below(table_.size())]) / kImages);
    return moments;
  }
  bool covers(double lower, double upper) const { return lower <= truth_ && truth_ <= upper; }

  std::vector<std::int64_t> table_ = std::vector<std::int64_t>(4096);
  double truth_ = 0;
};

TEST_F(ClusteredPopulation, TIntervalCovers) {
  int covered = 0;
  for (int r = 0; r < kReplicates; ++r) {
    const Interval interval = t_interval(replicate(static_cast<std::uint64_t>(r)), 0.95, 0, 1);
    covered += covers(interval.lower, interval.upper);
  }
  EXPECT_GE(covered / double{kReplicates}, 0.935);
  EXPECT_LE(covered / double{kReplicates}, 0.97);
}

TEST_F(ClusteredPopulation, NaiveBinomialDoesNotCover) {
  int covered = 0;
  for (int r = 0; r < kReplicates; ++r) {
    const double rate = replicate(static_cast<std::uint64_t>(r)).mean();
    const double half = 1.96 * std::sqrt(rate * (1 - rate) / (kImages * kTrials));
    covered += covers(rate - half, rate + half);
  }
  EXPECT_LT(covered / double{kReplicates}, 0.5);
}

TEST_F(ClusteredPopulation, WelchCoversTheDifferenceOfUnequalSamples) {
  int covered = 0;
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    const Interval interval =
        welch_interval(replicate(2 * r, 80), replicate(2 * r + 1, kTrials), 0.95, -1, 1);
    covered += interval.lower <= 0 && 0 <= interval.upper;
  }
  EXPECT_GE(covered / double{kReplicates}, 0.935);
  EXPECT_LE(covered / double{kReplicates}, 0.97);
}

}  // namespace
}  // namespace sentinel
