#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "sentinel/core/rng.hpp"
#include "sentinel/stats/interval.hpp"

namespace sentinel {
namespace {

CountMoments moments_of(const std::vector<std::int64_t>& values) {
  CountMoments moments;
  for (const std::int64_t value : values) moments.add(value);
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

TEST(TQuantile, AgreesWithTables) {
  EXPECT_NEAR(t_quantile(1, 0.95), 12.7062047, 1e-6);
  EXPECT_NEAR(t_quantile(10, 0.95), 2.22813885, 1e-7);
  EXPECT_NEAR(t_quantile(29, 0.99), 2.75638590, 1e-7);
  EXPECT_NEAR(t_quantile(499, 0.95), 1.96472939, 1e-6);
  EXPECT_NEAR(t_quantile(INFINITY, 0.95), 1.95996398, 1e-7);
}

TEST(TQuantile, EnclosesTheWantedProbabilityForAnyDegreesOfFreedom) {
  for (const double df : {1.5, 3.2347, 7.0, 49.5, 1000.0})
    for (const double confidence : {0.5, 0.9, 0.95, 0.999})
      EXPECT_NEAR(t_probability(df, t_quantile(df, confidence)), confidence, 1e-6)
          << df << " " << confidence;
}

TEST(CountMoments, ExactWhereDoublesCancel) {
  // Squares of 2^40 + i need 80 bits; a sum of squares in double would lose the variance.
  CountMoments moments;
  const std::int64_t base = std::int64_t{1} << 40;
  for (const std::int64_t i : {0, 1, 2, 3, 4}) moments.add(base + i);
  EXPECT_EQ(moments.variance(), 2.5);
  EXPECT_EQ(moments.mean(), static_cast<double>(base + 2));
}

TEST(CountMoments, DoNotDependOnTheOrder) {
  Rng rng({17, 0, 0, Purpose::kShuffle});
  std::vector<std::int64_t> values(1000);
  for (auto& value : values) value = static_cast<std::int64_t>(rng.below(20001)) - 10000;
  const CountMoments forward = moments_of(values);
  std::sort(values.begin(), values.end());
  const CountMoments sorted = moments_of(values);
  std::reverse(values.begin(), values.end());
  const CountMoments reversed = moments_of(values);
  EXPECT_EQ(forward.mean(), sorted.mean());
  EXPECT_EQ(forward.variance(), sorted.variance());
  EXPECT_EQ(forward.variance(), reversed.variance());
  EXPECT_EQ(forward.n(), 1000u);
}

TEST(CountMoments, HandExampleAndFewValues) {
  EXPECT_EQ(moments_of({}).mean(), 0);
  EXPECT_EQ(moments_of({}).variance(), 0);
  EXPECT_EQ(moments_of({7}).variance(), 0);
  EXPECT_EQ(moments_of({2, 4, 4, 4, 5, 5, 7, 9}).mean(), 5);
  EXPECT_DOUBLE_EQ(moments_of({2, 4, 4, 4, 5, 5, 7, 9}).variance(), 32.0 / 7);
  EXPECT_EQ(moments_of({-3, 3}).variance(), 18);
}

TEST(TInterval, HandExample) {
  // Mean 5 and s^2 = 32/7 of 8 trials with 10 images: t_7 = 2.36462425.
  const Interval interval = t_interval(moments_of({2, 4, 4, 4, 5, 5, 7, 9}), 10, 0.95, 0, 1);
  const double half = 2.36462425 * std::sqrt(32.0 / 7 / 8) / 10;
  EXPECT_DOUBLE_EQ(interval.estimate, 0.5);
  EXPECT_NEAR(interval.lower, 0.5 - half, 1e-8);
  EXPECT_NEAR(interval.upper, 0.5 + half, 1e-8);
  EXPECT_NEAR(interval.half_width(), half, 1e-8);
  EXPECT_EQ(interval.n, 8u);
  EXPECT_EQ(interval.confidence, 0.95);
  EXPECT_EQ(interval.method, "t over trials");
}

TEST(TInterval, TooFewTrialsSayNothing) {
  for (const auto& values : {std::vector<std::int64_t>{}, std::vector<std::int64_t>{10}}) {
    const Interval interval = t_interval(moments_of(values), 10, 0.95, -1, 1);
    EXPECT_EQ(interval.lower, -1);
    EXPECT_EQ(interval.upper, 1);
  }
}

TEST(TInterval, StaysInItsRange) {
  const Interval interval = t_interval(moments_of({0, 10}), 10, 0.95, 0, 1);
  EXPECT_EQ(interval.lower, 0);
  EXPECT_EQ(interval.upper, 1);
}

CountMoments constant(std::int64_t value, int n) {
  return moments_of(std::vector<std::int64_t>(static_cast<std::size_t>(n), value));
}

TEST(NoSpread, RuleOfThree) {
  const double bound = 0.029957323;  // -ln(0.05)/100
  const Interval none = t_interval(constant(0, 100), 16, 0.95, 0, 1);
  EXPECT_EQ(none.estimate, 0);
  EXPECT_EQ(none.lower, 0);
  EXPECT_NEAR(none.upper, bound, 1e-9);
  EXPECT_EQ(none.method, "rule of three");
  EXPECT_EQ(none.n, 100u);
  EXPECT_EQ(none.confidence, 0.95);
  const Interval all = t_interval(constant(16, 100), 16, 0.95, 0, 1);
  EXPECT_EQ(all.upper, 1);
  EXPECT_NEAR(all.lower, 1 - bound, 1e-9);
  const Interval some = t_interval(constant(4, 100), 16, 0.95, 0, 1);
  EXPECT_EQ(some.estimate, 0.25);
  EXPECT_NEAR(some.lower, 0.25 - bound * 0.25, 1e-9);
  EXPECT_NEAR(some.upper, 0.25 + bound * 0.75, 1e-9);
  const Interval gain = t_interval(constant(0, 100), 16, 0.95, -1, 1);
  EXPECT_NEAR(gain.lower, -bound, 1e-9);
  EXPECT_NEAR(gain.upper, bound, 1e-9);
}

TEST(NoSpread, FewTrialsSayNothingAndMoreSayMore) {
  const Interval two = t_interval(constant(0, 2), 16, 0.95, 0, 1);  // 3/2 of the range: all of it
  EXPECT_EQ(two.lower, 0);
  EXPECT_EQ(two.upper, 1);
  double before = 1;
  for (const int n : {4, 10, 100, 1000}) {
    const Interval interval = t_interval(constant(8, n), 16, 0.95, 0, 1);
    EXPECT_GT(interval.half_width(), 0);
    EXPECT_LT(interval.half_width(), before);
    before = interval.half_width();
  }
}

// All n trials are alike; the hidden rate is the largest that leaves this as likely as 5 %.
TEST(NoSpread, CoversTheLargestRateThatStaysUnseen) {
  for (const int n : {2, 5, 20, 500}) {
    const double rate = 1 - std::pow(0.05, 1.0 / n);
    const Interval interval = t_interval(constant(0, n), 1, 0.95, 0, 1);
    EXPECT_GE(interval.upper, rate);
    EXPECT_LE(interval.upper, std::min(1.0, 3.0 / n));
  }
}

TEST(WelchInterval, HandExample) {
  // s_a^2/4 = 5/12, s_b^2/3 = 4/3; df = 1.75^2 / ((5/12)^2/3 + (4/3)^2/2).
  const Interval interval =
      welch_interval(moments_of({1, 2, 3, 4}), moments_of({2, 4, 6}), 10, 0.9);
  const double df = 1.75 * 1.75 / (25.0 / 144 / 3 + 16.0 / 9 / 2);
  EXPECT_NEAR(interval.estimate, -0.15, 1e-12);
  EXPECT_NEAR(t_probability(df, interval.half_width() * 10 / std::sqrt(1.75)), 0.9, 1e-6);
  EXPECT_EQ(interval.n, 7u);
  EXPECT_EQ(interval.method, "Welch");
}

TEST(WelchInterval, Degenerate) {
  // The shorter sample decides; -1 and 1 are the ends of the range.
  const Interval still = welch_interval(constant(3, 100), constant(1, 500), 10, 0.95);
  EXPECT_DOUBLE_EQ(still.estimate, 0.2);
  EXPECT_NEAR(still.lower, 0.2 - 0.029957323 * 1.2, 1e-9);
  EXPECT_NEAR(still.upper, 0.2 + 0.029957323 * 0.8, 1e-9);
  EXPECT_EQ(still.method, "rule of three");
  EXPECT_EQ(still.n, 600u);
  // Spread in one of them is an ordinary case.
  EXPECT_EQ(welch_interval(moments_of({3, 3}), moments_of({1, 2}), 10, 0.95).method, "Welch");
  const Interval interval = welch_interval(moments_of({3}), moments_of({1, 2}), 10, 0.95);
  EXPECT_EQ(interval.lower, -1);
  EXPECT_EQ(interval.upper, 1);
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
  CountMoments replicate(std::uint64_t number, int trials = kTrials) const {
    Rng rng({29, 0, number, Purpose::kSynthetic});
    CountMoments moments;
    for (int i = 0; i < trials; ++i) moments.add(table_[rng.below(table_.size())]);
    return moments;
  }
  bool covers(double lower, double upper) const { return lower <= truth_ && truth_ <= upper; }

  std::vector<std::int64_t> table_ = std::vector<std::int64_t>(4096);
  double truth_ = 0;
};

TEST_F(ClusteredPopulation, TIntervalCovers) {
  int covered = 0;
  for (int r = 0; r < kReplicates; ++r) {
    const Interval interval =
        t_interval(replicate(static_cast<std::uint64_t>(r)), kImages, 0.95, 0, 1);
    covered += covers(interval.lower, interval.upper);
  }
  EXPECT_GE(covered / double{kReplicates}, 0.935);
  EXPECT_LE(covered / double{kReplicates}, 0.97);
}

TEST_F(ClusteredPopulation, NaiveBinomialDoesNotCover) {
  int covered = 0;
  for (int r = 0; r < kReplicates; ++r) {
    const double rate = replicate(static_cast<std::uint64_t>(r)).mean() / kImages;
    const double half = 1.96 * std::sqrt(rate * (1 - rate) / (kImages * kTrials));
    covered += covers(rate - half, rate + half);
  }
  EXPECT_LT(covered / double{kReplicates}, 0.5);
}

TEST_F(ClusteredPopulation, WelchCoversTheDifferenceOfUnequalSamples) {
  int covered = 0;
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    const Interval interval =
        welch_interval(replicate(2 * r, 80), replicate(2 * r + 1, kTrials), kImages, 0.95);
    covered += interval.lower <= 0 && 0 <= interval.upper;
  }
  EXPECT_GE(covered / double{kReplicates}, 0.935);
  EXPECT_LE(covered / double{kReplicates}, 0.97);
}

}  // namespace
}  // namespace sentinel
