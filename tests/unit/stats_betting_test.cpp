#include "sentinel/stats/betting.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "sentinel/stats/design.hpp"
#include "unit/stats_populations.hpp"
#include "unit/tolerances.hpp"

namespace sentinel {
namespace {

using test::Population;

constexpr double kConfidence = 0.95;
constexpr double kOfCapital = 1e-9;  // ends are bisected to 1e-12; its logarithm is steeper

std::vector<double> draw(const Population& population, std::uint64_t n, std::uint64_t replicate,
                         std::uint32_t stream = 0) {
  Rng rng({71, stream, replicate, Purpose::kSynthetic});
  std::vector<double> values;
  for (std::uint64_t i = 0; i < n; ++i) values.push_back(population.draw(rng));
  return values;
}

Interval by_rule(const std::vector<double>& values, double low, double high) {
  Sample sample;
  for (const double value : values) sample.add(value);
  return sample.interval(kConfidence, low, high);
}

Interval by_t(const std::vector<double>& values, double low, double high) {
  Moments moments;
  for (const double value : values) moments.add(value);
  return t_interval(moments, kConfidence, low, high);
}

/// Largest logarithm of the capital of bets that the mean of y in [0, 1] is above m, term by term
/// from the definition.
double log_capital(const std::vector<double>& y, double m) {
  const double n = static_cast<double>(y.size());
  double log = 0, most = -INFINITY;
  for (std::size_t t = 0; t < y.size(); ++t) {
    double spread = 0.25, sum = 0;
    for (std::size_t i = 0; i < t; ++i) {
      sum += y[i];
      spread += std::pow(y[i] - (0.5 + sum) / (static_cast<double>(i) + 2), 2);
    }
    spread /= static_cast<double>(t) + 1;
    const double bet = std::min(std::sqrt(2 * std::log(2 / 0.05) / (n * spread)), 0.75 / m);
    log += std::log1p(bet * (y[t] - m));
    most = std::max(most, log);
  }
  return most;
}

TEST(Betting, EndsWhereTheCapitalIsTwoOverAlpha) {
  for (const std::uint64_t n : {1u, 7u, 60u, 300u}) {
    const auto y = draw(test::whole_failures(0.4), n, 1);
    const Interval interval = betting_interval(y, kConfidence, 0, 1);
    auto mirrored = y;
    for (double& value : mirrored) value = 1 - value;
    if (interval.lower > 0) {
      EXPECT_NEAR(log_capital(y, interval.lower), std::log(2 / 0.05), kOfCapital) << n;
    }
    if (interval.upper < 1) {
      EXPECT_NEAR(log_capital(mirrored, 1 - interval.upper), std::log(2 / 0.05), kOfCapital) << n;
    }
    EXPECT_EQ(interval.n, n);
    EXPECT_EQ(interval.method, "betting");
  }
}

TEST(Betting, MovesWithTheRangeAndTurnsWithTheSign) {
  const auto y = draw(test::most_fail(0.2), 100, 2);
  std::vector<double> moved, turned;
  for (const double value : y) {
    moved.push_back(3 * value - 1);
    turned.push_back(-value);
  }
  const Interval own = betting_interval(y, kConfidence, 0, 1),
                 wide = betting_interval(moved, kConfidence, -1, 2),
                 negative = betting_interval(turned, kConfidence, -1, 0);
  EXPECT_NEAR(wide.lower, 3 * own.lower - 1, test::kNineDigits);
  EXPECT_NEAR(wide.upper, 3 * own.upper - 1, test::kNineDigits);
  EXPECT_NEAR(negative.lower, -own.upper, test::kNineDigits);
  EXPECT_NEAR(negative.upper, -own.lower, test::kNineDigits);
}

TEST(Betting, NothingSeenEndsExactlyAtTheRange) {
  const Interval none = betting_interval(std::vector<double>(60, 0), kConfidence, 0, 1);
  EXPECT_EQ(none.estimate, 0);
  EXPECT_EQ(none.lower, 0);
  EXPECT_NEAR(none.upper, 0.08, 0.005);
  const Interval all = betting_interval(std::vector<double>(60, 1), kConfidence, 0, 1);
  EXPECT_EQ(all.upper, 1);
  EXPECT_NEAR(all.lower, 1 - none.upper, test::kNineDigits);
  const Interval empty = betting_interval({}, kConfidence, -1, 3);
  EXPECT_EQ(empty.lower, -1);
  EXPECT_EQ(empty.upper, 3);
  EXPECT_EQ(empty.n, 0u);
}

TEST(Sample, BetsBelow500TrialsAndWhereFewerThan20Differ) {
  Sample common, rare;
  for (int i = 0; i < 499; ++i) common.add(i % 2), rare.add(i < 19 ? 1 : 0);
  EXPECT_EQ(common.interval(kConfidence, 0, 1).method, "betting");
  common.add(0), rare.add(0);
  EXPECT_EQ(common.interval(kConfidence, 0, 1).method, "t over trials");
  EXPECT_EQ(rare.interval(kConfidence, 0, 1).method, "betting");
  for (int i = 0; i < 5000; ++i) rare.add(0);
  EXPECT_TRUE(rare.bets());
  EXPECT_EQ(rare.interval(kConfidence, 0, 1).n, 5500u);
  rare.add(0.5);
  EXPECT_FALSE(rare.bets()) << "twenty differ";
  for (int i = 0; i < 5000; ++i) rare.add(0);
  EXPECT_FALSE(rare.bets()) << "and will";
}

// ---- coverage ----------------------------------------------------------------------------------

/// 0.95 is asked for to 0.935: 2.2 standard errors of 2000 replicates, 0.0107, and 0.005 for what t
/// lacks at 500 trials.
constexpr std::uint64_t kReplicates = 2000;
constexpr double kCovers = 0.935;

struct Coverage {
  double share = 0, half_width = 0;
};

using Method = Interval (*)(const std::vector<double>&, double, double);

Coverage coverage(const Population& population, std::uint64_t n, Method method) {
  Coverage result;
  for (std::uint64_t r = 0; r < kReplicates; ++r) {
    const Interval interval = method(draw(population, n, r), population.low, population.high);
    result.share += interval.lower <= population.truth && population.truth <= interval.upper;
    result.half_width += interval.half_width();
  }
  result.share /= kReplicates;
  result.half_width /= kReplicates;
  return result;
}

/// One line of the table in docs/methods.md.
Coverage tried(const Population& population, std::uint64_t n) {
  const Coverage rule = coverage(population, n, by_rule), t = coverage(population, n, by_t);
  std::printf("%-28s n = %4d  rule %.3f +-%.4f  t %.3f +-%.4f\n", population.name.c_str(),
              static_cast<int>(n), rule.share, rule.half_width, t.share, t.half_width);
  return rule;
}

TEST(BettingCoverage, TheRuleHoldsForAnyNumberOfTrials) {
  for (const Population& population : test::all_populations())
    for (const std::uint64_t n : {20u, 60u, 200u, 500u, 1000u})
      EXPECT_GE(tried(population, n).share, kCovers) << population.name << ", n = " << n;
}

TEST(NegativeControl, PlainTDoesNotCoverRareFailures) {
  EXPECT_LT(coverage(test::whole_failures(0.01), 500, by_t).share, kCovers);
  EXPECT_LT(coverage(test::rare_collapse(0.01), 500, by_t).share, kCovers);
  EXPECT_LT(coverage(test::skewed_losses(20), 20, by_t).share, kCovers);
}

/// Independent samples of two networks, of which one fails more often, or neither ever.
TEST(BettingCoverage, DifferencesOfTwoSamplesHold) {
  struct Case {
    Population a, b;
  };
  for (const auto& [a, b] : {Case{test::whole_failures(0.01), test::whole_failures(0.001)},
                             Case{test::whole_failures(0.1), test::whole_failures(0.01)},
                             Case{test::most_fail(0.3), test::most_fail(0.2)},
                             Case{test::skewed_losses(20), test::rare_collapse(0.01)}})
    for (const std::uint64_t n : {20u, 60u, 200u, 499u}) {
      double covered = 0, width = 0;
      for (std::uint64_t r = 0; r < kReplicates; ++r) {
        Sample x, y;
        for (const double value : draw(a, n, r, 1)) x.add(value);
        for (const double value : draw(b, n, r, 2)) y.add(value);
        const Interval interval =
            difference_interval({x, a.low, a.high}, {y, b.low, b.high}, kConfidence);
        EXPECT_EQ(interval.method, "two-sample betting");
        const double truth = a.truth - b.truth;
        covered += interval.lower <= truth && truth <= interval.upper;
        width += interval.half_width() / kReplicates;
      }
      std::printf("%s against %s, n = %d: %.4f +-%.4f\n", a.name.c_str(), b.name.c_str(),
                  static_cast<int>(n), covered / kReplicates, width);
      EXPECT_GE(covered / kReplicates, kCovers) << a.name << ", " << b.name << ", n = " << n;
    }
}

TEST(Differences, AreWelchsFrom500TrialsOn) {
  Sample a, b;
  for (int i = 0; i < 600; ++i) a.add(i % 3 == 0), b.add(i % 2);
  EXPECT_EQ(difference_interval({a, 0, 1}, {b, 0, 1}, kConfidence).method, "Welch");
}

// ---- channels: flips without replacement
// ---------------------------------------------------------

/// Flips of a channel of N bits without replacement; bit 30 of each word fails in most images, the
/// others in none, or seldom.
TEST(FinitePopulation, CoversAndNarrows) {
  for (const double others : {0.0, 0.01})
    for (const std::uint64_t bits : {864u, 4608u})
      for (const double drawn : {0.1, 0.5, 0.9, 0.99}) {
        std::vector<double> population;
        Rng rng({72, 0, bits, Purpose::kSynthetic});
        double truth = 0;
        for (std::uint64_t bit = 0; bit < bits; ++bit) {
          const double share = bit % 32 == 30 ? 0.5 + 0.5 * rng.uniform() : 0;
          population.push_back(rng.uniform() < others ? 1 : share);
          truth += population.back() / static_cast<double>(bits);
        }
        double covered = 0, narrower = 0;
        for (std::uint64_t r = 0; r < kReplicates; ++r) {
          Rng order({73, 0, r, Purpose::kSynthetic});
          const auto n = static_cast<std::uint64_t>(drawn * static_cast<double>(bits));
          Moments moments;
          auto left = population;
          for (std::uint64_t i = 0; i < n; ++i) {
            std::swap(left[i], left[i + order.below(bits - i)]);
            moments.add(left[i]);
          }
          const Interval finite = korn_graubard_interval(moments, kConfidence, bits),
                         infinite = korn_graubard_interval(moments, kConfidence);
          covered += finite.lower <= truth && truth <= finite.upper;
          narrower += finite.half_width() / infinite.half_width() / kReplicates;
        }
        std::printf("%d bits, %.2f drawn, others %.2f: %.4f, width %.3f of the infinite one's\n",
                    static_cast<int>(bits), drawn, others, covered / kReplicates, narrower);
        EXPECT_GE(covered / kReplicates, kCovers) << bits << " " << drawn;
        EXPECT_NEAR(narrower, std::sqrt(1 - drawn), 0.1);
      }
}

TEST(FinitePopulation, ACensusIsKnown) {
  Moments moments;
  for (int i = 0; i < 864; ++i) moments.add(i % 32 == 30 ? 0.7 : 0);
  const Interval census = korn_graubard_interval(moments, kConfidence, 864);
  EXPECT_EQ(census.lower, census.estimate);
  EXPECT_EQ(census.upper, census.estimate);
  EXPECT_NEAR(census.estimate, 0.7 * 27 / 864, test::kDoubles);
  EXPECT_EQ(census.method, "census");
}

/// K failing bits of 864 stay unseen in n draws with probability (1 - n/N)^K at most.
TEST(FinitePopulation, NothingSeenLeavesFewerBitsThanTheRuleOfThree) {
  Moments none;
  for (int i = 0; i < 432; ++i) none.add(0);
  const Interval finite = korn_graubard_interval(none, kConfidence, 864);
  EXPECT_NEAR(finite.upper, std::log(20.0) / std::log(2.0) / 864, test::kDoubles);
  EXPECT_EQ(finite.method, "rule of three");
  EXPECT_LT(finite.upper, korn_graubard_interval(none, kConfidence).upper);
}

// ---- ends that say nothing
// -------------------------------------------------------------------------

/// One image of a thousand fails in each trial: far less than one failing trial.
TEST(KornGraubard, LessThanOneFailureHasTheLowerEndZero) {
  Moments few, most;
  for (int i = 0; i < 60; ++i) few.add(0.001 * (i % 3)), most.add(1 - 0.001 * (i % 3));
  EXPECT_EQ(korn_graubard_interval(few, kConfidence).lower, 0);
  EXPECT_GT(korn_graubard_interval(few, kConfidence).upper, 0.001);
  EXPECT_EQ(korn_graubard_interval(most, kConfidence).upper, 1);
}

}  // namespace
}  // namespace sentinel
